"""Anybody's score file, Parquet or CSV, brought to the columns of a score table and checked.

Column names are matched without regard to case; the first of each line is ours:

* `path`, image, image_path, crop, file, filename, filepath
* `dataset`, data_set, dataset_name
* `video`, video_id, video_name, clip: unique inside its data set; without it every row stands alone
* `frame`, frame_index, frame_id; `time`, seconds, timestamp
* `method`, manipulation, forgery; `split`; `identity`, person, person_id, subject
* `label`, y, y_true, target, ground_truth, is_fake: 0 or real, 1 or fake; empty where unknown
* `score`, log_odds, logit: log-odds of fake; empty where a row could not be scored
* `probability`, prob, p_fake, prob_fake, fake_prob, prediction, pred: of fake, in [0, 1]; read where there is
  no score and turned into log-odds
* `status`, `reason`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from unseen.data.columns import SCHEMA
from unseen.types import InputError

__all__ = ["COLUMNS", "SCORED", "check", "read_scores", "tidy"]

SCORED = "scored"
_FACTS = ("path", "dataset", "video", "frame", "time", "method", "split", "identity", "label")
COLUMNS: dict[str, pl.DataType] = {
    **{name: SCHEMA[name] for name in _FACTS},
    "score": pl.Float64(),
    "status": pl.String(),
    "reason": pl.String(),
}
_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("image", "image_path", "crop", "file", "filename", "filepath"),
    "dataset": ("data_set", "dataset_name"),
    "video": ("video_id", "video_name", "clip"),
    "frame": ("frame_index", "frame_id"),
    "time": ("seconds", "timestamp"),
    "method": ("manipulation", "forgery"),
    "identity": ("person", "person_id", "subject"),
    "label": ("y", "y_true", "target", "ground_truth", "is_fake"),
    "score": ("log_odds", "logit"),
    "probability": ("prob", "p_fake", "prob_fake", "fake_prob", "prediction", "pred"),
}
_LABELS = {"0": 0, "0.0": 0, "real": 0, "false": 0, "1": 1, "1.0": 1, "fake": 1, "true": 1}
_EDGE = 1e-12  # probabilities of exactly 0 and 1 become log-odds of -27.6 and 27.6


def read_scores(path: Path, columns: Mapping[str, str] | None = None) -> tuple[pl.LazyFrame, list[str]]:
    """Open a score file; see the module for the columns it may have.

    Args:
        path: `.parquet`, `.csv` or `.tsv`; Parquet is read lazily.
        columns: Our name to the file's name, where the automatic match is not what is meant.

    Returns:
        Checked rows with exactly `COLUMNS`, and sentences that a reader of the numbers should see.

    Raises:
        InputError: Naming the file, and the row and the mend where there is one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such score file", reason="missing")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the score file is empty", reason="empty")
    try:
        if path.suffix.lower() == ".parquet":
            rows = pl.scan_parquet(path)
            rows.collect_schema()
        elif path.suffix.lower() in (".csv", ".tsv"):
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                header = file.readline()
            separator = max("\t,;", key=header.count)
            # Everything as text: a type guessed from the first rows fails far from the row that broke it.
            rows = pl.read_csv(path, infer_schema=False, separator=separator).lazy()
        else:
            raise InputError(
                f"{path}: a score file ends in .parquet, .csv or .tsv, not {path.suffix!r}", reason="format"
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error})", reason="unreadable") from error
    return tidy(rows, str(path), columns)


def tidy(
    rows: pl.LazyFrame, name: str, columns: Mapping[str, str] | None = None
) -> tuple[pl.LazyFrame, list[str]]:
    """Rename, cast and check the rows of a foreign table.

    Args:
        rows: Any columns listed in this module; others are left out.
        name: What messages call the table.
        columns: Our name to the table's name.

    Returns:
        Rows with exactly `COLUMNS`, and warnings.

    Raises:
        InputError: A column is missing or ambiguous, or a value cannot be what its column says.
    """
    found = _match(list(rows.collect_schema().names()), name, columns or {})
    warnings: list[str] = []
    if "label" not in found:
        raise InputError(f"{name}: no column `label` (0 real, 1 fake)", reason="no_label_column")
    if "score" not in found and "probability" not in found:
        raise InputError(f"{name}: no column `score` (log-odds) or `probability`", reason="no_score_column")
    if "video" not in found:
        warnings.append(f"{name} has no column `video`: each row counts as a video of its own")
    rows = rows.select(pl.col(theirs).alias(ours) for ours, theirs in found.items())
    kinds = rows.collect_schema()
    casts: dict[str, pl.Expr] = {}
    for ours in found:
        column = pl.col(ours)
        if isinstance(kinds[ours], pl.String):
            column = column.str.strip_chars().replace({"": None})
        if ours == "label":
            casts[ours] = (
                column.cast(pl.String).str.to_lowercase().replace_strict(_LABELS, default=None).cast(pl.Int8)
            )
        else:
            casts[ours] = column.cast(COLUMNS.get(ours, pl.Float64()), strict=False)
        blank = column.is_null()
        if kinds[ours] != COLUMNS.get(ours):
            wrong = _first(rows, casts[ours].is_null() & ~blank)
            if wrong is not None:
                raise InputError(
                    f"{name} row {wrong['row']}: {ours} {wrong[ours]!r}; expected {_expected(ours)}",
                    reason=ours,
                )
    if "score" not in casts:
        wrong = _first(rows, ~casts["probability"].is_between(0, 1))
        if wrong is not None:
            raise InputError(
                f"{name} row {wrong['row']}: probability {wrong['probability']}; expected [0, 1] "
                "(name the column `score` if these are log-odds)",
                reason="probability",
            )
        chance = casts["probability"].clip(_EDGE, 1 - _EDGE)
        casts["score"] = (chance / (1 - chance)).log()
    scored = casts["score"].is_not_null()
    if "status" not in casts:
        casts["status"] = pl.when(scored).then(pl.lit(SCORED)).otherwise(pl.lit("unreadable"))
    complete = rows.select(
        casts.get(ours, pl.lit(None, kind)).alias(ours).cast(kind) for ours, kind in COLUMNS.items()
    )
    check(complete, name)
    if "score" in found and set(COLUMNS) - set(kinds):  # whoever writes all of ours knows what a score is
        low, high = complete.select(
            pl.col("score").min().alias("a"), pl.col("score").max().alias("b")
        ).collect()
        if low[0] is not None and low[0] >= 0 and high[0] <= 1 and low[0] < high[0]:
            warnings.append(
                f"all scores of {name} lie in [0, 1]; a score is log-odds (0 = undecided): if these are "
                "probabilities, name the column `probability`"
            )
    return complete, warnings


def check(rows: pl.LazyFrame, name: str) -> None:
    """Refuse rows that no metric could be trusted on.

    Args:
        rows: With `COLUMNS`.
        name: What messages call the table; its first row is row 1.

    Raises:
        InputError: A label other than 0 and 1, a score that is NaN or infinite, a status that contradicts the
            score, a fake whose method is "real" (or the reverse), or one row twice.
    """
    label, score, method = pl.col("label"), pl.col("score"), pl.col("method")
    faults: list[tuple[pl.Expr, str, str]] = [
        (~label.is_in([0, 1]), "label", "label {label}; expected 0 (real) or 1 (fake), or empty if unknown"),
        (~score.is_finite(), "nan_score", "score {score}; leave it empty where a row could not be scored"),
        (
            (pl.col("status") == SCORED) != score.is_not_null(),
            "status",
            "status {status!r} with score {score}; a row has a score if and only if its status is 'scored'",
        ),
        (
            (label == 1) & (method.str.to_lowercase() == "real"),
            "method",
            "label 1 (fake) but method {method!r}; one of them is wrong",
        ),
    ]
    wrong = _first(rows, pl.any_horizontal(mask.fill_null(False) for mask, _, _ in faults))
    if wrong is not None:
        only = pl.DataFrame([wrong], schema_overrides=COLUMNS)
        reason, text = next((r, t) for mask, r, t in faults if only.select(mask.fill_null(False)).item())
        raise InputError(f"{name} row {wrong['row']}: " + text.format(**wrong), reason=reason)
    # Without a path and a frame number there is nothing by which two rows could be the same row.
    key = ["dataset", "video", "method", "frame", "path", "identity"]
    twice = (
        rows.with_row_index("row", 1)
        .filter(pl.col("path").is_not_null() | pl.col("frame").is_not_null())
        .group_by(key)
        .agg(pl.col("row").min().alias("first"), pl.col("row").max().alias("last"), pl.len().alias("times"))
        .filter(pl.col("times") > 1)
        .sort("first")
        .head(1)
        .collect()
    )
    if len(twice):
        row = twice.row(0, named=True)
        raise InputError(
            f"{name} row {row['last']}: the same face as row {row['first']} (dataset {row['dataset']!r}, "
            f"video {row['video']!r}, frame {row['frame']}, path {row['path']!r}); keep one of the two",
            reason="duplicate",
        )


def _match(names: Sequence[str], name: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return our column names to the table's."""
    found: dict[str, str] = {}
    for ours in (*COLUMNS, "probability"):
        if ours in columns:
            if columns[ours] not in names:
                raise InputError(
                    f"{name}: no column {columns[ours]!r} for `{ours}`; it has {', '.join(names)}",
                    reason="column",
                )
            found[ours] = columns[ours]
            continue
        exact = [n for n in names if n.strip().lower() == ours]
        other = [n for n in names if n.strip().lower() in _NAMES.get(ours, ()) and n not in columns.values()]
        if len(exact or other) > 1:
            raise InputError(
                f"{name}: columns {', '.join(exact or other)} could each be `{ours}`; say which: "
                f"columns={{{ours!r}: {(exact or other)[0]!r}}}",
                reason="column",
            )
        if exact or other:
            found[ours] = (exact or other)[0]
    if "score" in found:
        found.pop("probability", None)
    return found


def _first(rows: pl.LazyFrame, mask: pl.Expr) -> dict[str, object] | None:
    """Return the first row for which the mask is true, with its number under `row`."""
    hit = rows.with_row_index("row", 1).filter(mask.fill_null(False)).head(1).collect()
    return hit.row(0, named=True) if len(hit) else None


def _expected(column: str) -> str:
    if column == "label":
        return "0 or real, 1 or fake, or nothing if unknown"
    return "text" if isinstance(COLUMNS.get(column), pl.String) else "a number, or nothing"
