"""The pixel augmentations of CADDM: everything that may happen to a picture on its way, in one transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.data.changes import change, draw_seed, levels, numbers
from unseen.data.transforms import Transform
from unseen.types import Drawn, FaceSample, InputError

__all__ = ["Distort"]

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
        return change(sample, self.drawn(rng))

    def drawn(self, rng: np.random.Generator) -> tuple[Drawn, ...]:
        """Return every change with its numbers; see `Photometric`."""
        # One number is drawn of what is handed in, so that what follows does not depend on what happens here.
        own = np.random.default_rng(int(rng.integers(2**63)))
        steps: list[tuple[str | None, str, Callable[[_Generator], NDArray[Any]]]] = [
            ("jpeg", "jpeg", _jpeg),
            ("stretch", "stretch", _stretch),
            ("waves", "waves", _waves),
            ("color", "hsv", _color),
            (None, "table", self._gamma),
            ("motion", "motion", _motion),
            ("blur", "blur", _blur),
            ("noise", "noise", _noise),
            ("tone", "table", _tone),
        ]
        return tuple(
            (kind, draw(own) if name is None or own.random() < self.chances[name] else None)
            for name, kind, draw in steps
        )

    def _gamma(self, rng: _Generator) -> NDArray[Any]:
        exponent = rng.uniform(*self.gamma)
        return levels(255 * (np.arange(256) / 255) ** (1 / exponent))


def _jpeg(rng: _Generator) -> NDArray[Any]:
    return numbers(int(15 + 65 * rng.random()))


def _stretch(rng: _Generator) -> NDArray[Any]:
    return numbers()


def _waves(rng: _Generator) -> NDArray[Any]:
    return numbers(2, *draw_seed(rng))


def _color(rng: _Generator) -> NDArray[Any]:
    saturate, bright = rng.random(2) < 0.5
    up = rng.random(2) < 0.5
    saturation = rng.uniform(1, 1.15) if up[0] else rng.uniform(0.5, 1)
    value = rng.uniform(1, 2) if up[1] else rng.uniform(0.5, 1)
    return numbers(saturation if saturate else 1, value if bright else 1)


def _motion(rng: _Generator) -> NDArray[Any]:
    return numbers(int(rng.integers(360)), int(rng.integers(1, 11)))


def _blur(rng: _Generator) -> NDArray[Any]:
    # Sigma 0 lets OpenCV take 0.8 for three pixels.
    return numbers((0.8, 1, 2)[int(rng.integers(3))], 3)


def _noise(rng: _Generator) -> NDArray[Any]:
    sigma = int(rng.integers(15, 22)) if rng.random() < 0.5 else int(rng.integers(5))
    return numbers(sigma, 0, *draw_seed(rng))


def _tone(rng: _Generator) -> NDArray[Any]:
    color, weight = rng.integers(60, 256, 3), rng.uniform(0, 0.3)
    return levels((1 - weight) * np.arange(256)[:, None] + weight * color)
