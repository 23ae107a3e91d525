"""Boxes of a detector made fit to be shown: clipped, thinned out, the most certain first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST", "OVERLAP", "THRESHOLD", "suppress"]

THRESHOLD, OVERLAP, MOST = 0.5, 0.45, 5


def suppress(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    size: tuple[float, float],
    *,
    threshold: float = THRESHOLD,
    overlap: float = OVERLAP,
    most: int = MOST,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clip boxes to the picture and keep those that no more certain one covers (non-maximum suppression).

    Args:
        boxes: In pixels, in any order.
        scores: Probability of each, or anything else that says how certain it is.
        size: (height, width) of the picture in pixels.
        threshold: Less certain boxes are left out.
        overlap: A box whose intersection over union with a kept one is above this is left out.
        most: At most so many are kept.

    Returns:
        The boxes and their scores, the most certain first.

    Shape:
        boxes: (N, 4) xyxy. scores: (N,) -> (M, 4), (M,).
    """
    scores = np.asarray(scores, np.float32)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= threshold]
    clipped = np.clip(np.asarray(boxes, np.float32)[order], 0, [size[1], size[0], size[1], size[0]])
    area = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    left = np.flatnonzero(area > 0)
    kept: list[int] = []
    while len(left) and len(kept) < most:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        low = np.maximum(clipped[first, :2], clipped[left, :2])
        high = np.minimum(clipped[first, 2:], clipped[left, 2:])
        both = np.clip(high - low, 0, None).prod(1)
        left = left[both <= overlap * (area[first] + area[left] - both)]
    return clipped[kept].astype(np.float32), scores[order][kept]
