"""Multi-scale facial swap: a fake and the real picture behind it are mixed again, at a place that is known.

Dong et al., CVPR 2023, section 4.2; `unseen.methods.caddm` is the method it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.blend import alpha_blend, poisson_blend
from unseen.data.masks import deform, elastic_flow, hull_mask
from unseen.data.structure import densest_window, dssim
from unseen.data.transforms import AlignFace, Transform
from unseen.types import FaceSample, InputError, Label

__all__ = ["MultiScaleSwap"]

_Image = NDArray[np.uint8]
_Mask = NDArray[np.float32]
_Points = NDArray[np.float64]

_SIDE = 224  # window sizes are given in pixels of a face crop of this side
_AROUND = 1.2  # the face crop is the box of the landmarks, enlarged by this


class _Box(NamedTuple):
    """Whole pixels: x0 y0 x1 y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


class MultiScaleSwap(Transform):
    """Swap the face, or the window that tells most, between a fake and its source, eq. 1 and 2.

    *Global*: the source's face goes into the fake, or the fake's into the source, within the hull of the
    landmarks, which is deformed in half of the cases. *Partial*: the window of the fake's face that differs
    most in structure from the source goes into the source; it becomes the sample's `regions`. Either is
    blended by opacity or by gradients. Pictures are mixed before they are aligned, and the window's corners
    then move with the pixels, so that the box says where the forged part really is.

    A real face is only halved by chance, as fakes are. A fake whose `regions` are known already, such as a
    self-blended one, is left as it is.

    What cannot be done is done otherwise and noted in the sample (`FaceSample.notes`, which training counts
    and reports): a result that is as good as the source is drawn again, and after `tries` the fake is taken
    as it came. A fake without a source, or with that of another picture, is an error, so that training draws
    another face for it.

    Args:
        align: Applied after the swap; None leaves alignment to a transform that follows.
        half: Probability that everything is first reduced to half its size, reals as well.
        partial: Share of the partial swaps; the rest is global.
        faces: Of the global ones, the shares of the source's face in the fake, the fake's face in the source,
            and the fake as it is: 40, 20 and 20 % of all fakes, as in the public code.
        windows: (height, width) of partial windows, in pixels of a face crop of 224; drawn uniformly.
        poisson: Probability of blending by gradients rather than by opacity.
        elastic: Probability that the hull is deformed.
        strength: Range of the deformation's strength (its smoothness is 0.08 of the picture's height).
        least: A swap must differ from the source by more than `level` in at least this share of the values of
            the face crop, or it could not honestly be called a fake.
        level: Grey levels; stronger than what compression alone changes.
        tries: How often another swap is drawn if one comes to nothing.
        strange: A fake and its source that differ by more around the face, in mean grey levels, are not of
            one frame (codecs make a difference of one or two; other people's portraits, of 13 and more).
    """

    needs = ("source", "landmarks")
    notes = ("source_resized", "face_outside", "empty_window", "too_alike", "not_swapped")

    def __init__(
        self,
        align: AlignFace | None = None,
        *,
        half: float = 0.3,
        partial: float = 0.2,
        faces: tuple[float, float, float] = (0.5, 0.25, 0.25),
        windows: Sequence[tuple[int, int]] = ((40, 80), (80, 120), (120, 160), (224, 224)),
        poisson: float = 0.5,
        elastic: float = 0.5,
        strength: tuple[float, float] = (300.0, 500.0),
        least: float = 0.01,
        level: int = 4,
        tries: int = 4,
        strange: float = 8.0,
    ) -> None:
        for name, p in (("half", half), ("partial", partial), ("poisson", poisson), ("elastic", elastic)):
            if not 0 <= p <= 1:
                raise InputError(f"MultiScaleSwap: {name} {p}; expected a probability between 0 and 1")
        if len(faces) != 3 or min(faces) < 0 or abs(sum(faces) - 1) > 1e-6:
            raise InputError(f"MultiScaleSwap: faces {list(faces)}; expected three shares that add up to 1")
        if not windows or not all(1 <= side <= _SIDE for window in windows for side in window):
            raise InputError(f"MultiScaleSwap: windows are (height, width) of 1 to {_SIDE}; got {windows}")
        if not 0 <= least < 1 or tries < 1 or not 0 <= strength[0] <= strength[1]:
            raise InputError("MultiScaleSwap: least in [0, 1), tries from 1, strength (lowest, highest)")
        self.align, self.half, self.partial, self.faces = align, half, partial, tuple(faces)
        self.windows = [(int(height), int(width)) for height, width in windows]
        self.poisson, self.elastic, self.strength = poisson, elastic, strength
        self.least, self.level, self.tries, self.strange = least, level, tries, strange

    def evaluating(self) -> Transform | None:
        """Return only the alignment, if it is this transform's business."""
        return None if self.align is None else self.align.evaluating()

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample, swapped if it is a fake, and aligned."""
        halved = rng.random() < self.half
        # One number of what is handed in, so that a real and its fake are treated alike afterwards.
        own = np.random.default_rng(int(rng.integers(2**63)))
        if halved:
            sample = _halve(sample)
        if sample.label == Label.FAKE and (sample.regions is None or not len(sample.regions)):
            sample = self._swap(sample, own)
        elif sample.regions is None:
            sample = replace(sample, regions=_NOWHERE.copy())
        return sample if self.align is None else self.align(sample, rng)

    def _swap(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        image, source, landmarks, notes = _checked(sample)
        face = _crop(landmarks, image.shape[:2])
        made: tuple[_Image, NDArray[np.float32]] | str = "face_outside"
        if face is not None:
            _same_picture(image, source, face, self.strange, sample.record.path)
            for _ in range(self.tries):
                made = self._attempt(image, source, landmarks, face, rng)
                if not isinstance(made, str):
                    break
                notes.append(made)
        if isinstance(made, str):
            notes += [made, "not_swapped"] if face is None else ["not_swapped"]
            made = image, _NOWHERE.copy()
        return replace(sample, image=made[0], source=source, regions=made[1], notes=(*sample.notes, *notes))

    def _attempt(
        self, fake: _Image, source: _Image, landmarks: _Points, face: _Box, rng: np.random.Generator
    ) -> tuple[_Image, NDArray[np.float32]] | str:
        """Return a swapped picture and its regions, or why there is none."""
        poisson = rng.random() < self.poisson
        if rng.random() < self.partial:
            window = self._window(fake, source, landmarks, face, rng)
            if window is None:
                return "empty_window"
            mask, where = _rectangle(window, fake.shape[:2])
            over, under, regions = fake, source, np.array([window], np.float32)
        else:
            draw, regions = rng.random(), _NOWHERE.copy()
            if draw >= self.faces[0] + self.faces[1]:
                return fake, regions
            over, under = (source, fake) if draw < self.faces[0] else (fake, source)  # eq. 1
            mask, where = self._hull(landmarks, fake.shape[:2], rng)
        # Where the fake's pixels will be: if little is left of it there, blending is not worth its time.
        remains = np.full(fake.shape[:2], under is fake, np.uint8)
        remains[where.slices] = (mask < 0.5) == (under is fake)
        if not self._differs(fake, source, face, remains):
            return "too_alike"
        result = _paste(over, under, mask, where, poisson)
        return (result, regions) if self._differs(result, source, face) else "too_alike"

    def _window(
        self, fake: _Image, source: _Image, landmarks: _Points, face: _Box, rng: np.random.Generator
    ) -> _Box | None:
        """Return the window of the fake's face whose structure differs most from the source's, eq. 2."""
        height, width = self.windows[int(rng.integers(len(self.windows)))]
        rows, columns = face.slices
        over, under = fake[rows, columns], source[rows, columns]
        # A large face is searched at half its size, so that its crop has about the 224 pixels of the paper.
        step = 2 if min(over.shape[:2]) > _SIDE else 1
        down, across = over.shape[0] // step, over.shape[1] // step
        if step > 1:
            over, under = (
                np.asarray(cv2.resize(half, (across, down), interpolation=cv2.INTER_AREA), np.uint8)
                for half in (over, under)
            )
        height = max(1, round(height * down / _SIDE))
        width = max(1, round(width * across / _SIDE))
        inside = hull_mask((landmarks - [face.x0, face.y0] + 0.5) / step - 0.5, (down, across)) > 0.5
        weights = np.asarray(cv2.transform(dssim(over, under), np.ones((1, 3))), np.float32)
        weights = weights.reshape(down, across) * inside
        x, y = densest_window(weights, height, width)
        if weights[y : y + height, x : x + width].max() <= 1e-3:  # nothing is forged here
            return None
        x, y, width, height = x * step, y * step, width * step, height * step
        return _Box(face.x0 + x, face.y0 + y, face.x0 + x + width, face.y0 + y + height)

    def _differs(
        self, image: _Image, source: _Image, face: _Box, where: NDArray[np.uint8] | None = None
    ) -> bool:
        """Say whether enough of the face crop (where a mask is 1) differs noticeably from the source."""
        change = cv2.absdiff(image[face.slices], source[face.slices])
        if where is not None:
            change = cv2.copyTo(change, np.ascontiguousarray(where[face.slices]))
        noticed = cv2.compare(change.reshape(-1), float(self.level), cv2.CMP_GT)  # type: ignore[call-overload]
        return cv2.countNonZero(noticed) >= self.least * change.size

    def _hull(
        self, landmarks: _Points, size: tuple[int, ...], rng: np.random.Generator
    ) -> tuple[_Mask, _Box]:
        """Return the hull of the landmarks, deformed by chance, and the part of the picture it is of."""
        bends, alpha = rng.random() < self.elastic, rng.uniform(*self.strength)
        smooth = 0.08 * size[0]
        # Five standard deviations of the displacement, and the blur.
        margin = 4 + (int(5 * alpha / (2 * np.sqrt(3 * np.pi) * smooth)) + 1 if bends else 0)
        low, high = np.floor(landmarks.min(0)) - margin, np.ceil(landmarks.max(0)) + margin + 1
        where = _clip(low, high, size)
        shape = (where.y1 - where.y0, where.x1 - where.x0)
        mask = hull_mask(landmarks - [where.x0, where.y0], shape)
        if bends:
            mask = deform(mask, elastic_flow(shape, rng, alpha=alpha, sigma=smooth))
        return mask, where


_NOWHERE = np.zeros((0, 4), np.float32)


def _checked(sample: FaceSample) -> tuple[_Image, _Image, _Points, list[str]]:
    """Return picture, source of the same size and finite landmarks of a fake, or say what is missing."""
    where = sample.record.path
    if sample.source is None:
        raise InputError(
            f"{where}: this fake has no source, the real crop it was made from, which MultiScaleSwap needs; "
            "`unseen forge` writes it into its manifest",
            reason="no_source",
        )
    if sample.landmarks is None or not np.isfinite(sample.landmarks[:68]).all():
        raise InputError(
            f"{where}: MultiScaleSwap needs 68 finite landmarks; run `unseen prepare`", reason="bad_landmarks"
        )
    points = np.asarray(sample.landmarks, np.float64)
    source, notes = sample.source, []
    if source.shape != sample.image.shape:
        height, width = sample.image.shape[:2]
        source = np.asarray(cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        notes.append("source_resized")
    return sample.image, source, points[np.isfinite(points).all(1)], notes


def _same_picture(fake: _Image, source: _Image, face: _Box, most: float, where: str) -> None:
    """Refuse a source that shows something else: around the face the two must agree."""
    step = max(1, min(fake.shape[:2]) // 48)
    rows, columns = np.arange(0, fake.shape[0], step), np.arange(0, fake.shape[1], step)
    around = ~(((rows >= face.y0) & (rows < face.y1))[:, None] & ((columns >= face.x0) & (columns < face.x1)))
    if around.sum() < 32:  # the face fills the picture
        return
    few = cv2.absdiff(
        np.ascontiguousarray(fake[::step, ::step]), np.ascontiguousarray(source[::step, ::step])
    )
    found = float(np.asarray(few)[around].mean())
    if found > most:
        raise InputError(
            f"{where}: its source shows another picture (around the face they differ by {found:.0f} grey "
            f"levels on average; expected under {most:g}); check the manifest's `source` of this row",
            reason="other_source",
        )


def _halve(sample: FaceSample) -> FaceSample:
    """Return the sample at half its size."""
    height, width = sample.image.shape[:2]
    size = (max(1, width // 2), max(1, height // 2))
    factor = np.array([size[0] / width, size[1] / height])
    landmarks, regions = sample.landmarks, sample.regions

    def smaller(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)

    return replace(
        sample,
        image=smaller(sample.image),
        source=None if sample.source is None else smaller(sample.source),
        attention=None
        if sample.attention is None
        else cv2.resize(sample.attention, size, interpolation=cv2.INTER_AREA),
        # Whole numbers are the centres of pixels.
        landmarks=None if landmarks is None else ((landmarks + 0.5) * factor - 0.5).astype(np.float32),
        regions=None if regions is None else (regions * np.tile(factor, 2)).astype(np.float32),
    )


def _clip(low: NDArray[np.floating], high: NDArray[np.floating], size: tuple[int, ...]) -> _Box:
    """Return the part of a rectangle that lies in the picture; of no area if none does."""
    x0, y0 = (int(min(max(value, 0), side)) for value, side in zip(low, (size[1], size[0]), strict=True))
    x1, y1 = (int(min(max(value, 0), side)) for value, side in zip(high, (size[1], size[0]), strict=True))
    return _Box(x0, y0, max(x1, x0), max(y1, y0))


def _crop(landmarks: _Points, size: tuple[int, ...]) -> _Box | None:
    """Return the box of the landmarks, enlarged; None if less than half of it lies in the picture."""
    low, high = landmarks.min(0), landmarks.max(0)
    middle, half = (low + high) / 2, _AROUND * (high - low) / 2
    box = _clip(np.floor(middle - half), np.ceil(middle + half), size)
    area = (box.x1 - box.x0) * (box.y1 - box.y0)
    if min(box.x1 - box.x0, box.y1 - box.y0) < 16 or area < 0.5 * float(np.prod(2 * half)):
        return None
    return box


def _rectangle(window: _Box, size: tuple[int, ...]) -> tuple[_Mask, _Box]:
    """Return a mask of the window with a margin for its soft edge, and the part of the picture it is of."""
    margin = 4
    where = _clip(
        np.array([window.x0 - margin, window.y0 - margin]),
        np.array([window.x1 + margin, window.y1 + margin]),
        size,
    )
    mask = np.zeros((where.y1 - where.y0, where.x1 - where.x0), np.float32)
    mask[window.y0 - where.y0 : window.y1 - where.y0, window.x0 - where.x0 : window.x1 - where.x0] = 1
    return mask, where


def _paste(over: _Image, under: _Image, mask: _Mask, where: _Box, poisson: bool) -> _Image:
    """Return `under` with a part of `over`, blended by gradients with the plain mask or by a softened one."""
    rows, columns = where.slices
    below, above = np.ascontiguousarray(under[rows, columns]), np.ascontiguousarray(over[rows, columns])
    result = under.copy()
    if poisson:
        result[rows, columns] = poisson_blend(above, below, mask)
    else:
        soft = np.asarray(cv2.GaussianBlur(mask, (5, 5), 3), np.float32)
        result[rows, columns] = alpha_blend(above, below, soft)
    return result
