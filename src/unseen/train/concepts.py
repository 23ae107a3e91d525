"""What each concept of real faces looks like: the training faces nearest to each prototype of a memory."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unseen.data.dataset import FaceDataset
from unseen.data.samplers import Draw
from unseen.explain.draw import encode_jpeg, shrink
from unseen.methods.realid import RealMemory, real_concepts
from unseen.models.detector import Detector
from unseen.recipe import DataSettings
from unseen.train.loaders import FaceBatches, make_loader
from unseen.types import FaceRecord, Label

__all__ = ["describe_concepts"]

FACES = 2000  # real training faces that are compared, spread evenly over the rows
NEAREST = 4  # of them kept a concept
SIDE = 96  # pixels of their pictures
FORMAT = 1


def describe_concepts(
    detector: Detector,
    data: DataSettings,
    records: Sequence[FaceRecord],
    *,
    device: torch.device,
    workers: int = 0,
    pictures: bool = True,
) -> dict[str, Any] | None:
    """Find the real training faces that look most like each real prototype, for `concepts.json` of a run.

    Of one person only the nearest face counts: frames of one video would explain nothing.

    Args:
        detector: Moved to `device` and back.
        data: Its evaluation transforms bring faces to the detector, as they will when it is used.
        records: The training rows, real and fake.
        device: Where it is worked out.
        workers: Processes that read pictures.
        pictures: Keep small pictures of the nearest faces; False keeps their paths only.

    Returns:
        `faces`, how many were compared; `usual`, the similarity to their nearest prototype that 95 % and half
        of them reach; and for each prototype, numbered from 1, its `share` of the faces and the `nearest`
        with path, similarity and picture (JPEG, base64). None without a memory or without a usable face.
    """
    if not any(isinstance(part, RealMemory) for part in detector.parts):
        return None
    real = [record for record in records if record.label == Label.REAL]
    real = [real[i * len(real) // FACES] for i in range(FACES)] if len(real) > FACES else real
    faces = FaceDataset(real, data.transforms, training=False)
    seen, similar = _compare(detector, faces, device, data.val_batch, workers)
    if not seen:
        return None
    best = similar.argmax(1)  # (N,)
    top = similar.max(1)
    # Paths below the manifest's folder say nothing of the machine; of others only the name is kept.
    root = Path(data.manifest or "").resolve().parent
    places = {record.path: number for number, record in enumerate(real)}

    def example(row: int, concept: int) -> dict[str, Any]:
        path = Path(seen[row].path).resolve()
        kept: dict[str, Any] = {
            "path": path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name,
            "similarity": round(float(similar[row, concept]), 4),
        }
        if pictures:
            small = shrink(faces.load(places[seen[row].path]).image, SIDE)
            kept["picture"] = base64.b64encode(encode_jpeg(small, quality=80)).decode("ascii")
        return kept

    return {
        "format": FORMAT,
        "faces": len(seen),
        "usual": [round(float(value), 4) for value in np.quantile(top, [0.05, 0.5])],
        "concepts": [
            {
                "number": concept + 1,
                "share": round(float(np.mean(best == concept)), 4),
                "nearest": [example(row, concept) for row in _nearest(similar[:, concept], seen)],
            }
            for concept in range(similar.shape[1])
        ],
    }


@torch.inference_mode()
def _compare(
    detector: Detector, faces: FaceDataset, device: torch.device, batch_size: int, workers: int
) -> tuple[list[FaceRecord], NDArray[np.float32]]:
    """Return the faces that can be used and their similarity to each prototype, (N, K)."""
    draws = [Draw(i, 0, i) for i in range(len(faces))]
    lists = [draws[start : start + batch_size] for start in range(0, len(draws), batch_size)]
    was_training, home = detector.training, next(detector.parameters()).device
    detector.eval().to(device)
    seen: list[FaceRecord] = []
    rows: list[NDArray[np.float32]] = []
    try:
        for batch in make_loader(FaceBatches(faces), lists, workers=workers):
            if batch is not None:
                found = real_concepts(detector, detector(batch.to(device).image))
                assert found is not None  # the caller has seen the memory
                rows.append(found.float().cpu().numpy())
                seen += batch.records
    finally:
        detector.to(home).train(was_training)
    return seen, np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def _nearest(similar: NDArray[np.float32], seen: Sequence[FaceRecord]) -> list[int]:
    """Return the rows of the most similar faces, one a person, or one a video where people are not named."""
    chosen: list[int] = []
    known: set[tuple[str, str]] = set()
    for row in np.argsort(-similar, kind="stable").tolist():
        record = seen[row]
        person = (record.dataset, record.identity or record.video or record.path)
        if person not in known:
            known.add(person)
            chosen.append(row)
        if len(chosen) == NEAREST:
            break
    return chosen
