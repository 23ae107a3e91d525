"""Which of the real concepts that a detector remembers a face looks most like, and what that one looks like.

For runs with a `RealMemory` only; their training leaves `concepts.json`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.run_files import CONCEPTS
from unseen.types import InputError

__all__ = ["Concepts", "Example", "Likeness", "parse_concepts", "read_concepts"]


@dataclass(frozen=True, eq=False)
class Example:
    """A training face near a concept. `picture` is a small JPEG, empty if training kept none."""

    path: str
    similarity: float
    picture: bytes = b""

    def to_dict(self, *, pictures: bool = False) -> dict[str, Any]:
        """Numbers, and the picture as a data URI when asked for."""
        row: dict[str, Any] = {"path": self.path, "similarity": self.similarity}
        if pictures:
            from unseen.explain.draw import data_uri

            row["picture"] = data_uri(self.picture) if self.picture else None
        return row


@dataclass(frozen=True, eq=False)
class Likeness:
    """The real concept that a face looks most like.

    Attributes:
        number: Of the concept, from 1.
        similarity: The cosine to it. `all` holds those to all concepts, in order.
        usual: What 95 % of the real training faces reach with theirs; None if training did not say.
        nearest: Training faces that look most like the concept.
    """

    number: int
    similarity: float
    all: tuple[float, ...]
    usual: float | None = None
    nearest: tuple[Example, ...] = ()

    def to_dict(self, *, pictures: bool = False) -> dict[str, Any]:
        """As the entry `concept` of a piece of evidence."""
        return {
            "number": self.number,
            "similarity": self.similarity,
            "similarities": list(self.all),
            "usual": self.usual,
            "nearest": [example.to_dict(pictures=pictures) for example in self.nearest],
        }


@dataclass(frozen=True, eq=False)
class Concepts:
    """What training wrote down of each concept; empty for a run whose training was told not to."""

    usual: float | None = None
    nearest: tuple[tuple[Example, ...], ...] = ()

    def most_like(self, similar: NDArray[Any]) -> Likeness:
        """Name the concept that a face looks most like.

        Shape:
            similar: (K,), to each concept.
        """
        values = tuple(round(float(value), 4) for value in similar)
        first = int(np.argmax(similar))
        nearest = self.nearest[first] if self.nearest else ()
        return Likeness(first + 1, values[first], values, self.usual, nearest)


def read_concepts(folder: Path, facts: Mapping[str, Any]) -> Concepts:
    """Read `concepts.json` of a run folder whose files were checked.

    Args:
        folder: The run folder.
        facts: Its `run.json`.

    Raises:
        InputError: The file is of a kind that this version does not know.
    """
    if CONCEPTS not in facts.get("files", {}):
        return Concepts()
    path = folder / CONCEPTS
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); copy the run again", reason="tampered"
        ) from error
    return parse_concepts(text, str(path))


def parse_concepts(text: str, name: str) -> Concepts:
    """Return what the text of `concepts.json` says; nothing for none. `name` is said in errors."""
    if not text:
        return Concepts()
    try:
        told = json.loads(text)
        if told["format"] != 1:
            raise InputError(f"{name}: format {told['format']}; this version of unseen reads 1")
        nearest = tuple(
            tuple(
                Example(str(e["path"]), float(e["similarity"]), base64.b64decode(e.get("picture", "")))
                for e in concept["nearest"]
            )
            for concept in told["concepts"]
        )
        return Concepts(float(told["usual"][0]), nearest)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: damaged ({error}); copy the run again", reason="tampered") from error
