"""How two pictures of a face become one, and how one of them is first made to differ slightly.

Pure functions of arrays; whatever is random comes from the generator they are given.
"""

from __future__ import annotations

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
    """Return the target with the source's gradients inside the mask (Perez et al., SIGGRAPH 2003).

    Only the mask's own rectangle is solved, and the result stays in place.

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
    # The solver takes its boundary from one pixel around the mask, which must lie in the picture.
    inside[2:-2, 2:-2] = np.where(mask[2:-2, 2:-2] > 0.5, 255, 0)
    x, y, across, down = cv2.boundingRect(inside)
    if across == 0 or down == 0:
        raise InputError("poisson_blend: the mask is empty", reason="empty_mask")
    rows, columns = slice(max(y - 2, 0), y + down + 2), slice(max(x - 2, 0), x + across + 2)
    part = inside[rows, columns]
    result = target.copy()
    # seamlessClone puts the middle of the mask's own rectangle at the given point.
    left, top, w, h = cv2.boundingRect(part)
    middle = (left + w // 2, top + h // 2)
    result[rows, columns] = cv2.seamlessClone(
        np.ascontiguousarray(source[rows, columns]),
        np.ascontiguousarray(target[rows, columns]),
        np.ascontiguousarray(part),
        middle,
        cv2.NORMAL_CLONE,
    )
    return result


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
    monochrome: bool = False,
) -> _Image:
    """Change channels, brightness and contrast at random, by one table per channel.

    Args:
        image: The picture.
        rng: Source of randomness; six numbers are drawn whatever happens.
        channels: Largest shift of a channel, in grey levels.
        p: Probability that a channel is shifted.
        brightness: Largest shift of all channels, as a share of 255.
        contrast: Largest relative change of contrast.
        monochrome: Shift all channels alike, so that a grey picture stays grey.

    Shape:
        image: (H, W, 3) uint8 RGB. Returns the same.
    """
    happens, draws = rng.random(3) < p, rng.uniform(-1, 1, 5)
    shift = np.where(happens, channels * draws[:3], 0.0)
    if monochrome:
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
