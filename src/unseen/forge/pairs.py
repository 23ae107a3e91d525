"""Who lends the face: somebody of the same split, whose picture is like the target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Portrait, eye_distance
from unseen.forge.shape import MEAN_FACE, STILL, expression, move, similarity, tilt, turn

__all__ = ["Candidate", "choose", "describe", "resting"]

_MOST_LOOKED_AT = 256  # candidates a target; more would cost time squared and find nobody much closer


@dataclass(frozen=True, eq=False)
class Candidate:
    """A real crop as a possible donor, in numbers that can be compared.

    Shape:
        pose: (3,) turn, tilt and roll. skin: (3,) mean L*a*b* of cheeks and nose. expression: (6,).
        landmarks: (81, 2) float32.
    """

    number: int  # its place in the list of reals
    path: str
    identity: str
    split: str
    size: float  # pixels between the eyes
    pose: NDArray[np.float64]
    skin: NDArray[np.float64]
    expression: NDArray[np.float64]
    landmarks: NDArray[np.float32]


def describe(portrait: Portrait, number: int, split: str) -> Candidate:
    """Measure a portrait.

    Args:
        portrait: With finite landmarks.
        number: Its place in the list of reals.
        split: The split it is in.
    """
    points = portrait.landmarks
    eyes = points[42:48].mean(0) - points[36:42].mean(0)
    roll = float(np.arctan2(eyes[1], eyes[0]))
    return Candidate(
        number,
        portrait.path,
        portrait.identity,
        split,
        eye_distance(points),
        np.array([turn(points), tilt(points), roll]),
        _skin(portrait),
        expression(points),
        points,
    )


def _skin(portrait: Portrait) -> NDArray[np.float64]:
    height, width = portrait.image.shape[:2]
    points = portrait.landmarks
    # Nose bridge, and half-way from the nose's wings to the jaw: skin in every face, bearded or not.
    spots = np.concatenate([points[28:31], (points[[31, 35]] + points[[2, 14]]) / 2])
    reach = max(1, round(0.05 * eye_distance(points)))
    colors = []
    for x, y in np.round(spots).astype(int):
        patch = portrait.image[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        if patch.size and 0 <= x < width and 0 <= y < height:
            colors.append(patch.reshape(-1, 3).mean(0))
    color = np.median(colors, axis=0) if colors else np.full(3, 128.0)
    lab = cv2.cvtColor((color / 255).astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)
    return np.asarray(lab.reshape(3), np.float64)


def choose(
    target: Candidate,
    pool: Sequence[Candidate],
    rng: np.random.Generator,
    *,
    other_expression: bool = False,
    among: int = 5,
) -> Candidate | None:
    """Choose a donor for a target, or None if its split holds nobody else.

    Args:
        target: Whose picture is forged.
        pool: Everybody; the target itself, its identity and other splits are passed over.
        rng: Source of randomness.
        other_expression: Prefer somebody whose expression differs, instead of one who has the same.
        among: One of this many closest is drawn, so that not everybody gets the same donor.
    """
    able = sorted(
        (c for c in pool if c.split == target.split and c.identity != target.identity), key=lambda c: c.path
    )
    if not able:
        return None
    if len(able) > _MOST_LOOKED_AT:
        able = [able[i] for i in np.sort(rng.choice(len(able), _MOST_LOOKED_AT, replace=False))]
    cost = np.array([_distance(target, c, -1.5 if other_expression else 1.0) for c in able])
    nearest = np.argsort(cost, kind="stable")[:among]
    return able[int(nearest[rng.integers(len(nearest))])]


def _distance(a: Candidate, b: Candidate, expression_weight: float) -> float:
    pose = np.abs(a.pose - b.pose) @ np.array([6.0, 4.0, 0.5])
    skin = np.abs(a.skin - b.skin) @ np.array([0.04, 0.06, 0.06])
    # A larger donor is only shrunk; a smaller one gets blurred.
    size = max(0.0, float(np.log(a.size / b.size)))
    face = np.abs(a.expression - b.expression) @ np.array([4.0, 1.5, 2.0, 2.0, 1.0, 0.5])
    return float(pose + skin + size + expression_weight * face)


def resting(candidate: Candidate, pool: Sequence[Candidate]) -> NDArray[np.float32] | None:
    """Return the landmarks of the calmest other picture of the same person, if there is a calm one.

    Args:
        candidate: Whose resting face is wanted.
        pool: Everybody.
    """
    calm = expression(MEAN_FACE)
    best, found = 0.35, None
    for other in sorted(
        (c for c in pool if c.identity == candidate.identity and c.path != candidate.path),
        key=lambda c: c.path,
    ):
        away = float(np.abs(other.expression - calm)[:4].sum())
        if other.expression[0] < 0.05 and away < best:
            best, found = away, other
    if found is None:
        return None
    # In the candidate's pixels, so that whoever reads it may compare.
    return move(found.landmarks, similarity(found.landmarks[STILL], candidate.landmarks[STILL]))
