from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

from unseen.forge.family import Portrait, Unforgeable, check_portrait, eye_distance
from unseen.forge.shape import MEAN_FACE, expression, mouth_opening, move, similarity, turn
from unseen.forge.warp import (
    Window,
    _linear,
    face_window,
    fit_detail,
    read_through,
    soft_inside,
    triangle_map,
)


def test_similarity_finds_what_was_done() -> None:
    # a quarter turn, twice the size, 3 to the right and 1 down: (x, y) -> (-2y + 3, 2x + 1)
    known = np.array([[0, -2, 3], [2, 0, 1.0]])
    assert np.allclose(similarity(MEAN_FACE, move(MEAN_FACE, known)), known, atol=1e-5)


def test_the_mean_face_is_calm_level_and_of_unit_size() -> None:
    assert eye_distance(MEAN_FACE) == pytest.approx(1, abs=2e-3)
    assert abs(turn(MEAN_FACE)) < 1e-3
    assert mouth_opening(MEAN_FACE) == pytest.approx(0.03, abs=0.005)
    assert np.allclose(expression(100 * MEAN_FACE + 7), expression(MEAN_FACE), atol=1e-4)


def test_turn_tells_the_side() -> None:
    turned = MEAN_FACE.copy()
    turned[27:36, 0] += 0.3  # the nose goes to the picture's right
    assert turn(turned) > 0.2
    mirrored = turned * np.array([-1, 1], np.float32)
    mirrored[:17], mirrored[36:42], mirrored[42:48] = (
        mirrored[16::-1],
        mirrored[42:48].copy(),
        mirrored[36:42].copy(),
    )
    assert turn(mirrored) < -0.2


@pytest.mark.parametrize("step", [1, 4])
def test_a_map_sends_landmarks_to_landmarks(step: int) -> None:
    here = MEAN_FACE * 80 + 200
    there = here + 6 * np.sin(np.arange(162)).reshape(81, 2).astype(np.float32)
    window = Window(60, 90, 340, 350)
    where = triangle_map(here, there, window, step=step)
    assert where.shape == (260, 280, 2)
    assert np.isfinite(where).all()  # the rim leaves no hole
    at = np.round(here - window.origin).astype(int)[27:31]  # along the nose, where points stand apart
    off = where[at[:, 1], at[:, 0]] - there[27:31] - (np.round(here[27:31]) - here[27:31])
    assert np.abs(off).max() < 1.5 * step


def test_between_landmarks_a_map_is_linear() -> None:
    rng = np.random.default_rng(0)
    points, values = rng.normal(0, 1, (40, 2)), rng.normal(0, 1, (40, 2))
    mesh = Delaunay(points)
    share = rng.dirichlet(np.ones(3), len(mesh.simplices))  # a place in each triangle
    at = np.einsum("mk,mkc->mc", share, points[mesh.simplices])
    expected = LinearNDInterpolator(mesh, values)(at)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(_linear(mesh, values, at), expected, atol=1e-12)
    np.testing.assert_allclose(_linear(mesh, 2 * points, at), 2 * at, atol=1e-12)  # a plane stays a plane


def test_an_unmoved_still_map_reads_the_very_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 110, 3), dtype=np.uint8)
    points = MEAN_FACE * 20 + 50
    window = Window(10, 20, 101, 83)
    where = triangle_map(points, points, window, still=True)
    assert np.array_equal(read_through(image, where), window.of(image))


def test_soft_inside_keeps_its_distance() -> None:
    square = np.array([[20, 20], [80, 20], [80, 80], [20, 80]], np.float32)
    mask = soft_inside(square, Window(0, 0, 100, 100), erode=5, feather=10)
    assert mask[50, 50] == 1
    assert mask[50, :24].max() == 0  # nothing within five pixels of the edge
    assert 0.4 < mask[50, 30] < 0.7  # half-way up after half the feather
    full = soft_inside(square - 20, Window(0, 0, 61, 61), erode=5, feather=10)
    assert full[30, 0] == 0  # the picture's border is an edge


def test_detail_is_fitted_only_when_it_is_too_fine() -> None:
    image, points = np.zeros((100, 80, 3), np.uint8), np.array([[39.5, 49.5]], np.float32)
    assert fit_detail(image, points, 0.9)[0] is image
    small, moved = fit_detail(image, points, 0.5)
    assert small.shape == (50, 40, 3)
    assert np.allclose(moved, [[19.5, 24.5]])  # the middle stays the middle


def test_windows_are_clipped_and_never_empty() -> None:
    window = face_window(np.array([[-5, 10], [30, 300.0]]), (200, 100), 10)
    assert (window.x0, window.y0, window.x1, window.y1) == (0, 0, 41, 200)
    with pytest.raises(Unforgeable, match="outside"):
        face_window(np.array([[500, 500], [530, 530.0]]), (200, 100), 10)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((81, 2), np.nan, np.float32), "no_landmarks"),
        (np.zeros((68, 2), np.float32), "no_landmarks"),
        (MEAN_FACE * 10 + 50, "face_too_small"),
    ],
)
def test_portraits_that_cannot_be_used(points: np.ndarray, reason: str) -> None:
    with pytest.raises(Unforgeable) as caught:
        check_portrait(Portrait(np.zeros((100, 100, 3), np.uint8), points, path="a.jpg"))
    assert caught.value.reason == reason
    assert "a.jpg" in str(caught.value)
