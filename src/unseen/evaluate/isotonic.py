"""Isotonic calibration: the rising steps that fit validation scores best, without a shape assumed.

It needs far more people than a temperature does (A. Niculescu-Mizil, R. Caruana, ICML 2005: about a
thousand), and says nothing of scores beyond those it was fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from unseen.evaluate.metrics import Floats, checked
from unseen.types import InputError

__all__ = ["Isotonic"]


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising map from scores to probabilities of fake.

    Shape:
        score: (P,) rising. probability: (P,) in (0, 1), not falling.
    """

    score: Floats
    probability: Floats

    @classmethod
    def fit(cls, score: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None) -> Isotonic:
        """Fit by pooling adjacent violators; both classes weigh the same, as in `Calibration`.

        Probabilities stay within Platt's targets, 1 / (n + 2) and (n + 1) / (n + 2) for n rows of a class:
        scores that separate perfectly give no certainty.

        Args:
            score: (N,) log-odds, or any number that rises with suspicion.
            label: (N,) 0 or 1.
            weight: (N,) of each row inside its class; equal if None.

        Raises:
            InputError: A class is missing.
        """
        from scipy.optimize import isotonic_regression  # a second of start-up that a verdict does not need

        scores, labels = checked(score, label)
        counts = np.bincount(labels, minlength=2)
        if counts.min() == 0:
            absent = "real" if not counts[0] else "fake"
            raise InputError(f"no {absent} among {labels.size} scores; calibration needs both classes")
        given = np.ones(labels.size) if weight is None else np.asarray(weight, np.float64)
        share = given / np.bincount(labels, given)[labels]
        # Rows with one score get one probability.
        points, place = np.unique(scores, return_inverse=True)
        total = np.bincount(place, share)
        mean = np.bincount(place, share * labels) / total
        fitted = isotonic_regression(mean, weights=total).x
        low, high = 1 / (counts[0] + 2), (counts[1] + 1) / (counts[1] + 2)
        return cls(points, np.clip(fitted, low, high))

    def probabilities(self, score: ArrayLike) -> Floats:
        """Return the probability of each score: linear between fitted ones, constant beyond the last.

        Shape:
            score: (N,). Returns (N,).
        """
        return np.asarray(np.interp(np.asarray(score, np.float64), self.score, self.probability))

    def log_odds(self, score: ArrayLike) -> Floats:
        """Return the same as log-odds. Shape: (N,) to (N,)."""
        chance = self.probabilities(score)
        return np.asarray(np.log(chance / (1 - chance)))
