"""Transforms of face samples that move pixels, and the rule by which all transforms are applied.

A transform takes a sample and a generator and returns a new sample; it never changes what it was given.
How many numbers it draws depends on its own settings only, never on the picture: two samples that get
generators in the same state (a real and the fake made from it) are therefore treated exactly alike.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.types import LANDMARKS, FaceRecord, FaceSample, InputError

__all__ = ["MIRROR", "AlignFace", "Flip", "Transform", "five_points", "for_evaluation", "similarity"]


class Transform(ABC):
    """One step between a crop on disk and a network's input.

    Attributes:
        needs: Fields of a sample that must be there, such as `("landmarks",)`.
        augment: True for what belongs to training only. False for what is always applied.
        notes: What it may write into a sample's `notes`.
    """

    needs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    augment: bool = True

    @abstractmethod
    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return a new sample; `rng` is the only source of randomness."""

    def check(self, records: Sequence[FaceRecord]) -> None:  # noqa: B027 - most have nothing to refuse
        """Refuse, before the first sample is made, records that this transform cannot treat."""

    def evaluating(self) -> Transform | None:
        """Return the deterministic form used outside training, or None if there is nothing to do there."""
        return None if self.augment else self


def for_evaluation(transforms: Iterable[Transform]) -> list[Transform]:
    """Return the deterministic transforms that scoring, calibration and detection apply."""
    return [fixed for fixed in (t.evaluating() for t in transforms) if fixed is not None]


def _mirror() -> NDArray[np.intp]:
    """Index of each landmark's mirror image: 68 of iBUG, then the forehead from left to right."""
    index = np.arange(LANDMARKS)
    index[:17] = np.arange(16, -1, -1)  # jaw
    index[17:27] = np.arange(26, 16, -1)  # brows; 27..30, the bridge of the nose, stay
    index[31:36] = np.arange(35, 30, -1)  # nostrils
    index[[36, 37, 38, 39, 40, 41]] = [45, 44, 43, 42, 47, 46]  # eyes
    index[[42, 43, 44, 45, 46, 47]] = [39, 38, 37, 36, 41, 40]
    index[48:55] = np.arange(54, 47, -1)  # outer lip, above and below
    index[55:60] = np.arange(59, 54, -1)
    index[60:65] = np.arange(64, 59, -1)  # inner lip, above and below
    index[65:68] = np.arange(67, 64, -1)
    index[68:81] = np.arange(80, 67, -1)  # forehead
    return index


MIRROR = _mirror()


class Flip(Transform):
    """Mirror a sample left to right: x' = W - 1 - x for landmarks, which are re-ordered as well.

    Args:
        p: Probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample or its mirror image."""
        if rng.random() >= self.p:
            return sample
        width = sample.image.shape[1]
        landmarks, regions = sample.landmarks, sample.regions
        if landmarks is not None:
            landmarks = landmarks[MIRROR]
            landmarks[:, 0] = width - 1 - landmarks[:, 0]
        if regions is not None:  # boxes have edges, not pixel centres: [0, W] maps onto itself
            regions = np.stack(
                [width - regions[:, 2], regions[:, 1], width - regions[:, 0], regions[:, 3]], axis=1
            )
        return replace(
            sample,
            # Twenty times faster than copying a reversed view.
            image=np.asarray(cv2.flip(sample.image, 1), np.uint8),
            source=None if sample.source is None else np.asarray(cv2.flip(sample.source, 1), np.uint8),
            attention=None if sample.attention is None else cv2.flip(sample.attention, 1),
            landmarks=landmarks,
            regions=regions,
        )


_FIVE = np.zeros((5, 68))
_FIVE[0, 36:42] = _FIVE[1, 42:48] = 1 / 6
_FIVE[[2, 3, 4], [30, 48, 54]] = 1


def five_points(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return left eye, right eye, nose tip and the corners of the mouth, as seen in the picture.

    Shape:
        landmarks: (81, 2) or (68, 2). Returns (5, 2).
    """
    points = np.asarray(landmarks, np.float64)
    result: NDArray[np.float64] = _FIVE @ points[:68]
    return result


def similarity(source: NDArray[np.floating], target: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the least-squares rotation, uniform scale and shift that take `source` to `target`.

    In complex numbers w = a z + b has a closed form that can never mirror (Umeyama, PAMI 1991, without
    its case distinction).

    Shape:
        source, target: (N, 2). Returns (2, 3).

    Raises:
        ValueError: If all source points coincide.
    """
    # Plain complex numbers: for a handful of points numpy's calls would cost ten times the sums.
    z = [complex(x, y) for x, y in source.tolist()]
    w = [complex(x, y) for x, y in target.tolist()]
    middle, aim = sum(z) / len(z), sum(w) / len(w)
    spread = sum(abs(p - middle) ** 2 for p in z)
    if spread == 0:
        raise ValueError("similarity: all source points coincide")
    a = sum((p - middle).conjugate() * (q - aim) for p, q in zip(z, w, strict=True)) / spread
    b = aim - a * middle
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


# Five points in a 112 x 112 picture, the alignment that ArcFace made common.
_ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# CADDM's mean face in units of its width.
_CADDM = np.array(
    [
        [-0.17607, -0.172844],
        [0.1736, -0.17356],
        [-0.00182, 0.0357164],
        [-0.14617, 0.20185],
        [0.14496, 0.19943],
    ]
)


def _arcface(scale: float) -> NDArray[np.float64]:
    """Five points in a unit square whose window is `scale` times the 112-pixel one (DeepfakeBench: 1.3)."""
    result: NDArray[np.float64] = (_ARCFACE / 112 - 0.5) / scale + 0.5
    return result


def _caddm(scale: float) -> NDArray[np.float64]:
    """Five points in a unit square; eyes always at height 1 / 2.42, the face `scale` times the mean one."""
    points = _CADDM * scale * (80 / (224 * 0.34967)) + 0.5
    points[:, 1] /= points[0, 1] * 2.42
    return points


_SCALES = {"arcface": 1.3, "caddm": 0.9, "mtcnn": 0.9, "dlib": 1.3, "sbi": 1.25}


class AlignFace(Transform):
    """Cut the face out of its loose crop, in one warp, as a paper's network expects it.

    | template | paper's setting | what is fitted |
    |---|---|---|
    | `arcface` | 256, scale 1.3 (DeepfakeBench; RealID, PRLE) | similarity from five points |
    | `caddm`, `mtcnn` | 224, scale 0.9 (CADDM; DID) | similarity from five points, eyes at 1 / 2.42 |
    | `dlib` | 256 or 299, scale 1.3 (FaceForensics++) | upright square about the 68 landmarks |
    | `sbi` | 380, scale 1.25; in training `margins=(0.05, 0.20)` | upright box stretched to a square |

    Outside training it is deterministic: the jitter below is left out (see `evaluating`). CADDM trains with
    `shift=0.11, zoom=0.11, rotation=30`. What lies outside the crop is black.

    Args:
        size: Side of the square result, in pixels.
        template: Where the face comes to lie, see above.
        scale: What the template's source calls scale; its own default if None. For `arcface`, `dlib` and
            `sbi` larger shows more around the face, for `caddm` larger makes the face larger.
        margins: `sbi` only: each side's margin is drawn between these shares of the box in training.
        shift: Largest shift along each axis as a share of `size`, in training.
        zoom: Standard deviation of the face's relative size, clipped at three of them, in training.
        rotation: Largest rotation in degrees, in training; u^3 of it, so that small ones are common.

    Raises:
        InputError: If landmarks are missing, not finite, or too close together to say where a face is.
    """

    needs = ("landmarks",)
    augment = False

    def __init__(
        self,
        size: int,
        *,
        template: Literal["arcface", "caddm", "mtcnn", "dlib", "sbi"] = "arcface",
        scale: float | None = None,
        margins: tuple[float, float] | None = None,
        shift: float = 0.0,
        zoom: float = 0.0,
        rotation: float = 0.0,
    ) -> None:
        if template not in _SCALES:
            raise InputError(f"AlignFace: template {template!r}; expected one of {', '.join(_SCALES)}")
        if size < 1 or (scale is not None and scale <= 0):
            raise InputError(f"AlignFace: size {size} and scale {scale} must be positive")
        if margins is not None and template != "sbi":
            raise InputError(f"AlignFace: margins go with template 'sbi', not {template!r}")
        self.size, self.template, self.margins = size, template, margins
        self.scale = _SCALES[template] if scale is None else scale
        self.shift, self.zoom, self.rotation = shift, zoom, rotation
        self._target = (_arcface if template == "arcface" else _caddm)(self.scale) * size

    def evaluating(self) -> AlignFace:
        """Return this alignment without its jitter."""
        fixed = copy.copy(self)
        fixed.margins, fixed.shift, fixed.zoom, fixed.rotation = None, 0.0, 0.0, 0.0
        return fixed

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the aligned sample, `size` x `size` pixels."""
        matrix = self.matrix(sample, rng)
        return sample.warp(matrix, (self.size, self.size))

    def matrix(self, sample: FaceSample, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the (2, 3) map from the sample's pixels to the aligned picture's."""
        landmarks = _checked(sample)
        if self.template in ("arcface", "caddm", "mtcnn"):
            matrix = similarity(five_points(landmarks), self._target)
        else:
            low, high = self._window(landmarks, rng)
            stretch = self.size / (high - low)
            # Whole numbers are the centres of pixels: the window becomes [-0.5, size - 0.5].
            matrix = np.column_stack([np.diag(stretch), -low * stretch - 0.5])
        if self.shift or self.zoom or self.rotation:
            matrix = self._jitter(rng) @ np.vstack([matrix, [0, 0, 1]])
        return matrix

    def _window(
        self, landmarks: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the upper left and lower right corner of what is shown, in the sample's pixels."""
        if self.template == "dlib":
            face = landmarks[:68]
            middle = (face.min(0) + face.max(0)) / 2
            half = (face.max(0) - face.min(0)).max() * self.scale / 2
            return middle - half, middle + half
        low, high = face_box(landmarks)
        draws = rng.random(4) if self.margins is not None else np.zeros(4)
        least, most = self.margins or ((self.scale - 1) / 2,) * 2
        share = least + (most - least) * draws
        side = high - low
        return low - share[:2] * side, high + share[2:] * side

    def _jitter(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return a random (2, 3) similarity about the picture's middle."""
        shift = rng.uniform(-1, 1, 2) * self.shift * self.size
        factor = 1 + self.zoom * float(np.clip(rng.standard_normal(), -3, 3))
        angle = np.deg2rad(self.rotation * float(rng.uniform(-1, 1)) ** 3)
        turn = max(factor, 0.1) * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float64
        )
        middle = np.full(2, (self.size - 1) / 2)
        return np.column_stack([turn, middle - turn @ middle + shift])


def face_box(landmarks: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the corners of a box from hairline to chin, as a face detector draws it.

    Shape:
        landmarks: (81, 2) or (68, 2); where the forehead is NaN or missing it is put above the brows.
        Returns (2,) and (2,): upper left, lower right.
    """
    points = np.asarray(landmarks, np.float64)
    face = points[:68]
    low, high = face.min(0), face.max(0)
    forehead = points[68:]
    forehead = forehead[np.isfinite(forehead).all(1)]
    if len(forehead):
        return np.minimum(low, forehead.min(0)), np.maximum(high, forehead.max(0))
    low = low - [0, 0.3 * (high[1] - low[1])]  # hairline: about a third of brows-to-chin above the brows
    return low, high


def _checked(sample: FaceSample) -> NDArray[np.float64]:
    """Return the landmarks as float64, or say in which file they are unusable."""
    where = sample.record.path
    if sample.landmarks is None:
        raise InputError(
            f"{where}: no landmarks, which AlignFace needs; run `unseen prepare`", reason="no_landmarks"
        )
    landmarks = np.asarray(sample.landmarks, np.float64)
    if landmarks.ndim != 2 or landmarks.shape[1] != 2 or len(landmarks) < 68:
        raise InputError(
            f"{where}: landmarks of shape {landmarks.shape}; expected ({LANDMARKS}, 2)",
            reason="bad_landmarks",
        )
    if not np.isfinite(landmarks[:68]).all():
        count = int((~np.isfinite(landmarks[:68]).all(1)).sum())
        raise InputError(
            f"{where}: {count} of the first 68 landmarks are not finite; find the face again with "
            "`unseen prepare`",
            reason="bad_landmarks",
        )
    points = five_points(landmarks)
    across = float(np.hypot(*(points[1] - points[0])))
    if across < 1 or np.ptp(landmarks[:68], axis=0).min() < 1:
        raise InputError(
            f"{where}: landmarks lie within a pixel of each other; find the face again with `unseen prepare`",
            reason="bad_landmarks",
        )
    return landmarks
