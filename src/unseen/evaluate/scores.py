"""The score table: one row a face crop, the only thing that passes from networks to evaluation.

Score once, measure many: every metric, per frame, video, method and data set, is a pure function of the
table, so anybody's score file can be measured without a network.

A video is a pair (data set, video), never a folder's last name: four forgeries that share a folder name stay
four videos. A row that could not be scored is counted, and gets neither a label nor a neighbour's score.

Example:
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.parquet"
    >>> with ScoreWriter(path, card={"model": "toy"}) as writer:
    ...     writer.add(FaceRecord("a.png", label=0, video="a"), -1.5)
    ...     writer.add(FaceRecord("b.png", label=1, video="b"), None, reason="empty file")
    >>> table = ScoreTable.read(path)
    >>> table.counts()["unreadable"], table.card["model"]
    (1, 'toy')
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from unseen.evaluate import metrics
from unseen.evaluate.aggregate import Aggregate, video_score
from unseen.evaluate.reading import COLUMNS, SCORED, read_scores, tidy
from unseen.evaluate.writing import CARD, ScoreWriter, score_row
from unseen.types import FaceRecord, InputError

__all__ = [
    "Aggregate",
    "Level",
    "ScoreTable",
    "ScoreWriter",
    "by_dataset",
    "by_method",
    "measure",
    "measure_rows",
]

Level = Literal["frame", "video"]
RATES = (0.001, 0.01, 0.05, 0.1)  # false-alarm rates at which the share of caught fakes is given


def measure(score: Any, label: Any, threshold: float = 0.0) -> dict[str, float]:
    """Return every metric of one set of scores, each NaN where a class is absent.

    Shape:
        score: (N,) log-odds of fake. label: (N,) 0 or 1. threshold: log-odds, for the accuracies only.
    """
    score, label = metrics.checked(score, label)
    order = np.argsort(-score, kind="stable")  # each metric's own stable sort then takes linear time
    score, label = score[order], label[order]
    real, fake = metrics.class_accuracy(score, label, threshold)
    return {
        "auc": metrics.auc(score, label),
        "average_precision": metrics.average_precision(score, label),
        "accuracy": metrics.accuracy(score, label, threshold),
        "balanced_accuracy": (real + fake) / 2,
        "accuracy_real": real,
        "accuracy_fake": fake,
        "eer": metrics.eer(score, label),
        **{f"tpr_at_fpr_{rate:g}": metrics.tpr_at_fpr(score, label, rate) for rate in RATES},
        "brier": metrics.brier(score, label),
        "ece": metrics.ece(score, label),
        "n_real": int((label == 0).sum()),
        "n_fake": int((label == 1).sum()),
    }


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of faces, with everything that groups them.

    Attributes:
        rows: Lazy rows with the columns of `reading.COLUMNS`.
        name: The file, for messages.
        card: What produced the scores.
        warnings: Sentences that a reader of the numbers should see.
    """

    rows: pl.LazyFrame
    name: str = "table"
    card: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path | str, *, columns: Mapping[str, str] | None = None) -> ScoreTable:
        """Open a Parquet, CSV or TSV file of scores: ours or anybody's (`reading` lists the column names).

        Args:
            path: The file.
            columns: Our column name to the file's, where the automatic match is not what is meant.

        Raises:
            InputError: Naming file, row and mend.
        """
        path = Path(path)
        rows, warnings = read_scores(path, columns)
        card: dict[str, Any] = {}
        if path.suffix.lower() == ".parquet":
            try:
                saved = (pq.read_metadata(path).metadata or {}).get(CARD)
                card = dict(json.loads(saved)) if saved else {}
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}: its card is not a JSON object ({error})", reason="card") from error
        return cls(rows, str(path), card, tuple(warnings))

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[tuple[FaceRecord, float | None, str | None, str | None]],
        *,
        name: str = "table",
        card: Mapping[str, Any] | None = None,
    ) -> ScoreTable:
        """Make a table in memory from (record, score, status, reason), as `ScoreWriter.add` takes them."""
        made = [score_row(*row) for row in rows]
        table = cls.from_frame(pl.DataFrame(made, schema=COLUMNS, orient="row"), name=name)
        return replace(table, card=dict(card or {}))

    @classmethod
    def from_records(
        cls, records: Iterable[FaceRecord], scores: Iterable[float | None], *, name: str = "table"
    ) -> ScoreTable:
        """Make a table in memory; a score of None marks a row that could not be scored.

        Raises:
            InputError: There are not as many scores as records, or a row is wrong (see `reading.check`).
        """
        records, scores = list(records), list(scores)
        if len(records) != len(scores):
            raise InputError(f"{name}: {len(records)} records and {len(scores)} scores", reason="shape")
        return cls.from_rows(
            ((r, None if s is None else float(s), None, None) for r, s in zip(records, scores, strict=True)),
            name=name,
        )

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, *, name: str = "table") -> ScoreTable:
        """Check a data frame with any of the columns that `reading` knows and make it a table."""
        rows, warnings = tidy(frame.lazy(), name)
        return cls(rows, name, {}, tuple(warnings))

    def __len__(self) -> int:
        return int(self.rows.select(pl.len()).collect().item())

    def where(self, **equal: str | int | Iterable[str | int]) -> ScoreTable:
        """Return rows whose columns equal a value, or one of several: `where(dataset="dfd", label=1)`."""
        mask = pl.lit(True)
        for column, value in equal.items():
            if column not in COLUMNS:
                raise InputError(
                    f"no column {column!r}; a score table has {', '.join(COLUMNS)}", reason="column"
                )
            values = [value] if isinstance(value, str | int) else list(value)
            mask &= pl.col(column).is_in(values)
        return replace(self, rows=self.rows.filter(mask))

    def counts(self) -> dict[str, int]:
        """Return how many rows there are, and how many were scored, unscored by status, and unlabelled."""
        status = self.rows.group_by("status").agg(pl.len()).sort("status").collect().rows()
        unlabelled = self.rows.select(pl.col("label").is_null().sum()).collect().item()
        found = {"rows": sum(n for _, n in status), SCORED: 0, "unreadable": 0, "unlabelled": int(unlabelled)}
        return found | {str(name): int(n) for name, n in status}

    def frames(self) -> pl.DataFrame:
        """Return the rows that count at frame level: scored and labelled."""
        return self.rows.filter(pl.col("score").is_not_null(), pl.col("label").is_not_null()).collect()

    def videos(self, aggregate: Aggregate = "mean") -> pl.DataFrame:
        """Return one row a video that has a label and a scored frame.

        Args:
            aggregate: How a video's frames become its score: the `"mean"`, `"median"` or `"max"` of log-odds,
                `"mean_probability"`, the log-odds of the mean of sigmoid(score), as most published tables,
                or `"face_max"`, `"top3"` (any number), `"confident"`: see `unseen.evaluate.aggregate`.

        Returns:
            Columns dataset, video, method, identity, label, score, frames (scored ones), in sorted order.
            Rows without a video name are videos of their own. Where one video name carries several methods,
            each method is a video: files of other tools name four forgeries alike.

        Raises:
            InputError: A video with rows of two labels (it is named), or an unknown aggregate.
        """
        video = pl.coalesce(
            pl.when(pl.col("video") != "").then(pl.col("video")), "path", pl.format("row {}", "row")
        )
        rows = (
            self.rows.with_row_index("row", 1)
            .filter(pl.col("label").is_not_null())
            .with_columns(
                pl.col("dataset", "method").fill_null(""),
                video.alias("video"),
                # Equal for the faces of one frame; without a frame number a row is a frame of its own.
                pl.coalesce("frame", -pl.col("row").cast(pl.Int64)).alias("frame_key"),
            )
        )
        key = ["dataset", "video", "method"]
        mixed = (
            rows.group_by("dataset", "video").agg(pl.col("label").n_unique(), pl.col("row").min())
            .filter(pl.col("label") > 1).sort("row").head(1).collect()
        )  # fmt: skip
        if len(mixed):
            row = mixed.row(0, named=True)
            raise InputError(
                f"{self.name} row {row['row']}: video {row['video']!r} of data set {row['dataset']!r} "
                "has rows of both labels; give a real and a fake video different names, such as 'fake/0001'",
                reason="mixed_video",
            )
        combined = video_score(aggregate).alias("score")
        return (
            rows.filter(pl.col("score").is_not_null())
            .sort("row")  # so that sums are taken in one order and a table gives the same bits every time
            .group_by(key, maintain_order=True)
            .agg(
                pl.col("identity").first(),
                pl.col("label").first(),
                combined,
                pl.len().alias("frames"),
            )
            .sort(key)
            .collect()
        )

    def at(self, level: Level, aggregate: Aggregate = "mean") -> pl.DataFrame:
        """Return what a level counts: `frames()` or `videos(aggregate)`."""
        if level not in ("frame", "video"):
            raise InputError(f"level is {level!r}; expected 'frame' or 'video'", reason="level")
        return self.frames() if level == "frame" else self.videos(aggregate)

    def frame_metrics(self, *, threshold: float = 0.0) -> dict[str, float]:
        """Return `measure` over frames: every scored, labelled row counts once."""
        return measure_rows(self.frames(), threshold)

    def video_metrics(self, aggregate: Aggregate = "mean", *, threshold: float = 0.0) -> dict[str, float]:
        """Return `measure` over videos: every video counts once, however many frames it has."""
        return measure_rows(self.videos(aggregate), threshold)

    def per_method(
        self, level: Level = "video", aggregate: Aggregate = "mean", *, threshold: float = 0.0
    ) -> dict[str, dict[str, float]]:
        """Return `measure` of each forgery method's fakes against *all* reals of the table.

        To hold a method against the reals of its own data set, ask `where(dataset=...)` first.
        """
        return by_method(self.at(level, aggregate), threshold)

    def per_dataset(
        self, level: Level = "video", aggregate: Aggregate = "mean", *, threshold: float = 0.0
    ) -> dict[str, dict[str, float]]:
        """Return `measure` of each data set by itself."""
        return by_dataset(self.at(level, aggregate), threshold)


def by_method(rows: pl.DataFrame, threshold: float = 0.0) -> dict[str, dict[str, float]]:
    """Return `measure` of each method's fakes against all reals among rows of one level (`ScoreTable.at`)."""
    method = pl.col("method").fill_null("").replace({"": "unknown"})
    fakes = rows.filter(pl.col("label") == 1).with_columns(method.alias("method"))
    reals = rows.filter(pl.col("label") == 0)
    return {
        str(name): measure_rows(pl.concat([reals, fakes.filter(pl.col("method") == name)]), threshold)
        for name in fakes["method"].unique().sort()
    }


def by_dataset(rows: pl.DataFrame, threshold: float = 0.0) -> dict[str, dict[str, float]]:
    """Return `measure` of each data set by itself among rows of one level."""
    rows = rows.with_columns(pl.col("dataset").fill_null(""))
    return {
        str(name): measure_rows(rows.filter(pl.col("dataset") == name), threshold)
        for name in rows["dataset"].unique().sort()
    }


def measure_rows(rows: pl.DataFrame, threshold: float = 0.0) -> dict[str, float]:
    """Return `measure` of rows of one level."""
    return measure(rows["score"].to_numpy(), rows["label"].to_numpy(), threshold)
