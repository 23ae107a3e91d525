"""Measured beside published: scores held against the tables that papers print.

`read_protocol` gives a table, `compare` the difference of every cell that the scores at hand can fill, and
the reason for every cell that they cannot.

Example:
    >>> from unseen.types import FaceRecord
    >>> rows = [FaceRecord(f"{i}.png", i % 2, "UADFV", f"clip {i}") for i in range(20)]
    >>> scores = ScoreTable.from_records(rows, [float(r.label) for r in rows])
    >>> cells = {cell.column: cell for cell in compare(read_protocol("realid_table1"), scores) if cell.own}
    >>> cells["UADFV"].measured, round(cells["UADFV"].difference, 2), cells["DFD"].why
    (100.0, 1.66, 'no fakes of dfd: the scores hold UADFV')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from unseen.data.names import method_name, set_name
from unseen.evaluate import metrics
from unseen.evaluate.aggregate import chosen_frames
from unseen.evaluate.protocol_file import protocols, read_protocol
from unseen.evaluate.published import ELSEWHERE, Column, Paper, Protocol, Row, Training
from unseen.evaluate.scores import Level, ScoreTable

__all__ = ["Cell", "Column", "Paper", "Protocol", "Row", "Training", "compare", "protocols", "read_protocol"]

LEAST = 5  # videos of each class below which a number says nothing
_MEASURES = {
    "auc": metrics.auc,
    "eer": metrics.eer,
    "accuracy": metrics.accuracy,
    "average_precision": metrics.average_precision,
}


@dataclass(frozen=True)
class Cell:
    """One number of a printed table, and ours.

    Args:
        row: Name of the row.
        column: Name of the column.
        published: As printed, None where nothing is.
        measured: In the printed unit, at the protocol's level; None where it cannot be, see `why`.
        other: The same at the other level, for those who wonder what the level does.
        own: Whether scores were given for this row.
        n_real: Videos (at frame level: frames) of real people that were counted.
        n_fake: The same of fakes.
        unscored: Rows that could not be scored and count nowhere.
        why: Why there is no measured number.
        notes: What else a reader should know: a short list, few frames, a misprint.
    """

    row: str
    column: str
    published: float | None
    measured: float | None = None
    other: float | None = None
    own: bool = False
    n_real: int = 0
    n_fake: int = 0
    unscored: int = 0
    why: str = ""
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """Measured minus published, None if one of the two is missing."""
        return None if self.measured is None or self.published is None else self.measured - self.published


def compare(
    protocol: Protocol,
    tables: ScoreTable | Mapping[str, ScoreTable | Sequence[ScoreTable]],
    *,
    row: str | None = None,
    split: str | None = "test",
    least: int = LEAST,
) -> list[Cell]:
    """Measure scores as a protocol says and put the numbers beside the printed ones.

    Args:
        protocol: The printed table.
        tables: Scores of one detector, for the row `row`; or row name to its scores, several tables where a
            row has corrupted pictures too (their cards say `corruption`).
        row: Whose row a single table stands for; the protocol's own method if None.
        split: Rows of this split count, and rows that name none; None counts all.
        least: Videos of each class that a column must have.

    Returns:
        A cell for each row and column, in printed order; rows without scores have only `why`.

    Raises:
        InputError: A row that the protocol does not have.
    """
    given = tables if isinstance(tables, Mapping) else {row or protocol.own: tables}
    for name in given:
        protocol.row(name)
    cells: list[Cell] = []
    for printed in protocol.rows:
        if printed.name not in given:
            why = printed.why or f"no scores given; train recipes/{printed.recipe}.yaml"
            cells += [Cell(printed.name, c, printed.published.get(c), why=why) for c in protocol.columns]
            continue
        found = given[printed.name]
        own = [
            _Scores(table, protocol, split) for table in ([found] if isinstance(found, ScoreTable) else found)
        ]
        cells += _row(protocol, printed, own, least)
    return cells


def _row(protocol: Protocol, row: Row, scores: Sequence[_Scores], least: int) -> list[Cell]:
    done: dict[str, Cell] = {}
    for column in protocol.columns.values():
        if not column.mean:
            done[column.name] = _cell(protocol, row, column, scores, least)
    for column in protocol.columns.values():
        if column.mean:
            done[column.name] = _mean(row, column, [done[part] for part in column.mean])
    return [done[name] for name in protocol.columns]


def _mean(row: Row, column: Column, parts: Sequence[Cell]) -> Cell:
    missing = [part.column for part in parts if part.measured is None]
    cell = Cell(row.name, column.name, row.published.get(column.name), own=True, notes=_slips(row, column))
    if missing:
        return replace(cell, why=f"the mean of columns of which there is no number: {', '.join(missing)}")
    ours = [part.measured for part in parts if part.measured is not None]
    others = [part.other for part in parts if part.other is not None]
    return replace(
        cell,
        measured=sum(ours) / len(ours),
        other=sum(others) / len(others) if len(others) == len(parts) else None,
    )


def _slips(row: Row, column: Column) -> tuple[str, ...]:
    return (f"printed number: {row.slips[column.name]}",) if column.name in row.slips else ()


def _cell(protocol: Protocol, row: Row, column: Column, scores: Sequence[_Scores], least: int) -> Cell:
    cell = Cell(row.name, column.name, row.published.get(column.name), own=True, notes=_slips(row, column))
    if column.metric in ELSEWHERE:
        return replace(cell, why=ELSEWHERE[column.metric])
    fitting = [s for s in scores if s.table.card.get("corruption") == column.corruption]
    if not fitting:
        made = f"under {column.corruption}" if column.corruption else "of pictures as they are"
        return replace(cell, why=f"no scores {made} are given (the card of a table says its `corruption`)")
    measured = [s.measure(column, protocol, least) for s in fitting]  # several: the levels of a corruption
    if any(one.why for one in measured):
        return replace(cell, why=next(one.why for one in measured if one.why))
    first = measured[0]
    levels = (f"mean of {len(measured)} levels",) if len(measured) > 1 else ()

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return replace(
        first,
        row=row.name,
        published=cell.published,
        measured=mean([one.measured for one in measured if one.measured is not None]),
        other=mean([one.other for one in measured if one.other is not None]),
        notes=(*cell.notes, *first.notes, *levels),
    )


class _Scores:
    """The rows of a table that a protocol counts: test rows, known names, the frames it takes."""

    def __init__(self, table: ScoreTable, protocol: Protocol, split: str | None) -> None:
        rows = table.rows.filter(pl.col("label").is_not_null()).collect()
        kept = rows if split is None else rows.filter(pl.col("split").fill_null(split) == split)
        self.table, self.split = table, split
        self.other_splits, rows = len(rows) - len(kept), kept
        self.spelt = (
            ", ".join(sorted({str(name or "(no name)") for name in rows["dataset"]})) or "no test rows"
        )
        names = {name: _set(name, protocol) for name in rows["dataset"].unique()}
        ways = {name: method_name(name) for name in rows["method"].unique() if name}
        rows = rows.with_columns(
            pl.col("dataset").replace_strict(names, default="", return_dtype=pl.String),
            pl.col("method").replace(ways),
        )
        rows = rows.filter(chosen_frames(rows, protocol.frames)) if len(rows) else rows
        self.rows = rows

    def measure(self, column: Column, protocol: Protocol, least: int) -> Cell:
        """Return a cell without a row: the numbers, or why there are none."""
        cell = Cell("", column.name, None, own=True)
        of = pl.col("dataset") == column.dataset
        fakes = self.rows.filter(of, pl.col("label") == 1)
        if column.methods:
            fakes = fakes.filter(pl.col("method").is_in(list(column.methods)))
        what = column.dataset + (f" by {', '.join(column.methods)}" if column.methods else "")
        if fakes.is_empty():
            return replace(cell, why=f"no fakes of {what}: the scores hold {self.spelt}{self._splits()}")
        reals, source = self._reals(column)
        if reals.is_empty():
            return replace(
                cell, why=f"no reals of {' or '.join(column.reals or (column.dataset,))}{self._splits()}"
            )
        rows = pl.concat([reals, fakes])
        unscored = rows["score"].null_count()
        cell = replace(cell, unscored=unscored)
        if unscored == len(rows):
            reason = rows["reason"].drop_nulls()
            return replace(
                cell, why=f"none of {len(rows)} rows was scored" + (f": {reason[0]}" if len(reason) else "")
            )
        return self._numbers(cell, column, protocol, rows, least, source)

    def _numbers(
        self, cell: Cell, column: Column, protocol: Protocol, rows: pl.DataFrame, least: int, source: str
    ) -> Cell:
        table = replace(self.table, rows=rows.lazy())
        videos, frames = table.videos(protocol.aggregation), table.frames()
        n_real, n_fake = ((videos["label"] == label).sum() for label in (0, 1))
        if min(n_real, n_fake) < least:
            return replace(
                cell, why=f"{n_real} real and {n_fake} fake videos; fewer than {least} of a class say nothing"
            )
        level: dict[Level, pl.DataFrame] = {"video": videos, "frame": frames}
        factor = 100.0 if column.unit == "percent" else 1.0
        value = {
            name: factor * _MEASURES[column.metric](part["score"].to_numpy(), part["label"].to_numpy())
            for name, part in level.items()
        }
        counted = level[protocol.level]["label"]
        return replace(
            cell,
            measured=value[protocol.level],
            other=value["frame" if protocol.level == "video" else "video"],
            n_real=int((counted == 0).sum()),
            n_fake=int((counted == 1).sum()),
            notes=tuple(self._notes(column, protocol, videos, source)),
        )

    def _notes(self, column: Column, protocol: Protocol, videos: pl.DataFrame, source: str) -> list[str]:
        notes = [f"reals of {source}"] if source != column.dataset else []
        if column.videos and len(videos) != column.videos:
            notes.append(f"{len(videos)} of {column.videos} videos of the paper's list")
        few = (videos["frames"] < protocol.frames).sum() if protocol.frames else 0
        if few:
            notes.append(
                f"{few} of {len(videos)} videos have fewer than {protocol.frames} scored faces, "
                f"the least {min(videos['frames'].to_list())}"
            )
        return notes

    def _reals(self, column: Column) -> tuple[pl.DataFrame, str]:
        """Return the reals of the first set that has any, and its name."""
        reals = self.rows.filter(pl.col("label") == 0)
        for source in column.reals or (column.dataset,):
            found = reals.filter(pl.col("dataset") == source)
            if len(found):
                return found, source
        return reals.head(0), ""

    def _splits(self) -> str:
        if not self.other_splits:
            return ""
        return f" ({self.other_splits} rows of other splits than {self.split} are left out)"


def _set(name: str | None, protocol: Protocol) -> str:
    return "" if not name else name if name in protocol.sets else set_name(name) or name
