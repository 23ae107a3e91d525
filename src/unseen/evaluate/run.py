"""From a detector and records to a score table: every crop is scored once, in constant memory."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from unseen.data.dataset import FaceDataset, collate
from unseen.data.memory import keep_memory
from unseen.data.residuals import ResidualStore
from unseen.data.transforms import Transform
from unseen.data.workers import start_worker
from unseen.evaluate.scores import ScoreTable
from unseen.evaluate.summary import summary, to_json, to_markdown
from unseen.evaluate.writing import ScoreWriter
from unseen.models.detector import Detector
from unseen.models.device import device_of
from unseen.types import FaceBatch, FaceRecord, FaceSample, InputError

__all__ = [
    "Elsewhere",
    "Report",
    "Scored",
    "fingerprint",
    "score_records",
    "score_some",
    "summary",
    "to_json",
    "to_markdown",
]

Report = Callable[[int, float], None]
Precision = Literal["float32", "bfloat16"]
Scored = tuple[float | None, str | None]  # a score, or why there is none
Elsewhere = Callable[[Sequence[list[FaceRecord]]], Iterable[tuple[int, list[Scored]]]]


class _Chunks(Dataset[tuple[FaceBatch | None, list[int], dict[int, str]]]):
    """A data set whose item is a list of indices: their pictures, and why some have none."""

    def __init__(self, faces: FaceDataset, residuals: ResidualStore | None) -> None:
        self.faces, self.residuals = faces, residuals

    def __getitem__(self, indices: Sequence[int]) -> tuple[FaceBatch | None, list[int], dict[int, str]]:
        samples: list[FaceSample] = []
        good: list[int] = []
        bad: dict[int, str] = {}
        for index in indices:
            try:
                samples.append(self.faces.load(index))
                good.append(index)
            except InputError as error:
                bad[index] = str(error)
        if not samples:
            return None, good, bad
        batch = collate([s] for s in samples)
        if self.residuals is not None:
            found = self.residuals.of(batch.image.numpy(), [s.record.path for s in samples])
            batch.residual = torch.from_numpy(found)
        return batch, good, bad


def fingerprint(records: Sequence[FaceRecord]) -> str:
    """Return 16 hex digits that change with the rows or their order, but not with the folder they lie in."""
    digest = hashlib.sha256()
    for r in records:
        label = None if r.label is None else int(r.label)
        row = [Path(r.path).name, r.dataset, r.video, r.frame, r.method, r.split, r.identity, label]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()[:16]


def score_records(
    detector: nn.Module,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    out: Path | str | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
    report: Report | None = None,
    card: Mapping[str, Any] | None = None,
    elsewhere: Elsewhere | None = None,
    residuals: ResidualStore | None = None,
) -> ScoreTable:
    """Score every record once, in order.

    A crop that cannot be read or aligned becomes a row with a status and a reason; it is never given a label,
    a neighbour's score, or left out in silence. A score that is not finite becomes a row of status
    `not_finite`.

    Args:
        detector: Called on (B, 3, H, W) float RGB in [0, 1]; its `Output.score` is the log-odds of fake. It
            is moved to the device; each module gets back the mode (training or not) it came in.
        records: Manifest rows; a label is not needed.
        transforms: The recipe's; only what is deterministic is applied.
        out: The Parquet file to write; None keeps the table in memory.
        batch_size: Faces at a time. Scores do not depend on it beyond rounding.
        workers: Processes that read and align; 0 does so in this one.
        device: Where the detector runs; `auto` takes a CUDA device if there is one.
        precision: `bfloat16` is faster on most hardware and moves scores a little.
        report: Called after each batch with faces done and faces a second.
        card: What to keep beside the scores: model, recipe, checkpoint rule.
        elsewhere: Scores lists of `batch_size` records by `score_some` on other machines, in any order.
        residuals: Where the residual of each aligned picture lies (`unseen prepare residuals`), for a
            detector on a `ResidualBackbone`, which then paints nothing. Scores differ by their rounding.

    Returns:
        The table; its card says what made it.

    Raises:
        InputError: No records, pictures of different sizes in a batch, every row lacks what a transform
            needs, or the residuals were made by another inpainter or lack a picture.
    """
    if residuals is not None:
        residuals.check_network(detector, "residuals")
    if not records:
        raise InputError("no records to score; does `where` or `--split` leave any?", reason="empty")
    keep_memory()
    card = {
        "rows_hash": fingerprint(records),
        "transforms": [type(t).__name__ for t in transforms],
        "aggregation": "mean",
        "precision": precision,
        **({"residuals": f"stored as {residuals.header['dtype']}"} if residuals is not None else {}),
        **(card or {}),
    }
    if elsewhere is not None:
        rows = _rows_elsewhere(records, transforms, batch_size, elsewhere, report)
    else:
        faces = FaceDataset(records, transforms, training=False)
        chunks = _Chunks(faces, residuals)
        rows = _rows(detector, chunks, batch_size, workers, device_of(device), precision, report)
    if out is not None:
        with ScoreWriter(out, card=card) as writer:
            for record, score, status, reason in rows:
                writer.add(record, score, status=status, reason=reason)
        return ScoreTable.read(out)
    return ScoreTable.from_rows(rows, card=card)


def score_some(
    detector: nn.Module,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    device: str | torch.device = "auto",
    precision: Precision = "float32",
    residuals: ResidualStore | None = None,
) -> list[Scored]:
    """Score one batch of a larger table: a score, or why there is none, for each record.

    What all rows lack is found by whoever has all of them; here each row says for itself what it lacks.
    """
    chunks = _Chunks(FaceDataset(records, transforms, training=False, check=False), residuals)
    rows = _rows(detector, chunks, len(records), 0, device_of(device), precision, None)
    return [(score, reason) for _, score, _, reason in rows]


def _rows_elsewhere(
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform],
    batch_size: int,
    elsewhere: Elsewhere,
    report: Report | None,
) -> Iterator[tuple[FaceRecord, float | None, str | None, str | None]]:
    """Yield the rows of batches that come back in any order; a batch waits for those before it."""
    FaceDataset(records, transforms, training=False)  # says now what all rows lack
    lists = [list(records[i : i + batch_size]) for i in range(0, len(records), batch_size)]
    back: dict[int, list[Scored]] = {}
    turn, done, start = 0, 0, time.perf_counter()
    for number, scored in elsewhere(lists):
        back[number] = scored
        done += len(scored)
        if report is not None:
            report(done, done / max(time.perf_counter() - start, 1e-9))
        while turn in back:
            for record, (score, reason) in zip(lists[turn], back.pop(turn), strict=True):
                yield record, score, None, reason
            turn += 1


def _rows(
    detector: nn.Module,
    pieces: _Chunks,
    batch_size: int,
    workers: int,
    device: torch.device,
    precision: Precision,
    report: Report | None,
) -> Iterator[tuple[FaceRecord, float | None, str | None, str | None]]:
    """Yield each record with its score, or with a status and a reason."""
    records = pieces.faces.records
    chunks = [range(i, min(i + batch_size, len(records))) for i in range(0, len(records), batch_size)]
    loader: DataLoader[Any] = DataLoader(
        pieces,
        batch_size=None,
        sampler=chunks,
        num_workers=workers,
        worker_init_fn=start_worker if workers else None,
        pin_memory=device.type == "cuda",
        collate_fn=_untouched,
        # Its own generator: scoring in the middle of a training run must not move that run's random numbers.
        generator=torch.Generator().manual_seed(0),
    )
    modes = [(module, module.training) for module in detector.modules()]
    detector.to(device).eval()
    start, done = time.perf_counter(), 0
    try:
        for chunk, (batch, good, bad) in zip(chunks, loader, strict=True):
            scores = (
                {}
                if batch is None
                else dict(zip(good, _score(detector, batch, device, precision), strict=True))
            )
            for index in chunk:
                # No status is needed: a row without a score is `unreadable`.
                yield records[index], scores.get(index), None, bad.get(index)
            done += len(chunk)
            if report is not None:
                report(done, done / max(time.perf_counter() - start, 1e-9))
    finally:
        for module, mode in modes:  # a frozen part of a network in training stays frozen
            module.training = mode


def _untouched(item: Any) -> Any:
    return item


def _score(detector: nn.Module, batch: FaceBatch, device: torch.device, precision: Precision) -> list[float]:
    """Return the log-odds of a batch."""
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        # The layout that convolutions prefer, whatever the layout of their weights.
        image = batch.image.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        image = image.float().div_(255)
        if batch.residual is None:
            score: Tensor = detector(image).score
        else:
            assert isinstance(detector, Detector)  # or `check_network` would have refused
            score = detector.output(replace(batch, image=image, residual=batch.residual.to(device))).score
    return [float(s) for s in score.float().cpu().tolist()]
