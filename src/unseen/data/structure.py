"""Where two pictures of a face differ in structure, and the window in which they differ most."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.types import InputError

__all__ = ["densest_window", "dssim"]

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def dssim(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """Structural dissimilarity (1 - SSIM) / 2 of each pixel and channel (Wang et al., TIP 2004).

    11 x 11 Gaussian windows of sigma 1.5, borders mirrored about the outermost pixel. Four blurs instead of
    five: with the sum s and the difference d of the pictures, the covariance is (var s - var d) / 4 and the
    sum of variances (var s + var d) / 2, which also keeps single precision within 3e-5 of the exact value.

    Args:
        a: A picture of values 0 to 255, uint8 or float.
        b: The other, of the same shape.

    Returns:
        0 where they agree, up to 1.

    Raises:
        InputError: The shapes differ, or are not (H, W, C).

    Shape:
        a, b: (H, W, 3) -> (H, W, 3) float32.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise InputError(
            f"dssim: pictures of shape {a.shape} and {b.shape}; expected the same (H, W, 3)", reason="size"
        )
    result = np.empty(a.shape, np.float32)
    for channel in range(a.shape[2]):  # a third of the memory at a time, which the processor can hold
        result[..., channel] = _dssim(
            np.ascontiguousarray(a[..., channel]), np.ascontiguousarray(b[..., channel])
        )
    return result


def _dssim(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """Structural dissimilarity of one channel. Shape: (H, W) each."""
    s = np.asarray(cv2.add(a, b, dtype=cv2.CV_32F), np.float32)
    s -= 255
    d = np.asarray(cv2.subtract(a, b, dtype=cv2.CV_32F), np.float32)
    mean_s, mean_d = _blur(s), _blur(d)
    s *= s
    d *= d
    var_s, var_d = _blur(s), _blur(d)
    np.multiply(mean_s, mean_s, out=s)
    var_s -= s
    mean_d *= mean_d
    var_d -= mean_d
    mean_s += 255
    mean_s *= mean_s
    # With s^2 and d^2 of the means: 2 mu_a mu_b = (s^2 - d^2) / 2, mu_a^2 + mu_b^2 = (s^2 + d^2) / 2; the
    # same for the variances.
    mean_s += 2 * _C1
    var_s += 2 * _C2
    np.subtract(mean_s, mean_d, out=s)
    s *= np.subtract(var_s, var_d, out=d)
    mean_s += mean_d
    mean_s *= np.add(var_s, var_d, out=d)
    s /= mean_s  # SSIM
    s *= -0.5
    s += 0.5
    return np.clip(s, 0, 1, out=s)


def _blur(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101), np.float32)


def densest_window(weights: NDArray[Any], height: int, width: int) -> tuple[int, int]:
    """Return the upper left corner of the window that holds most weight (CADDM, eq. 2).

    Exact: every place is compared. Weights are brought to whole numbers, 2^-37 of the largest sum of 50,000
    apart, so that the integral picture has no rounding and equal windows stay equal; of these the first in
    row-major order is returned.

    Args:
        weights: Not negative, finite.
        height: Of the window, in pixels.
        width: Of the window, in pixels.

    Returns:
        (x, y) in pixels; (0, 0) for a map of zeros.

    Raises:
        InputError: The window does not fit, or a weight is negative or not finite.

    Shape:
        weights: (H, W).
    """
    if weights.ndim != 2 or not (1 <= height <= weights.shape[0] and 1 <= width <= weights.shape[1]):
        raise InputError(
            f"densest_window: {width} x {height} pixels in a map of shape {weights.shape}; expected a "
            "window that fits into a map (H, W)",
            reason="size",
        )
    values = np.asarray(weights, np.float64)
    low, most, _, _ = cv2.minMaxLoc(values)
    total = cv2.sumElems(values)[0]
    if not np.isfinite(total) or low < 0:
        raise InputError("densest_window: weights must be finite and not negative", reason="not_finite")
    if most == 0:
        return 0, 0
    # All partial sums stay below 2^53, where float64 still counts in ones.
    scale = 2.0 ** (51 - np.ceil(np.log2(total)))
    whole = cv2.integral(np.rint(values * scale), sdepth=cv2.CV_64F)
    sums = whole[height:, width:] - whole[:-height, width:]
    sums -= whole[height:, :-width]
    sums += whole[:-height, :-width]
    y, x = divmod(int(sums.argmax()), sums.shape[1])
    return x, y
