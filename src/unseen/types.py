"""The nouns that every room of `unseen` shares.

Nothing here imports torch at run time, so that `import unseen` stays fast;
tensors appear in annotations only.

One alphabet for shapes: B batch, C channels, h w map, H W image, D vector, K logits, M regions, N rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LANDMARKS",
    "Change",
    "Drawn",
    "Explanation",
    "FaceBatch",
    "FaceRecord",
    "FaceSample",
    "Features",
    "InputError",
    "Label",
    "Output",
]

Drawn = tuple[str, NDArray[Any] | None]  # a change of a picture, and its numbers; None if it is left out
LANDMARKS = 81  # the 68 of iBUG in their order, then 13 on the forehead from left to right


class Label(IntEnum):
    """What a face is. A score is the log-odds of `FAKE`."""

    REAL = 0
    FAKE = 1


class InputError(ValueError):
    """Something a user gave cannot be used; the message says where, what was expected, and the mend.

    Args:
        message: One line for a person: `crops.parquet row 17: label 2; expected 0 (real) or 1 (fake)`.
        reason: A short stable code for programs, such as `missing`, `empty`, `unreadable`, `too_large`.
    """

    def __init__(self, message: str, *, reason: str = "invalid") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class FaceRecord:
    """One row of a manifest: one crop of one face.

    Shape:
        landmarks: (81, 2) float32, x and y in the crop's own pixels; NaN where a finder has no such point.
        box: (4,) float32, x0 y0 x1 y1 of the face in the *frame's* pixels.
    """

    path: str
    label: Label | None = None
    dataset: str = ""
    video: str = ""  # unique inside its data set ("deepfakes/033_097"), never a folder's last name
    frame: int = 0
    time: float = 0.0  # seconds from the start
    method: str | None = None  # "real", or who forged it
    split: str | None = None
    identity: str | None = None
    source: str | None = None  # the real crop that a fake was made from
    landmarks: NDArray[np.float32] | None = None
    box: NDArray[np.float32] | None = None


@dataclass(eq=False)
class FaceSample:
    """What transforms pass along, in workers: numpy only.

    Shape:
        image: (H, W, 3) uint8 RGB.
        source: (H, W, 3) uint8 RGB, the real picture that a fake was made from, in the same pixels.
        attention: (H, W) uint8 or float32, a map that must move with the image (PRLE's rank map).
        landmarks: (81, 2) float32 in the image's pixels.
        regions: (M, 4) float32, x0 y0 x1 y1 of forged regions in the image's pixels.

    `notes` says what a transform had to do otherwise than it was asked to; training counts them. `changes` is
    what the device will still do to the image (`data.photometric: device`).
    """

    image: NDArray[np.uint8]
    label: Label | None
    record: FaceRecord
    weight: float = 1.0
    source: NDArray[np.uint8] | None = None
    attention: NDArray[Any] | None = None
    landmarks: NDArray[np.float32] | None = None
    regions: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()
    changes: tuple[Drawn, ...] = ()

    def warp(self, matrix: NDArray[np.floating[Any]], size: tuple[int, int]) -> FaceSample:
        """Move image, source, attention, landmarks and regions together by one affine map.

        Args:
            matrix: (2, 3), maps a point of this sample (x, y) to the new one.
            size: (height, width) of the new sample, in pixels.

        Returns:
            A new sample. Regions become the bounding boxes of their four warped corners, clipped to the
            picture; one that leaves it keeps its place in the list with zero area.
        """
        import cv2

        height, width = size
        matrix = np.asarray(matrix, np.float64)
        # Shrinking with plain bilinear sampling aliases; area-like filtering first is what resize would do.
        shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

        def move(picture: NDArray[Any]) -> NDArray[Any]:
            sigma = 0.5 * (1.0 / shrink - 1.0) if 0 < shrink < 0.75 else 0.0
            if sigma > 0.25:
                # Only what the new sample shows is filtered: of a loose crop about a third.
                window = _seen(picture, matrix, size, margin=int(4 * sigma) + 3)
                filtered = np.empty_like(picture)
                filtered[window] = cv2.GaussianBlur(np.ascontiguousarray(picture[window]), (0, 0), sigma)
                picture = filtered
            return cv2.warpAffine(
                picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
            )

        def carry(points: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)

        regions = self.regions
        if regions is not None:
            corners = regions[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]  # (M, 4, 2)
            moved = carry(corners.reshape(-1, 2)).reshape(-1, 4, 2)
            boxes = np.concatenate([moved.min(1), moved.max(1)], axis=1)
            regions = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
        return replace(
            self,
            image=move(self.image),
            source=None if self.source is None else move(self.source),
            attention=None if self.attention is None else move(self.attention),
            landmarks=None if self.landmarks is None else carry(self.landmarks),
            regions=regions,
        )


def _seen(
    picture: NDArray[Any], matrix: NDArray[Any], size: tuple[int, int], margin: int
) -> tuple[slice, slice]:
    """Return the part of a picture that a warped one is made of, with a margin: rows and columns."""
    height, width = size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float64)
    found = np.linalg.solve(matrix[:, :2], (corners - matrix[:, 2]).T).T  # (4, 2)
    limit = picture.shape[1], picture.shape[0]
    low = np.clip(np.floor(found.min(0)).astype(int) - margin, 0, np.array(limit) - 1)
    high = np.clip(np.ceil(found.max(0)).astype(int) + margin, low + 1, limit)
    return slice(low[1], high[1]), slice(low[0], high[0])


class Change(Protocol):
    """A change of some pictures of a batch that is carried out where the batch has been moved to."""

    def to(self, device: Any, *, non_blocking: bool = False) -> Change:
        """Return this change with its numbers on `device`."""

    def pin_memory(self) -> Change:
        """Return this change with its numbers where a GPU fetches them by itself."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return the pictures, (B, 3, H, W) uint8, with some of them changed."""


@dataclass(eq=False)
class FaceBatch:
    """What a network's losses take.

    Shape:
        image: (B, 3, H, W) RGB, uint8 in 0..255 on its way to the device or float in [0, 1] there;
            never normalised: the backbone alone knows its mean and standard deviation.
        label: (B,) int64, 0 real and 1 fake.
        weight: (B,) float32 or None.
        domain: (B,) int64 or None, the index of the forgery method.
        regions: a list of B tensors (M, 4), or None.
        residual: (B, 3, H, W) int8 in steps of 1 / 127 or float, computed before (RFFR), or None.

    `changes` are what `to` does to the pictures on the device, in this order, before they become floats.
    """

    image: Tensor
    label: Tensor
    weight: Tensor | None = None
    domain: Tensor | None = None
    regions: list[Tensor] | None = None
    records: list[FaceRecord] = field(default_factory=list)
    residual: Tensor | None = None
    changes: tuple[Change, ...] = ()

    def __len__(self) -> int:
        return int(self.image.shape[0])

    def pin_memory(self) -> FaceBatch:
        """Return this batch in memory that a GPU fetches from by itself; a loader asks for it."""

        def pinned(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.pin_memory()

        return replace(
            self,
            image=self.image.pin_memory(),
            label=self.label.pin_memory(),
            weight=pinned(self.weight),
            domain=pinned(self.domain),
            residual=pinned(self.residual),
            changes=tuple(change.pin_memory() for change in self.changes),
        )

    def to(self, device: Any, *, non_blocking: bool = False) -> FaceBatch:
        """Return this batch with every tensor on `device`; an uint8 image becomes float in [0, 1] there.

        What is left to be done to the pictures (`changes`) is done there first.
        """
        import torch

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        image = self.image.to(device, non_blocking=non_blocking)
        for change in self.changes:
            image = change.to(device, non_blocking=non_blocking)(image)
        if image.dtype == torch.uint8:
            image = image.float().div_(255)
        return replace(
            self,
            image=image,
            label=self.label.to(device, non_blocking=non_blocking),
            weight=move(self.weight),
            domain=move(self.domain),
            residual=move(self.residual),
            regions=None if self.regions is None else _move_all(self.regions, device, non_blocking),
            changes=(),
        )


def _move_all(regions: list[Tensor], device: Any, non_blocking: bool) -> list[Tensor]:
    """Move many small tensors in one piece: the transfer of each would make the device wait."""
    import torch

    if not regions:
        return []
    whole = torch.cat(regions).to(device, non_blocking=non_blocking)
    return list(torch.split(whole, [len(region) for region in regions]))


@dataclass(frozen=True, eq=False)
class Features:
    """What a backbone sees in a face.

    Shape:
        map: (B, C, h, w). vector: (B, D), usually the map's mean.
    """

    map: Tensor
    vector: Tensor


@dataclass(frozen=True, eq=False)
class Output:
    """What a detector says of a batch.

    Shape:
        logits: (B, K), the head's own. score: (B,), log-odds of fake. aux: one entry a part.
    """

    logits: Tensor
    score: Tensor
    features: Features
    aux: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Explanation:
    """One piece of evidence about one face, in the pixels of the network's input.

    Shape:
        heatmap: (H, W) float32 in [0, 1]. boxes: (M, 4) xyxy. scores: (M,). image: (H, W, 3) uint8.
    """

    kind: str
    heatmap: NDArray[np.float32] | None = None
    boxes: NDArray[np.float32] | None = None
    scores: NDArray[np.float32] | None = None
    image: NDArray[np.uint8] | None = None
