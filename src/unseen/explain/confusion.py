"""Which forgery method a network takes for which: a matrix, and its picture (Yang et al., DID, Figure 4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unseen.data.domains import forgery_methods
from unseen.types import FaceRecord, InputError, Label

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from unseen.data.transforms import Transform
    from unseen.models.detector import Detector

__all__ = ["Confusion", "ToldDomains", "domain_confusion", "domain_part", "draw_confusion"]

log = logging.getLogger(__name__)


@runtime_checkable
class ToldDomains(Protocol):
    """A part that can say which domain a face is of, such as `unseen.methods.did.Decomposition`."""

    domains: int

    def domain_logits(self, aux: Any) -> Tensor:
        """Return the logits of domains, (B, domains), from what the part's `forward` left."""
        ...


@dataclass(frozen=True, eq=False)
class Confusion:
    """How many faces of each kind were taken for each kind.

    Args:
        rows: What the faces are: `real`, the methods that were learned, then those that were not.
        columns: What they were taken for: `real`, the methods that were learned.
        counts: Faces.

    Shape:
        counts: (len(rows), len(columns)) int64.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: NDArray[np.int64]

    def shares(self) -> NDArray[np.float64]:
        """Return each row divided by its sum; a row without faces is NaN. Shape: that of `counts`."""
        total = self.counts.sum(1, keepdims=True)
        return np.where(total > 0, self.counts / np.maximum(total, 1), np.nan)

    def accuracy(self) -> float:
        """Return the mean, over the learned domains that have faces, of the share that is recognised."""
        known = self.shares()[: len(self.columns)]
        right = np.array([known[i, i] for i in range(len(known)) if np.isfinite(known[i, i])])
        return float(right.mean()) if right.size else float("nan")


def domain_part(detector: Detector) -> tuple[int, ToldDomains]:
    """Return which of a detector's parts tells domains, and the part.

    Raises:
        InputError: None does.
    """
    for place, part in enumerate(detector.parts):
        if isinstance(part, ToldDomains):
            return place, part
    raise InputError(
        "no part of this detector tells domains, which forgery method made a face; expected a Decomposition "
        "(recipes `did_*`)"
    )


def domain_confusion(
    detector: Detector,
    records: Sequence[FaceRecord],
    transforms: Sequence[Transform] = (),
    *,
    methods: Sequence[str] | None = None,
    batch_size: int = 32,
) -> Confusion:
    """Ask a detector for the domain of every face.

    A face that cannot be read or aligned is left out, and logged.

    Args:
        detector: One of its parts tells domains; it stays where it is, and each module keeps its mode.
        records: Labelled rows with `method`; methods that were not learned get rows of their own.
        transforms: The recipe's; only what is deterministic is applied.
        methods: The forgery methods that were learned, in any order; None takes those of `records`.
        batch_size: Faces at a time.

    Raises:
        InputError: No part tells domains, it knows fewer than `methods`, or no face can be used.
    """
    import torch

    from unseen.data.dataset import FaceDataset, collate
    from unseen.explain.gradcam import resting

    place, part = domain_part(detector)
    there = forgery_methods(records)
    learned = sorted(there if methods is None else methods)
    if len(learned) >= part.domains:
        raise InputError(
            f"domain_confusion: the detector tells {part.domains - 1} methods, not {len(learned)} "
            f"({', '.join(learned)}); give `methods`, those that it was trained on"
        )
    # Outputs that no method of the training used have no name, and should never be taken.
    columns = ["real", *learned, *(f"(unused {i})" for i in range(len(learned) + 1, part.domains))]
    rows = [*columns, *(name for name in there if name not in learned)]
    counts = np.zeros((len(rows), len(columns)), np.int64)
    labelled = [record for record in records if record.label is not None]
    faces = FaceDataset(labelled, transforms, training=False)
    device = next(detector.parameters()).device
    with resting(detector), torch.inference_mode():
        for start in range(0, len(labelled), batch_size):
            samples = []
            for index in range(start, min(start + batch_size, len(labelled))):
                try:
                    samples.append(faces.load(index))
                except InputError as error:
                    log.warning("left out of the confusion matrix: %s", error)
            if not samples:
                continue
            batch = collate([[sample] for sample in samples]).to(device)
            taken = part.domain_logits(detector(batch.image).aux[place]).argmax(1).tolist()
            for sample, column in zip(samples, taken, strict=True):
                name = "real" if sample.label == Label.REAL else str(sample.record.method)
                counts[rows.index(name), column] += 1
    if not counts.sum():
        raise InputError(f"domain_confusion: none of {len(records)} faces can be used", reason="empty")
    used = [i for i, name in enumerate(columns) if not name.startswith("(unused") or counts[:, i].any()]
    kept = used + list(range(len(columns), len(rows)))
    return Confusion(
        tuple(rows[i] for i in kept), tuple(columns[i] for i in used), counts[np.ix_(kept, used)]
    )


def draw_confusion(confusion: Confusion) -> Figure:
    """Draw the shares of each row, with their numbers; `savefig` of the result writes it.

    Methods that were not learned stand below a line.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            "the picture of a confusion matrix needs matplotlib: pip install 'unseen[explain]'",
            reason="extra",
        ) from error

    shares = confusion.shares()
    rows, columns = shares.shape
    figure = Figure(figsize=(2.2 + 0.7 * columns, 1.6 + 0.55 * rows), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(np.nan_to_num(shares), cmap="viridis", vmin=0, vmax=1)
    axes.set_xticks(range(columns), confusion.columns, rotation=45, ha="right")
    axes.set_yticks(range(rows), confusion.rows)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    for row, column in np.ndindex(rows, columns):
        share = shares[row, column]
        text = "-" if np.isnan(share) else f"{share:.2f}"
        color = "black" if share > 0.6 else "white"
        axes.text(column, row, text, ha="center", va="center", color=color)
    if rows > columns:
        axes.axhline(columns - 0.5, color="white", linewidth=3)
    figure.colorbar(picture, label="share of the row")
    return figure
