from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from unseen.media.crop import crop_faces, sharpness
from unseen.media.faces import Face
from unseen.types import LANDMARKS


def face_at(x0: float, y0: float, x1: float, y1: float) -> Face:
    box = np.array([x0, y0, x1, y1], np.float32)
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(box[:2], box[2:], (LANDMARKS, 2)).astype(np.float32)
    return Face(box, 1.0, landmarks[:5], landmarks)


def ramp(height: int, width: int) -> np.ndarray:
    """A frame whose red is x and whose green is y, so that a crop tells where it came from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_margins_by_hand() -> None:
    (crop,) = crop_faces(ramp(250, 250), [face_at(100, 90, 140, 140)], margin=0.6)
    # The longer side is 50 px: 30 px are added all round, and the last pixel is whole.
    assert crop.origin == (70, 60) and crop.scale == 1
    assert crop.image.shape == (170 - 60 + 1, 170 - 70 + 1, 3)
    assert crop.image[0, 0].tolist() == [70, 60, 0]


def test_crops_are_clipped_to_the_frame_and_never_padded() -> None:
    (crop,) = crop_faces(ramp(100, 120), [face_at(-20, 50, 60, 130)])
    assert crop.origin == (0, 2) and crop.image.shape == (98, 109, 3)


def test_landmarks_name_the_same_pixels_in_crop_and_frame() -> None:
    frame = ramp(200, 200)
    face = face_at(80, 80, 120, 120)
    (crop,) = crop_faces(frame, [face])
    for (x, y), (u, v) in zip(
        face.landmarks.round().astype(int), crop.landmarks.round().astype(int), strict=True
    ):
        assert frame[y, x].tolist() == crop.image[v, u].tolist()


@pytest.mark.parametrize("size", [300, 2000])
def test_large_faces_are_shrunk_and_points_come_back(size: int) -> None:
    frame = np.zeros((3 * size, 3 * size, 3), np.uint8)
    face = face_at(size, size, 2 * size, 2 * size)
    (crop,) = crop_faces(frame, [face], max_side=640)
    assert max(crop.image.shape[:2]) == min(640, round(2.2 * size) + 1) and crop.scale <= 1
    np.testing.assert_allclose(crop.to_frame(crop.landmarks), face.landmarks, atol=1e-2)


def test_a_white_dot_stays_under_its_landmark_when_shrunk() -> None:
    frame = np.zeros((1200, 1200, 3), np.uint8)
    frame[598:603, 698:703] = 255
    face = face_at(300, 300, 900, 900)
    face.landmarks[0] = (700, 600)
    (crop,) = crop_faces(frame, [face], max_side=400)
    y, x = np.nonzero(crop.image[:, :, 0] > 40)
    np.testing.assert_allclose([x.mean(), y.mean()], crop.landmarks[0], atol=0.5)


def test_missing_points_stay_missing_and_crops_own_their_pixels() -> None:
    frame = ramp(100, 100)
    face = face_at(40, 40, 60, 60)
    face.landmarks[68:] = np.nan
    (crop,) = crop_faces(frame, [face])
    assert np.isnan(crop.landmarks[68:]).all() and np.isfinite(crop.landmarks[:68]).all()
    assert crop.image.base is None


def test_a_box_outside_the_frame_still_gives_a_crop() -> None:
    (crop,) = crop_faces(ramp(50, 50), [face_at(500, 500, 510, 510)])
    assert min(crop.image.shape[:2]) >= 1


def test_blur_falls_when_a_face_is_blurred(portrait: np.ndarray) -> None:
    box = np.array([178, 107, 354, 328], np.float32)
    values = [sharpness(portrait, box)]
    values += [sharpness(cv2.GaussianBlur(portrait, (0, 0), sigma), box) for sigma in (1, 2, 4)]
    assert all(a > 1.5 * b for a, b in itertools.pairwise(values))
