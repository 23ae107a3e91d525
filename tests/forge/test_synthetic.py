from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unseen.forge.family import eye_distance
from unseen.forge.studio import mesh_map
from unseen.forge.synthetic import APART, Scene, draw_person, nearest_volunteer, synthesise
from unseen.media.faces import face_finder
from unseen.types import InputError


def test_same_arguments_same_picture_other_seed_other_person() -> None:
    first, again, other = synthesise(3), synthesise(3), synthesise(4)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.identity == again.identity != other.identity
    assert np.abs(first.image.astype(int) - other.image).mean() > 10
    assert first.image.shape == (320, 320, 3) and first.image.dtype == np.uint8
    assert first.landmarks.shape == (81, 2) and first.landmarks.dtype == np.float32


def test_shots_of_one_person_differ_in_scene_only() -> None:
    a, b = synthesise(5, shot=0), synthesise(5, shot=1)
    assert a.identity == b.identity and a.path != b.path
    assert not np.array_equal(a.image, b.image)
    # In one scene the two shots are one picture but for the sensor's noise.
    scene = Scene(noise=2.0)
    a, b = (synthesise(5, shot=n, scene=scene) for n in (0, 1))
    difference = np.abs(a.image.astype(int) - b.image)
    assert 0.3 < difference.mean() < 5
    np.testing.assert_array_equal(a.landmarks, b.landmarks)


def test_finder_finds_each_where_the_model_says() -> None:
    finder = face_finder(threads=1)
    for seed in range(8):
        portrait = synthesise(seed)
        faces = finder(portrait.image)
        assert len(faces) == 1 and faces[0].score > 0.9
        away = np.linalg.norm(faces[0].landmarks - portrait.landmarks, axis=1).mean()
        assert away < 0.06 * eye_distance(portrait.landmarks)


def test_nobody_is_a_volunteer() -> None:
    distances = [nearest_volunteer(draw_person(seed).coordinates) for seed in range(60)]
    assert min(distances) >= APART
    # The measure itself sees a copy.
    from unseen.forge.synthetic import _model

    assert nearest_volunteer(_model().people[7]) == 0


def test_pictures_are_not_blurred() -> None:
    import cv2

    from unseen.media.crop import sharpness

    portrait = synthesise(2, size=320, scene=Scene(noise=0.0))
    low, high = portrait.landmarks.min(0), portrait.landmarks.max(0)
    box = np.concatenate([low, high])
    soft = np.asarray(cv2.GaussianBlur(portrait.image, (0, 0), 2.5))
    assert sharpness(portrait.image, box) > 100 > sharpness(soft, box)


@pytest.mark.parametrize(
    ("change", "points", "direction"),
    [
        ({"mouth": 0.6}, [57, 66, 8], (0, 1)),  # lower lip and chin fall
        ({"blink": 1.0}, [37, 38, 43, 44], (0, 1)),  # upper lids fall
        ({"brows": 1.0}, [19, 24], (0, -1)),
        ({"yaw": 10.0}, [30, 33], (1, 0)),
        ({"pitch": 8.0}, [30, 33], (0, 1)),
        ({"smile": 1.0}, [54], (1, 0)),  # the mouth's corner moves outwards
        ({"shift": (0.3, 0.0)}, [0, 8, 30], (1, 0)),
    ],
)
def test_scene_moves_landmarks(
    change: dict[str, float], points: list[int], direction: tuple[int, int]
) -> None:
    rest, moved = synthesise(6, scene=Scene()), synthesise(6, scene=replace(Scene(), **change))
    step = (moved.landmarks - rest.landmarks)[points] @ np.array(direction)
    assert (step > 1.0).all()
    assert not np.array_equal(rest.image, moved.image)


def test_size_scales_the_landmarks() -> None:
    small, large = (synthesise(1, size=n, scene=Scene()).landmarks for n in (128, 384))
    np.testing.assert_allclose((small - 63.5) * 3, large - 191.5, atol=2.0)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="size 20"):
        synthesise(0, size=20)
    with pytest.raises(InputError, match="seed -1"):
        synthesise(-1)


def test_mesh_map_is_affine_inside_and_far_away_outside() -> None:
    source = np.array([[2.0, 2.0], [12.0, 2.0], [2.0, 12.0]])
    place = mesh_map(source, 2 * source + 5, np.array([[0, 1, 2]]), (16, 16))
    np.testing.assert_allclose(place[4, 3], [2 * 3 + 5, 2 * 4 + 5], atol=1e-4)
    assert (place[15, 15] < -1000).all()
