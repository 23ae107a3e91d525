"""Whether two detectors that scored the same videos differ: DeLong's test of their AUCs.

E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves", Biometrics 44 (1988): an AUC is a mean over pairs, so its variance follows from what
each fake and each real contributes to it, which is a difference of mid-ranks (X. Sun, W. Xu, 2014).

Example:
    >>> label = np.array([0, 0, 0, 1, 1, 1])
    >>> found = delong(np.array([1.0, 2, 4, 3, 5, 6]), np.array([2.0, 1, 5, 4, 3, 6]), label)
    >>> round(found.difference, 4), round(found.p, 3)
    (0.1111, 0.48)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from unseen.evaluate.metrics import Floats, checked
from unseen.types import InputError

__all__ = ["Paired", "auc_covariance", "delong"]


class Paired(NamedTuple):
    """Two AUCs on the same rows.

    `difference` is the first minus the second, with its standard error; `p` is two-sided, of "they are
    equal". NaN where a class has fewer than two rows, or where nothing varies though the two differ.
    """

    first: float
    second: float
    difference: float
    error: float
    z: float
    p: float


def auc_covariance(scores: ArrayLike, label: ArrayLike) -> tuple[Floats, Floats]:
    """Return the AUC of several detectors on the same rows, and the covariance of these AUCs.

    Shape:
        scores: (K, N). label: (N,) 0 or 1. Returns (K,) and (K, K); NaN if a class has fewer than two rows.
    """
    from scipy.stats import rankdata  # a second of start-up that a verdict does not need

    table = np.atleast_2d(np.asarray(scores, np.float64))
    rows = [checked(row, label) for row in table]
    labels = rows[0][1]
    fake, real = table[:, labels == 1], table[:, labels == 0]
    m, n = fake.shape[1], real.shape[1]
    if min(m, n) < 2:
        return np.full(len(table), np.nan), np.full((len(table), len(table)), np.nan)
    rank = rankdata(table, axis=1)
    # V10 and V01: the share of reals below a fake, and of fakes above a real; a tie is one half.
    of_fake = (rank[:, labels == 1] - rankdata(fake, axis=1)) / n  # (K, m)
    of_real = 1 - (rank[:, labels == 0] - rankdata(real, axis=1)) / m  # (K, n)
    covariance = np.atleast_2d(np.cov(of_fake)) / m + np.atleast_2d(np.cov(of_real)) / n
    return np.asarray(of_fake.mean(1)), np.asarray(covariance)


def delong(first: ArrayLike, second: ArrayLike, label: ArrayLike) -> Paired:
    """Test whether two detectors have the same AUC, given their scores of the same rows.

    Rows must be independent: videos, not frames, and better people than videos.

    Shape:
        first, second: (N,). label: (N,) 0 or 1.

    Raises:
        InputError: The arrays differ in length, or hold what no metric can mean.
    """
    if np.shape(first) != np.shape(second):
        raise InputError(
            f"scores of shapes {np.shape(first)} and {np.shape(second)}; a paired test takes the same rows "
            "twice",
            reason="shape",
        )
    auc, covariance = auc_covariance(np.stack([np.asarray(first), np.asarray(second)]), label)
    difference = float(auc[0] - auc[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = math.sqrt(max(variance, 0.0)) if not math.isnan(variance) else math.nan
    if math.isnan(error):
        z = p = math.nan
    elif error < 1e-12:
        z, p = (0.0, 1.0) if abs(difference) < 1e-12 else (math.nan, math.nan)
    else:
        z = difference / error
        p = math.erfc(abs(z) / math.sqrt(2))
    return Paired(float(auc[0]), float(auc[1]), difference, error, z, p)
