"""A frame, the limits on what we are willing to decode, and which frames of a video to take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unseen.types import InputError

__all__ = ["Frame", "Limits", "check_pixels", "spread"]


@dataclass(frozen=True)
class Limits:
    """What a file may ask of this machine; more is an `InputError` with reason `too_large`.

    Args:
        pixels: Of one frame.
        bytes: Of the file.
        seconds: Of a video.
        frames: Of a video.
    """

    pixels: int = 100_000_000
    bytes: int = 8 * 1024**3
    seconds: float = 4 * 3600.0
    frames: int = 1_000_000


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture, upright.

    Shape:
        image: (H, W, 3) uint8 RGB.
    """

    image: NDArray[np.uint8]
    index: int  # its place in the video in the order of showing, from 0
    time: float  # seconds from the video's first frame


def spread(times: NDArray[np.float64], duration: float, count: int) -> NDArray[np.int64]:
    """Choose the frames shown in the middle of `count` equal intervals.

    Args:
        times: When each frame appears, in seconds from the first, ascending.
        duration: How long the video lasts, in seconds.
        count: How many intervals.

    Returns:
        Positions in `times`, ascending, each once: fewer than `count` where a frame stays for several
        intervals. All of them if there are no more than `count`.

    Shape:
        times: (N,) float64. Returns: (K,) int64, K <= count.

    Example:
        >>> spread(np.arange(10) / 10, 1.0, 5)
        array([1, 3, 5, 7, 9])
    """
    if len(times) <= count:
        return np.arange(len(times))
    middles = (np.arange(count) + 0.5) * (duration / count)
    # Half a microsecond forgives time stamps that were rounded up.
    shown = np.searchsorted(times, middles + 5e-7, side="right") - 1
    return np.unique(np.maximum(shown, 0))


def check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    """Raise `InputError` when a frame of this size must not, or cannot, be decoded."""
    if width < 1 or height < 1:
        raise InputError(
            f"{name}: the header states {width}x{height} pixels; the file is damaged", reason="unreadable"
        )
    if width * height > limits.pixels:
        raise InputError(
            f"{name}: {width}x{height} pixels, more than the limit of {limits.pixels:,}. "
            "Shrink it, or raise Limits.pixels if the file is trusted.",
            reason="too_large",
        )
