"""Where the new pixels of a batch come from: windows and weights as OpenCV computes them, a row a picture.

Tables are made where the numbers are drawn (numpy); with `resampled` any device applies them.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["area", "cubic", "gaussian", "linear", "reflected", "resampled"]

_Sizes = NDArray[np.int64]
_Taps = tuple[NDArray[np.int64], NDArray[np.float32]]


def resampled(values: Tensor, index: Tensor, weight: Tensor, *, axis: int) -> Tensor:
    """Return weighted sums of values along one axis, added up tap by tap.

    Shape:
        values: (R, C, H, W). index, weight: (R or 1, n, T). Returns values with n places along `axis`.
    """
    shape = (-1, 1, 1, index.shape[1]) if axis == 3 else (-1, 1, index.shape[1], 1)
    total = values.take_along_dim(index[..., 0].reshape(shape), axis) * weight[..., 0].reshape(shape)
    for tap in range(1, index.shape[2]):
        total += values.take_along_dim(index[..., tap].reshape(shape), axis) * weight[..., tap].reshape(shape)
    return total


def reflected(index: Tensor, length: int) -> Tensor:
    """Bring places beyond a border back, the border itself not repeated."""
    if length == 1:
        return torch.zeros_like(index)
    index = index.abs() % (2 * length - 2)
    return torch.minimum(index, 2 * length - 2 - index)


def gaussian(drawn: NDArray[Any]) -> NDArray[np.int32]:
    """Return Gaussian windows in 8 bits that sum to 256; a rounding error is handed on to the next weight.

    Shape:
        drawn: (R, 2), standard deviation and side (0 for one that fits). Returns (R, T), T the widest side.
    """
    rows = []
    for sigma, given in drawn.tolist():
        side = int(given) or round(6 * sigma + 1) | 1
        exact, error, half = cv2.getGaussianKernel(side, sigma).ravel().tolist(), 0.0, []
        for value in exact[: side // 2]:
            wanted = 256 * value + error
            half.append(round(wanted))
            error = wanted - half[-1]
        rows.append([*half, 256 - 2 * sum(half), *half[::-1]])
    widest = max(map(len, rows))
    return np.array([np.pad(row, (widest - len(row)) // 2) for row in rows], np.int32)


def area(small: _Sizes, large: int) -> _Taps:
    """Return what each of `small` equal parts of `large` pixels covers, and how much of each.

    Shape:
        small: (R,), none above `large`. Returns (R, n, T) twice, n the largest of small; of no weight beyond.
    """
    ratio = large / small[:, None]
    edges = np.arange(small.max() + 1) * ratio
    first = np.floor(edges[:, :-1]).astype(np.int64)
    place = first[..., None] + np.arange(int(np.ceil(ratio.max())) + 1)
    inside = np.minimum(np.minimum(edges[:, 1:, None], large), place + 1) - np.maximum(
        edges[:, :-1, None], place
    )
    return np.minimum(place, large - 1), (inside.clip(0) / ratio[..., None]).astype(np.float32)


def linear(small: _Sizes, large: int) -> _Taps:
    """Return the two neighbours of each of `large` places among `small` ones, and their weights.

    Shape:
        small: (R,). Returns (R, large, 2) twice.
    """
    first, share = _places(small, large)
    index = np.clip(first[..., None] + np.arange(2), 0, small[:, None, None] - 1)
    return index, np.stack([1 - share, share], 2)


def cubic(small: _Sizes, large: int) -> _Taps:
    """Return four neighbours and their weights (Keys 1981, a = -0.75); see `linear`."""
    first, share = _places(small, large)
    index = np.clip(first[..., None] + np.arange(-1, 3), 0, small[:, None, None] - 1)
    a, far, near = np.float32(-0.75), share + 1, 1 - share
    outer = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    left = ((a + 2) * share - (a + 3)) * share * share + 1
    right = ((a + 2) * near - (a + 3)) * near * near + 1
    return index, np.stack([outer, left, right, 1 - outer - left - right], 2)


def _places(small: _Sizes, large: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the pixel before each place and the share of the way to the next: (R, large) each."""
    exact = ((np.arange(large) + 0.5) * (small[:, None] / large) - 0.5).astype(np.float32)
    first = np.floor(exact)
    return first.astype(np.int64), exact - first
