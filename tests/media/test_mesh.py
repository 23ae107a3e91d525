from __future__ import annotations

import numpy as np

from unseen.media.mesh import MESH_OF_LANDMARK, FaceMesh, landmarks_from_mesh
from unseen.types import LANDMARKS


def test_the_map_has_81_rows_that_average_their_own_points() -> None:
    assert len(MESH_OF_LANDMARK) == LANDMARKS
    mesh = np.random.default_rng(0).normal(size=(468, 2)).astype(np.float32)
    by_hand = np.stack([mesh[list(row)].mean(axis=0) for row in MESH_OF_LANDMARK])
    np.testing.assert_allclose(landmarks_from_mesh(mesh), by_hand, atol=1e-6)


def test_no_two_landmarks_share_all_points() -> None:
    assert len(set(MESH_OF_LANDMARK)) == LANDMARKS


def test_presence_is_high_on_a_face_and_low_beside_it(portrait: np.ndarray) -> None:
    look = FaceMesh()
    points = np.array([[221, 190], [306, 187], [265, 240], [229, 281], [307, 279]], np.float32)
    box = np.array([178, 107, 354, 328], np.float32)
    _, on_face = look(portrait, box, points)
    _, beside = look(portrait, box + np.float32([-170, 260] * 2), points + np.float32([-170, 260]))
    assert on_face > 0.9 and beside < 0.5


def test_a_region_outside_the_picture_is_no_face() -> None:
    image = np.full((1000, 1000, 3), 127, np.uint8)
    far = np.float32(5000)
    box = np.array([0, 0, 600, 600], np.float32) + far
    points = np.array([[100, 100], [300, 100], [200, 200], [120, 300], [280, 300]], np.float32) + far
    mesh, presence = FaceMesh()(image, box, points)
    assert presence < 0.01 and np.isfinite(mesh).all()
