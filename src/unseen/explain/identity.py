"""Who somebody is: what frozen features tell of it, and what scores make of it (CADDM, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unseen.explain.faces import FaceFeatures
from unseen.types import FaceRecord, InputError, Label

__all__ = ["Probe", "Share", "Which", "identity_probe", "identity_share"]

Which = Literal["real", "all"]


@dataclass(frozen=True)
class Probe:
    """How well people are told apart by a linear layer on frozen features.

    Args:
        people: How many there are, each in both halves.
        train: Faces that the layer learned from.
        test: Faces that it is asked.
        chance: Of a guess that knows the people only, 1 / people.
        epochs: When it was asked.
        accuracy: Share of test faces that are recognised, then.
        fitted: Share of the training faces, then.
        unlike: Whether test faces come from other videos than training faces, so that light and background
            of one video are no help.
    """

    people: int
    train: int
    test: int
    chance: float
    epochs: tuple[int, ...]
    accuracy: tuple[float, ...]
    fitted: tuple[float, ...]
    unlike: bool

    @property
    def best(self) -> float:
        """The accuracy at the end: no epoch is chosen by the faces that are asked."""
        return self.accuracy[-1]


def identity_probe(
    features: FaceFeatures,
    *,
    which: Which = "real",
    epochs: int = 100,
    points: int = 20,
    rate: float = 0.01,
    seed: int = 0,
) -> Probe:
    """Train a linear layer to tell people by frozen features, and ask it of other faces of the same people.

    Half of each person's videos are learned from, or half of the frames where a person has one video only.
    Features are brought to mean 0 and deviation 1, by the faces that are learned from.

    Args:
        features: Of rows with `identity`.
        which: `real` faces only, or `all`: whom a swapped face shows is disputed.
        epochs: Passes of Adam over all training faces at once.
        points: How often it is asked.
        rate: Of learning.
        seed: Chooses the halves and the first weights.

    Raises:
        InputError: There are no two people with two faces each.
    """
    import torch
    from torch.nn import functional

    rows, train = _halves(features.records, which, seed)
    records = [features.records[i] for i in rows]
    names = sorted({_person(r) for r in records})
    person = torch.tensor([names.index(_person(r)) for r in records])
    vector = torch.from_numpy(features.vector[rows])
    learn = torch.from_numpy(train)
    middle, spread = vector[learn].mean(0), vector[learn].std(0, unbiased=False)
    # A feature that is all but constant would be blown up to noise.
    vector = (vector - middle) / spread.clamp_min(1e-3 * float(spread.max().clamp_min(1e-12)))
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        layer = torch.nn.Linear(vector.shape[1], len(names))
        steps = torch.optim.Adam(layer.parameters(), lr=rate)
        asked = sorted({round(x) for x in np.linspace(0, epochs, points + 1)})
        right, fitted = [], []
        for epoch in range(epochs + 1):
            logits = layer(vector)
            if epoch in asked:
                hit = (logits.argmax(1) == person).float()
                right.append(float(hit[~learn].mean()))
                fitted.append(float(hit[learn].mean()))
            steps.zero_grad()
            functional.cross_entropy(logits[learn], person[learn]).backward()  # type: ignore[no-untyped-call]
            steps.step()
    videos = {(_person(r), r.video or r.path) for r, first in zip(records, train, strict=True) if first}
    other = [r for r, first in zip(records, train, strict=True) if not first]
    unlike = all((_person(r), r.video or r.path) not in videos for r in other)
    return Probe(
        len(names),
        int(train.sum()),
        int((~train).sum()),
        1 / len(names),
        tuple(asked),
        tuple(right),
        tuple(fitted),
        unlike,
    )


def _person(record: FaceRecord) -> str:
    return f"{record.dataset} {record.identity}"


def _halves(records: Sequence[FaceRecord], which: Which, seed: int) -> tuple[list[int], NDArray[np.bool_]]:
    """Return the rows that are used, and which of them are learned from."""
    if which not in ("real", "all"):
        raise InputError(f"identity_probe: which {which!r}; expected real or all")
    rng = np.random.default_rng(seed)
    people: dict[str, dict[str, list[int]]] = {}
    for place, record in enumerate(records):
        if record.identity is not None and (which == "all" or record.label == Label.REAL):
            videos = people.setdefault(_person(record), {})
            videos.setdefault(record.video or record.path, []).append(place)
    first: list[int] = []
    second: list[int] = []
    for videos in people.values():
        groups = list(videos.values())
        if len(groups) == 1:  # one video: its frames are all there is
            groups = [[place] for place in groups[0]]
        if len(groups) < 2:
            continue
        order = rng.permutation(len(groups))
        half = (len(groups) + 1) // 2
        first += [place for group in order[:half] for place in groups[group]]
        second += [place for group in order[half:] for place in groups[group]]
    kept = {_person(records[place]) for place in first}
    if len(kept) < 2:
        raise InputError(
            f"identity_probe: {len(kept)} people with two {'real ' if which == 'real' else ''}faces or more "
            f"among {len(records)} rows; expected two people at least (column `identity` of the manifest)",
            reason="no_identity",
        )
    rows = sorted([*first, *second])
    return rows, np.isin(rows, first)


@dataclass(frozen=True)
class Share:
    """How much of what scores differ by, among faces of one class, is who the person is.

    Args:
        share: 0 if people do not matter, 1 if a person's faces all have one score; corrected for chance
            (epsilon squared), so that it can fall a little below 0.
        chance: What 95 % of shuffles of the people stay below.
        people: Who has two faces or more.
        faces: Of them.
    """

    share: float
    chance: float
    people: int
    faces: int


def identity_share(
    score: Any, identity: Sequence[str | None], label: Any, *, shuffles: int = 200, seed: int = 0
) -> Share:
    """Measure how much of the scores' variance within a class lies between people.

    One-way analysis of variance of the scores less the mean of their class: epsilon squared, the share of
    variance between people less what chance would give.

    Args:
        score: Log-odds of fake.
        identity: Of each face; None leaves it out.
        label: 0 real, 1 fake.
        shuffles: Of the people within each class, for `chance`.
        seed: Of the shuffles.

    Raises:
        InputError: There are no two people with two faces each.

    Shape:
        score, label: (N,).
    """
    score, label = np.asarray(score, np.float64), np.asarray(label, np.int64)
    names = np.array(["" if who is None else who for who in identity])
    several = {who for who, count in zip(*np.unique(names, return_counts=True), strict=True) if count > 1}
    keep = np.array([bool(who) and who in several for who in names]) & np.isfinite(score)
    score, label = score[keep], label[keep]
    people, who = np.unique(names[keep], return_inverse=True)
    if len(people) < 2:
        raise InputError(
            f"identity_share: {len(people)} people with two faces; expected two people at least",
            reason="no_identity",
        )
    for kind in np.unique(label):
        score[label == kind] -= score[label == kind].mean()
    rng = np.random.default_rng(seed)
    shuffled = []
    for _ in range(shuffles):
        other = who.copy()
        for kind in np.unique(label):
            other[label == kind] = rng.permutation(other[label == kind])
        shuffled.append(_epsilon(score, other, len(people)))
    chance = float(np.quantile(shuffled, 0.95)) if shuffled else float("nan")
    return Share(_epsilon(score, who, len(people)), chance, len(people), len(score))


def _epsilon(score: NDArray[np.float64], who: NDArray[np.intp], people: int) -> float:
    total = float(((score - score.mean()) ** 2).sum())
    if total == 0 or len(score) <= people:
        return 0.0
    count = np.bincount(who, minlength=people)
    mean = np.bincount(who, score, people) / np.maximum(count, 1)
    between = float((count * (mean - score.mean()) ** 2).sum())
    within = (total - between) / (len(score) - people)  # mean square inside people
    return float((between - (people - 1) * within) / total)
