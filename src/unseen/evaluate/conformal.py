"""Distribution-free thresholds that count people, however often each was measured.

Example:
    >>> nine = np.arange(9.0)  # with nine people the smallest promise is one in ten
    >>> conformal_threshold(nine, np.ones(9), 0.05) is None
    True
    >>> [round(conformal_threshold(nine, np.ones(9), rate), 6) for rate in (0.1, 0.2)]
    [8.0, 7.0]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.evaluate.metrics import Floats
from unseen.types import InputError

__all__ = ["People", "conformal_threshold", "least_promise", "people_needed", "people_of", "promises", "thin"]


def conformal_threshold(score: Floats, weight: Floats, rate: float) -> float | None:
    """Return the least score whose conformal p-value is at most `rate`, or None if there is no such score.

    Args:
        score: (N,) of people who must not raise an alarm.
        weight: (N,) their weights; the sum is the number of people.
        rate: In (0, 1).
    """
    allowed = rate * (weight.sum() + 1) - 1
    if allowed < -1e-9:
        return None
    order = np.argsort(-score, kind="stable")
    over = np.cumsum(weight[order]) > allowed + 1e-9
    return float(np.nextafter(score[order][int(np.argmax(over))], np.inf))


def least_promise(people: int) -> float:
    """Return the smallest false-alarm rate that so many real people allow, rounded up to four digits.

    >>> least_promise(89), least_promise(99)
    (0.0112, 0.01)
    """
    return math.ceil(round(1e4 / (people + 1), 6)) / 1e4


def people_needed(rate: float) -> int:
    """Return how many real people a false-alarm rate takes.

    >>> people_needed(0.01), people_needed(0.05)
    (99, 19)
    """
    return math.ceil(round(1 / rate, 6)) - 1


def promises(
    score: Floats, weight: Floats, rate: float, usual: Sequence[float]
) -> tuple[dict[str, float], str, list[str]]:
    """Return a threshold a false-alarm rate, the key of the one to decide by, and what to say about it.

    Args:
        score: (N,) of real people's videos.
        weight: (N,) their weights; the sum is the number of people.
        rate: What is wished for; the smallest rate that can be promised takes its place if that is larger.
        usual: Further rates.
    """
    people = round(float(weight.sum()))
    thresholds = {
        f"{r:g}": t
        for r in sorted({*usual, rate})
        if (t := conformal_threshold(score, weight, r)) is not None
    }
    default = f"{rate:g}"
    if default in thresholds:
        return thresholds, default, []
    default = f"{least_promise(people):g}"  # rounded up, so that the promise still holds
    smallest = conformal_threshold(score, weight, 1 / (people + 1))
    assert smallest is not None
    note = (
        f"a false-alarm rate of {rate:.2g} takes {people_needed(rate)} real people and there "
        f"were {people}; {default} is the smallest rate that can be promised"
    )
    return {default: smallest, **thresholds}, default, [note]


@dataclass(frozen=True)
class People:
    """Videos with the share that each has in its person's weight of one.

    Shape:
        score: (U,) mean log-odds of a video. label: (U,). weight: (U,) whose sum is the number of people.
    """

    score: Floats
    label: NDArray[np.int64]
    weight: Floats


def people_of(score: Floats, label: NDArray[np.int64], person: Any, video: Any) -> People:
    """Average the frames of a person's video and share one weight among the person's videos of a class."""
    for name, given in (("person", person), ("video", video)):
        if given is not None and len(given) != score.size:
            raise InputError(f"{name} has {len(given)} entries and score {score.size}", reason="shape")
    place: dict[tuple[int, str, str], int] = {}
    code = np.empty(score.size, np.int64)
    for i, kind in enumerate(label.tolist()):
        clip = str(i) if video is None or video[i] is None else f"v {video[i]}"
        who = f"alone {clip}" if person is None or person[i] is None else f"p {person[i]}"
        code[i] = place.setdefault((kind, who, clip), len(place))
    shares: dict[tuple[int, str], int] = {}
    for kind, who, _ in place:
        shares[kind, who] = shares.get((kind, who), 0) + 1
    return People(
        np.bincount(code, score, len(place)) / np.bincount(code, minlength=len(place)),
        np.array([kind for kind, _, _ in place], np.int64),
        np.array([1 / shares[kind, who] for kind, who, _ in place], np.float64),
    )


def thin(score: Floats, weight: Floats, kept: int) -> tuple[Floats, Floats]:
    """Return at most `kept` rising scores; a block's weight goes to its largest, so p-values never fall."""
    order = np.argsort(score, kind="stable")
    if score.size <= kept:
        return score[order], weight[order]
    blocks = np.array_split(order, kept)
    return np.array([score[b[-1]] for b in blocks]), np.array([weight[b].sum() for b in blocks])
