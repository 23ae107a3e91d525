"""How sure a metric is: confidence intervals that draw videos or people, never frames.

Example:
    >>> from unseen.evaluate.metrics import auc
    >>> label = np.repeat([0, 1], 50)
    >>> video = np.arange(100) // 10  # ten frames a video
    >>> bootstrap(auc, np.linspace(-1, 1, 100), label, video, resamples=20)
    Interval(value=1.0, low=1.0, high=1.0)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unseen.evaluate.metrics import Floats, Labels, checked
from unseen.types import InputError

__all__ = ["Interval", "bootstrap"]


class Interval(NamedTuple):
    """A confidence interval of a metric, with the metric itself."""

    value: float
    low: float
    high: float


def bootstrap(
    metric: Callable[[Floats, Labels], float],
    score: ArrayLike,
    label: ArrayLike,
    group: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Interval:
    """Return a percentile interval of a metric, drawing whole groups (videos, people) with replacement.

    Frames of one video are near copies of each other; drawing rows would pretend that there are as many
    independent observations as frames. Reals and fakes are drawn apart, so neither class can vanish.

    Args:
        metric: `auc`, `eer`, or any function of (score, label).
        score: (N,).
        label: (N,) 0 or 1; the rows of a group share one label.
        group: (N,) names or numbers; None means that each row stands alone.
        resamples: How many draws.
        level: Share of the draws inside the interval.
        rng: Its state decides the draws; None is `np.random.default_rng(0)`.

    Raises:
        InputError: A group holds both labels.
    """
    scores, labels = checked(score, label)
    value = metric(scores, labels)
    if np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    code = np.arange(scores.size) if group is None else np.unique(np.asarray(group), return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    rows: list[NDArray[Any]] = np.split(order, starts[1:])
    kind = labels[order[starts]]
    mixed = [r for r, k in zip(rows, kind, strict=True) if (labels[r] != k).any()]
    if mixed:
        raise InputError(
            f"rows {mixed[0][:4].tolist()} share a group but not a label; a group is one video or one person",
            reason="mixed_group",
        )
    rng = np.random.default_rng(0) if rng is None else rng
    classes = [np.flatnonzero(kind == k) for k in (0, 1)]
    draws = np.empty(resamples)
    for i in range(resamples):
        drawn = np.concatenate([rng.choice(c, c.size) for c in classes])
        index = np.concatenate([rows[g] for g in drawn])
        draws[i] = metric(scores[index], labels[index])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
