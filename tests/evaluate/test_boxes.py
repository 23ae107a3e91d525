from __future__ import annotations

import math

import numpy as np
import pytest

from unseen.evaluate.boxes import box_average_precision, overlaps
from unseen.types import InputError

UNIT = np.array([[0.0, 0.0, 10.0, 10.0]])


def test_overlaps_by_hand() -> None:
    # the same; a half of it: 50 / 100; beside it: 0; shifted by 5: 50 / (100 + 100 - 50)
    others = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [5, 0, 15, 10]])
    np.testing.assert_allclose(overlaps(UNIT, others), [[1, 0.5, 0, 1 / 3]])
    assert overlaps(np.zeros((1, 4)), np.zeros((1, 4))) == 0  # no area, no overlap, no division by zero


def test_average_precision_by_hand() -> None:
    far = UNIT + 100
    # Ranked: right (.9), wrong (.8), right (.7); three regions. Precisions at the hits: 1 and 2/3.
    boxes = [np.concatenate([UNIT, far]), UNIT, np.zeros((0, 4))]
    scores = [np.array([0.9, 0.8]), np.array([0.7]), np.zeros(0)]
    assert box_average_precision(boxes, scores, [UNIT, UNIT, UNIT]) == pytest.approx((1 + 2 / 3) / 3)


def test_a_region_counts_once_and_a_box_on_a_real_face_is_wrong() -> None:
    twice = np.concatenate([UNIT, UNIT])
    assert box_average_precision([twice], [np.array([0.5, 0.9])], [UNIT]) == 1.0
    empty = np.zeros((0, 4))
    # The box on the real face stands above the right one: precision 1/2 where recall becomes 1.
    assert box_average_precision([UNIT, UNIT], [np.array([0.9]), np.array([0.8])], [empty, UNIT]) == 0.5


def test_overlap_decides() -> None:
    half = np.array([[0.0, 0.0, 10.0, 5.0]])
    assert box_average_precision([half], [np.array([1.0])], [UNIT], overlap=0.5) == 1.0
    assert box_average_precision([half], [np.array([1.0])], [UNIT], overlap=0.51) == 0.0


def test_nothing_to_find_and_lists_of_other_lengths() -> None:
    assert math.isnan(box_average_precision([UNIT], [np.array([1.0])], [np.zeros((0, 4))]))
    with pytest.raises(InputError, match="boxes of 1 pictures, scores of 1, regions of 0"):
        box_average_precision([UNIT], [np.array([1.0])], [])
