"""Confidence intervals of every metric at once, for tables of any size.

`intervals.bootstrap` takes any metric and copies rows; this one knows the metrics of `scores.measure`.
Drawing videos with replacement is giving each a whole weight, and with rows sorted once, every metric of a
draw is a handful of running sums: a thousand draws of 130,000 rows take seconds and hardly any memory.

Example:
    >>> score, label = np.array([-1.0, 0.0, 0.0, 2.0, -2.0, 1.0]), np.array([0, 0, 1, 1, 0, 1])
    >>> found = measure_intervals(score, label, resamples=100)["auc"]
    >>> round(found.value, 4), found.low <= found.value <= found.high
    (0.9444, True)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unseen.evaluate.intervals import Interval
from unseen.evaluate.metrics import Floats, Labels, checked, expit
from unseen.evaluate.scores import RATES
from unseen.types import InputError

__all__ = ["METRICS", "WeightedCurve", "draws", "measure_intervals"]

METRICS = (
    "auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "eer",
    *(f"tpr_at_fpr_{rate:g}" for rate in RATES),
    "brier",
    "ece",
)
BINS = 15  # of the calibration error, as in `metrics.ece`


class WeightedCurve:
    """Scores sorted once, and every metric of them for any weights of the rows.

    With whole weights a metric is what `scores.measure` gives for rows repeated so many times.

    Shape:
        score: (N,) log-odds. label: (N,) 0 or 1.
    """

    def __init__(self, score: Floats, label: Labels, threshold: float = 0.0) -> None:
        self.order = np.argsort(-score, kind="stable")
        falling = score[self.order]
        self.fake = (label[self.order] == 1).astype(np.float64)
        # Rows with one score cannot be told apart: the curve has a point only after the last of each tie.
        last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if falling.size else self.order
        self.last: NDArray[np.intp] | slice = slice(None) if last.size == falling.size else last
        self.above = int(np.searchsorted(-falling, -threshold, side="left"))  # rows with a score > threshold
        chance = expit(falling)
        self.gap = chance - self.fake
        self.error = self.gap**2
        place = np.minimum((chance * BINS).astype(np.int64), BINS - 1)  # falls along the rows
        self.ends = np.append(np.flatnonzero(np.diff(place)), falling.size - 1)

    def measure(self, weight: Floats) -> Floats:
        """Return the metrics in the order of `METRICS`; NaN where a class has no weight.

        Shape:
            weight: (N,), zero or more, in the order that the scores were given. Returns (M,).
        """
        weight = weight[self.order]
        true, called = np.cumsum(weight * self.fake), np.cumsum(weight)
        n_fake = float(true[-1]) if true.size else 0.0
        n = float(called[-1]) if true.size else 0.0
        n_real = n - n_fake
        if n_fake <= 0 or n_real <= 0:
            return np.full(len(METRICS), np.nan)
        hits, calls = (float(x[self.above - 1]) if self.above else 0.0 for x in (true, called))
        tpr, tnr = hits / n_fake, 1 - (calls - hits) / n_real
        t, c = true[self.last], called[self.last]
        f = c - t
        step_t, step_f = np.diff(t, prepend=0.0), np.diff(f, prepend=0.0)
        auc = float(step_f @ (t - 0.5 * step_t)) / (n_real * n_fake)
        precision = float(step_t @ (t / np.maximum(c, 1e-300))) / n_fake
        gap = np.abs(1 - t / n_fake - f / n_real)
        best = int(np.argmin(gap))
        eer = (f[best] / n_real + 1 - t[best] / n_fake) / 2
        caught = []
        for rate in RATES:
            within = int(np.searchsorted(f, (rate + 1e-12) * n_real, side="right"))
            caught.append(float(t[within - 1]) / n_fake if within else 0.0)
        ece = np.abs(np.diff(np.cumsum(weight * self.gap)[self.ends], prepend=0.0)).sum() / n
        return np.array(
            [
                auc,
                precision,
                (tpr * n_fake + tnr * n_real) / n,
                (tpr + tnr) / 2,
                eer,
                *caught,
                float(weight @ self.error) / n,
                ece,
            ]
        )


def draws(
    label: Labels, group: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield weights of rows: how often each row's group was drawn with replacement among its class.

    Args:
        label: (N,) 0 or 1.
        group: (N,) whole numbers from 0; a group has one label.
        resamples: How many draws.
        rng: The only source of randomness.

    Raises:
        InputError: A group holds both labels.
    """
    groups = int(group.max()) + 1 if group.size else 0
    kind = np.zeros(groups, np.int64)
    kind[group] = label
    mixed = np.flatnonzero(kind[group] != label)
    if mixed.size:
        rows = np.flatnonzero(group == group[mixed[0]])[:4].tolist()
        raise InputError(
            f"rows {rows} share a group but not a label; a group is one video or one person",
            reason="mixed_group",
        )
    classes = [np.flatnonzero(kind == k) for k in (0, 1)]
    for _ in range(resamples):
        count = np.zeros(groups)
        for members in classes:
            if members.size:
                count[members] = np.bincount(rng.integers(0, members.size, members.size), None, members.size)
        yield count[group]


def measure_intervals(
    score: ArrayLike,
    label: ArrayLike,
    group: ArrayLike | None = None,
    *,
    threshold: float = 0.0,
    resamples: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> dict[str, Interval]:
    """Return a percentile interval of every metric, drawing whole groups (videos, people) with replacement.

    Args:
        score: (N,) log-odds.
        label: (N,) 0 or 1; the rows of a group share one label.
        group: (N,) names or numbers; None means that each row stands alone.
        threshold: Log-odds, for accuracies.
        resamples: How many draws.
        level: Share of the draws inside the interval.
        rng: Its state decides the draws; None is `np.random.default_rng(0)`.

    Returns:
        Metric to interval. Ends are NaN where a class has fewer than two groups: one video says nothing of
        how much videos differ.

    Raises:
        InputError: A group holds both labels.
    """
    scores, labels = checked(score, label)
    code = (
        np.arange(scores.size)
        if group is None
        else np.unique(np.asarray(group), return_inverse=True)[1].reshape(-1).astype(np.int64)
    )
    curve = WeightedCurve(scores, labels, threshold)
    value = curve.measure(np.ones(scores.size))
    few = min(np.unique(code[labels == k]).size for k in (0, 1)) < 2
    if few:
        ends = np.full((2, len(METRICS)), np.nan)
    else:
        rng = np.random.default_rng(0) if rng is None else rng
        drawn = np.stack([curve.measure(w) for w in draws(labels, code, resamples, rng)])
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(float(v), float(low), float(high))
        for name, v, low, high in zip(METRICS, value, *ends, strict=True)
    }
