"""The pixel augmentations of CADDM: everything that may happen to a picture on its way, in one transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.photometric import jpeg
from unseen.data.transforms import Transform
from unseen.types import FaceSample, InputError

__all__ = ["Distort"]

_Image = NDArray[np.uint8]
_Generator = np.random.Generator


class Distort(Transform):
    """Compress, stretch, tint, blur and add noise, each by chance, in the order of CADDM's public code.

    It works on the aligned picture, real or forged. The code's random resizing is left out: its result was
    thrown away there; `Downscale` does it.

    Args:
        jpeg: Probability of JPEG compression, quality 15 to 79.
        stretch: Probability that the darkest value becomes 0 and the brightest 255.
        waves: Probability of soft noise: standard deviation 2 on every fourth pixel, enlarged, grey.
        color: Probability that saturation (0.5 to 1.15) and value (0.5 to 2) may change, each in half of it.
        gamma: Lowest and highest exponent, always applied; (1, 1) leaves brightness alone.
        motion: Probability of motion blur, 1 to 10 pixels in any direction.
        blur: Probability of a 3 x 3 Gaussian blur, sigma 0.8, 1 or 2.
        noise: Probability of Gaussian noise; half of it strong (15 to 21), half weak (up to 4).
        tone: Probability of a veil of one colour, opacity up to 0.3.
    """

    def __init__(
        self,
        *,
        jpeg: float = 0.3,
        stretch: float = 0.5,
        waves: float = 0.5,
        color: float = 0.25,
        gamma: tuple[float, float] = (0.6, 1.4),
        motion: float = 0.3,
        blur: float = 0.3,
        noise: float = 0.3,
        tone: float = 0.3,
    ) -> None:
        chances = {
            "jpeg": jpeg,
            "stretch": stretch,
            "waves": waves,
            "color": color,
            "motion": motion,
            "blur": blur,
            "noise": noise,
            "tone": tone,
        }
        for name, p in chances.items():
            if not 0 <= p <= 1:
                raise InputError(f"Distort: {name} {p}; expected a probability between 0 and 1")
        if not 0 < gamma[0] <= gamma[1]:
            raise InputError(f"Distort: gamma {gamma}; expected lowest and highest, above 0")
        self.chances, self.gamma = chances, gamma

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample with a distorted picture."""
        # One number is drawn of what is handed in, so that what follows does not depend on what happens here.
        own = np.random.default_rng(int(rng.integers(2**63)))
        image = sample.image
        steps: list[tuple[str | None, Callable[[_Image, _Generator], _Image]]] = [
            ("jpeg", _jpeg),
            ("stretch", _stretch),
            ("waves", _waves),
            ("color", _color),
            (None, self._gamma),
            ("motion", _motion),
            ("blur", _blur),
            ("noise", _noise),
            ("tone", _tone),
        ]
        for name, step in steps:
            if name is None or own.random() < self.chances[name]:
                image = step(image, own)
        return replace(sample, image=image)

    def _gamma(self, image: _Image, rng: _Generator) -> _Image:
        exponent = rng.uniform(*self.gamma)
        return _table(image, 255 * (np.arange(256) / 255) ** (1 / exponent))


def _table(image: _Image, values: NDArray[np.floating]) -> _Image:
    """Look every value up. Shape: values (256,) or (256, 3)."""
    return np.asarray(cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8)[None]), np.uint8)


def _jpeg(image: _Image, rng: _Generator) -> _Image:
    return jpeg(image, int(15 + 65 * rng.random()))


def _stretch(image: _Image, rng: _Generator) -> _Image:
    low, high, _, _ = cv2.minMaxLoc(image.reshape(image.shape[0], -1))
    return _table(image, (np.arange(256) - low) * (255 / (high - low + 1)))


def _waves(image: _Image, rng: _Generator) -> _Image:
    height, width = image.shape[:2]
    coarse = 2 * rng.standard_normal((max(1, height // 4), max(1, width // 4)), np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(image, cv2.merge([fine, fine, fine]), dtype=cv2.CV_8U), np.uint8)


def _color(image: _Image, rng: _Generator) -> _Image:
    saturate, bright = rng.random(2) < 0.5
    up = rng.random(2) < 0.5
    saturation = rng.uniform(1, 1.15) if up[0] else rng.uniform(0.5, 1)
    value = rng.uniform(1, 2) if up[1] else rng.uniform(0.5, 1)
    levels = np.arange(256)
    table = np.stack([levels, levels * (saturation if saturate else 1), levels * (value if bright else 1)], 1)
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), np.uint8)
    return np.asarray(cv2.cvtColor(_table(hsv, table), cv2.COLOR_HSV2RGB_FULL), np.uint8)


def _motion(image: _Image, rng: _Generator) -> _Image:
    angle, length = np.deg2rad(int(rng.integers(360))), int(rng.integers(1, 11))
    kernel = np.zeros((11, 11), np.float32)
    reach = (length - 1) / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = np.rint(16 * np.stack([5 - reach, 5 + reach])).astype(int).tolist()
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _blur(image: _Image, rng: _Generator) -> _Image:
    # Sigma 0 lets OpenCV take 0.8 for three pixels.
    return np.asarray(cv2.GaussianBlur(image, (3, 3), int(rng.integers(3))), np.uint8)


def _noise(image: _Image, rng: _Generator) -> _Image:
    sigma = int(rng.integers(15, 22)) if rng.random() < 0.5 else int(rng.integers(5))
    grain = rng.standard_normal(image.shape, np.float32)
    return np.asarray(cv2.scaleAdd(grain, sigma, image.astype(np.float32)).clip(0, 255) + 0.5, np.uint8)


def _tone(image: _Image, rng: _Generator) -> _Image:
    color, weight = rng.integers(60, 256, 3), rng.uniform(0, 0.3)
    return _table(image, (1 - weight) * np.arange(256)[:, None] + weight * color)
