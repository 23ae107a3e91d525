"""What pictures a calibration knows: face size, blur, compression, drawing, each against its real people.

A promise about false alarms holds for faces like those that it was made from. The measures of
`unseen.media.quality` of a new face get a rank among the calibration's real people, as its score does:
p = (1 + number of people at least as extreme) / (n + 1). A p-value of at most 1 in 100 (with fewer than 99
people: as extreme as nobody among them) is said as a warning. Each of `SIDES` is looked at on its own, so
that with six of them up to six in a hundred ordinary faces get some warning (measured: 4).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from unseen.media.quality import MEASURES, Quality

__all__ = ["LEAST_PEOPLE", "SIDES", "Rare", "Scope", "medians"]

KEPT = 512  # values a measure that are kept in the file
LEAST_PEOPLE = 19  # fewer cannot say what one person in twenty is like
RARE = 0.01

# What is out of the ordinary: measure, side, and how people say it.
SIDES: tuple[tuple[str, str, str], ...] = (
    ("size", "low", "a smaller face"),
    ("sharpness", "low", "less sharp"),
    ("sharpness", "high", "harder edges"),
    ("blocks", "high", "stronger traces of compression"),
    ("flat", "high", "more places without texture, as after smoothing or in a drawing"),
    ("drawn", "high", "hard edges beside empty areas, as in a drawing or a cartoon"),
)


@dataclass(frozen=True)
class Rare:
    """One way in which a face is unlike the calibration's real people."""

    measure: str
    side: str
    value: float
    p_value: float
    text: str


@dataclass(frozen=True)
class Scope:
    """The measures of the real people that a calibration was made from.

    Attributes:
        people: How many.
        measures: Name to rising values, one a person (the median of that person's crops), thinned evenly
            where there are more than `KEPT`.
    """

    people: int
    measures: dict[str, tuple[float, ...]]

    @classmethod
    def fit(cls, found: Iterable[tuple[str, Quality]]) -> Scope | None:
        """Take the crops of real people, each with its person's name; None without any."""
        people: dict[str, list[tuple[float, ...]]] = {}
        for person, quality in found:
            people.setdefault(person, []).append(quality.values())
        if not people:
            return None
        table = np.sort(np.array([np.median(rows, axis=0) for rows in people.values()]), axis=0)  # (n, M)
        if len(table) > KEPT:
            table = table[np.linspace(0, len(table) - 1, KEPT).round().astype(int)]
        return cls(len(people), {name: tuple(table[:, i].tolist()) for i, name in enumerate(MEASURES)})

    def p_value(self, measure: str, side: str, value: float) -> float:
        """Return how rare so extreme a value is among the people, in (0, 1]."""
        known = self.measures[measure]
        count = (
            bisect.bisect_right(known, value)
            if side == "low"
            else len(known) - bisect.bisect_left(known, value)
        )
        return (1 + count * self.people / len(known)) / (self.people + 1)

    def rare(self, values: Mapping[str, float]) -> list[Rare]:
        """Return each way in which a face with these measures is unlike the people; none if they are few."""
        if self.people < LEAST_PEOPLE:
            return []
        limit = max(RARE, 1 / (self.people + 1)) + 1e-12
        found = []
        for measure, side, text in SIDES:
            if measure in values and measure in self.measures:
                p_value = self.p_value(measure, side, values[measure])
                if p_value <= limit:
                    found.append(Rare(measure, side, values[measure], p_value, text))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {"people": self.people, "measures": {name: list(v) for name, v in self.measures.items()}}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Scope:
        """Read what `to_dict` gave.

        Raises:
            ValueError: A measure's values do not rise, or there are none.
        """
        people, measures = int(told["people"]), {}
        for name, values in told["measures"].items():
            numbers = [float(value) for value in values]
            if not numbers or not np.isfinite(numbers).all() or any(a > b for a, b in pairwise(numbers)):
                raise ValueError(f"{name}: expected finite rising numbers")
            if len(numbers) > people:
                raise ValueError(f"{name}: {len(numbers)} values of {people} people")
            measures[str(name)] = tuple(numbers)
        return cls(people, measures)


def medians(found: Sequence[Quality]) -> dict[str, float]:
    """Return the median of each measure of one person's frames."""
    if not found:
        return {}
    middle = np.median([quality.values() for quality in found], axis=0)
    return {name: round(float(middle[i]), 4) for i, name in enumerate(MEASURES)}
