"""Transforms that change how a picture looks and leave every pixel in its place.

They touch `image` only, and draw their numbers before they look at the picture, so that a real and the fake
made from it can be given the very same change.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.transforms import Transform
from unseen.types import FaceSample, InputError

__all__ = ["Blur", "ColorJitter", "Downscale", "Grayscale", "JpegCompress", "Noise"]

_Image = NDArray[np.uint8]


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
        if rng.random() >= self.p:
            return sample
        grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
        return replace(sample, image=np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8))


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
        if rng.random() >= self.p:
            return sample
        quality = int(rng.integers(self.quality[0], self.quality[1] + 1))
        return replace(sample, image=jpeg(sample.image, quality))


def jpeg(image: _Image, quality: int) -> _Image:
    """Return the picture after a round through JPEG at `quality` (1 to 100).

    Shape:
        image: (H, W, 3) uint8 RGB, and so is the result.
    """
    # The codec must know which channel is which: it keeps less of the two colour differences.
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)


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
        if rng.random() >= self.p:
            return sample
        return replace(
            sample,
            image=np.asarray(cv2.GaussianBlur(sample.image, (0, 0), rng.uniform(*self.sigma)), np.uint8),
        )


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
        if rng.random() >= self.p:
            return sample
        sigma, grey = rng.uniform(*self.sigma), rng.random() < self.grey
        height, width, channels = sample.image.shape
        noise = rng.standard_normal((height, width, 1 if grey else channels), np.float32)
        noise *= np.float32(sigma)
        # + 0.5 because the cast truncates
        image = np.clip(sample.image + noise + np.float32(0.5), 0, 255).astype(np.uint8)
        return replace(sample, image=image)


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
        if rng.random() >= self.p:
            return sample
        factor, smooth = rng.uniform(*self.factor), rng.random() < 0.5
        height, width = sample.image.shape[:2]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        small = cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA)
        way = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
        return replace(
            sample, image=np.asarray(cv2.resize(small, (width, height), interpolation=way), np.uint8)
        )


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
        if rng.random() >= self.p:
            return sample
        draws = rng.uniform(-1, 1, 7)
        gain = 1 + self.contrast * draws[0]
        offset = 255 * self.brightness * draws[1] + self.channels * draws[2:5]
        # One 3 x 3 matrix and one shift: colours turn about the grey axis, then grey levels move.
        matrix = gain * chroma_matrix(1 + self.saturation * draws[5], self.hue * draws[6])
        shift = offset + 127.5 * (1 - gain)
        if self.saturation or self.hue:
            mixed = cv2.transform(sample.image, np.column_stack([matrix, shift]).astype(np.float32))
            return replace(sample, image=np.asarray(mixed, np.uint8))
        table = np.arange(256)[:, None] * gain + shift + 0.5
        image = np.asarray(cv2.LUT(sample.image, np.clip(table, 0, 255).astype(np.uint8)[None]), np.uint8)
        return replace(sample, image=image)


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
