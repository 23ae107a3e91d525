"""What a number depends on: the facts of a score table in a few words each, and where two tables' differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from unseen import __version__
from unseen.evaluate.scores import ScoreTable

__all__ = ["SAME", "STAMP", "UNKNOWN", "card_lines", "differing", "facts", "rows_hash"]

STAMP = "stamp"  # the key of a card under which it says that its rows chose the detector
UNKNOWN = "unknown"
# What must be alike for two numbers to be one experiment with two detectors; the rest is what is compared.
SAME = ("rows", "split", "frames", "corruption")


def rows_hash(table: ScoreTable) -> str:
    """Return 16 hex digits of a table's rows: `evaluate.run.fingerprint` of the records it was made of.

    They change with the rows, their labels or their order, not with scores or the folder of the crops.
    """
    digest = hashlib.sha256()
    names = ("path", "dataset", "video", "frame", "method", "split", "identity", "label")
    for path, *rest in table.rows.select(names).collect().iter_rows():
        digest.update(json.dumps([Path(path or "").name, *rest]).encode())
    return digest.hexdigest()[:16]


def facts(table: ScoreTable) -> dict[str, str]:
    """Return what the numbers of a table depend on.

    Facts that the table's own card does not hold (anybody's CSV has none) are `unknown`, never guessed.
    """
    card = table.card

    def said(key: str) -> str:
        return str(card[key]) if card.get(key) not in (None, "") else UNKNOWN

    splits = table.rows.select(pl.col("split").unique().sort()).collect()["split"].drop_nulls().to_list()
    corruption = card.get("corruption")
    return {
        "detector": said("run"),
        "weights": said("weights")[:16],
        # Of the rows that are there, so that a table that was cut later does not carry the hash of the whole.
        "rows": rows_hash(table),
        "manifest": said("manifest"),
        "split": ", ".join(map(str, splits)) or said("split"),
        "crop": _crop(card.get("crop", card.get("transforms"))),
        "frames": said("frames"),
        "corruption": f"{corruption}, level {card.get('severity')}" if corruption else "none",
        "checkpoint": said("checkpoint"),
        "seed": said("seed"),
        "scored with": f"unseen {said('unseen')}, {said('precision')}",
        "measured with": f"unseen {__version__}",
    }


def card_lines(card: Mapping[str, str]) -> list[str]:
    """Return a card as lines of text; a stamp comes first and cannot be overlooked."""
    stamp = [f"**{card[STAMP]}**", ""] if card.get(STAMP) else []
    return [*stamp, *(f"{key}: {value}" for key, value in card.items() if key != STAMP)]


def differing(cards: Sequence[Mapping[str, str]], keys: Sequence[str] = SAME) -> dict[str, list[str]]:
    """Return the facts among `keys` in which cards differ, with their values; unknown ones count as alike."""
    found = {key: [card.get(key, UNKNOWN) for card in cards] for key in keys}
    return {
        key: values
        for key, values in found.items()
        if len({value for value in values if UNKNOWN not in value}) > 1
    }


def _crop(calls: Any) -> str:
    return ", ".join(map(str, calls)) if isinstance(calls, list | tuple) and calls else str(calls or UNKNOWN)
