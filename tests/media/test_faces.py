from __future__ import annotations

import itertools
import pickle

import cv2
import numpy as np
import pytest

from unseen.media.faces import Face, RetinaFaceMesh, face_finder
from unseen.types import LANDMARKS, InputError


@pytest.fixture(scope="module")
def finder() -> RetinaFaceMesh:
    return RetinaFaceMesh(threads=1)


@pytest.fixture(scope="module")
def face(finder: RetinaFaceMesh, portrait: np.ndarray) -> Face:
    faces = finder(portrait)
    assert len(faces) == 1
    return faces[0]


def eye_distance(face: Face) -> float:
    return float(np.linalg.norm(face.landmarks[45] - face.landmarks[36]))


def test_one_face_with_its_anatomy_in_order(face: Face) -> None:
    points = face.landmarks
    assert points.shape == (LANDMARKS, 2) and points.dtype == np.float32 and np.isfinite(points).all()
    assert face.score > 0.9
    # Picture's left to right: jaw, brows, the eyes' corners, the mouth's corners, forehead.
    assert (np.diff(points[:17, 0]) > -2).all()
    assert (np.diff(points[17:27, 0]) > 0).all()
    assert (np.diff(points[68:, 0]) > 0).all()
    assert (np.diff(points[[36, 39, 42, 45], 0]) > 0).all() and points[48, 0] < points[54, 0]
    # Top to bottom: forehead, brows, eyes, nose, upper and lower lip, chin.
    ladder = [points[74], points[19], points[37], points[30], points[33], points[51], points[57], points[8]]
    assert (np.diff([y for _, y in ladder]) > 0).all()
    # The two networks agree about the five points.
    mine = np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])
    assert np.linalg.norm(mine - face.points, axis=1).max() < 0.2 * eye_distance(face)


def test_landmarks_lie_where_a_person_put_them(face: Face) -> None:
    # Read by eye from the photograph at five times its size: pupils, under the nose, mouth's corners, chin.
    by_hand = np.array([[221, 190], [306, 187], [268, 252], [229, 281], [307, 279], [268, 333]])
    eyes = [face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)]
    found = np.stack([*eyes, *face.landmarks[[33, 48, 54, 8]]])
    assert np.linalg.norm(found - by_hand, axis=1).max() < 0.08 * eye_distance(face)


def test_a_larger_picture_gives_the_same_face_in_its_own_pixels(
    finder: RetinaFaceMesh, face: Face, portrait: np.ndarray
) -> None:
    large = cv2.resize(portrait, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    (found,) = finder(large)
    expected = (face.landmarks + 0.5) * 3 - 0.5
    assert np.linalg.norm(found.landmarks - expected, axis=1).mean() < 0.03 * 3 * eye_distance(face)


@pytest.mark.parametrize("degrees", [-60, 30])
def test_turned_heads_keep_their_landmarks(
    finder: RetinaFaceMesh, face: Face, portrait: np.ndarray, degrees: float
) -> None:
    height, width = portrait.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.8)
    turned = cv2.warpAffine(portrait, matrix, (width, height))
    (found,) = finder(turned)
    expected = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    error = np.linalg.norm(found.landmarks - expected, axis=1).mean()
    assert error < 0.05 * 0.8 * eye_distance(face)


def test_a_mirrored_picture_gives_mirrored_landmarks(
    finder: RetinaFaceMesh, face: Face, portrait: np.ndarray
) -> None:
    (found,) = finder(np.ascontiguousarray(portrait[:, ::-1]))
    mirrored = face.landmarks * [-1, 1] + [portrait.shape[1] - 1, 0]
    swap = {36: 45, 8: 8, 0: 16, 48: 54, 30: 30, 68: 80, 17: 26}
    for left, right in swap.items():
        assert np.linalg.norm(found.landmarks[left] - mirrored[right]) < 0.12 * eye_distance(face)


def test_every_face_of_a_crowd_largest_first(finder: RetinaFaceMesh, portrait: np.ndarray) -> None:
    head = cv2.resize(portrait[70:370, 115:415], (80, 80), interpolation=cv2.INTER_AREA)
    crowd = np.full((5 * 100, 10 * 100, 3), 90, np.uint8)
    for row in range(5):
        for column in range(10):
            crowd[row * 100 + 10 : row * 100 + 90, column * 100 + 10 : column * 100 + 90] = head
    crowd[:200, :200] = cv2.resize(head, (200, 200))  # covers four, adds a larger one
    faces = finder(crowd)
    assert len(faces) == 50 - 4 + 1
    assert faces[0].size > 1.5 * faces[1].size
    assert all(a.size >= b.size for a, b in itertools.pairwise(faces))


def test_nothing_is_found_where_no_face_is(finder: RetinaFaceMesh) -> None:
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8), (0, 0), 3)
    assert finder(noise) == []
    assert finder(np.zeros((1, 1, 3), np.uint8)) == []
    assert finder(np.full((2, 3000, 3), 255, np.uint8)) == []


def test_small_faces_can_be_left_out(portrait: np.ndarray, face: Face) -> None:
    assert RetinaFaceMesh(threads=1, min_size=face.size + 60)(portrait) == []


def test_a_face_that_fills_the_picture_is_found(
    finder: RetinaFaceMesh, face: Face, portrait: np.ndarray
) -> None:
    x0, y0, x1, y1 = face.box.astype(int)
    assert len(finder(np.ascontiguousarray(portrait[y0 + 20 : y1 - 10, x0 + 8 : x1 - 8]))) == 1


def test_the_mesh_must_agree(portrait: np.ndarray) -> None:
    assert RetinaFaceMesh(threads=1, min_presence=1.1, retry=False)(portrait) == []


def test_a_used_finder_can_be_sent_to_a_worker(finder: RetinaFaceMesh, portrait: np.ndarray) -> None:
    first = finder(portrait)[0]
    again = pickle.loads(pickle.dumps(finder))(portrait)[0]
    np.testing.assert_array_equal(first.landmarks, again.landmarks)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(finder: RetinaFaceMesh, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected"):
        finder(image)


def test_finders_by_name() -> None:
    assert face_finder().name == "default"
    with pytest.raises(InputError, match="expected default, dlib or mtcnn"):
        face_finder("haar")
