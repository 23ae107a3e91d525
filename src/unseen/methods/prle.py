"""PRLE: erase, while training, the regions on which trained detectors already agree.

Cheng et al., *Towards Generalizable Deepfake Detection by Primary Region Regularization*, 2023 (ACM TOMM
2025). A zoo of trained detectors says where it looks (`unseen prepare primary-regions`); its maps are fused
into one (static localisation, eq. 6 to 8), and while another detector learns, a random share of that region
is erased, its hottest pixels first (dynamic exploitation, eq. 9 to 13).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unseen.data.erasing import Fill, check_mask, erase
from unseen.data.regions import RegionStore
from unseen.data.transforms import Transform
from unseen.types import FaceRecord, FaceSample, InputError

__all__ = [
    "Fusion",
    "PrimaryRegionMask",
    "fuse_average",
    "fuse_neighbors",
    "rank_map",
    "region_mask",
    "region_share",
]

_log = logging.getLogger(__name__)


# --- static localisation: many maps into one ----------------------------------------------------------------


def fuse_average(maps: Tensor, *, threshold: float = 0.3) -> Tensor:
    """Average the maps of a zoo and keep what is above a threshold, eq. 6.

    Args:
        maps: One map a detector, each divided by its own maximum.
        threshold: tau1; the average must be larger.

    Shape:
        maps: (..., T, H, W) in [0, 1] -> (..., H, W).
    """
    mean = _checked(maps).mean(-3)
    return torch.where(mean > threshold, mean, 0)


def fuse_neighbors(
    maps: Tensor,
    *,
    threshold: float | None = 0.3,
    difference: float = 0.15,
    radius: int = 1,
    floor: float | None = None,
) -> Tensor:
    """Expand the average by what its neighbours say, eq. 6 to 8.

    Eq. 8 alone deletes the core of a region, since where all maps agree nothing differs. The paper says that
    it expands the *average*, so the average stays wherever it is above the threshold, and eq. 8 decides
    elsewhere.

    Args:
        maps: One map a detector, each divided by its own maximum.
        threshold: tau1 of eq. 6; None gives eq. 7 and 8 alone.
        difference: lambda of eq. 7.
        radius: Neighbours are the square of this radius about a pixel, itself included, cut at the border.
        floor: Nothing is expanded where the average is below this (the public code's tau2); None anywhere.

    Shape:
        maps: (..., T, H, W) in [0, 1] -> (..., H, W).
    """
    maps = _checked(maps)
    height, width = maps.shape[-2:]
    highest = maps.amax(-3)  # (..., H, W)
    count = _inside(height, radius, maps)[:, None] * _inside(width, radius, maps)
    differs = torch.zeros_like(highest, dtype=torch.bool)
    # Eq. 7 asks for any pair (j, k). The sum of |A_j(a) - v| is convex in v = A_k(x), so it is largest at the
    # lowest or the highest of the T values at x: 2 T sums instead of T^2.
    for value in (maps.amin(-3, keepdim=True), highest.unsqueeze(-3)):
        total = torch.zeros_like(maps)  # (..., T, H, W)
        for down in range(-radius, radius + 1):
            rows, other_rows = _overlap(height, down)
            for right in range(-radius, radius + 1):
                columns, other_columns = _overlap(width, right)
                gap = maps[..., other_rows, other_columns] - value[..., rows, columns]
                total[..., rows, columns] += gap.abs_()
        differs |= (total / count).amax(-3) > difference
    # Eq. 8: the largest value of any map in the neighbourhood. Pooling pads with minus infinity.
    flat = highest.reshape(-1, 1, height, width)
    spread = functional.max_pool2d(flat, 2 * radius + 1, stride=1, padding=radius).view_as(highest)
    mean = maps.mean(-3)
    if floor is not None:
        differs &= mean >= floor
    expanded = torch.where(differs, spread, 0)
    return expanded if threshold is None else torch.where(mean > threshold, mean, expanded)


@dataclass(frozen=True)
class Fusion:
    """How the maps of a zoo become one, and in which order its pixels are erased.

    Args:
        kind: `neighbour` (eq. 6 to 8, the paper's) or `average` (eq. 6 alone, Table V).
        threshold: tau1.
        difference: lambda of eq. 7.
        radius: Of the neighbourhood, in pixels of the fused map.
        floor: The public code's tau2, see `fuse_neighbors`.
        rank_by: `value` ranks pixels by the fused map, as printed. Expanded pixels carry maxima and the core
            averages, so the rim can come before the core; `average` ranks all of them by the average.
    """

    kind: Literal["neighbour", "average"] = "neighbour"
    threshold: float = 0.3
    difference: float = 0.15
    radius: int = 1
    floor: float | None = None
    rank_by: Literal["value", "average"] = "value"

    def __post_init__(self) -> None:
        if self.kind not in ("neighbour", "average") or self.rank_by not in ("value", "average"):
            raise InputError(f"Fusion: kind {self.kind!r}, rank_by {self.rank_by!r}; expected one of each")
        for name in ("threshold", "difference", "floor"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"Fusion: {name} {value}; expected 0 to 1, as the maps are")
        if self.radius < 1:
            raise InputError(f"Fusion: radius {self.radius}; expected at least one pixel")

    def fuse(self, maps: Tensor) -> Tensor:
        """Fuse. Shape: (..., T, H, W) -> (..., H, W)."""
        if self.kind == "average":
            return fuse_average(maps, threshold=self.threshold)
        return fuse_neighbors(
            maps,
            threshold=self.threshold,
            difference=self.difference,
            radius=self.radius,
            floor=self.floor,
        )

    def rank(self, maps: Tensor, seen: Tensor | None = None) -> Tensor:
        """Fuse and rank; what is not `seen` belongs to no region.

        Shape:
            maps: (..., T, H, W), seen: (..., H, W) bool -> (..., H, W) uint8, see `rank_map`.
        """
        fused = self.fuse(maps) if seen is None else torch.where(seen, self.fuse(maps), 0)
        return rank_map(fused, by=maps.mean(-3) if self.rank_by == "average" else None)

    def to_dict(self) -> dict[str, Any]:
        """Return every number that decides the maps, for a store's header."""
        return asdict(self)


def region_share(maps: Tensor, *, threshold: float = 0.0) -> Tensor:
    """Which part of a map is primary region, Table I.

    Shape:
        maps: (..., H, W) in [0, 1] -> (...), 0 to 1.
    """
    return (maps > threshold).flatten(-2).double().mean(-1)


# --- dynamic exploitation: a share of the region, hottest first ---------------------------------------------


def region_mask(fused: Tensor, alpha: float | Tensor) -> Tensor:
    """Return the hottest share of a region, eq. 9 to 12: the first floor(alpha |V|) of its ranked pixels.

    V are the positive pixels in falling order (eq. 9, 10); of equal ones the lower, then the righter comes
    first, as in the public code. Zero pixels are never erased.

    Args:
        fused: A fused map.
        alpha: Share of the region, 0 to 1, one number or one a map; 1 is the whole of M_b.

    Returns:
        True where a picture is to be erased.

    Raises:
        InputError: If alpha is outside [0, 1].

    Shape:
        fused: (..., H, W). alpha: a number or (...). Result: (..., H, W) bool.

    Example:
        >>> region_mask(torch.tensor([[0.0, 0.5], [0.9, 0.7]]), 0.67).tolist()  # two of three
        [[False, False], [True, True]]
    """
    share = torch.as_tensor(alpha, dtype=torch.float64, device=fused.device)
    if bool((share < 0).any()) or bool((share > 1).any()):
        raise InputError(f"region_mask: alpha {alpha}; expected a share between 0 and 1")
    rank = _ranks(fused)  # 1 the hottest, 0 outside V
    size = (rank > 0).flatten(-2).sum(-1)  # |V|
    kept = (share * size).floor()
    return (rank > 0) & (rank <= kept[..., None, None])


def rank_map(fused: Tensor, *, by: Tensor | None = None) -> Tensor:
    """Return q = ceil(255 rank / |V|) where the map is positive, and 0 elsewhere.

    `(0 < q) & (q <= 255 alpha)` is then `region_mask(fused, alpha)` but for at most |V| / 255 pixels: the
    sort happens once, and training needs one comparison.

    Args:
        fused: A fused map.
        by: Ranks the positive pixels by this map instead.

    Shape:
        fused, by: (..., H, W). Result: (..., H, W) uint8.
    """
    rank = _ranks(fused, by)
    size = (rank > 0).flatten(-2).sum(-1).clamp_min(1)[..., None, None]
    return ((255 * rank + size - 1) // size).to(torch.uint8)


def _ranks(fused: Tensor, by: Tensor | None = None) -> Tensor:
    """Return the place of each positive pixel, from 1, the hottest; 0 for the others. (..., H, W) int64."""
    flat = fused.flatten(-2)
    heat = flat if by is None else by.flatten(-2)
    heat = torch.where(flat > 0, heat, -torch.inf).flip(-1)  # backwards: of equals the last comes first
    order = flat.shape[-1] - 1 - heat.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(1, flat.shape[-1] + 1, device=flat.device).expand_as(order)
    rank = torch.zeros_like(order).scatter_(-1, order, places)
    return torch.where(flat > 0, rank, 0).view_as(fused)


def _checked(maps: Tensor) -> Tensor:
    if maps.ndim < 3 or not maps.is_floating_point() or maps.shape[-3] == 0:
        raise InputError(
            f"fusion: maps of shape {tuple(maps.shape)}, {maps.dtype}; expected floats (..., T, H, W), T >= 1"
        )
    return maps


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Return the places that have a neighbour `shift` away, and those neighbours."""
    return slice(max(0, -shift), max(0, length - max(0, shift))), slice(
        max(0, shift), max(0, length + min(0, shift))
    )


def _inside(length: int, radius: int, like: Tensor) -> Tensor:
    """How many neighbours along one axis lie inside the map. Shape: (length,)."""
    place = torch.arange(length, device=like.device)
    return ((place + radius).clamp_max(length - 1) - (place - radius).clamp_min(0) + 1).to(like.dtype)


# --- masks for training -------------------------------------------------------------------------------------


class PrimaryRegionMask(Transform):
    """Erases, in a share `p` of the faces, the hottest `alpha` of what a zoo of detectors looks at.

    Comes first among the transforms: the maps lie in the crop's own pixels, and a face is erased before it is
    aligned, flipped and normalised (eq. 11 erases to black in 0..255). A sample that brings its rank map in
    `attention` is masked by that one instead, whatever moved the two before.

    Args:
        regions: Folder that `unseen prepare primary-regions` made; opened when training begins.
        p: Probability that a face is masked.
        alpha: The share is drawn uniformly from (low, high]; two equal numbers switch exploitation off, and
            (1, 1) always erases the whole region (Table VII). The public code has (0.5, 1).
        fill: What erased pixels become: black, uniform noise (the public code's), or the crop's mean colour.
        weight: gamma of eq. 13, by which a masked face counts in the loss.
        missing: Whether a face without a map is an error, found before the first step, or stays as it is and
            is counted as `no_regions`.

    Raises:
        InputError: At the first use: no such store, a damaged one, no map of a face, or one of another crop.
    """

    notes = ("no_regions",)

    def __init__(
        self,
        regions: str,
        *,
        p: float = 0.5,
        alpha: tuple[float, float] = (0.0, 1.0),
        fill: Fill = "zero",
        weight: float = 1.0,
        missing: Literal["error", "keep"] = "error",
    ) -> None:
        check_mask("PrimaryRegionMask", p, fill, weight)
        low, high = alpha
        if not 0 <= low <= high <= 1 or high == 0:
            raise InputError(
                f"PrimaryRegionMask: alpha {list(alpha)}; expected 0 <= low <= high <= 1, high > 0"
            )
        if missing not in ("error", "keep"):
            raise InputError(f"PrimaryRegionMask: missing {missing!r}; expected 'error' or 'keep'")
        self.regions, self.p, self.alpha = str(regions), p, (low, high)
        self.fill, self.weight, self.missing = fill, weight, missing
        self._store: RegionStore | None = None

    @property
    def store(self) -> RegionStore:
        """The maps; read when first asked for, so that a recipe can be read where they are not."""
        if self._store is None:
            self._store = RegionStore(self.regions)
        return self._store

    def check(self, records: Sequence[FaceRecord]) -> None:
        """Look for the map of every face before training; under `missing="keep"` say how many have none."""
        lacking = [record.path for record in records if record not in self.store]
        if not lacking:
            return
        said = f"{self.regions}: no map of {len(lacking)} of {len(records)} faces, such as {lacking[0]}"
        if self.missing == "error":
            raise InputError(
                f"{said}; make them with `unseen prepare primary-regions`, or leave these faces unmasked "
                "with missing: keep",
                reason="no_regions",
            )
        _log.warning("%s; they are never masked", said)

    def always(self, alpha: float) -> PrimaryRegionMask:
        """Return this mask for evaluation: every face, always the share `alpha` (Figures 7 and 8)."""
        fixed = copy.copy(self)
        fixed.p, fixed.alpha, fixed.augment = 1.0, (alpha, alpha), False
        return fixed

    def __call__(self, sample: FaceSample, rng: np.random.Generator) -> FaceSample:
        """Return the sample as it is, or masked."""
        chance, share, noise = rng.random(), rng.random(), int(rng.integers(1 << 62))
        if chance >= self.p:
            return sample
        attention = self._attention(sample) if sample.attention is None else sample.attention
        if attention is None:
            return replace(sample, notes=(*sample.notes, *self.notes))
        if attention.dtype != np.uint8:
            raise InputError(
                f"{sample.record.path}: attention of {attention.dtype}; expected ranks as uint8, see rank_map"
            )
        low, high = self.alpha
        level = int(255 * (high - share * (high - low)))  # alpha in (low, high], in ranks
        return erase(sample, cv2.inRange(attention, 1, level), self.fill, self.weight, noise)

    def _attention(self, sample: FaceSample) -> NDArray[np.uint8] | None:
        """Return the rank map in the crop's pixels, (H, W)."""
        found = self.store.find(sample.record)
        if found is None:
            if self.missing == "keep":
                return None
            raise InputError(
                f"{self.regions}: no map of {sample.record.path}; make it with "
                "`unseen prepare primary-regions`, or give missing: keep",
                reason="no_regions",
            )
        return found.attention(sample.image.shape[:2])
