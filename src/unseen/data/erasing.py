"""Erasing a part of a face while training, and two plain ways to choose it.

The two are what PRLE compares itself with (Cheng et al. 2023, Table IV): if a random rectangle or a facial
feature did as well, there would be no need to ask anybody where a forgery shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.transforms import Transform
from unseen.types import FaceSample, InputError

__all__ = ["Fill", "LandmarkMask", "RandomMask", "check_mask", "erase"]

Fill = Literal["zero", "noise", "mean"]
_PARTS = (slice(27, 36), slice(36, 48), slice(48, 68))  # nose, both eyes, mouth, of iBUG's 68


def check_mask(owner: str, p: float, fill: str, weight: float) -> None:
    """Refuse settings that no mask can have.

    Raises:
        InputError: Names the transform that was given them.
    """
    if not 0 <= p <= 1 or weight < 0:
        raise InputError(f"{owner}: p {p}, weight {weight}; expected 0 <= p <= 1 and weight >= 0")
    if fill not in ("zero", "noise", "mean"):
        raise InputError(f"{owner}: fill {fill!r}; expected zero, noise or mean")


def erase(sample: FaceSample, mask: NDArray[Any], fill: Fill, weight: float, noise: int) -> FaceSample:
    """Fill a picture where a mask is set; nothing else of the sample moves.

    Args:
        sample: The face.
        mask: 255 where the picture is to be erased, else 0.
        fill: Black, uniform noise, or the picture's mean colour.
        weight: Multiplies the sample's weight.
        noise: Seed of the noise.

    Shape:
        mask: (H, W) uint8.
    """
    image = sample.image
    if fill == "zero":
        erased = cv2.subtract(image, cv2.merge((mask, mask, mask)))  # stops at 0; faster than indexing
    elif fill == "noise":
        other = np.random.default_rng(noise).integers(0, 256, image.shape, dtype=np.uint8)
        erased = cv2.copyTo(other, mask, image.copy())
    else:
        erased = image.copy()
        erased[mask > 0] = np.rint(cv2.mean(image)[:3]).astype(np.uint8)
    return replace(sample, image=np.asarray(erased, np.uint8), weight=sample.weight * weight)


class RandomMask(Transform):
    """Erases a random rectangle; the paper prints neither its sizes nor its places.

    The rectangle lies inside the square of 1.3 times the face's landmarks, about what a network sees of a
    loose crop; without landmarks anywhere in the picture.

    Args:
        p: Probability that a face is masked.
        area: Smallest and largest share of that square.
        aspect: Smallest and largest height divided by width, drawn evenly on a logarithmic scale.
        fill: See `erase`.
        weight: By which a masked face counts in the loss.
    """

    def __init__(
        self,
        *,
        p: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: tuple[float, float] = (0.3, 3.3),
        fill: Fill = "zero",
        weight: float = 1.0,
    ) -> None:
        check_mask("RandomMask", p, fill, weight)
        if not 0 < area[0] <= area[1] <= 1 or not 0 < aspect[0] <= aspect[1]:
            raise InputError(
                f"RandomMask: area {list(area)}, aspect {list(aspect)}; expected (low, high), above 0"
            )
        self.p, self.area, self.aspect, self.fill, self.weight = p, area, aspect, fill, weight

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample as it is, or masked."""
        chance, area, aspect, down, right = rng.random(5).tolist()
        noise = int(rng.integers(1 << 62))
        if chance >= self.p:
            return sample
        x0, y0, x1, y1 = _face_window(sample)
        share = self.area[0] + area * (self.area[1] - self.area[0])
        shape = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** aspect
        height = max(1, min(y1 - y0, round(float(np.sqrt(share * shape)) * (y1 - y0))))
        width = max(1, min(x1 - x0, round(float(np.sqrt(share / shape)) * (x1 - x0))))
        top = y0 + round(down * (y1 - y0 - height))
        left = x0 + round(right * (x1 - x0 - width))
        mask = np.zeros(sample.image.shape[:2], np.uint8)
        mask[top : top + height, left : left + width] = 255
        return erase(sample, mask, self.fill, self.weight, noise)


class LandmarkMask(Transform):
    """Erases the nose, both eyes or the mouth, one of them at random.

    A face without landmarks stays as it is.

    Args:
        p: Probability that a face is masked.
        fill: See `erase`.
        weight: By which a masked face counts in the loss.
    """

    def __init__(self, *, p: float = 0.5, fill: Fill = "zero", weight: float = 1.0) -> None:
        check_mask("LandmarkMask", p, fill, weight)
        self.p, self.fill, self.weight = p, fill, weight

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample as it is, or masked."""
        chance, part, noise = rng.random(), int(rng.integers(len(_PARTS))), int(rng.integers(1 << 62))
        if chance >= self.p or sample.landmarks is None:
            return sample
        points = sample.landmarks[_PARTS[part]]
        if not np.isfinite(points).all():
            return sample
        mask = np.zeros(sample.image.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 255)
        return erase(sample, mask, self.fill, self.weight, noise)


def _face_window(sample: FaceSample) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of the square about the landmarks, cut at the picture's border."""
    height, width = sample.image.shape[:2]
    points = None if sample.landmarks is None else sample.landmarks[:68]
    if points is None or not np.isfinite(points).all():
        return 0, 0, width, height
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, float((high - low).max()) * 1.3 / 2
    x0, y0 = np.floor(np.maximum(middle - half, 0)).astype(int).tolist()
    x1, y1 = np.ceil(np.minimum(middle + half, [width, height])).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 - x0 > 1 and y1 - y0 > 1 else (0, 0, width, height)
