"""How two pictures of a face become one, and how one of them is first made to differ slightly.

Pure functions of arrays; whatever is random comes from the generator they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.types import InputError

__all__ = ["alpha_blend", "is_monochrome", "poisson_blend", "resample", "sharpen", "shift_colors"]

_Image = NDArray[np.uint8]
_Mask = NDArray[np.float32]


def alpha_blend(source: _Image, target: _Image, mask: _Mask) -> _Image:
    """Return mask * source + (1 - mask) * target, rounded.

    Shape:
        source, target: (H, W, 3) uint8. mask: (H, W) float32 in [0, 1]. Returns (H, W, 3) uint8.
    """
    return np.asarray(cv2.blendLinear(source, target, mask, 1 - mask), np.uint8)


def poisson_blend(source: _Image, target: _Image, mask: _Mask) -> _Image:
    """Return the target with the source's gradients inside the mask (Perez et al., SIGGRAPH 2003, eq. 4).

    The solution is the source plus the membrane that takes the difference at the mask's edge inwards (their
    eq. 5 and 6). Only the mask's own rectangle is solved; outside the mask the target stays to the bit, which
    `cv2.seamlessClone` does not promise, at seven times the cost.

    Args:
        source: What goes in.
        target: What it goes into.
        mask: Inside is where it is above one half.

    Shape:
        source, target: (H, W, 3) uint8. mask: (H, W). Returns (H, W, 3) uint8.

    Raises:
        InputError: If the mask is empty.
    """
    height, width = mask.shape
    inside = np.zeros((height, width), np.uint8)
    # The membrane hangs from the pixels around the mask, which must lie in the picture.
    inside[1:-1, 1:-1] = np.where(mask[1:-1, 1:-1] > 0.5, 255, 0)
    x, y, across, down = cv2.boundingRect(inside)
    if across == 0 or down == 0:
        raise InputError("poisson_blend: the mask is empty", reason="empty_mask")
    rows, columns = slice(y - 1, y + down + 1), slice(x - 1, x + across + 1)
    levels = max(0, int(np.log2((min(down, across) + 2) / 8)))
    # Sides that halve without a rest: area averages of 2 x 2 are an order faster than of odd shares.
    rest = -(down + 2) % 2**levels, -(across + 2) % 2**levels
    under, over, part = (
        cv2.copyMakeBorder(np.ascontiguousarray(picture[rows, columns]), 0, rest[0], 0, rest[1], kind)
        for picture, kind in (
            (target, cv2.BORDER_REPLICATE),
            (source, cv2.BORDER_REPLICATE),
            (inside, cv2.BORDER_CONSTANT),
        )
    )
    membrane = _relax(np.asarray(cv2.subtract(under, over, dtype=cv2.CV_32F), np.float32), part, levels, 2)
    under = cv2.copyTo(cv2.add(over, membrane, dtype=cv2.CV_8U), part, under)
    result = target.copy()
    result[rows, columns] = under[: down + 2, : across + 2]
    return result


def _relax(edge: NDArray[np.float32], inside: Any, levels: int, sweeps: int) -> NDArray[np.float32]:
    """Return what is smooth inside a mask (Laplace's equation) and is `edge` outside it, written over `edge`.

    From coarse to fine: a smaller solution is the start, and sweeps settle what is left. Each halving doubles
    the sweeps, which costs half as much all the same: smooth parts settle slowly and belong to coarse grids.

    Shape:
        edge: (H, W, 3). inside: (H, W), 255 where the solution is wanted, else 0. Returns (H, W, 3).
    """
    outside = cv2.bitwise_not(inside)
    spare = cv2.copyTo(edge, outside)
    if levels == 0:
        spare[:] = cv2.mean(edge, outside)[:3]
    else:
        size = (inside.shape[1] // 2, inside.shape[0] // 2)
        # Means of known pixels alone: what is inside must not leak out. A cell that holds any is known.
        share = cv2.resize(outside, size, interpolation=cv2.INTER_AREA)
        known = np.asarray(cv2.resize(spare, size, interpolation=cv2.INTER_AREA), np.float32)
        known *= (np.float32(255) / np.maximum(share, 1))[..., None]
        small = _relax(known, cv2.compare(share, 1, cv2.CMP_LT), levels - 1, 2 * sweeps)  # type: ignore[call-overload]
        cv2.resize(small, inside.shape[::-1], dst=spare, interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(spare, inside, edge)
    for _ in range(sweeps):
        # The mean of nine damps every fine wave to a third or less; of four neighbours it would let
        # the checkerboard stand.
        cv2.blur(edge, (3, 3), dst=spare, borderType=cv2.BORDER_REPLICATE)
        cv2.copyTo(spare, inside, edge)
    return edge


def is_monochrome(image: _Image, *, threshold: float = 4.0) -> bool:
    """Say whether a picture is grey or one toned colour (a sepia print) rather than in colour.

    In one tone two channels are a function of the third, so what is left of the colour differences after a
    straight line in brightness is only codec noise.

    Args:
        image: The picture.
        threshold: Largest standard deviation of what is left, in grey levels.

    Shape:
        image: (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, min(64, width)), max(1, min(64, height))), interpolation=cv2.INTER_AREA)
    pixels = small.reshape(-1, 3).astype(np.float64)
    bright = pixels.mean(1) - pixels.mean()
    power = float(bright @ bright) + 1e-9
    for difference in (pixels[:, 0] - pixels[:, 1], pixels[:, 2] - pixels[:, 1]):
        rest = difference - difference.mean()
        rest = rest - (float(rest @ bright) / power) * bright
        if rest.std() > threshold:
            return False
    return True


def shift_colors(
    image: _Image,
    rng: np.random.Generator,
    *,
    channels: float = 20.0,
    p: float = 0.3,
    brightness: float = 0.1,
    contrast: float = 0.1,
    monochrome: bool | Callable[[_Image], bool] = False,
) -> _Image:
    """Change channels, brightness and contrast at random, by one table per channel.

    Args:
        image: The picture.
        rng: Source of randomness; six numbers are drawn whatever happens.
        channels: Largest shift of a channel, in grey levels.
        p: Probability that a channel is shifted.
        brightness: Largest shift of all channels, as a share of 255.
        contrast: Largest relative change of contrast.
        monochrome: Shift all channels alike, so that a grey picture stays grey; or what says so of the
            picture, such as `is_monochrome`, which is asked only if a channel is shifted.

    Shape:
        image: (H, W, 3) uint8 RGB. Returns the same.
    """
    happens, draws = rng.random(3) < p, rng.uniform(-1, 1, 5)
    shift = np.where(happens, channels * draws[:3], 0.0)
    if happens.any() and (monochrome(image) if callable(monochrome) else monochrome):
        shift[:] = shift[0]
    levels = np.arange(256)[:, None] + np.round(shift)
    # Contrast turns about black, as in the published code: about the mean it would depend on the picture.
    table = np.clip(levels, 0, 255) * (1 + contrast * draws[3]) + 255 * brightness * draws[4] + 0.5
    return np.asarray(cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[None]), np.uint8)


def resample(image: _Image, factor: int) -> _Image:
    """Keep every `factor`-th pixel and interpolate the rest: fine detail turns into aliasing.

    Shape:
        image: (H, W, 3) uint8. Returns the same size.
    """
    height, width = image.shape[:2]
    small = (max(1, width // factor), max(1, height // factor))
    few = cv2.resize(image, small, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def sharpen(image: _Image, strength: float, lightness: float) -> _Image:
    """Return a mixture of the picture and its second differences.

    Args:
        image: The picture.
        strength: Share of the differences, 0 to 1.
        lightness: How much of the picture's own brightness the differences keep; 1 keeps all.

    Shape:
        image: (H, W, 3) uint8. Returns the same.
    """
    edges = np.full((3, 3), -1.0)
    edges[1, 1] = 8.0 + lightness
    kernel = strength * edges
    kernel[1, 1] += 1 - strength
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)
