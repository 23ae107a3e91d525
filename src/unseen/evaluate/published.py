"""What a paper printed, and how: the nouns of a protocol.

`protocol_file` reads them, `protocol` compares scores with them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unseen.evaluate.aggregate import Aggregate
from unseen.types import InputError

__all__ = ["ELSEWHERE", "METRICS", "UNITS", "Column", "Paper", "Protocol", "Row", "Training", "Unit", "near"]

METRICS = ("auc", "eer", "accuracy", "average_precision")
ELSEWHERE = {  # what a paper prints that no table of scores holds, and who measures it
    "primary_area": "a property of region maps, not of scores: `unseen prepare primary-regions` reports it",
    "domain_accuracy": "needs the domain classifier: the confusion matrix of `unseen explain` has it",
    "identity_interaction": "needs 258 passes a frame with hidden cells: `unseen explain` makes them",
    "gmacs": "a count of operations: `unseen evaluate --efficiency`",
    "parameters": "a count of weights: `unseen evaluate --efficiency`",
    "images_per_second": "a speed of one machine: `unseen evaluate --efficiency`",
}
Unit = Literal["percent", "fraction", "number"]
UNITS: dict[str, tuple[float, float]] = {"percent": (0, 100), "fraction": (0, 1), "number": (0, float("inf"))}


@dataclass(frozen=True)
class Paper:
    """Where a table is printed: `table` or `figure` is its number, `page` None where we do not know it."""

    method: str
    authors: str
    title: str
    venue: str
    year: int
    table: str | None = None
    figure: str | None = None
    page: int | None = None

    @property
    def place(self) -> str:
        """Such as `Table 1` or `Figure 4`."""
        return f"Table {self.table}" if self.table is not None else f"Figure {self.figure}"


@dataclass(frozen=True)
class Training:
    """What a row was trained on. `methods` empty: every forgery of the set; `compression` None: not said."""

    dataset: str
    compression: str | None = None
    methods: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A printed column: the reals and fakes it is measured on.

    Args:
        name: As printed.
        dataset: Whose fakes; empty for a mean of other columns.
        reals: Whose reals: the first of these sets that has any. Its own if not given.
        methods: Only these forgeries; empty for all of the set.
        metric: In `METRICS` or `ELSEWHERE`.
        unit: `percent` (a fraction times 100), `fraction` or `number`.
        corruption: What was done to the pictures, as the card of a score table names it.
        mean: The columns that this one is the mean of.
        videos: How many videos the paper's test list has, where that is known.
    """

    name: str
    dataset: str = ""
    reals: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    metric: str = "auc"
    unit: Unit = "percent"
    corruption: str | None = None
    mean: tuple[str, ...] = ()
    videos: int | None = None


@dataclass(frozen=True)
class Row:
    """A printed row.

    Args:
        name: As printed; unique in the table.
        published: Column to number; a column that is absent or null has no printed number.
        recipe: The recipe in `recipes/` that trains it here, or None.
        overrides: Keys of that recipe with other values, as `Recipe.with_values` takes them.
        train: Which of the protocol's trainings, where there are several.
        needs: What to make before training.
        why: Why there is no recipe.
        slips: Column to what is wrong with the printed number.
    """

    name: str
    published: Mapping[str, float | None]
    recipe: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    train: str = ""
    needs: str = ""
    why: str = ""
    slips: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A printed table and how to measure beside it; the arguments are the keys of its file.

    Args:
        name: Of the file, without its ending.
        title: What the table shows.
        paper: Where it is printed.
        own: Name of the row that is the paper's own method at its best.
        train: Trainings by name.
        columns: Columns by name, in printed order.
        rows: Rows in printed order.
        level: `frame` or `video`: what counts once.
        frames: Frames of each video that are scored, spread evenly; None for all of them.
        aggregation: How the frames of a video become its score; see `aggregate`.
        checkpoint: Which weights the paper tested.
        not_said: What of the above the paper does not say, and why we read it so.
        cautions: What a reader of the numbers should know.
        sets: Data sets beyond the public ones, and what they are.
        digest: SHA-256 of the file.
    """

    name: str
    title: str
    paper: Paper
    own: str
    train: Mapping[str, Training]
    columns: Mapping[str, Column]
    rows: tuple[Row, ...]
    level: Literal["frame", "video"]
    frames: int | None
    aggregation: Aggregate
    checkpoint: str
    not_said: Mapping[str, str] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    sets: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    @property
    def unit(self) -> Unit:
        """The unit of the first column."""
        return next(iter(self.columns.values())).unit

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets that its columns test on, reals included."""
        return tuple(dict.fromkeys(s for c in self.columns.values() for s in (c.dataset, *c.reals) if s))

    def row(self, name: str) -> Row:
        """Return a row by its name.

        Raises:
            InputError: There is none; names those that are spelt alike.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise InputError(
            f"{self.name}: no row {name!r}{near(name, [r.name for r in self.rows])}", reason="row"
        )


def near(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean ...?` with the known name that is spelt most like this one, or nothing."""
    alike = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f", did you mean {alike[0]!r}?" if alike else ""
