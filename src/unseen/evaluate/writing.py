"""Writing score tables in pieces of constant memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from unseen import __version__
from unseen.evaluate.reading import COLUMNS, SCORED
from unseen.types import FaceRecord

__all__ = ["CARD", "ScoreWriter", "score_row"]

CARD = b"unseen.card"  # the key of the card in the file's metadata
_ARROW = pl.DataFrame(schema=COLUMNS).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


class ScoreWriter:
    """Writes a score table in pieces, so that its memory does not grow with the rows.

    Rows go to `NAME.part` beside the target, which takes its name only when the table is whole: a killed run
    leaves no table that looks complete.

    Args:
        path: Where the Parquet file goes; folders are made.
        card: What produced the scores (model, manifest hash, ...): kept in the file's metadata.
        piece: Rows held before a row group is written.
    """

    def __init__(
        self, path: Path | str, *, card: Mapping[str, Any] | None = None, piece: int = 16_384
    ) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.card = dict(card or {})
        self.piece = piece
        self.rows = 0
        self.scored = 0
        self._held: list[tuple[Any, ...]] = []
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(self.part, _ARROW, compression="zstd")
        return self

    def add(
        self, record: FaceRecord, score: float | None, *, status: str | None = None, reason: str | None = None
    ) -> None:
        """Add one face; a score of None or one that is not finite makes a row without a score.

        Args:
            record: Where the face comes from, and its label if known.
            score: Log-odds of fake.
            status: Why there is no score, in a word; default "unreadable" or "not_finite".
            reason: The same in a sentence.
        """
        row = score_row(record, score, status, reason)
        self._held.append(row)
        self.rows += 1
        self.scored += row[_STATUS] == SCORED
        if len(self._held) >= self.piece:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            raise RuntimeError("a ScoreWriter is used as a context manager: with ScoreWriter(path) as writer")
        if self._held:
            piece = pl.DataFrame(self._held, schema=COLUMNS, orient="row")
            self._file.write_table(piece.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(_ARROW))
            self._held.clear()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._flush()
                card = {"unseen": __version__, "level": "frame", "unit": "log-odds of fake", **self.card}
                card |= {"rows": self.rows, "scored": self.scored}
                if self._file is not None:
                    self._file.add_key_value_metadata({CARD: json.dumps(card, sort_keys=True).encode()})
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None
            if kind is not None:
                self.part.unlink(missing_ok=True)
        if kind is None:
            self.part.replace(self.path)


def score_row(
    record: FaceRecord, score: float | None, status: str | None, reason: str | None
) -> tuple[Any, ...]:
    """Return one row in the order of `COLUMNS`; what is not a finite score has a status instead."""
    if score is not None and not np.isfinite(score):
        score, status, reason = None, "not_finite", reason or f"the detector gave {score}"
    status = SCORED if score is not None else status or "unreadable"
    label = None if record.label is None else int(record.label)
    return (
        record.path, record.dataset, record.video, record.frame, record.time, record.method, record.split,
        record.identity, label, score, status, reason,
    )  # fmt: skip


_STATUS = list(COLUMNS).index("status")
