"""Kinds of change that leave every pixel in its place: functions of a picture and the numbers drawn for it.

Transforms draw the numbers (`unseen.data.photometric`, `unseen.data.distort`). What is done with them is
written twice: here for one picture on a processor, in `unseen.data.batched` for a batch on any device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.types import Drawn, FaceSample

__all__ = [
    "PLAIN",
    "Photometric",
    "change",
    "draw_seed",
    "grain",
    "jpeg",
    "levels",
    "motion_kernel",
    "numbers",
]

_Image = NDArray[np.uint8]
_Numbers = NDArray[Any]


@runtime_checkable
class Photometric(Protocol):
    """A transform that is no more than a fixed list of changes, so that somebody else can carry them out."""

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return each change by name with its numbers, or with None if chance left it out."""


def change(sample: FaceSample, drawn: Iterable[Drawn]) -> FaceSample:
    """Return the sample with its picture changed; the very sample if chance left everything out."""
    image = sample.image
    for kind, values in drawn:
        if values is not None:
            image = PLAIN[kind](image, values)
    return sample if image is sample.image else replace(sample, image=image)


def numbers(*values: float) -> NDArray[np.float64]:
    """Return what was drawn as a row of a table."""
    return np.array(values, np.float64)


def levels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a table of grey levels, rounded; the numbers of the change `table`.

    Shape:
        values: (256,) for all channels or (256, 3). Returns (256, 3) uint8.
    """
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(table[:, None], 3, axis=1) if table.ndim == 1 else table


def draw_seed(rng: np.random.Generator) -> tuple[int, int]:
    """Draw the two keys of a field of `grain`, in one number of the generator."""
    seed = int(rng.integers(2**63))
    return seed >> 32, seed & 0xFFFFFFFF


@functools.cache
def quantiles() -> NDArray[np.float32]:
    """Return the standard normal's value at the middle of each of 65,536 equal shares: (65536,)."""
    from scipy.special import ndtri  # a second of start-up that a verdict does not need

    return np.asarray(ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)), np.float32)


def grain(seed: tuple[int, int], count: int) -> NDArray[np.float32]:
    """Return independent standard normal numbers, a function of the two keys and the place alone.

    A generator's state would have to be walked through in order; a hash of the place is found by any device
    for all places at once. 16 bits choose among `quantiles`, which end at 4.3 standard deviations.

    Shape:
        Returns (count,).
    """
    bits = np.arange((count + 1) // 2, dtype=np.uint32)
    bits += np.uint32(seed[0])
    _mix(bits)
    bits ^= np.uint32(seed[1])
    _mix(bits)
    return np.asarray(quantiles()[bits.astype("<u4", copy=False).view("<u2")[:count]], np.float32)


# Shifts and odd factors of a 32-bit mix that C. Wellons searched for (Prospecting for Hash Functions, 2018).
MIX = ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1))


def _mix(bits: NDArray[np.uint32]) -> None:
    for shift, factor in MIX:
        bits ^= bits >> np.uint32(shift)
        bits *= np.uint32(factor)


def jpeg(image: _Image, quality: int) -> _Image:
    """Return the picture after a round through JPEG, 4:2:0, at `quality` (1 to 100).

    Shape:
        image: (H, W, 3) uint8 RGB, and so is the result.
    """
    # The codec must know which channel is which: it keeps less of the two colour differences.
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


def _jpeg(image: _Image, drawn: _Numbers) -> _Image:
    return jpeg(image, int(drawn[0]))


def _grey(image: _Image, drawn: _Numbers) -> _Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def _table(image: _Image, drawn: _Numbers) -> _Image:
    """Look every value up. Shape: drawn (256, 3) uint8."""
    return np.asarray(cv2.LUT(image, drawn[None]), np.uint8)


def _colors(image: _Image, drawn: _Numbers) -> _Image:
    """Mix the channels. Shape: drawn (12,), a (3, 4) matrix."""
    return np.asarray(cv2.transform(image, drawn.reshape(3, 4).astype(np.float32)), np.uint8)


def _blur(image: _Image, drawn: _Numbers) -> _Image:
    """Drawn are standard deviation and side of the window, 0 for one that fits."""
    return np.asarray(cv2.GaussianBlur(image, (int(drawn[1]),) * 2, drawn[0]), np.uint8)


def _noise(image: _Image, drawn: _Numbers) -> _Image:
    """Drawn are standard deviation, 1 for the same in all channels, and two keys."""
    height, width, channels = image.shape
    count = 1 if drawn[1] else channels
    noise = grain((int(drawn[2]), int(drawn[3])), height * width * count).reshape(height, width, count)
    noise *= np.float32(drawn[0])
    # + 0.5 because the cast truncates
    return np.asarray(np.clip(image + noise + np.float32(0.5), 0, 255), np.uint8)


def _waves(image: _Image, drawn: _Numbers) -> _Image:
    """Drawn are standard deviation and two keys."""
    height, width = image.shape[:2]
    rows, columns = max(1, height // 4), max(1, width // 4)
    coarse = np.float32(drawn[0]) * grain((int(drawn[1]), int(drawn[2])), rows * columns)
    fine = cv2.resize(coarse.reshape(rows, columns), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(image, cv2.merge([fine, fine, fine]), dtype=cv2.CV_8U), np.uint8)


def _rescale(image: _Image, factor: float, way: int) -> _Image:
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=way), np.uint8)


def _rescale_cubic(image: _Image, drawn: _Numbers) -> _Image:
    return _rescale(image, float(drawn[0]), cv2.INTER_CUBIC)


def _rescale_linear(image: _Image, drawn: _Numbers) -> _Image:
    return _rescale(image, float(drawn[0]), cv2.INTER_LINEAR)


def stretching() -> NDArray[np.uint8]:
    """Return value v of a picture whose range is r, stretched, at [r, v - lowest]: (256, 256)."""
    span = np.arange(256)[:, None]
    return np.asarray(np.clip(np.rint(np.arange(256) * (255 / (span + 1))), 0, 255), np.uint8)


def _stretch(image: _Image, drawn: _Numbers) -> _Image:
    low, high, _, _ = cv2.minMaxLoc(image.reshape(image.shape[0], -1))
    return _table(image, levels((np.arange(256) - low) * (255 / (high - low + 1))))


def _hsv(image: _Image, drawn: _Numbers) -> _Image:
    """Drawn are factors of saturation and value."""
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    table = levels(np.arange(256)[:, None] * np.array([1, drawn[0], drawn[1]]))
    return np.asarray(cv2.cvtColor(_table(hsv, table), cv2.COLOR_HSV2RGB_FULL), np.uint8)


def motion_kernel(angle: float, length: int) -> NDArray[np.float32]:
    """Return a line of `length` pixels at `angle` degrees, summing to 1: (11, 11)."""
    turn = np.deg2rad(angle)
    kernel = np.zeros((11, 11), np.float32)
    reach = (length - 1) / 2 * np.array([np.cos(turn), np.sin(turn)])
    ends = np.rint(16 * np.stack([5 - reach, 5 + reach])).astype(int).tolist()
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    kernel /= kernel.sum()
    return kernel


def _motion(image: _Image, drawn: _Numbers) -> _Image:
    """Drawn are degrees and pixels."""
    return np.asarray(cv2.filter2D(image, -1, motion_kernel(drawn[0], int(drawn[1]))), np.uint8)


PLAIN: dict[str, Callable[[_Image, _Numbers], _Image]] = {
    "blur": _blur,
    "colors": _colors,
    "grey": _grey,
    "hsv": _hsv,
    "jpeg": _jpeg,
    "motion": _motion,
    "noise": _noise,
    "rescale_cubic": _rescale_cubic,
    "rescale_linear": _rescale_linear,
    "stretch": _stretch,
    "table": _table,
    "waves": _waves,
}
