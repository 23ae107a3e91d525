"""What a family of forgeries takes and gives: the nouns that every file of this room shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unseen.types import LANDMARKS, InputError

__all__ = ["Family", "Forged", "Learner", "Portrait", "Unforgeable", "check_portrait", "draw", "eye_distance"]

LEAST_EYES = 16.0  # pixels between the eyes below which a forgery is a smear


class Unforgeable(InputError):
    """This family can make nothing of this picture; the row is dropped and its reason counted.

    Args:
        message: One line for a person, with the mend.
        reason: A short stable code: `no_landmarks`, `face_too_small`, `no_donor`, `turned_away`, ...
    """

    def __init__(self, message: str, *, reason: str = "unforgeable") -> None:
        super().__init__(message, reason=reason)


@dataclass(frozen=True, eq=False)
class Portrait:
    """One face, loosely cropped.

    Shape:
        image: (H, W, 3) uint8 RGB. landmarks: (81, 2) float32, x and y in the image's pixels.
        rest: (81, 2) float32 or None, landmarks of the same person with a calm face, in any picture's pixels.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    identity: str = ""
    path: str = ""
    rest: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Forged:
    """A forged picture of the same size as its target, and what was done.

    Shape:
        image: (H, W, 3) uint8 RGB. mask: (H, W) float32 in [0, 1], how much of each pixel is forged.
        landmarks: (81, 2) float32, the result's: the target's own, or moved ones for a new expression.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.float32]
    landmarks: NDArray[np.float32]
    parameters: dict[str, float | int | str] = field(default_factory=dict)


class Family(Protocol):
    """One way to forge a face; its strengths are keywords of the constructor.

    Everything random comes from the generator, and no picture that is given is changed.
    """

    name: str
    needs_donor: bool

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture.

        Args:
            target: Whose picture is forged.
            donor: Another person, if `needs_donor`.
            rng: Source of randomness.

        Raises:
            Unforgeable: This picture, or this pair, cannot be used.
        """
        ...


@runtime_checkable
class Learner(Family, Protocol):
    """A family that is trained on the people whom it forges, before it forges them."""

    def learn(self, portraits: Sequence[Portrait]) -> None:
        """Learn the people in these portraits, at least two, told apart by `identity`."""
        ...

    def save(self, path: Path) -> None:
        """Keep what was learned last."""
        ...

    def load(self, path: Path) -> None:
        """Read what `save` kept."""
        ...


def draw(rng: np.random.Generator, **ranges: tuple[float, float]) -> dict[str, float]:
    """Draw each strength uniformly between its least and its most, to the four digits that a manifest keeps.

    >>> draw(np.random.default_rng(0), height=(0.25, 0.25), feather=(0.0, 1.0))
    {'height': 0.25, 'feather': 0.2698}
    """
    return {name: round(float(rng.uniform(*ends)), 4) for name, ends in ranges.items()}


def eye_distance(landmarks: NDArray[np.floating]) -> float:
    """Return the distance between the middles of the eyes, the unit of length of a face.

    Shape:
        landmarks: (81, 2) or (68, 2). Returns pixels.
    """
    return float(np.linalg.norm(landmarks[42:48].mean(0) - landmarks[36:42].mean(0)))


def check_portrait(portrait: Portrait, *, least_eyes: float = LEAST_EYES) -> None:
    """Raise `Unforgeable` unless a portrait has its first 68 landmarks and a face of usable size.

    Args:
        portrait: The face.
        least_eyes: Least distance between the eyes, pixels.
    """
    where, points = portrait.path or "portrait", portrait.landmarks
    if points.shape != (LANDMARKS, 2) or not np.isfinite(points[:68]).all():
        raise Unforgeable(
            f"{where}: landmarks of shape {points.shape}, some of the first 68 missing or not finite; "
            f"expected ({LANDMARKS}, 2). Run `unseen prepare` on it",
            reason="no_landmarks",
        )
    distance = eye_distance(points)
    if distance < least_eyes:
        raise Unforgeable(
            f"{where}: {distance:.0f} pixels between the eyes; expected at least {least_eyes:.0f}. "
            "Leave it out or give a larger picture",
            reason="face_too_small",
        )
