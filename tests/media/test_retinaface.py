from __future__ import annotations

import numpy as np

from unseen.media.retinaface import anchors, suppress


def test_anchors_of_a_32_pixel_picture_by_hand() -> None:
    found = anchors(32, 32)
    # stride 8: 4x4 cells, two anchors each; stride 16: 2x2; stride 32: 1.
    assert found.shape == (2 * (16 + 4 + 1), 3)
    np.testing.assert_array_equal(found[:3], [[4, 4, 16], [4, 4, 32], [12, 4, 16]])
    np.testing.assert_array_equal(found[32], [8, 8, 64])
    np.testing.assert_array_equal(found[-2:], [[16, 16, 256], [16, 16, 512]])


def test_suppression_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [0, 0, 10, 3]], np.float32)
    scores = np.array([0.5, 0.9, 0.7, 0.8], np.float32)
    # Overlaps with the best (row 1, area 80): row 0 shares 80 of 100 = 0.8; row 3 shares 30 of 80 = 0.375.
    assert suppress(boxes, scores, 0.4).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, 0.3).tolist() == [1, 2]
    assert suppress(boxes[:0], scores[:0], 0.4).tolist() == []
