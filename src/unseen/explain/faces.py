"""What a frozen detector knows and says of many faces: its features and its scores, row by row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unseen.types import FaceRecord, FaceSample, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from unseen.data.transforms import Transform
    from unseen.models.detector import Detector

__all__ = ["FaceFeatures", "evenly", "face_batches", "face_features"]

Report = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FaceFeatures:
    """Features and scores of faces, in the order of the records.

    Args:
        vector: What the head reads: the input of its last linear layer.
        score: Log-odds of fake.
        records: The faces that could be used.
        missing: Path and reason of those that could not.

    Shape:
        vector: (N, D) float32. score: (N,) float64.
    """

    vector: NDArray[np.float32]
    score: NDArray[np.float64]
    records: tuple[FaceRecord, ...]
    missing: tuple[tuple[str, str], ...] = ()

    def where(self, keep: Sequence[bool] | NDArray[np.bool_]) -> FaceFeatures:
        """Return some of the rows. Shape: keep (N,)."""
        chosen = np.flatnonzero(np.asarray(keep, bool))
        rows = tuple(self.records[i] for i in chosen)
        return FaceFeatures(self.vector[chosen], self.score[chosen], rows, self.missing)


def evenly(records: Sequence[FaceRecord], limit: int | None) -> list[FaceRecord]:
    """Return at most `limit` records, evenly spread over the rows of each kind: data set, label, method.

    Kinds get equally many rows as long as they have some, so that a rare one is not lost; the order stays.

    >>> rows = [FaceRecord(f"{i}", method="a" if i < 8 else "b") for i in range(10)]
    >>> [r.path for r in evenly(rows, 4)]
    ['0', '4', '8', '9']
    """
    if limit is None or limit >= len(records):
        return list(records)
    groups: dict[tuple[str, str, str], list[int]] = {}
    for place, record in enumerate(records):
        groups.setdefault((record.dataset, str(record.label), record.method or ""), []).append(place)
    room = dict.fromkeys(groups, 0)
    while sum(room.values()) < limit:
        able = [key for key in groups if room[key] < len(groups[key])]
        # The kind with the fewest chosen takes the next; the first of them on a tie.
        room[min(able, key=lambda key: room[key])] += 1
    chosen: list[int] = []
    for key, places in groups.items():
        chosen += [places[i * len(places) // room[key]] for i in range(room[key])]
    return [records[place] for place in sorted(chosen)]


def face_batches(
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform],
    *,
    batch_size: int = 32,
    missing: list[tuple[str, str]] | None = None,
) -> Iterator[tuple[Tensor, list[FaceSample]]]:
    """Yield pictures as a detector takes them, with their samples; a face that cannot be used is left out.

    Args:
        records: The faces.
        transforms: The recipe's; only what is deterministic is applied.
        batch_size: Faces at a time.
        missing: Gets path and reason of those that are left out; they are logged as well.

    Shape:
        (B, 3, H, W) float32 in [0, 1].
    """
    from unseen.data.dataset import FaceDataset, collate

    faces = FaceDataset(records, transforms, training=False)
    for start in range(0, len(faces), batch_size):
        samples = []
        for index in range(start, min(start + batch_size, len(faces))):
            try:
                samples.append(faces.load(index))
            except InputError as error:
                log.warning("left out: %s", error)
                if missing is not None:
                    missing.append((records[index].path, str(error)))
        if samples:
            yield collate([[sample] for sample in samples]).image.float().div_(255), samples


def face_features(
    detector: Detector,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    batch_size: int = 32,
    report: Report | None = None,
) -> FaceFeatures:
    """Return what the head of a detector reads and says of every face.

    Args:
        detector: It stays where it is, and each module keeps its mode.
        records: The faces; labels are not needed.
        transforms: The recipe's.
        batch_size: Faces at a time.
        report: Called with (faces done, faces in all).

    Raises:
        InputError: None of the faces can be used.
    """
    import torch

    from unseen.explain.gradcam import resting

    device = next(detector.parameters()).device
    vectors, scores, rows = [], [], []
    missing: list[tuple[str, str]] = []
    with resting(detector), torch.inference_mode():
        for image, samples in face_batches(records, transforms, batch_size=batch_size, missing=missing):
            output = detector(image.to(device))
            vectors.append(output.features.vector.float().cpu().numpy())
            scores.append(output.score.double().cpu().numpy())
            rows += [sample.record for sample in samples]
            if report is not None:
                report(len(rows) + len(missing), len(records))
    if not rows:
        why = f", such as {missing[0][1]}" if missing else ""
        raise InputError(f"none of {len(records)} faces can be used{why}", reason="empty")
    return FaceFeatures(np.concatenate(vectors), np.concatenate(scores), tuple(rows), tuple(missing))
