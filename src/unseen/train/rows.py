"""Which rows of the manifest are learned from and which are validated on, and what is wrong with them."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from unseen.data.batched import movable
from unseen.data.changes import Photometric
from unseen.data.manifest import Manifest, rows_of
from unseen.data.transforms import AlignFace, Transform
from unseen.recipe import DataSettings
from unseen.types import FaceRecord, InputError, Label

__all__ = ["check_sizes", "fixed", "made", "places", "read_rows", "worker_count"]

log = logging.getLogger("unseen.train")


def read_rows(data: DataSettings, origin: str) -> tuple[list[FaceRecord], list[FaceRecord]]:
    """Return training and validation rows, having made sure that no test person is among them."""
    if data.manifest is None:
        raise InputError(f"{origin}: `data.manifest` is missing; override it: data.manifest=faces.parquet")
    for name, split in (("train_split", data.train_split), ("val_split", data.val_split)):
        if split is not None and split.strip().lower().startswith("test"):
            raise InputError(
                f"{origin}: data.{name} is {split!r}; test people judge the finished detector only: "
                "nothing is learned from them, and they choose no epoch and no threshold"
            )
    rows = _known(Manifest.read(data.manifest).records(), data)
    training = rows_of(rows, data.train_split, str(data.manifest))
    try:
        validation = [] if data.val_split is None else rows_of(rows, data.val_split, str(data.manifest))
    except InputError as error:
        mend = "; make one with Manifest.split, or train without validation and calibration: "
        raise InputError(f"{error}{mend}`data: {{val_split: null}}`", reason="empty") from None
    for row in training + validation:
        if row.label is None:
            raise InputError(f"{data.manifest}: {row.path} has no label; expected 0 (real) or 1 (fake)")
    seen = {r.path for r in training}
    both = [r.path for r in validation if r.path in seen]
    if both:
        raise InputError(
            f"{data.manifest}: {len(both)} crops are in training and validation alike, such as {both[0]}"
        )
    people = {(r.dataset, r.identity) for r in training if r.identity}
    shared = sorted({str(r.identity) for r in validation if (r.dataset, r.identity) in people})
    if shared:
        log.warning(
            "%d people are in training and validation alike, such as %s: validation will look too good",
            len(shared),
            shared[0],
        )
    if data.val_limit is not None and len(validation) > data.val_limit:
        validation = [validation[i * len(validation) // data.val_limit] for i in range(data.val_limit)]
    return training, validation


def _known(rows: list[FaceRecord], data: DataSettings) -> list[FaceRecord]:
    """Leave out the fakes of methods that are to stay unseen."""
    if data.methods is None:
        return rows
    there = {r.method for r in rows if r.label == Label.FAKE}
    missing = sorted(set(data.methods) - there)
    if missing:
        raise InputError(
            f"{data.manifest}: no fakes of method {', '.join(missing)}; there are: "
            f"{', '.join(sorted(map(str, there))) or 'none'}",
            reason="unknown_method",
        )
    return [r for r in rows if r.label != Label.FAKE or r.method in data.methods]


def check_sizes(data: DataSettings, size: int, origin: str) -> None:
    """A convolutional network would take any size, and quietly learn at another one than was meant."""
    aligns = (align for t in data.transforms for align in (t, getattr(t, "align", None)))
    sizes = [align.size for align in aligns if isinstance(align, AlignFace)]
    if sizes and sizes[-1] != size:
        raise InputError(
            f"{origin}: AlignFace makes pictures of {sizes[-1]} pixels, the network takes "
            f"{size}; give both the same"
        )


def made(data: DataSettings) -> list[str]:
    """Return the methods of the fakes that are made while training."""
    synthesise = getattr(data.sampler, "synthesise", None)
    return [] if synthesise is None else [synthesise.method]


def worker_count(data: DataSettings) -> int:
    """Return how many processes read pictures."""
    return min(os.cpu_count() or 1, 8) if data.workers is None else data.workers


def fixed(transforms: Sequence[Transform]) -> bool:
    """Say whether training sees the very pictures that validation would: nothing is drawn."""
    return all(
        not (t.margins or t.shift or t.zoom or t.rotation) if isinstance(t, AlignFace) else not t.augment
        for t in transforms
    )


def places(transforms: Sequence[Transform]) -> str:
    """Return a sentence on which transforms `data.photometric: device` moves, and which it cannot."""
    here = transforms[: len(transforms) - movable(transforms)]
    moved = [type(t).__name__ for t in transforms[len(here) :]]
    stay = [type(t).__name__ for t in here if isinstance(t, Photometric)]
    last = type(here[-1]).__name__ if here else ""
    said = f"on the device: {', '.join(moved)}" if moved else "nothing is done on the device"
    if stay:
        return f"data.photometric: {said}; on the processor, since {last} comes later: {', '.join(stay)}"
    if not moved and here:
        return f"data.photometric: {said}; the last transform, {last}, belongs to the processor"
    return f"data.photometric: {said}"
