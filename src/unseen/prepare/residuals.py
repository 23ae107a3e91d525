"""Residuals of a manifest's faces, computed once by a frozen inpainter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unseen.data.residuals import ResidualWriter, picture_key
from unseen.types import FaceRecord, InputError

if TYPE_CHECKING:
    from unseen.data.transforms import Transform
    from unseen.models.inpainter import FaceInpainter

__all__ = ["Stored", "prepare_residuals"]


@dataclass(frozen=True)
class Stored:
    """What was done: new residuals, those that were there before, and rows without, by reason."""

    made: int
    before: int
    dropped: dict[str, int] = field(default_factory=dict)


class _Pictures:
    """A data set whose item is a range of rows: their aligned pictures, and why some have none."""

    def __init__(self, records: Sequence[FaceRecord], transforms: Sequence[Transform]) -> None:
        from unseen.data.dataset import FaceDataset

        self.faces = FaceDataset(records, transforms, training=False)

    def __getitem__(self, rows: Sequence[int]) -> tuple[list[NDArray[np.uint8]], list[str]]:
        pictures, reasons = [], []
        for row in rows:
            try:
                pictures.append(np.ascontiguousarray(self.faces.load(row).image.transpose(2, 0, 1)))
            except InputError as error:
                reasons.append(error.reason)
        return pictures, reasons


def prepare_residuals(
    inpainter: FaceInpainter,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform],
    out: Path | str,
    *,
    blocks: int = 4,
    gain: float = 4.0,
    clamp: bool = True,
    passes: Literal["exact", "grouped"] = "exact",
    dtype: Literal["int8", "float16"] = "int8",
    batch_size: int = 8,
    workers: int = 0,
    device: str = "auto",
    report: Callable[[int, int], None] | None = None,
) -> Stored:
    """Write the residuals of all blocks of every face; those that are there already are not made again.

    Args:
        inpainter: Trained; it is moved to the device.
        records: The faces.
        transforms: Those of the detector's recipe; only what is deterministic is applied.
        out: Folder of the store.
        blocks: As the detector's, like the next three.
        gain: See `ResidualBackbone`.
        clamp: See `ResidualBackbone`.
        passes: See `ResidualBackbone`.
        dtype: How they are stored.
        batch_size: Faces at a time.
        workers: Processes that read and align.
        device: `auto` takes a CUDA device if there is one.
        report: Called with faces done and in all.

    Raises:
        InputError: There are no records, or the folder holds residuals that were made otherwise.
    """
    import torch
    from torch.utils.data import DataLoader

    from unseen.data.workers import start_worker
    from unseen.models.device import device_of

    if not records:
        raise InputError("no rows to make residuals of; does --split leave any?", reason="empty")
    writer = ResidualWriter(
        out,
        {
            "residual": "autoencoder" if inpainter.mask == "none" else "inpainter",
            "inpainter": inpainter.digest(),
            "image_size": inpainter.image_size,
            "blocks": blocks,
            "gain": gain,
            "clamp": clamp,
            "passes": passes,
        },
        frame=inpainter.patch,
        dtype=dtype,
    )
    before, dropped = len(writer.known), Counter[str]()
    inpainter.to(device_of(device)).eval()
    chunks = [range(i, min(i + batch_size, len(records))) for i in range(0, len(records), batch_size)]
    loader: Any = DataLoader(
        _Pictures(records, transforms),  # type: ignore[arg-type]  # an item a chunk is all that it must have
        batch_size=None,
        sampler=chunks,
        num_workers=workers,
        worker_init_fn=start_worker if workers else None,
        collate_fn=_untouched,
    )
    done = 0
    try:
        for chunk, (pictures, reasons) in zip(chunks, loader, strict=True):
            dropped.update(reasons)
            keys = [picture_key(picture) for picture in pictures]
            new = {k: p for k, p in zip(keys, pictures, strict=True) if k not in writer.known}
            if new:
                images = torch.from_numpy(np.stack(list(new.values()))).to(
                    next(inpainter.parameters()).device
                )
                found = inpainter.residual(images, None, gain, clamp=clamp, side=blocks, passes=passes)
                for key, residual in zip(new, found.cpu().numpy(), strict=True):
                    writer.add(key, residual)
            done += len(chunk)
            if report is not None:
                report(done, len(records))
    finally:
        writer.flush()  # what an interrupted run has made is kept
    return Stored(len(writer.known) - before, before, dict(dropped))


def _untouched(item: Any) -> Any:
    return item
