"""What a detector does once a threshold is set, and what its probabilities are worth.

Thresholds and calibrations come from *validation* scores; nothing is fitted on what it is measured on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from unseen.evaluate.calibration import Calibration
from unseen.evaluate.isotonic import Isotonic
from unseen.evaluate.metrics import Floats, Labels, class_accuracy, expit, roc, threshold_at_fpr
from unseen.evaluate.resampling import METRICS, WeightedCurve
from unseen.evaluate.svg import Point, panels
from unseen.types import InputError

__all__ = [
    "calibrated",
    "calibration_errors",
    "operating_points",
    "reliability",
    "reliability_svg",
    "run_thresholds",
    "validation_thresholds",
]


def validation_thresholds(rows: pl.DataFrame) -> dict[str, float]:
    """Return thresholds that validation videos set: best balanced accuracy, and stated false-alarm rates.

    Args:
        rows: Validation rows of one level (`ScoreTable.at`), both classes.

    Raises:
        InputError: A class is missing.
    """
    score, label = _both(rows)
    curve = roc(score, label)
    best = int(np.argmax(curve.tpr - curve.fpr))
    at = curve.threshold[best]
    # Half way to the next score below: a threshold on a score would depend on its last digit.
    below = score[score < at]
    middle = float(at) if not below.size or not np.isfinite(at) else float((at + below.max()) / 2)
    reals = score[label == 0]
    return {
        "best on validation": middle,
        **{f"{rate:.0%} of validation reals": threshold_at_fpr(reals, rate) for rate in (0.01, 0.05)},
    }


def run_thresholds(calibration: Calibration) -> dict[str, float]:
    """Return the thresholds that a run's calibration promises, by their false-alarm rate among people."""
    if calibration.miss_rate is None:
        return {}
    return {f"{100 * float(key):g} % by calibration": at for key, at in calibration.thresholds.items()}


def operating_points(rows: pl.DataFrame, thresholds: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return, for each threshold, what it does on rows of one level: fake is called *above* it.

    Returns:
        Name to threshold, accuracy, balanced_accuracy, false_alarms, caught; NaN where a class is absent.
    """
    score, label = rows["score"].to_numpy(), rows["label"].to_numpy()
    found = {}
    for name, threshold in {"even chance": 0.0, **thresholds}.items():
        real, fake = class_accuracy(score, label, threshold)
        right = float(np.mean((score > threshold) == (label == 1))) if label.size else float("nan")
        found[name] = {
            "threshold": float(threshold),
            "accuracy": right,
            "balanced_accuracy": (real + fake) / 2,
            "false_alarms": 1 - real,
            "caught": fake,
        }
    return found


def calibrated(rows: pl.DataFrame, validation: pl.DataFrame | Calibration) -> dict[str, Floats]:
    """Return log-odds as they are, by temperature, and by isotonic regression if there are scores to fit it.

    Args:
        rows: What is to be measured, of one level.
        validation: Scores to fit on, of the same level, or a calibration that was fitted before.

    Raises:
        InputError: A class is missing in validation.
    """
    score = rows["score"].to_numpy()
    more: dict[str, Floats] = {}
    if isinstance(validation, Calibration):
        fitted = validation
    else:
        known, label = _both(validation)
        fitted = Calibration.fit(known, label, bias=True)
        more = {"isotonic": Isotonic.fit(known, label).log_odds(score)}
    return {"as it is": score, "temperature": score / fitted.temperature + fitted.bias, **more}


def calibration_errors(log_odds: Floats, label: Labels) -> dict[str, float]:
    """Return the Brier score and the expected calibration error, both classes weighing the same.

    A calibration speaks for somebody to whom real and fake are equally likely beforehand; a test set with
    five fakes a real would otherwise look miscalibrated by its proportions alone. NaN with one class.
    """
    counts = np.bincount(label, minlength=2)
    if counts.min() == 0:
        return {"brier": float("nan"), "ece": float("nan")}
    measured = WeightedCurve(log_odds, label).measure((label.size / (2 * counts))[label])
    return {name: float(measured[METRICS.index(name)]) for name in ("brier", "ece")}


def reliability(log_odds: Floats, label: Labels, bins: int = 10) -> list[dict[str, float]]:
    """Return bins of equal width: mean probability, share of fakes (classes weighing the same), and rows."""
    counts = np.maximum(np.bincount(label, minlength=2), 1)
    weight = (label.size / (2 * counts))[label]
    chance = expit(log_odds)
    place = np.minimum((chance * bins).astype(np.int64), bins - 1)
    rows, total = np.bincount(place, minlength=bins), np.bincount(place, weight, bins)
    return [
        {
            "probability": float(np.sum((weight * chance)[place == i]) / total[i]),
            "fakes": float(np.sum((weight * label)[place == i]) / total[i]),
            "rows": int(rows[i]),
        }
        for i in np.flatnonzero(rows)
    ]


def reliability_svg(ways: Mapping[str, Floats], label: Labels) -> str:
    """Draw a panel a calibration: the share of fakes over the probability that was said, with counts."""
    series = {
        name: [Point(b["probability"], b["fakes"], note=f"{b['rows']:.0f}") for b in reliability(odds, label)]
        for name, odds in ways.items()
    }
    ticks = (0, 0.25, 0.5, 0.75, 1)
    return panels(
        series, title="Reliability: share of fakes over the probability said", x=(0, 1), y=(0, 1),
        x_ticks=ticks, y_ticks=ticks, x_label="probability of fake", diagonal=True,
    )  # fmt: skip


def _both(rows: pl.DataFrame) -> tuple[Floats, Labels]:
    score, label = rows["score"].to_numpy(), rows["label"].to_numpy().astype(np.int64)
    counts = np.bincount(label, minlength=2)
    if counts.min() == 0:
        raise InputError(
            f"validation scores: {counts[0]} real and {counts[1]} fake; thresholds and calibration need both",
            reason="one_class",
        )
    return score, label
