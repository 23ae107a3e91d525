"""Every number of a score table at both levels, each named by its level, and the same as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from unseen.evaluate.scores import Aggregate, Level, ScoreTable, by_dataset, by_method, measure_rows

__all__ = ["summary", "to_json", "to_markdown"]

LEVELS: tuple[Level, ...] = ("frame", "video")
_COLUMNS = {
    "auc": "AUC",
    "average_precision": "AP",
    "accuracy": "ACC",
    "eer": "EER",
    "tpr_at_fpr_0.01": "TPR at FPR 1 %",
}


def summary(table: ScoreTable, *, aggregate: Aggregate = "mean", threshold: float = 0.0) -> dict[str, Any]:
    """Measure a table at frame level and at video level.

    Args:
        table: Scores of faces.
        aggregate: How a video's frames become its score; see `ScoreTable.videos`.
        threshold: Log-odds at which accuracies are taken.

    Returns:
        `"frame"` and `"video"`, each with the metrics of `scores.measure`, `"per_method"` and
        `"per_dataset"`; `"counts"` of rows; `"aggregate"`, `"threshold"`, `"card"`, `"warnings"`. A metric is
        NaN where a class is absent.
    """
    found: dict[str, Any] = {}
    for level in LEVELS:
        rows = table.at(level, aggregate)
        found[level] = {
            **measure_rows(rows, threshold),
            "per_method": by_method(rows, threshold),
            "per_dataset": by_dataset(rows, threshold),
        }
    return {
        **found,
        "counts": table.counts(),
        "aggregate": aggregate,
        "threshold": threshold,
        "card": dict(table.card),
        "warnings": list(table.warnings),
    }


def to_json(measured: Mapping[str, Any]) -> str:
    """Return what `summary` returned as JSON, in which a metric without meaning is null (NaN is not JSON)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(measured), indent=2, allow_nan=False)


def to_markdown(measured: Mapping[str, Any]) -> str:
    """Write what `summary` returned as a table: a line a level and group, the hardest method first.

    Args:
        measured: Of `summary`.

    Returns:
        Markdown ending in a newline; a dash where a metric has no meaning.
    """
    lines = [
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
    counts = measured["counts"]
    lines += [
        "",
        f"{counts['rows']:,} rows, {counts['scored']:,} scored, {counts['rows'] - counts['scored']:,} could "
        f"not be scored, {counts['unlabelled']:,} without label. A video's score is the "
        f"{measured['aggregate']} of its frames; accuracy at a score of {measured['threshold']:g}; "
        "EER is the mean of both errors.",
        *(f"\nWarning: {sentence}" for sentence in measured["warnings"]),
    ]
    return "\n".join(lines) + "\n"


def _worst_first(groups: Mapping[str, Mapping[str, float]]) -> list[tuple[str, Mapping[str, float]]]:
    return sorted(groups.items(), key=lambda g: (math.isnan(g[1]["auc"]), g[1]["auc"], g[0]))


def _line(level: str, name: str, values: Mapping[str, float]) -> str:
    cells = ["-" if math.isnan(values[key]) else f"{values[key]:.4f}" for key in _COLUMNS]
    name = name.replace("|", "\\|")
    return f"| {level} | {name} | {' | '.join(cells)} | {values['n_real']:,} | {values['n_fake']:,} |"
