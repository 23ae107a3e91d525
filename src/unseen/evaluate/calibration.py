"""What a score is worth: a probability, a threshold with a stated false-alarm rate, and a p-value.

Everything is fitted on *validation people*, never on training or test ones, and counts people, not frames:
the score of one video is the mean of its frames (what `detect` gives a person), and the videos of one person
share that person's weight of one. A person in 500 frames says no more about strangers than one in five.

* **Probability** = sigmoid(score / temperature + bias). The temperature minimises the negative log-likelihood
  (Guo et al. 2017, "On Calibration of Modern Neural Networks"), which is convex in 1 / temperature; both
  classes weigh the same, so it is the probability for somebody to whom real and fake are equally likely
  beforehand. The targets are Platt's (1999), (n + 1) / (n + 2) and 1 / (n + 2) for n people: scores that
  separate perfectly give no certainty. `bias=True` also fits an offset, for a detector with its zero off.
* **p-value** = (1 + w) / (n + 1), w being the weight of the n real people who score at least as high:
  split-conformal, with shared weights for repeated measurements of a person (Lee, Barber & Willett 2023,
  "Distribution-free inference with hierarchical data"). If a new real person is like these n, the p-value is
  at most a with probability at most a, whatever the detector. Choosing a checkpoint on the same people bends
  this a little.
* **Threshold at a false-alarm rate** a = the least score with p-value at most a. It exists only where
  a >= 1 / (n + 1): a promise of 1 % takes 99 people. With fewer, the smallest rate that can be promised takes
  its place, and `notes` and `threshold_rule` say so.
* **Decision**: fake at or above that threshold; real below it and below the score under which at most a
  stated share (10 %) of forgeries lie; inconclusive between the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unseen.evaluate import calibration_file
from unseen.evaluate.conformal import conformal_threshold, people_of, promises, thin
from unseen.evaluate.metrics import Floats, checked, expit
from unseen.evaluate.scope import Scope
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.evaluate.scores import ScoreTable

__all__ = ["Calibration", "fit_temperature"]

RATES = (0.01, 0.05, 0.10)
KEPT = 4096  # real scores kept in the file; more are thinned so that p-values never fall
UNCALIBRATED = "none"


def fit_temperature(
    score: Floats, label: NDArray[np.int64], weight: Floats, people: tuple[int, int], *, bias: bool = False
) -> tuple[float, float]:
    """Return the temperature and bias that minimise the class-balanced negative log-likelihood.

    Args:
        score: (N,) log-odds.
        label: (N,) 0 or 1, both present.
        weight: (N,) weight of each score inside its class.
        people: How many independent reals and fakes there are, for the targets.
        bias: Whether to fit an offset too.
    """
    from scipy.optimize import minimize  # a second of start-up that a verdict does not need

    unit = float(np.std(score)) or 1.0  # the optimiser works on scores of about unit size
    z = score / unit
    target = np.where(label == 1, (people[1] + 1) / (people[1] + 2), 1 / (people[0] + 2))
    totals = np.bincount(label, weight, 2)
    weight = weight / (2 * totals[label])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logit = parameters[0] * z + parameters[1]
        error = weight * (expit(logit) - target)
        value = np.sum(weight * (np.logaddexp(0, logit) - target * logit))
        return float(value), np.array([np.sum(error * z), np.sum(error)])

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1e-3, 1e3), (None, None) if bias else (0.0, 0.0)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 500},
    )
    return unit / float(found.x[0]), float(found.x[1])


@dataclass(frozen=True, eq=False)
class Calibration:
    """A detector's scores against validation people; see the module for what each number means.

    Attributes:
        temperature: Log-odds are divided by it.
        bias: Added after that.
        thresholds: False-alarm rate ("0.01") to the score at and above which a person is called fake.
        default: The key of `thresholds` by which `decide` goes.
        real_threshold: Score below which a person is called real, if it is below the default threshold too.
        miss_rate: Share of forgeries that is expected to lie below `real_threshold`; None if uncalibrated.
        real_scores: Of the real videos, rising.
        real_weights: Their weights; they add up to `n_real_people`.
        n_real: Real videos used.
        n_fake: Fake videos used.
        n_real_people: People in them.
        n_fake_people: People in those.
        made_from: What the scores came from, for people ("val of faces.parquet").
        notes: What a reader of the numbers should know.
        scope: What the real people's pictures are like; None if that was not measured.
    """

    temperature: float
    bias: float
    thresholds: dict[str, float]
    default: str
    real_threshold: float
    miss_rate: float | None
    real_scores: tuple[float, ...] = field(repr=False)
    real_weights: tuple[float, ...] = field(repr=False)
    n_real: int
    n_fake: int
    n_real_people: int
    n_fake_people: int
    made_from: str = ""
    notes: tuple[str, ...] = ()
    scope: Scope | None = None

    @classmethod
    def fit(
        cls,
        score: ArrayLike,
        label: ArrayLike,
        person: Sequence[str | None] | NDArray[Any] | None = None,
        video: Sequence[str | None] | NDArray[Any] | None = None,
        *,
        rate: float = 0.01,
        miss: float = 0.10,
        bias: bool = False,
        made_from: str = "",
    ) -> Calibration:
        """Calibrate on validation scores.

        Args:
            score: (N,) log-odds of fake, one a frame or one a video.
            label: (N,) 0 or 1.
            person: (N,) who is seen; None (for all, or for a row) makes each video a person.
            video: (N,) names unique across data sets; the rows of one person in one video are averaged.
                None makes each row a video.
            rate: False-alarm rate to decide by, in (0, 1).
            miss: Share of forgeries that may lie below the score under which a person is called real.
            bias: Whether to fit an offset beside the temperature.
            made_from: Kept for people to read.

        Raises:
            InputError: A class is missing, lengths differ, or a rate is outside (0, 1).
        """
        scores, labels = checked(score, label)
        for name, value in (("rate", rate), ("miss", miss)):
            if not 0 < value < 1:
                raise InputError(f"{name} is {value}; expected a share between 0 and 1", reason="rate")
        unit = people_of(scores, labels, person, video)
        sides = [(unit.score[unit.label == k], unit.weight[unit.label == k]) for k in (0, 1)]
        (real, real_weight), (fake, fake_weight) = sides
        if not real.size or not fake.size:
            absent = "fake" if real.size else "real"
            raise InputError(
                f"no {absent} face among the {scores.size} validation scores; calibration needs both classes",
                reason="one_class",
            )
        people = (round(real_weight.sum()), round(fake_weight.sum()))
        notes: list[str] = []
        nameless = scores.size if person is None else sum(p is None for p in person)
        if nameless:
            which = (
                "no row has an identity" if nameless == scores.size else f"{nameless} rows have no identity"
            )
            notes.append(f"{which}: each video counts as one person")
        temperature, offset = fit_temperature(unit.score, unit.label, unit.weight, people, bias=bias)
        if np.average(fake, weights=fake_weight) <= np.average(real, weights=real_weight):
            notes.append("validation fakes score no higher than reals: probabilities mean nothing")

        thresholds, default, said = promises(real, real_weight, rate, RATES)
        notes += said
        # The mirror image: a fake below this score would be a miss.
        miss = max(miss, 1 / (people[1] + 1))
        mirrored = conformal_threshold(-fake, fake_weight, miss)
        assert mirrored is not None
        kept, kept_weight = thin(real, real_weight, KEPT)
        return cls(
            temperature=temperature,
            bias=offset,
            thresholds=thresholds,
            default=default,
            real_threshold=float(np.nextafter(-mirrored, np.inf)),
            miss_rate=miss,
            real_scores=tuple(kept.tolist()),
            real_weights=tuple(kept_weight.tolist()),
            n_real=real.size,
            n_fake=fake.size,
            n_real_people=people[0],
            n_fake_people=people[1],
            made_from=made_from,
            notes=tuple(notes),
        )

    @classmethod
    def from_table(
        cls,
        table: ScoreTable,
        *,
        rate: float = 0.01,
        miss: float = 0.10,
        bias: bool = False,
        made_from: str = "",
    ) -> Calibration:
        """Calibrate on a score table's labelled rows; people are (data set, identity). See `fit`."""
        rows = table.frames()
        names = rows.select("dataset", "video", "path", "identity").rows()
        return cls.fit(
            rows["score"].to_numpy(),
            rows["label"].to_numpy(),
            None if rows["identity"].is_null().all() else [f"{d}/{p}" if p else None for d, _, _, p in names],
            [f"{d}/{v or path}" for d, v, path, _ in names],
            rate=rate,
            miss=miss,
            bias=bias,
            made_from=made_from or table.name,
        )

    @classmethod
    def uncalibrated(
        cls, note: str = "this run has no calibration: the threshold is an even chance"
    ) -> Calibration:
        """Return what stands in where there were no validation people: sigmoid(score), fake from 0 on."""
        return cls(1.0, 0.0, {UNCALIBRATED: 0.0}, UNCALIBRATED, 0.0, None, (), (), 0, 0, 0, 0, "", (note,))

    def probability(self, score: float) -> float:
        """Return the calibrated probability of fake for a score in log-odds."""
        return float(expit(score / self.temperature + self.bias))

    def probabilities(self, score: ArrayLike) -> Floats:
        """Return `probability` of each score. Shape: (N,) to (N,) float64."""
        return np.asarray(expit(np.asarray(score, np.float64) / self.temperature + self.bias))

    def p_value(self, score: float) -> float:
        """Return how rare so high a score is among real people, in (0, 1]; NaN if uncalibrated."""
        if not self.real_scores:
            return float("nan")
        first = int(np.searchsorted(self.real_scores, score, side="left"))
        return float(min(1.0, (1 + sum(self.real_weights[first:])) / (self.n_real_people + 1)))

    def threshold(self, name: str | None = None) -> float:
        """Return the score at and above which a person is called fake, for a false-alarm rate as in "0.05".

        Raises:
            InputError: No threshold of that name, with those there are.
        """
        name = self.default if name is None else name
        if name not in self.thresholds:
            raise InputError(
                f"no threshold for a false-alarm rate of {name}; there are {', '.join(self.thresholds)} "
                f"(a rate a takes 1/a - 1 real people, and there were {self.n_real_people})",
                reason="threshold",
            )
        return self.thresholds[name]

    def decide(self, score: float) -> tuple[Literal["real", "fake", "inconclusive"], str]:
        """Return the verdict on a person's mean score, and the reason's code.

        Codes: `above_threshold` (fake), `in_band` (inconclusive), `below_threshold` (real).

        Raises:
            InputError: The score is NaN.
        """
        if math.isnan(score):
            raise InputError(
                "the score is NaN; a face that could not be scored has no verdict", reason="nan_score"
            )
        if score >= self.threshold():
            return "fake", "above_threshold"
        if score >= self.real_threshold:
            return "inconclusive", "in_band"
        return "real", "below_threshold"

    @property
    def threshold_rule(self) -> str:
        """How the decision is made and how its thresholds were chosen, in words."""
        fake = self.threshold()
        if self.miss_rate is None:
            return f"fake at a score of {fake:.2f} or more; {'; '.join(self.notes)}"
        text = (
            f"fake from a probability of {self.probability(fake):.2f} (score {fake:.2f}): at most "
            f"{100 * float(self.default):.3g} % of real people are expected to reach it by chance, by "
            f"{self.n_real_people} real validation people ({self.n_real} videos or pictures)"
        )
        real = self.real_threshold
        if real < fake:
            text += (
                f"; real below {self.probability(real):.2f} (score {real:.2f}): "
                f"at most {100 * self.miss_rate:.3g} % of forgeries like those of validation lie there "
                f"({self.n_fake_people} people); inconclusive between"
            )
        else:
            text += f"; real below it, where at most {100 * self.miss_rate:.3g} % of forgeries lie"
        return "; ".join([text, *self.notes])

    def to_json(self, path: Path | None = None) -> str:
        """Return the calibration as JSON text, and write it to a file if one is given."""
        text = calibration_file.encode(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: Path | str, *, name: str | None = None) -> Calibration:
        """Read what `to_json` gave: a file, or the text itself if it starts with a brace.

        Raises:
            InputError: Naming the file and the key that is missing, of a wrong kind, or contradicts another.
        """
        return cls(**calibration_file.decode(source, name))
