"""Every number of a score table at both levels, each named by its level, and the same as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from unseen.evaluate.calibration import Calibration
from unseen.evaluate.card import STAMP, card_lines, facts
from unseen.evaluate.metrics import auc
from unseen.evaluate.operating import (
    calibrated,
    calibration_errors,
    operating_points,
    run_thresholds,
    validation_thresholds,
)
from unseen.evaluate.resampling import measure_intervals
from unseen.evaluate.scores import Aggregate, Level, ScoreTable, by_dataset, by_method, measure_rows
from unseen.types import InputError

__all__ = ["cross_auc", "summary", "to_json", "to_markdown"]

LEVELS: tuple[Level, ...] = ("frame", "video")
_COLUMNS = {
    "auc": "AUC",
    "average_precision": "AP",
    "accuracy": "ACC",
    "eer": "EER",
    "tpr_at_fpr_0.001": "TPR at FPR 0.1 %",
    "tpr_at_fpr_0.01": "1 %",
    "tpr_at_fpr_0.05": "5 %",
}


def summary(
    table: ScoreTable,
    *,
    aggregate: Aggregate = "mean",
    threshold: float = 0.0,
    resamples: int = 0,
    validation: ScoreTable | Calibration | None = None,
    by: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure a table at frame level and at video level.

    Args:
        table: Scores of faces.
        aggregate: How a video's frames become its score; see `ScoreTable.videos`.
        threshold: Log-odds at which accuracies are taken.
        resamples: Draws of videos for 95 % intervals; 0 gives none.
        validation: Scores of validation people, or what was fitted on them: sets thresholds and calibrates.
        by: Columns such as `identity`; each group by itself, at video level.

    Returns:
        `"frame"` and `"video"`, each with the metrics of `scores.measure`, `"per_method"` and
        `"per_dataset"`, and `"intervals"` if asked for; `"counts"` of rows; `"aggregate"`, `"threshold"`,
        `"card"`, `"facts"` (the card in words), `"warnings"`. With several data sets `"cross_auc"`; with
        validation `"operating_points"` and `"calibration"`, of videos; with `by` `"groups"`. A metric is NaN
        where a class is absent.

    Raises:
        InputError: An unknown column, or a class is missing in validation.
    """
    found: dict[str, Any] = {}
    rows: dict[Level, pl.DataFrame] = {level: table.at(level, aggregate) for level in LEVELS}
    for level in LEVELS:
        found[level] = {
            **measure_rows(rows[level], threshold),
            "per_method": by_method(rows[level], threshold),
            "per_dataset": by_dataset(rows[level], threshold),
        }
        if resamples:
            _add_intervals(found[level], rows[level], level, threshold, resamples)
    videos = rows["video"]
    if videos["dataset"].n_unique() > 1:
        found["cross_auc"] = cross_auc(videos)
    if by:
        found["groups"] = {column: _groups(videos, column, threshold) for column in by}
    if validation is not None:
        known = validation if isinstance(validation, Calibration) else validation.videos(aggregate)
        given = run_thresholds(known) if isinstance(known, Calibration) else validation_thresholds(known)
        found["operating_points"] = operating_points(videos, given)
        label = videos["label"].to_numpy().astype(np.int64)
        ways = calibrated(videos, known)
        found["calibration"] = {name: calibration_errors(odds, label) for name, odds in ways.items()}
    return {
        **found,
        "counts": table.counts(),
        "aggregate": aggregate,
        "threshold": threshold,
        "card": dict(table.card),
        "facts": {**facts(table), "aggregation": aggregate},
        "warnings": [*table.warnings, *_unscored(table), *_absent(table.name, found["video"])],
    }


def _unscored(table: ScoreTable) -> list[str]:
    lost = table.rows.filter(pl.col("score").is_null())
    first = lost.select("path", "reason").head(1).collect().rows()
    if not first:
        return []
    ((path, reason),) = first
    # A reason of ours begins with the path.
    why = (reason or "no reason is given").removeprefix(f"{path}: ")
    count = int(lost.select(pl.len()).collect().item())
    if count == 1:
        return [f"1 row has no score, {path}: {why}"]
    return [f"{count:,} rows have no score; the first is {path}: {why}"]


def _absent(name: str, values: Mapping[str, float]) -> list[str]:
    if values["n_real"] and values["n_fake"]:
        small = values["n_real"] < 1000
        return [
            f"0.1 % of {values['n_real']:,} real videos is less than one: that column allows no false alarm"
        ] * small
    absent = [kind for kind in ("real", "fake") if not values[f"n_{kind}"]]
    return [
        f"{name} holds no scored {' and no scored '.join(absent)} row with a label: nothing that needs both "
        "classes can be measured; add them"
    ]


def _add_intervals(
    values: dict[str, Any], rows: pl.DataFrame, level: Level, threshold: float, resamples: int
) -> None:
    """Add intervals over draws of videos; of the groups at video level only, where they cost little."""

    def intervals(part: pl.DataFrame) -> dict[str, tuple[float, float]]:
        group = None
        if level == "frame":
            video = pl.coalesce(pl.when(pl.col("video") != "").then("video"), "path", pl.lit(""))
            key = pl.concat_str([pl.col("dataset", "method").fill_null(""), video], separator="\0")
            group = part.select(key.cast(pl.Categorical).to_physical())["dataset"].to_numpy()
        found = measure_intervals(
            part["score"].to_numpy(),
            part["label"].to_numpy(),
            group,
            threshold=threshold,
            resamples=resamples,
        )
        return {name: (interval.low, interval.high) for name, interval in found.items()}

    values["intervals"] = intervals(rows)
    if level != "video":
        return
    reals = rows.filter(pl.col("label") == 0)
    for name, group in values["per_method"].items():
        named = pl.col("method").fill_null("").replace({"": "unknown"}) == name
        fakes = rows.filter(named, pl.col("label") == 1)
        group["intervals"] = intervals(pl.concat([reals, fakes]))
    if len(values["per_dataset"]) > 1:
        for name, group in values["per_dataset"].items():
            group["intervals"] = intervals(rows.filter(pl.col("dataset").fill_null("") == name))


def cross_auc(videos: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Return the AUC of each data set's reals against each data set's fakes, NaN where there are none.

    A detector that has learned what a data set looks like is as good on the diagonal as ever, where cameras
    and codecs of both classes agree, and far better or worse beside it.

    Args:
        videos: Of `ScoreTable.videos`.

    Returns:
        Data set of the reals to data set of the fakes to AUC.
    """
    real, fake = (videos.filter(pl.col("label") == k) for k in (0, 1))
    sets = [sorted(part["dataset"].unique().to_list()) for part in (real, fake)]
    found: dict[str, dict[str, float]] = {}
    for ours in sets[0]:
        reals = real.filter(pl.col("dataset") == ours)["score"].to_numpy()
        found[ours] = {}
        for theirs in sets[1]:
            fakes = fake.filter(pl.col("dataset") == theirs)["score"].to_numpy()
            label = np.repeat([0, 1], [reals.size, fakes.size])
            found[ours][theirs] = auc(np.concatenate([reals, fakes]), label)
    return found


def _groups(videos: pl.DataFrame, column: str, threshold: float) -> dict[str, dict[str, float]]:
    if column not in videos.columns:
        raise InputError(
            f"--by {column}: no such column of videos; there are {', '.join(videos.columns)}", reason="column"
        )
    named = videos.with_columns(pl.col(column).cast(pl.String).fill_null("(none)").alias(column))
    return {
        str(name): measure_rows(named.filter(pl.col(column) == name), threshold)
        for name in named[column].unique().sort()
    }


def to_json(measured: Mapping[str, Any]) -> str:
    """Return what `summary` returned as JSON, in which a metric without meaning is null (NaN is not JSON)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(measured), indent=2, allow_nan=False)


def to_markdown(measured: Mapping[str, Any]) -> str:
    """Write what `summary` returned as a table: a line a level and group, the hardest method first.

    Args:
        measured: Of `summary`.

    Returns:
        Markdown ending in a newline; a dash where a metric has no meaning. A stamp, if there is one, first.
    """
    stamp = measured["card"].get(STAMP)
    lines = [f"**{stamp}**", ""] if stamp else []
    lines += [
        "| level | faces | " + " | ".join(_COLUMNS.values()) + " | real | fake |",
        "|---|---|" + "---:|" * (len(_COLUMNS) + 2),
    ]
    for level in LEVELS:
        values = measured[level]
        lines.append(_line(level, "all", values))
        datasets = values["per_dataset"]
        if len(datasets) > 1:
            lines += [
                _line(level, f"data set {name or '(no name)'}", v) for name, v in _worst_first(datasets)
            ]
        lines += [_line(level, f"method {name}", v) for name, v in _worst_first(values["per_method"])]
    for column, groups in measured.get("groups", {}).items():
        lines += [_line("video", f"{column} {name}", v) for name, v in _worst_first(groups)]
    counts = measured["counts"]
    intervals = "; brackets: 95 % interval over draws of videos" if "intervals" in measured["video"] else ""
    lines += [
        "",
        f"{counts['rows']:,} rows, {counts['scored']:,} scored, {counts['rows'] - counts['scored']:,} could "
        f"not be scored, {counts['unlabelled']:,} without label. A video's score is the "
        f"{measured['aggregate']} of its frames; accuracy at a score of {measured['threshold']:g}; "
        f"EER is the mean of both errors{intervals}.",
        *(f"\nWarning: {sentence}" for sentence in measured["warnings"]),
        *_operating(measured),
        *_cross(measured),
        "",
        *card_lines(measured["facts"]),
    ]
    return "\n".join(lines) + "\n"


def _operating(measured: Mapping[str, Any]) -> list[str]:
    if "operating_points" not in measured:
        return []
    lines = [
        "",
        "| threshold, by video | score | ACC | balanced | false alarms | caught |",
        "|---|" + "---:|" * 5,
    ]
    for name, v in measured["operating_points"].items():
        shares = [v[key] for key in ("accuracy", "balanced_accuracy", "false_alarms", "caught")]
        cells = " | ".join(_number(x, ".4f") for x in shares)
        lines.append(f"| {_cell(name)} | {v['threshold']:.3f} | {cells} |")
    lines += ["", "| probabilities, by video | Brier | ECE |", "|---|---:|---:|"]
    lines += [
        f"| {_cell(name)} | {_number(v['brier'], '.4f')} | {_number(v['ece'], '.4f')} |"
        for name, v in measured["calibration"].items()
    ]
    return [*lines, "", "Fitted on validation; real and fake weigh the same in Brier and ECE."]


def _cross(measured: Mapping[str, Any]) -> list[str]:
    table = measured.get("cross_auc")
    if not table:
        return []
    columns = list(next(iter(table.values())))
    lines = [
        "",
        f"| AUC by video: reals of, fakes of | {' | '.join(_cell(c or '(no name)') for c in columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    return lines + [
        f"| {_cell(name or '(no name)')} | {' | '.join(_number(row[c], '.4f') for c in columns)} |"
        for name, row in table.items()
    ]


def _worst_first(groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(groups.items(), key=lambda g: (math.isnan(g[1]["auc"]), g[1]["auc"], g[0]))


def _line(level: str, name: str, values: Mapping[str, Any]) -> str:
    cells = []
    for key in _COLUMNS:
        low, high = values.get("intervals", {}).get(key, (math.nan, math.nan))
        between = "" if math.isnan(low) or math.isnan(values[key]) else f" [{low:.3f}, {high:.3f}]"
        cells.append(_number(values[key], ".4f") + between)
    return f"| {level} | {_cell(name)} | {' | '.join(cells)} | {values['n_real']:,} | {values['n_fake']:,} |"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
