"""How well forged regions are found: average precision of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.types import InputError

__all__ = ["box_average_precision", "overlaps"]


def overlaps(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return intersection over union of every box of one list with every box of another.

    Shape:
        (N, 4) and (M, 4), xyxy in any unit -> (N, M).
    """
    one, two = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    low, high = np.maximum(one[..., :2], two[..., :2]), np.minimum(one[..., 2:], two[..., 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    area = [(box[..., 2:] - box[..., :2]).clip(0, None).prod(-1) for box in (one, two)]
    either = area[0] + area[1] - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def box_average_precision(
    boxes: Sequence[NDArray[Any]],
    scores: Sequence[NDArray[Any]],
    truth: Sequence[NDArray[Any]],
    *,
    overlap: float = 0.5,
) -> float:
    """Return the area under the precision-recall curve of boxes, as PASCAL VOC defines it since 2010.

    All boxes of all pictures are ranked by score. Each takes the region of its picture that it overlaps most;
    it is right if that overlap is reached and no higher box has taken the region.

    Args:
        boxes: Found ones, an array a picture; empty where nothing was found.
        scores: Their scores.
        truth: Forged regions, an array a picture; empty for a real face, where every box is wrong.
        overlap: Least intersection over union, in (0, 1].

    Returns:
        Share between 0 and 1; NaN if there is no region at all.

    Raises:
        InputError: The lists differ in length.

    Shape:
        boxes: (N_i, 4) xyxy. scores: (N_i,). truth: (M_i, 4).
    """
    if not len(boxes) == len(scores) == len(truth):
        raise InputError(
            f"boxes of {len(boxes)} pictures, scores of {len(scores)}, regions of {len(truth)}; "
            "expected as many of each",
            reason="length",
        )
    total = sum(len(regions) for regions in truth)
    if not total:
        return float("nan")
    ranked = sorted(
        ((float(s), i, j) for i, values in enumerate(scores) for j, s in enumerate(values)),
        key=lambda found: -found[0],
    )
    taken = [np.zeros(len(regions), bool) for regions in truth]
    right = np.zeros(len(ranked))
    for place, (_, picture, number) in enumerate(ranked):
        if not len(truth[picture]):
            continue
        shared = overlaps(boxes[picture][number : number + 1], truth[picture])[0]
        best = int(shared.argmax())
        if shared[best] >= overlap and not taken[picture][best]:
            taken[picture][best] = right[place] = True
    hits = right.cumsum()
    precision = hits / np.arange(1, len(ranked) + 1)
    # From the right the best precision at this recall or more: the curve without its saw teeth.
    best_later = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_later * right).sum() / total)
