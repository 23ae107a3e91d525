"""Metrics of scores against labels: numpy in, a float out.

A score is any number that rises with the belief in *fake*, usually log-odds; a label is 0 (real) or 1 (fake).
Every metric is NaN when one class is absent, so that a validation loop never stops on a small set, and raises
`InputError` naming the index for what no metric can mean: a NaN score, a label other than 0 and 1.

Example:
    >>> auc(np.array([-2.0, 0.5, 0.5, 3.0]), np.array([0, 0, 1, 1]))
    0.875
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unseen.types import InputError

__all__ = [
    "ROC",
    "EqualErrorMethod",
    "accuracy",
    "auc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "checked",
    "class_accuracy",
    "ece",
    "eer",
    "expit",
    "roc",
    "threshold_at_fpr",
    "tpr_at_fpr",
]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
EqualErrorMethod = Literal["mean", "fpr", "interpolate"]


def expit(logit: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-logit)) without overflow, by numpy alone.

    Shape:
        logit: (...,). Returns the same shape.
    """
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(logit, np.float64))))


class ROC(NamedTuple):
    """Every distinct operating point, from "nothing is fake" to "everything is".

    Shape:
        fpr, tpr: (P + 1,) in [0, 1], both rising. threshold: (P + 1,), falling from +inf; a row is called
        fake when its score is *at least* the threshold.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats


def checked(score: ArrayLike, label: ArrayLike) -> tuple[Floats, Labels]:
    """Return scores as float64 and labels as int64, or say which index is wrong.

    Shape:
        score: (N,). label: (N,).

    Raises:
        InputError: Shapes differ or are not flat, a score is NaN, or a label is neither 0 nor 1.
    """
    scores, labels = np.asarray(score, np.float64), np.asarray(label)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise InputError(
            f"score has shape {scores.shape} and label {labels.shape}; expected two flat arrays as long",
            reason="shape",
        )
    missing = np.flatnonzero(np.isnan(scores))
    if missing.size:
        raise InputError(
            f"score[{missing[0]}] is NaN ({missing.size} of {scores.size}); "
            "leave out rows that could not be scored instead of giving them a number",
            reason="nan_score",
        )
    strange = np.flatnonzero(~((labels == 0) | (labels == 1)))
    if strange.size:
        raise InputError(
            f"label[{strange[0]}] is {labels.tolist()[strange[0]]!r} ({strange.size} of {labels.size}); "
            "expected 0 (real) or 1 (fake)",
            reason="label",
        )
    return scores, labels.astype(np.int64)


def roc(score: ArrayLike, label: ArrayLike) -> ROC:
    """Return the full (never thinned) receiver operating curve.

    Shape:
        score: (N,). label: (N,). Rates are NaN for a class that is absent.
    """
    scores, labels = checked(score, label)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    # Rows with one score cannot be told apart: the curve has a point only after the last of each tie.
    last = (
        np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if scores.size else np.empty(0, np.int64)
    )
    true = np.cumsum(labels)[last]
    false = last + 1 - true
    n_fake = int(labels.sum())
    n_real = labels.size - n_fake
    with np.errstate(invalid="ignore", divide="ignore"):
        tpr = np.append(0.0, true / n_fake) if n_fake else np.full(last.size + 1, np.nan)
        fpr = np.append(0.0, false / n_real) if n_real else np.full(last.size + 1, np.nan)
    return ROC(fpr, tpr, np.append(np.inf, scores[last]))


def auc(score: ArrayLike, label: ArrayLike) -> float:
    """Return the share of (real, fake) pairs in which the fake scores higher; a tie counts one half.

    Shape:
        score: (N,). label: (N,).

    Returns:
        The area under the ROC curve in [0, 1] (Mann-Whitney statistic), NaN with one class.
    """
    scores, labels = checked(score, label)
    n_fake = int(labels.sum())
    n_real = labels.size - n_fake
    if not n_fake or not n_real:
        return float("nan")
    from scipy.stats import rankdata  # a second of start-up that a verdict does not need

    ranks = rankdata(scores)  # ties share their mean rank, which is what makes them count one half
    return float((ranks[labels == 1].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * n_real))


def average_precision(score: ArrayLike, label: ArrayLike) -> float:
    """Return the sum of precision times the step in recall over distinct scores, fakes being the positives.

    Shape:
        score: (N,). label: (N,).

    Returns:
        A number in (0, 1]; no interpolation (as scikit-learn's). NaN with one class.
    """
    scores, labels = checked(score, label)
    n_fake = int(labels.sum())
    n_real = labels.size - n_fake
    if not n_fake or not n_real:
        return float("nan")
    fpr, tpr, _ = roc(scores, labels)
    true, called = tpr[1:] * n_fake, tpr[1:] * n_fake + fpr[1:] * n_real
    return float(np.sum(np.diff(tpr) * true / called))


def accuracy(score: ArrayLike, label: ArrayLike, threshold: float = 0.0) -> float:
    """Return the share of rows on the right side of a threshold; fake is called *above* it, not at it.

    Args:
        score: (N,) log-odds of fake, so that the default threshold is a probability of one half.
        label: (N,) 0 or 1.
        threshold: In the unit of `score`.

    Returns:
        A number in [0, 1]. NaN with one class, because such an accuracy is only a true-positive or a
        true-negative rate: `class_accuracy` gives those under their own names.
    """
    scores, labels = checked(score, label)
    if labels.size == 0 or labels.min() == labels.max():
        return float("nan")
    return float(np.mean((scores > threshold) == (labels == 1)))


def class_accuracy(score: ArrayLike, label: ArrayLike, threshold: float = 0.0) -> tuple[float, float]:
    """Return the share of reals, and the share of fakes, that a threshold gets right (each NaN if absent).

    Shape:
        score: (N,). label: (N,) in any order: labels, not positions, say which row belongs to which class.

    Example:
        >>> class_accuracy(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 0]))  # everything is called fake
        (0.0, 1.0)
    """
    scores, labels = checked(score, label)
    fake = scores > threshold

    def share(hits: NDArray[np.bool_]) -> float:
        return float(hits.mean()) if hits.size else float("nan")

    return share(~fake[labels == 0]), share(fake[labels == 1])


def balanced_accuracy(score: ArrayLike, label: ArrayLike, threshold: float = 0.0) -> float:
    """Return the mean of the two classes' accuracies; NaN with one class. Shapes and units as `accuracy`."""
    real, fake = class_accuracy(score, label, threshold)
    return (real + fake) / 2


def eer(score: ArrayLike, label: ArrayLike, method: EqualErrorMethod = "mean") -> float:
    """Return the equal error rate: where misses (FNR) and false alarms (FPR) are as frequent as each other.

    Public code computes it in three ways that differ by up to .07 on tied scores, so the way has a name:

    Args:
        score: (N,).
        label: (N,) 0 or 1.
        method: With the operating point at which |FNR - FPR| is least (the first of several):
            `"mean"` = (FPR + FNR) / 2 there; `"fpr"` = FPR there (DeepfakeBench);
            `"interpolate"` = root of 1 - x - TPR(x) on straight lines between operating points.

    Returns:
        A number in [0, 1]; NaN with one class.

    Raises:
        InputError: An unknown method.
    """
    if method not in ("mean", "fpr", "interpolate"):
        raise InputError(f"method is {method!r}; expected 'mean', 'fpr' or 'interpolate'", reason="method")
    fpr, tpr, _ = roc(score, label)
    gap = (1 - tpr) - fpr  # falls from 1 to -1 along the curve
    if np.isnan(gap).any():
        return float("nan")
    if method == "interpolate":
        after = int(np.argmax(gap <= 0))
        before = after - 1  # exists: the curve starts with a gap of 1
        part = gap[before] / (gap[before] - gap[after])
        return float(fpr[before] + part * (fpr[after] - fpr[before]))
    best = int(np.argmin(np.abs(gap)))
    return float(fpr[best]) if method == "fpr" else float((fpr[best] + 1 - tpr[best]) / 2)


def tpr_at_fpr(score: ArrayLike, label: ArrayLike, fpr: float) -> float:
    """Return the largest share of fakes found by any threshold that alarms on at most `fpr` of the reals.

    Shape:
        score: (N,). label: (N,). NaN with one class. Nothing is interpolated: the point exists.
    """
    rates = roc(score, label)
    if np.isnan(rates.fpr).any() or np.isnan(rates.tpr).any():
        return float("nan")
    return float(rates.tpr[rates.fpr <= fpr + 1e-12].max())


def threshold_at_fpr(real_scores: ArrayLike, fpr: float) -> float:
    """Return the least threshold that at most a share `fpr` of these very reals reaches.

    This describes the sample at hand. For a promise about *new* people use `calibration.Calibration`, which
    corrects for the sample's size.

    Shape:
        real_scores: (N,). The result is just above one of them, so `>` and `>=` agree. NaN if N is 0.
    """
    scores, _ = checked(real_scores, np.zeros(np.shape(real_scores), np.int64))
    if not scores.size:
        return float("nan")
    allowed = int(np.floor(fpr * scores.size + 1e-9))
    if allowed >= scores.size:
        return float("-inf")
    return float(np.nextafter(np.sort(scores)[::-1][allowed], np.inf))


def brier(score: ArrayLike, label: ArrayLike) -> float:
    """Return the mean squared distance of sigmoid(score) from the label (Brier 1950); NaN with one class.

    Shape:
        score: (N,) log-odds of fake. label: (N,).
    """
    scores, labels = checked(score, label)
    if labels.size == 0 or labels.min() == labels.max():
        return float("nan")
    return float(np.mean((expit(scores) - labels) ** 2))


def ece(score: ArrayLike, label: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error of sigmoid(score), the probability of *fake*.

    Bins of equal width over [0, 1]; the mean over rows of |mean probability - share of fakes| in its bin
    (Naeini et al. 2015, on the probability of one class rather than on the confidence of the chosen one).

    Shape:
        score: (N,) log-odds of fake. label: (N,). NaN with one class.
    """
    scores, labels = checked(score, label)
    if labels.size == 0 or labels.min() == labels.max():
        return float("nan")
    probability = expit(scores)
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, probability, bins) - np.bincount(place, labels, bins)
    return float(np.abs(gap).sum() / labels.size)
