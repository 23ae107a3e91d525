"""Pictures of evidence: what is drawn lies where it should, and nothing else is touched."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from unseen.explain.draw import (
    data_uri,
    draw_box,
    fit_affine,
    heat_colors,
    legend,
    overlay,
    shrink,
    thumbnail,
)


def test_colours_rise_in_brightness() -> None:
    grey = cv2.cvtColor(legend(64, 1), cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert (np.diff(grey) >= -1).all()
    assert grey[-1] - grey[0] > 150


def test_colours_are_rgb() -> None:
    assert heat_colors(np.ones((1, 1))).tolist()[0][0][2] < 100  # viridis ends in yellow: little blue
    assert heat_colors(np.array([[np.nan]])).shape == (1, 1, 3)


def test_overlay_puts_the_peak_back_on_the_frame() -> None:
    frame = np.full((200, 300, 3), 128, np.uint8)
    heat = np.zeros((8, 8), np.float32)
    heat[1, 6] = 1  # centre at (6.5 / 8, 1.5 / 8) of the network's input
    # The network saw x 100..180, y 40..120 of the frame at 160 pixels: twice as large.
    matrix = np.array([[2.0, 0, -200 + 0.5], [0, 2.0, -80 + 0.5]])
    drawn = overlay(frame, heat, matrix, (160, 160), outline=False)
    changed = np.abs(drawn.astype(int) - 128).sum(2)
    yellow = drawn[..., 0].astype(int) + drawn[..., 1] - drawn[..., 2]
    y, x = np.unravel_index(yellow.argmax(), yellow.shape)
    assert abs(x - (100 + 80 * 6.5 / 8)) <= 2
    assert abs(y - (40 + 80 * 1.5 / 8)) <= 2
    assert changed[:38].max() == 0  # what the network did not see stays as it was
    assert changed[:, :98].max() == 0
    assert changed[123:].max() == 0
    assert (frame == 128).all()


def test_overlay_follows_a_rotation() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[:, 3] = 1  # right edge of the input
    quarter = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 99.0]])  # the frame's bottom is the input's right
    drawn = overlay(frame, heat, quarter, (100, 100), outline=False).sum(2)
    assert drawn[95, 50] > drawn[5, 50] + 100


def test_fit_affine_finds_the_map_and_skips_nan() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(81, 2)) * 100
    matrix = np.array([[0.8, -0.3, 12.0], [0.3, 0.8, -7.0]])
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    points[68:] = np.nan
    assert np.allclose(fit_affine(points, moved), matrix)
    with pytest.raises(ValueError, match="2 finite points"):
        fit_affine(points[:2], moved[:2])


@pytest.mark.parametrize("box", [(10, 10, 40, 40), (-20, -20, 500, 500), (50, 50, 50, 50), (0, 0, 5, 5)])
def test_boxes_and_thumbnails_survive_any_box(box: tuple[float, ...]) -> None:
    frame = np.zeros((60, 80, 3), np.uint8)
    for dashed in (False, True):
        assert draw_box(frame, box, "person 1 – ü", dashed=dashed).shape == frame.shape
    assert thumbnail(frame, box, 32).shape == (32, 32, 3)
    assert frame.max() == 0


def test_thumbnail_centres_the_face() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[45:55, 85:95] = 255
    for box in ((85, 45, 95, 55), (80, 40, 100, 60)):
        small = thumbnail(frame, box, 64, margin=0.5)[..., 0].astype(float)
        y, x = np.indices(small.shape)
        assert abs((small * x).sum() / small.sum() - 31.5) < 2.5
        assert abs((small * y).sum() / small.sum() - 31.5) < 2.5


def test_shrink_keeps_small_pictures_and_the_shape() -> None:
    frame = np.zeros((50, 100, 3), np.uint8)
    assert shrink(frame, 100) is frame
    assert shrink(frame, 10).shape == (5, 10, 3)


def test_data_uri_is_a_jpeg_in_rgb() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    kind, _, text = data_uri(red).partition(",")
    assert kind == "data:image/jpeg;base64"
    back = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR)
    assert back[8, 8, 2] > 200 > 50 > back[8, 8, 0]
