"""How a detector bears corruption: score tables of the same rows, clean and corrupted, as a table and a plot.

A table says on its card what was done to its pictures (`corruption`, `severity`); the one without is the
clean one. Two things are asked of a detector: does it still *rank* fakes above reals (AUC), and does a
threshold that was set on clean pictures still mean what it meant (false alarms there)?
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from unseen.evaluate.aggregate import Aggregate
from unseen.evaluate.corruptions import NAMES
from unseen.evaluate.metrics import threshold_at_fpr
from unseen.evaluate.resampling import METRICS, WeightedCurve, draws
from unseen.evaluate.scores import ScoreTable
from unseen.evaluate.svg import Point, panels
from unseen.types import InputError

__all__ = ["Reading", "Robustness", "measure_robustness", "to_markdown", "to_svg"]

RATE = 0.05  # of false alarms on clean reals, at which those on corrupted ones are counted
_KEY = ["dataset", "video", "method"]


@dataclass(frozen=True)
class Reading:
    """The videos of one table.

    `auc` with its interval over draws of videos; `drop` is clean minus this one, drawn together; `alarms` and
    `caught` are the shares of reals and fakes at or above the threshold that 5 % of the clean reals reach;
    `lost` counts videos that could be scored clean and not here.
    """

    corruption: str
    level: int
    auc: float
    low: float
    high: float
    drop: float
    drop_low: float
    drop_high: float
    alarms: float
    caught: float
    lost: int


@dataclass(frozen=True)
class Robustness:
    """All tables of one detector, the clean one first."""

    readings: tuple[Reading, ...]
    n_real: int
    n_fake: int
    aggregate: str
    threshold: float

    @property
    def clean(self) -> Reading:
        """The reading without corruption."""
        return self.readings[0]

    def of(self, corruption: str) -> list[Reading]:
        """Return the readings of a corruption, mild to severe."""
        return [r for r in self.readings if r.corruption == corruption]

    @property
    def corruptions(self) -> list[str]:
        """Which corruptions there are, those that lower the AUC most first."""
        names = dict.fromkeys(r.corruption for r in self.readings[1:])
        return sorted(names, key=lambda name: (_mean(r.auc for r in self.of(name)), name))

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; a number without meaning is null."""
        rows = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in vars(r).items()}
            for r in self.readings
        ]
        threshold = self.threshold if math.isfinite(self.threshold) else None
        return {
            "readings": rows,
            "means": {name: _mean(r.auc for r in self.of(name)) for name in self.corruptions},
            "n_real": self.n_real,
            "n_fake": self.n_fake,
            "aggregate": self.aggregate,
            "threshold": threshold,
            "threshold_rule": f"{RATE:.0%} of the clean reals reach it",
        }


def measure_robustness(
    tables: Iterable[ScoreTable],
    *,
    aggregate: Aggregate = "mean",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Robustness:
    """Measure a clean table and corrupted ones, video by video.

    Args:
        tables: One without `corruption` on its card, and others with `corruption` and `severity`.
        aggregate: How a video's frames become its score.
        resamples: Draws of videos; the same draws for every table.
        level: Share of the draws inside an interval.
        seed: Of the draws.

    Raises:
        InputError: No clean table or several, one corruption and level twice, or a class is absent.
    """
    named: dict[tuple[str, int], ScoreTable] = {}
    for table in tables:
        key = (str(table.card.get("corruption") or ""), int(table.card.get("severity") or 0))
        if key in named:
            what = f"{key[0]} at level {key[1]}" if key[0] else "clean pictures"
            raise InputError(
                f"{table.name}: {what} twice; the first is {named[key].name}", reason="duplicate"
            )
        named[key] = table
    if ("", 0) not in named:
        raise InputError("no table of clean pictures (a card without `corruption`)", reason="missing")
    order = {name: i for i, name in enumerate(("", *NAMES))}
    keys = sorted(named, key=lambda k: (order.get(k[0], len(order)), k))
    clean = named["", 0].videos(aggregate).select(*_KEY, "label", pl.col("score").alias("clean"))
    label = clean["label"].to_numpy().astype(np.int64)
    counts = np.bincount(label, minlength=2)
    if counts.min() < 2:
        raise InputError(
            f"{named['', 0].name}: {counts[0]} real and {counts[1]} fake videos; expected two of each",
            reason="one_class",
        )
    threshold = threshold_at_fpr(clean["clean"].to_numpy()[label == 0], RATE)
    weights = np.stack(
        list(draws(label, np.arange(label.size), resamples, np.random.default_rng(seed)))
    )  # (R, N): of videos, so small
    auc_at = METRICS.index("auc")
    first = clean["clean"].to_numpy()
    readings = []
    for key in keys:
        videos = named[key].videos(aggregate).select(*_KEY, pl.col("score").alias("here"))
        joined = clean.join(videos, on=_KEY, how="left", maintain_order="left")["here"]
        there = joined.is_not_null().to_numpy()
        # A video that could not be scored has no rank: it is left out here, and counted.
        curve = WeightedCurve(joined.drop_nulls().to_numpy(), label[there])
        drawn = np.array([curve.measure(w[there])[auc_at] for w in weights])
        score, kind = joined.drop_nulls().to_numpy(), label[there]
        value = curve.measure(np.ones(score.size))[auc_at]
        clean_curve = WeightedCurve(first[there], kind)
        base = clean_curve.measure(np.ones(score.size))[auc_at]
        drawn_base = np.array([clean_curve.measure(w[there])[auc_at] for w in weights])
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.nanquantile(drawn, tails) if score.size else (np.nan, np.nan)
        drop_low, drop_high = np.nanquantile(drawn_base - drawn, tails) if score.size else (np.nan, np.nan)
        readings.append(
            Reading(
                *key,
                float(value),
                float(low),
                float(high),
                float(base - value),
                float(drop_low),
                float(drop_high),
                _share(score[kind == 0] >= threshold),
                _share(score[kind == 1] >= threshold),
                int((~there).sum()),
            )
        )
    return Robustness(tuple(readings), int(counts[0]), int(counts[1]), aggregate, threshold)


def _share(hits: Any) -> float:
    return float(hits.mean()) if hits.size else float("nan")


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


def to_markdown(found: Robustness) -> str:
    """Write a line a corruption, the worst first: AUC at each level, their mean, false alarms at the mean."""
    levels = sorted({r.level for r in found.readings[1:]})
    clean = found.clean
    lines = [
        f"Clean: AUC {clean.auc:.4f} [{clean.low:.4f}, {clean.high:.4f}], {found.n_real:,} real and "
        f"{found.n_fake:,} fake videos.",
        "",
        "| corruption | "
        + " | ".join(f"level {level}" for level in levels)
        + " | mean | mean drop | false alarms | caught |",
        "|---|" + "---:|" * (len(levels) + 4),
    ]
    for name in found.corruptions:
        readings = found.of(name)
        at = {r.level: r for r in readings}
        cells = [
            f"{at[level].auc:.4f} [{at[level].low:.3f}, {at[level].high:.3f}]" if level in at else "-"
            for level in levels
        ]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {_mean(r.auc for r in readings):.4f} "
            f"| {_mean(r.drop for r in readings):+.4f} | {100 * _mean(r.alarms for r in readings):.1f} % "
            f"| {100 * _mean(r.caught for r in readings):.1f} % |"
        )
    lost = sum(r.lost for r in found.readings)
    lines += [
        "",
        f"AUC by video (the {found.aggregate} of its frames) with 95 % intervals over draws of videos. False "
        f"alarms and caught: reals and fakes at or above the score that {RATE:.0%} of the clean reals reach, "
        f"mean of the levels; clean {100 * clean.alarms:.1f} % and {100 * clean.caught:.1f} %.",
        *(
            [f"{lost:,} times a video could not be scored once corrupted; it is left out there."]
            if lost
            else []
        ),
    ]
    return "\n".join(lines) + "\n"


def to_svg(found: Robustness, title: str = "AUC under corruption") -> str:
    """Draw a panel a corruption, the worst first: AUC over levels with intervals, clean as a dashed line."""
    series = {
        name: [Point(r.level, r.auc, r.low, r.high) for r in found.of(name)] for name in found.corruptions
    }
    lows = [r.low for r in found.readings if math.isfinite(r.low)]
    floor = math.floor(10 * min([0.5, *lows])) / 10
    ticks = [round(floor + 0.1 * i, 1) for i in range(round((1 - floor) * 10) + 1)]
    return panels(
        series,
        title=f"{title} (clean {found.clean.auc:.3f}, dashed)",
        x=(0.7, 5.3),
        y=(floor, 1.0),
        x_ticks=range(1, 6),
        y_ticks=ticks if len(ticks) <= 6 else ticks[::2],
        x_label="level",
        baseline=found.clean.auc,
    )
