"""A calibration made anew on somebody's own people, with what those people cannot say kept from the old one.

Real people alone give thresholds and p-values. How likely a forgery is at a score, and below which score few
forgeries lie, takes forgeries; without any those numbers stay as they were, and `notes` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from unseen.evaluate.calibration import KEPT, RATES, Calibration
from unseen.evaluate.conformal import least_promise, people_needed, people_of, promises, thin
from unseen.evaluate.metrics import Floats, Labels
from unseen.evaluate.scope import Scope
from unseen.types import InputError

__all__ = ["check_people", "recalibrated"]


def check_people(people: int, rate: float, what: str) -> None:
    """See that so many real people can carry a false-alarm rate.

    Raises:
        InputError: They cannot; says what can be promised, and how many it takes.
    """
    if not 0 < rate < 1:
        raise InputError(f"false-alarm rate {rate:g}; expected a share between 0 and 1", reason="rate")
    if people == 0:
        raise InputError(
            f"{what}: no real people (label 0); a false-alarm rate is a promise about real people. "
            "Prepare some: unseen prepare FOLDER --label real --out crops",
            reason="one_class",
        )
    if people < people_needed(rate):
        raise InputError(
            f"{what}: {people} real {'person' if people == 1 else 'people'}; a false-alarm rate of {rate:g} "
            f"takes {people_needed(rate)} (1/rate - 1, people and not frames). With these the smallest rate "
            f"that can be promised is {least_promise(people):g}: give --false-alarms "
            f"{least_promise(people):g}, or more people",
            reason="too_few",
        )


def recalibrated(
    old: Calibration,
    score: Floats,
    label: Labels,
    person: Sequence[str | None],
    video: Sequence[str],
    *,
    rate: float,
    made_from: str,
    scope: Scope | None,
) -> Calibration:
    """Fit anew on scores of people that the detector never saw.

    Args:
        old: What the run had; its temperature and its line for `real` stay if no fakes are given.
        score: (N,) log-odds of fake, one a frame.
        label: (N,) 0 or 1.
        person: (N,) who is seen; None makes the video a person.
        video: (N,) unique names.
        rate: False-alarm rate to decide by.
        made_from: For people to read.
        scope: What the real people's pictures are like.

    Raises:
        InputError: Too few real people; or no fakes, and the old calibration knew none either.
    """
    unit = people_of(score, label, person, video)
    real = unit.label == 0
    people = round(float(unit.weight[real].sum()))
    check_people(people, rate, made_from)
    if not real.all():
        fresh = Calibration.fit(score, label, person, video, rate=rate, made_from=made_from)
        return replace(fresh, scope=scope)
    if old.miss_rate is None:
        raise InputError(
            f"{made_from}: no fakes (label 1), and the run's own calibration knows none: how likely a "
            "forgery is at a score cannot be said. Add some, for example made from your reals: "
            "unseen forge MANIFEST --out bench",
            reason="one_class",
        )
    values, weights = unit.score[real], unit.weight[real]
    thresholds, default, notes = promises(values, weights, rate, RATES)
    kept, kept_weights = thin(values, weights, KEPT)
    nameless = sum(name is None for name in person)
    if nameless:
        notes.append(f"{nameless} rows have no identity: each video counts as one person")
    notes.append(
        f"no fakes were given: the probability's temperature and the score under which a person is called "
        f"real are still those of {old.made_from or 'the former calibration'}"
    )
    return replace(
        old,
        thresholds=thresholds,
        default=default,
        real_scores=tuple(np.asarray(kept).tolist()),
        real_weights=tuple(np.asarray(kept_weights).tolist()),
        n_real=int(real.sum()),
        n_real_people=people,
        made_from=made_from,
        notes=tuple(notes),
        scope=scope,
    )
