"""Was a detector chosen by the very rows that now judge it?

A run keeps a mark of every video that trained it and of every video that chose its checkpoint and threshold,
so that a number measured on one of them can carry a stamp, wherever the manifests have gone since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from unseen.types import FaceRecord

__all__ = ["MARKS", "marks", "stamp", "trained_on"]

MARKS = "marks"  # the key of a run's facts
LENGTH = 10  # hexadecimal digits of a mark: a thousand videos beside a thousand agree by chance once in 10^6


def _mark(record: FaceRecord) -> str:
    file = record.path.replace("\\", "/").rpartition("/")[2]
    name = f"{record.dataset}\0{record.video or file}\0{record.method or ''}"
    return hashlib.sha256(name.encode()).hexdigest()[:LENGTH]


def marks(records: Sequence[FaceRecord]) -> str:
    """Return the marks of all videos of the records, sorted, as one string of hexadecimal digits."""
    return "".join(sorted({_mark(record) for record in records}))


def _known(text: str) -> set[str]:
    return {text[i : i + LENGTH] for i in range(0, len(text), LENGTH)}


def trained_on(data: Mapping[str, Any], records: Sequence[FaceRecord]) -> int:
    """Return how many videos of the records trained a run.

    Args:
        data: Of a run's facts; older runs have no marks.
        records: Of a manifest.
    """
    facts = data.get("train")
    known = _known(str(facts.get(MARKS, ""))) if isinstance(facts, Mapping) else set()
    return len({_mark(record) for record in records} & known)


def stamp(data: Mapping[str, Any], records: Sequence[FaceRecord]) -> str:
    """Return what a reader must be told of numbers measured on these records, or nothing.

    Args:
        data: Of a run's facts: `train` and `val`, each with `marks`; older runs have none.
        records: What the run is to be measured on.
    """
    here = {_mark(record) for record in records}
    ways = {"val": "chose its checkpoint or its threshold", "train": "trained it"}
    found = {}
    for role, way in ways.items():
        facts = data.get(role)
        known = _known(str(facts.get(MARKS, ""))) if isinstance(facts, Mapping) else set()
        found[way] = len(here & known)
    told = [f"{count} of {len(here)} videos {way}" for way, count in found.items() if count]
    return f"NOT A TEST: {' and '.join(told)}; expect less on others" if told else ""
