"""What a zoo of trained detectors looks at in each face, brought back to the pixels of its crop.

Each detector gets the face aligned as it was trained, whatever its input size; its map is kept as it is,
together with the affine map from the crop to its view.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from unseen.checkpoint import Run
from unseen.data.dataset import collate, read_crop
from unseen.data.workers import start_worker
from unseen.explain.draw import fit_affine
from unseen.explain.gradcam import class_activation_map
from unseen.models.detector import Detector
from unseen.models.folding import fold_norms
from unseen.types import FaceRecord, FaceSample, InputError

__all__ = ["Seen", "Target", "bring_back", "look"]

Target = Literal["label", "fake", "predicted"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What the zoo saw in one crop.

    Args:
        size: (height, width) of the crop.
        window: x0, y0, x1, y1 in whole pixels of the crop: all that any detector saw.
        maps: One a detector, divided by its maximum.
        places: Maps a point of the crop into each detector's view, the unit square.

    Shape:
        maps: T times (h, w) float16. places: (T, 2, 3) float32.
    """

    size: tuple[int, int]
    window: tuple[int, int, int, int]
    maps: tuple[NDArray[np.float16], ...]
    places: NDArray[np.float32]


_Good = tuple[
    int, tuple[int, int], tuple[int, int, int, int], NDArray[np.float32]
]  # row, size, window, places
_Batch = tuple[list[Tensor], Tensor | None, list[_Good], dict[int, str]]


class _Views(Dataset[_Batch]):
    """An item is a list of rows: one batch of pictures a detector, and what could not be used."""

    def __init__(self, records: Sequence[FaceRecord], runs: Sequence[Run], target: Target) -> None:
        self.records, self.target = records, target
        self.transforms = [run.transforms for run in runs]
        self.sizes = [run.detector.image_size for run in runs]

    def __getitem__(self, rows: Sequence[int]) -> _Batch:
        views: list[list[FaceSample]] = [[] for _ in self.transforms]
        labels: list[int] = []
        good: list[_Good] = []
        bad: dict[int, str] = {}
        for row in rows:
            try:
                crop, seen, places = self._views(self.records[row])
                size = (crop.image.shape[0], crop.image.shape[1])
                good.append((row, size, _window(places, size, crop.record.path), places))
            except InputError as error:
                bad[row] = str(error)
                continue
            labels.append(-1 if crop.label is None else int(crop.label))
            for view, one in zip(views, seen, strict=True):
                view.append(one)
        if not good:
            return [], None, [], bad
        return [collate([one] for one in view).image for view in views], torch.tensor(labels), good, bad

    def _views(self, record: FaceRecord) -> tuple[FaceSample, list[FaceSample], NDArray[np.float32]]:
        """Return the crop, it as each detector takes it, and the ways there."""
        sample = read_crop(record)
        if self.target == "label" and sample.label is None:
            raise InputError(
                f"{record.path}: no label, which says for what its maps speak; expected 0 or 1, or --target "
                "predicted",
                reason="no_label",
            )
        seen, places = [], []
        for transforms, size in zip(self.transforms, self.sizes, strict=True):
            view = sample
            for transform in transforms:
                view = transform(view, np.random.default_rng(0))
            seen.append(view)
            places.append(_place(sample, view, size))
        return sample, seen, np.stack(places)


def _place(crop: FaceSample, view: FaceSample, size: int) -> NDArray[np.float32]:
    """Return the affine map from the crop's pixels to the unit square that a detector saw. Shape: (2, 3)."""
    where = crop.record.path
    if view.image.shape[:2] != (size, size):
        raise InputError(
            f"{where}: a detector's transforms give {view.image.shape[:2]} pixels; expected {size} x {size}, "
            "as AlignFace makes them"
        )
    if crop.landmarks is None or view.landmarks is None:
        if view.image.shape != crop.image.shape:
            raise InputError(
                f"{where}: no landmarks, which say where a detector's view lies; run `unseen prepare`",
                reason="no_landmarks",
            )
        matrix = np.eye(2, 3)
    else:
        try:
            matrix = fit_affine(crop.landmarks, view.landmarks)
        except ValueError as error:
            raise InputError(f"{where}: landmarks: {error}", reason="bad_landmarks") from error
    # Whole numbers are the centres of pixels: the view is [-0.5, size - 0.5].
    return np.asarray((matrix + np.array([0, 0, 0.5])) / size, np.float32)


def _window(places: NDArray[np.float32], size: tuple[int, int], where: str) -> tuple[int, int, int, int]:
    """Return the smallest rectangle of whole pixels around all views, cut at the crop's border."""
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float64)
    # From centres of pixels to edges: + 0.5.
    ways = [np.linalg.inv(place[:, :2]).T for place in places.astype(np.float64)]
    points = np.concatenate([(corners - b) @ way + 0.5 for b, way in zip(places[..., 2], ways, strict=True)])
    x0, y0 = (int(v) for v in np.clip(np.floor(points.min(0) + 1e-3), 0, None))
    x1, y1 = (int(v) for v in np.minimum(np.ceil(points.max(0) - 1e-3), [size[1], size[0]]))
    if x1 <= x0 or y1 <= y0:
        raise InputError(
            f"{where}: no detector sees any of the crop; check its landmarks", reason="bad_landmarks"
        )
    return x0, y0, x1, y1


def look(
    runs: Sequence[Run],
    records: Sequence[FaceRecord],
    *,
    target: Target = "label",
    batch_size: int = 16,
    workers: int = 0,
    device: torch.device,
    precision: torch.dtype = torch.float32,
) -> Iterator[list[tuple[int, Seen | str]]]:
    """Yield batches of rows, each with what was seen in it, or why nothing could be.

    Args:
        runs: Trained detectors.
        records: What to look at.
        target: For which class places speak: the face's own label (the paper does not say), fake, or the
            detector's own verdict.
        batch_size: Faces at a time.
        workers: Processes that read and align.
        device: Where the detectors run.
        precision: `torch.bfloat16` is faster on most hardware.
    """
    zoo = [_lean(run.detector, device) for run in runs]
    loader: DataLoader[Any] = DataLoader(
        _Views(records, runs, target),
        batch_size=None,
        sampler=[range(i, min(i + batch_size, len(records))) for i in range(0, len(records), batch_size)],
        num_workers=workers,
        worker_init_fn=start_worker if workers else None,
        collate_fn=_untouched,
        generator=torch.Generator().manual_seed(0),
    )
    for views, labels, good, bad in loader:
        found: list[tuple[int, Seen | str]] = list(bad.items())
        if good:
            maps = [
                _maps(detector, view, labels if target == "label" else target, device, precision)
                for detector, view in zip(zoo, views, strict=True)
            ]
            found += [
                (row, Seen(size, window, tuple(m[i] for m in maps), places))
                for i, (row, size, window, places) in enumerate(good)
            ]
        yield sorted(found, key=lambda item: item[0])


def _lean(detector: Detector, device: torch.device) -> Detector:
    """Return a copy that says the same sooner: norms folded, in the layout that convolutions like."""
    detector = copy.deepcopy(detector).to(device).eval()
    lean = Detector(fold_norms(detector.backbone), detector.head, [*detector.parts])
    return lean.to(memory_format=torch.channels_last)


def _maps(
    detector: Detector, view: Tensor, target: Any, device: torch.device, precision: torch.dtype
) -> NDArray[np.float16]:
    """Return the maps of a batch, (B, h, w)."""
    image = view.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last).float().div_(255)
    if isinstance(target, Tensor):
        target = target.to(device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        maps = class_activation_map(detector, image, target=target)
    return np.asarray(maps.cpu().numpy(), np.float16)


def _untouched(item: Any) -> Any:
    return item


def bring_back(seen: Sequence[Any], size: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Bring native maps to the crop: each window as `size` x `size` pixels, bilinear between the maps' cells.

    Beyond what a detector saw its map goes on as at the edge. A step down to 0 there would be a difference
    between neighbours (eq. 7) that no detector saw, and would draw the edge of a turned view as a region.

    Args:
        seen: Rows with `window`, `maps` and `places`, such as `Seen` or `FaceRegions`, of one zoo.
        size: Side of the result.
        device: Where to compute.

    Shape:
        N rows of T maps -> maps (N, T, size, size) float32, and where at least one detector saw the crop
        (N, size, size) bool.
    """
    window = torch.tensor([row.window for row in seen], dtype=torch.float64)  # (N, 4)
    places = torch.from_numpy(np.stack([row.places for row in seen])).double()  # (N, T, 2, 3)
    # From the result's own [-1, 1] to the crop's pixels to a view's [-1, 1].
    half = (window[:, 2:] - window[:, :2]) / 2
    middle = (window[:, 2:] + window[:, :2]) / 2 - 0.5
    turn = 2 * places[..., :2] * half[:, None, None]  # (N, T, 2, 2)
    shift = 2 * (places[..., :2] @ middle[:, None, :, None] + places[..., 2:]) - 1  # (N, T, 2, 1)
    matrices = torch.cat([turn, shift], 3).float().to(device)
    found, inside = [], torch.zeros(len(seen), size, size, dtype=torch.bool, device=device)
    for t in range(matrices.shape[1]):
        maps = torch.from_numpy(np.stack([np.asarray(row.maps[t], np.float32) for row in seen])).to(device)
        grid = functional.affine_grid(matrices[:, t], [len(seen), 1, size, size], align_corners=False)
        there = functional.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
        found.append(there)
        inside |= grid.abs().amax(3) <= 1
    return torch.stack(found, 1), inside
