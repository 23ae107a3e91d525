"""Transforms that change how a picture looks and leave every pixel in its place.

They touch `image` only, and draw their numbers before they look at the picture, so that a real and the fake
made from it can be given the very same change. What is then done is in `unseen.data.changes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unseen.data.changes import change, draw_seed, numbers
from unseen.data.transforms import Transform
from unseen.types import Drawn, FaceSample, InputError

__all__ = ["Blur", "ColorJitter", "Downscale", "Grayscale", "JpegCompress", "Noise"]


def _range(
    owner: str, name: str, pair: tuple[float, float], least: float, most: float
) -> tuple[float, float]:
    low, high = pair
    if not least <= low <= high <= most:
        raise InputError(f"{owner}: {name} {low} to {high}; expected a range within {least} to {most}")
    return low, high


def _probability(owner: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise InputError(f"{owner}: p {p}; expected a probability between 0 and 1")
    return p


class Grayscale(Transform):
    """Turn the picture grey (BT.601), in three equal channels; DID always does.

    Args:
        p: Probability. At 1 it belongs to evaluation as well.
    """

    def __init__(self, p: float = 1.0) -> None:
        self.p = _probability("Grayscale", p)
        self.augment = p < 1

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, its picture changed with probability `p`."""
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return the change with its numbers; see `Photometric`."""
        return (("grey", numbers() if rng.random() < self.p else None),)


class JpegCompress(Transform):
    """Compress as JPEG, 4:2:0, and decode again.

    Args:
        p: Probability.
        quality: Lowest and highest quality, drawn uniformly (SBI: 40 to 100).
    """

    def __init__(self, p: float = 0.5, *, quality: tuple[int, int] = (40, 100)) -> None:
        self.p = _probability("JpegCompress", p)
        low, high = _range("JpegCompress", "quality", quality, 1, 100)
        self.quality = (int(low), int(high))

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, its picture changed with probability `p`."""
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return the change with its numbers; see `Photometric`."""
        if rng.random() >= self.p:
            return (("jpeg", None),)
        return (("jpeg", numbers(int(rng.integers(self.quality[0], self.quality[1] + 1)))),)


class Blur(Transform):
    """Blur with a Gaussian.

    Args:
        p: Probability.
        sigma: Smallest and largest standard deviation in pixels.
    """

    def __init__(self, p: float = 0.2, *, sigma: tuple[float, float] = (0.3, 2.0)) -> None:
        self.p = _probability("Blur", p)
        self.sigma = _range("Blur", "sigma", sigma, 1e-3, 100)

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, its picture changed with probability `p`."""
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return the change with its numbers; see `Photometric`."""
        return (("blur", numbers(rng.uniform(*self.sigma), 0) if rng.random() < self.p else None),)


class Noise(Transform):
    """Add Gaussian noise, independent in each pixel and channel or the same in all three channels.

    Args:
        p: Probability.
        sigma: Smallest and largest standard deviation in grey levels.
        grey: Probability that the noise is the same in all channels.
    """

    def __init__(self, p: float = 0.2, *, sigma: tuple[float, float] = (1.0, 8.0), grey: float = 0.5) -> None:
        self.p = _probability("Noise", p)
        self.sigma, self.grey = _range("Noise", "sigma", sigma, 0, 255), grey

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, its picture changed with probability `p`."""
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return the change with its numbers; see `Photometric`."""
        if rng.random() >= self.p:
            return (("noise", None),)
        sigma, grey = rng.uniform(*self.sigma), rng.random() < self.grey
        return (("noise", numbers(sigma, grey, *draw_seed(rng))),)


class Downscale(Transform):
    """Make the picture smaller and bring it back to its size, as a small upload or a messenger does.

    Args:
        p: Probability.
        factor: Smallest and largest size of the small picture as a share of the whole.
    """

    def __init__(self, p: float = 0.2, *, factor: tuple[float, float] = (0.3, 0.9)) -> None:
        self.p = _probability("Downscale", p)
        self.factor = _range("Downscale", "factor", factor, 0.01, 1)

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, its picture changed with probability `p`."""
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return the change with its numbers; see `Photometric`."""
        if rng.random() >= self.p:
            return ("rescale_cubic", None), ("rescale_linear", None)
        factor, smooth = numbers(rng.uniform(*self.factor)), rng.random() < 0.5
        return ("rescale_cubic", factor if smooth else None), ("rescale_linear", None if smooth else factor)


class ColorJitter(Transform):
    """Change brightness, contrast, single channels, saturation and hue (SBI's joint augmentation).

    Each number is the half width of a uniform range about "no change".

    Args:
        p: Probability.
        brightness: Share of the full range that is added.
        contrast: Relative change of contrast about middle grey.
        channels: Grey levels added to each channel on its own (SBI: 20).
        saturation: Relative change of the distance from grey.
        hue: Rotation of the colours, in degrees.
    """

    def __init__(
        self,
        p: float = 0.5,
        *,
        brightness: float = 0.1,
        contrast: float = 0.1,
        channels: float = 10.0,
        saturation: float = 0.1,
        hue: float = 0.0,
    ) -> None:
        self.p = _probability("ColorJitter", p)
        if min(brightness, contrast, channels, saturation, hue) < 0:
            raise InputError("ColorJitter: ranges must not be negative")
        self.brightness, self.contrast, self.channels = brightness, contrast, channels
        self.saturation, self.hue = saturation, hue

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, its picture changed with probability `p`."""
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return the change with its numbers; see `Photometric`."""
        # One 3 x 3 matrix and one shift: colours turn about the grey axis, then grey levels move.
        mixed = bool(self.saturation or self.hue)
        if rng.random() >= self.p:
            return (("colors" if mixed else "table", None),)
        draws = rng.uniform(-1, 1, 7)
        gain = 1 + self.contrast * draws[0]
        offset = 255 * self.brightness * draws[1] + self.channels * draws[2:5]
        shift = offset + 127.5 * (1 - gain)
        if mixed:
            matrix = gain * chroma_matrix(1 + self.saturation * draws[5], self.hue * draws[6])
            return (("colors", np.column_stack([matrix, shift]).ravel()),)
        table = np.arange(256)[:, None] * gain + shift + 0.5
        return (("table", np.clip(table, 0, 255).astype(np.uint8)),)


def chroma_matrix(saturation: float, hue: float) -> NDArray[np.float64]:
    """Return the (3, 3) map of RGB that scales and turns colour about the grey axis and keeps grey as it is.

    Args:
        saturation: 1 changes nothing, 0 leaves grey (mean of the channels).
        hue: Degrees.
    """
    angle = np.deg2rad(hue)
    axis = np.full((3, 3), 1 / 3)  # projection on grey
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turned = np.cos(angle) * (np.eye(3) - axis) + np.sin(angle) * cross  # Rodrigues, without its axis
    result: NDArray[np.float64] = axis + saturation * turned
    return result
