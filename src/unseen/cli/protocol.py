"""`unseen evaluate --protocol`: measured beside published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unseen.cli.codes import OK
from unseen.types import FaceRecord, InputError

if TYPE_CHECKING:
    from unseen.evaluate.protocol import Protocol
    from unseen.evaluate.scores import ScoreTable

__all__ = ["list_protocols", "print_protocol", "run_protocol"]


def list_protocols() -> int:
    """Print the protocols that come with the package."""
    from unseen.evaluate.protocol import protocols

    for p in protocols():
        print(
            f"{p.name:22}{p.paper.method}, {p.paper.place}: {p.title} (by {p.level}; {', '.join(p.datasets)})"
        )
    return OK


def run_protocol(known: argparse.Namespace) -> int:
    """Score what a protocol tests on, or take tables of scores, and print both beside each other."""
    if known.scores is not None:
        from unseen.cli.robustness import read_folder

        return print_protocol(known, read_folder(known.scores))
    if known.manifest and (known.model is not None or known.predict is not None):
        from unseen.evaluate.protocol import read_protocol

        return print_protocol(known, [_score(known, read_protocol(known.protocol))])
    raise InputError("evaluate --protocol: give a RUN and --manifest, or --scores TABLE", reason="usage")


def print_protocol(known: argparse.Namespace, tables: Sequence[ScoreTable]) -> int:
    """Print tables of one detector, clean and corrupted, beside the published one."""
    from unseen.evaluate.protocol import compare, read_protocol
    from unseen.evaluate.protocol_card import protocol_card, to_json, to_markdown

    protocol = read_protocol(known.protocol)
    row = known.row
    if row is None and known.scores is None and known.model is not None:
        row = _row_of(protocol, Path(known.model).name)
    split = None if known.split == "all" else known.split
    cells = compare(protocol, {row or protocol.own: list(tables)}, split=split)
    card = protocol_card(protocol, tables[0])
    print(to_json(protocol, cells, card) if known.json else to_markdown(protocol, cells, card))
    if row is None and not known.json:
        print(f"Beside the row {protocol.own!r}; --row names another one.")
    return OK


def _row_of(protocol: Protocol, run: str) -> str | None:
    """Return the only row whose recipe is called like the run's folder."""
    found = [row.name for row in protocol.rows if row.recipe == run and not row.overrides]
    return found[0] if len(found) == 1 else None


def _score(known: argparse.Namespace, protocol: Protocol) -> ScoreTable:
    from unseen.cli.scoring import read_rows, scorer

    records = read_rows(known)
    chosen = _wanted(records, protocol)
    if not chosen:
        there = ", ".join(sorted({r.dataset or "(no name)" for r in records})) or "no rows at all"
        raise InputError(
            f"{', '.join(map(str, known.manifest))}: no rows of {', '.join(protocol.datasets)} in split "
            f"'{known.split}'; the data sets there are {there} (docs/protocols.md has the names that are "
            "understood)",
            reason="empty",
        )
    frames = "all of the manifest" if protocol.frames is None else f"{protocol.frames} a video, evenly spread"
    return scorer(known)(
        chosen,
        known.out or Path(f"scores_{protocol.name}.parquet"),
        card={"protocol": protocol.name, "frames": frames},
    )


def _wanted(records: list[FaceRecord], protocol: Protocol) -> list[FaceRecord]:
    """Return the rows that some column counts, in the frames that the protocol takes."""
    from unseen.cli.scoring import choose_frames
    from unseen.data.names import method_name, set_name
    from unseen.types import Label

    columns = [c for c in protocol.columns.values() if c.dataset and c.corruption is None]
    real = {s for c in columns for s in (c.reals or (c.dataset,))}

    def counts(record: FaceRecord) -> bool:
        name = record.dataset if record.dataset in protocol.sets else set_name(record.dataset)
        if record.label == Label.REAL:
            return name in real
        return any(
            c.dataset == name and (not c.methods or method_name(record.method or "") in c.methods)
            for c in columns
        )

    rows = [r for r in records if r.label is not None and counts(r)]
    return choose_frames(rows, protocol.frames)
