"""From a calibrated score to a word: pure functions, so that the rule can be read and tested by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unseen.detect.verdict import Person, State

if TYPE_CHECKING:
    from unseen.evaluate.calibration import Calibration

__all__ = ["Rule", "combine", "decide", "rule_of"]

WIDEST = 0.10  # a person among the most unreal tenth of the real people is no longer called real


@dataclass(frozen=True)
class Rule:
    """Where a person's score is called fake, and from where it is no longer called real.

    Attributes:
        threshold: Log-odds as the network gives them; at or above it a person is fake.
        doubtful: Log-odds; between it and the threshold the answer is inconclusive.
        text: How both were chosen, in words.
    """

    threshold: float
    doubtful: float
    text: str


def decide(score: float, rule: Rule) -> tuple[State, str]:
    """Name a person's state and the reason code.

    >>> decide(0.4, Rule(threshold=1.0, doubtful=0.0, text=""))
    ('inconclusive', 'in_band')
    """
    if score >= rule.threshold:
        return "fake", "above_threshold"
    if score >= rule.doubtful:
        return "inconclusive", "in_band"
    return "real", "below_threshold"


def combine(people: list[Person]) -> tuple[State, str]:
    """A file is what its most suspicious person is; one forged person makes a forged file.

    People without a usable frame count only when nobody has one.
    """
    for state, reason in (
        ("fake", "above_threshold"),
        ("inconclusive", "in_band"),
        ("real", "below_threshold"),
    ):
        if any(person.verdict == state for person in people):
            return state, reason  # type: ignore[return-value]
    reasons = [person.reason for person in people]
    # The mend differs: a small face needs a larger copy. Say what stopped most of them.
    return "not_applicable", max(sorted(set(reasons)), key=reasons.count) if reasons else "no_face"
