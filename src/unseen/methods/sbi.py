"""Self-blended images: a fake made from one real picture, by blending it with an altered copy of itself.

Shiohara and Yamasaki, *Detecting Deepfakes with Self-Blended Images*, CVPR 2022. What such a fake has is a
blending edge and two slightly different pictures on its sides, and nothing of any one forgery tool.

Section 3.1 of the paper: the source-target generator (`_alter`), the mask generator (`_mask`), blending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.data.blend import alpha_blend, is_monochrome, resample, sharpen, shift_colors
from unseen.data.masks import HULLS, Hull, deform, elastic_flow, hull_mask, mask_box, soften
from unseen.types import FaceSample, InputError, Label

__all__ = ["SelfBlend"]

_Image = NDArray[np.uint8]


class SelfBlend:
    """Makes (real, fake) pairs from real faces; the `synthesise` of a `Balanced` sampler.

    In half of the pairs the *target* is the altered copy, so that the real picture shown is altered as well
    and the alteration itself says nothing. The paper's joint augmentation is the business of the recipe's
    transforms, which treat both pictures of a pair alike. Its HSV shift is left out: in the units it was
    given it moves no pixel by more than rounding does.

    Args:
        forehead: Probability that the forehead's landmarks are used where there are any.
        hulls: Kinds of mask, drawn uniformly; see `unseen.data.masks.hull_mask`.
        channels: Largest shift of a colour channel of the copy, in grey levels, each with probability 0.3.
        brightness: Largest change of brightness, as a share of 255.
        contrast: Largest relative change of contrast.
        shift: Largest shift of the copy along x and y, as a share of the face window's width and height.
        scale: The copy is scaled along each axis by a factor between this and its inverse.
        elastic: Strength and smoothness of the mask's deformation, in pixels.
        grid: Smallest and largest side of the grid on which the mask is made.
        kernel: Smallest and largest side of the windows that erode and blur the mask, on that grid.
        sigma: Smallest and largest standard deviation of the blur, on that grid.
        ratios: Opacities, drawn uniformly.
        least: A fake whose face differs from the real by less, in mean grey levels, is made again; it could
            not honestly be called one.
        keep_source: Hand on the real picture as the fake's `source`.
    """

    needs: tuple[str, ...] = ("landmarks",)
    method: str = "sbi"

    def __init__(
        self,
        *,
        forehead: float = 0.75,
        hulls: Sequence[Hull] = HULLS,
        channels: float = 20.0,
        brightness: float = 0.1,
        contrast: float = 0.1,
        shift: tuple[float, float] = (0.03, 0.015),
        scale: float = 0.95,
        elastic: tuple[float, float] = (50.0, 7.0),
        grid: tuple[int, int] = (192, 256),
        kernel: tuple[int, int] = (5, 25),
        sigma: tuple[float, float] = (5.0, 45.0),
        ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0),
        least: float = 0.5,
        keep_source: bool = False,
    ) -> None:
        unknown = set(hulls) - set(HULLS)
        if unknown or not hulls:
            raise InputError(f"SelfBlend: hulls {list(hulls)}; expected some of {', '.join(HULLS)}")
        if not 0 < scale <= 1 or not all(0 < ratio <= 1 for ratio in ratios) or not ratios:
            raise InputError("SelfBlend: scale and ratios must lie in (0, 1]")
        if not 8 <= grid[0] <= grid[1] or not 1 <= kernel[0] <= kernel[1]:
            raise InputError("SelfBlend: grid and kernel are (smallest, largest), at least 8 and 1")
        self.forehead, self.hulls = forehead, tuple(hulls)
        self.channels, self.brightness, self.contrast = channels, brightness, contrast
        self.shift, self.scale, self.elastic = shift, scale, elastic
        self.grid, self.kernel, self.sigma = grid, kernel, sigma
        self.ratios, self.least, self.keep_source = tuple(ratios), least, keep_source

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return only the fake of a pair."""
        return self.pair(sample, rng)[1]

    def pair(self, sample: FaceSample, rng: np.random.Generator) -> tuple[FaceSample, FaceSample]:
        """Return the real sample as it is shown, and the fake made from it.

        The fake's `regions` holds the box of what was blended in; the real's is empty.

        Raises:
            InputError: If the sample is not real, has no landmarks, or is so flat that no blend shows.
        """
        where = sample.record.path
        if sample.label != Label.REAL:
            raise InputError(f"{where}: SelfBlend makes fakes of real faces only; got {sample.label!r}")
        if sample.landmarks is None or not np.isfinite(sample.landmarks[:68]).all():
            raise InputError(
                f"{where}: SelfBlend needs 68 finite landmarks; run `unseen prepare`", reason="bad_landmarks"
            )
        for _ in range(4):
            made = self._attempt(sample, sample.landmarks, rng)
            if made is not None:
                break
        else:
            raise InputError(
                f"{where}: a self-blend of this face differs from it by under {self.least} grey levels; "
                "leave the picture out",
                reason="flat",
            )
        target, image, region = made
        real = replace(sample, image=target, regions=np.zeros((0, 4), np.float32))
        fake = replace(
            sample,
            image=image,
            label=Label.FAKE,
            record=replace(sample.record, label=Label.FAKE, method=self.method, source=where),
            source=target if self.keep_source else sample.source,
            regions=region,
        )
        return real, fake

    def _attempt(
        self, sample: FaceSample, landmarks: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[_Image, _Image, NDArray[np.float32]] | None:
        """Return (target, fake, region), or None if the two pictures are as good as the same."""
        image = sample.image
        rows, columns = self._window(landmarks, image.shape[:2], sample.record.path)
        altered = self._alter(image, rng)
        target, source = (image, altered) if rng.random() < 0.5 else (altered, image)
        origin = np.array([columns.start, rows.start], np.float64)
        part = source[rows, columns]
        matrix, mask = self._displace(part.shape[:2], landmarks - origin, rng)
        ratio = np.float32(self.ratios[int(rng.integers(len(self.ratios)))])
        region = mask_box(mask)
        if not len(region):
            return None
        # Only what shows under the mask is moved and blended, in the very bits of the whole: the upper left
        # corner stays, and the last columns, which OpenCV rounds otherwise, lie beyond the mask.
        x0, y0, x1, y1 = mask_box(mask, threshold=0)[0].astype(int).tolist()
        # Repeating the border keeps the outside of the picture from being blended in as black.
        moved = cv2.warpAffine(
            part,
            matrix,
            (min(x1 + 32, part.shape[1]), y1),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        place = (slice(y0, y1), slice(x0, x1))
        fake = target.copy()
        under, over = target[rows, columns][place], fake[rows, columns][place]
        over[:] = alpha_blend(np.asarray(moved, np.uint8)[place], under, mask[place] * ratio)

        inside = (mask[place] > 0.5).astype(np.uint8)
        if np.mean(cv2.mean(cv2.absdiff(over, under), inside)[:3]) < self.least:
            return None
        return target, fake, region + np.tile(origin, 2).astype(np.float32)

    def _window(
        self, landmarks: NDArray[np.float32], size: tuple[int, ...], where: str
    ) -> tuple[slice, slice]:
        """Return the part of the picture that the paper's first crop leaves: all work happens there."""
        low, high = landmarks[:68].min(0), landmarks[:68].max(0)
        width, height = high - low
        x0, y0 = max(0, int(low[0] - width / 2)), max(0, int(low[1] - height))
        x1, y1 = min(size[1], int(high[0] + width / 2) + 1), min(size[0], int(high[1] + 0.4 * height) + 1)
        if x1 - x0 < 8 or y1 - y0 < 8:
            raise InputError(
                f"{where}: the landmarks' face covers {max(x1 - x0, 0)} x {max(y1 - y0, 0)} pixels of the "
                "picture; expected at least 8 x 8",
                reason="bad_landmarks",
            )
        return slice(y0, y1), slice(x0, x1)

    def _alter(self, image: _Image, rng: np.random.Generator) -> _Image:
        """Return a copy with other colours and other fine detail."""
        result = shift_colors(
            image,
            rng,
            channels=self.channels,
            brightness=self.brightness,
            contrast=self.contrast,
            # A coloured face in a grey photograph would be told by colour alone.
            monochrome=is_monochrome,
        )
        if rng.random() < 0.5:
            return resample(result, 2 if rng.random() < 0.5 else 4)
        return sharpen(result, rng.uniform(0.2, 0.5), rng.uniform(0.5, 1.0))

    def _displace(
        self, size: tuple[int, ...], landmarks: NDArray[np.floating], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return how the source is shifted and scaled, (2, 3), and its mask, which moves along.

        The mask is drawn at its displaced place, on the coarse grid on which it is then deformed, eroded and
        blurred; only the finished mask is enlarged.
        """
        height, width = size
        factor = rng.uniform(self.scale, 1 / self.scale, 2)
        shift = rng.uniform(-1, 1, 2) * self.shift * np.array([width, height])
        middle = np.array([width - 1, height - 1]) / 2
        matrix = np.column_stack([np.diag(factor), middle - factor * middle + shift])
        points = landmarks @ matrix[:, :2].T + matrix[:, 2]
        if rng.random() >= self.forehead:
            points = points[:68]
        return matrix, self._mask(points, (height, width), rng)

    def _mask(
        self, points: NDArray[np.floating], size: tuple[int, int], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return a deformed, eroded, soft mask of `size`, before the blending ratio."""
        height, width = size
        rows, columns = (int(n) for n in rng.integers(self.grid[0], self.grid[1] + 1, 2))
        stretch = np.array([columns / width, rows / height])
        on_grid = (points + 0.5) * stretch - 0.5
        mask = hull_mask(on_grid, (rows, columns), self.hulls[int(rng.integers(len(self.hulls)))])
        alpha, smooth = self.elastic
        # Strength and smoothness are in the picture's pixels; the grid has `mean` of them to one.
        mean = float(stretch.mean())
        flow = elastic_flow((rows, columns), rng, alpha=alpha * mean**2, sigma=smooth * mean)
        mask = soften(
            deform(mask, flow),
            erosion=self._odd(rng),
            blur=self._odd(rng),
            sigma=rng.uniform(*self.sigma),
        )
        return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)

    def _odd(self, rng: np.random.Generator) -> int:
        """Return a random odd number within the kernel's range."""
        low, high = self.kernel
        return int(rng.integers(low // 2, (high - 1) // 2 + 1)) * 2 + 1
