"""`unseen evaluate --protocol`: measured beside published."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.show import watch
from unseen.types import FaceRecord, InputError

if TYPE_CHECKING:
    from unseen.evaluate.protocol import Protocol
    from unseen.evaluate.scores import ScoreTable

__all__ = ["list_protocols", "run_protocol"]


def list_protocols() -> int:
    """Print the protocols that come with the package."""
    from unseen.evaluate.protocol import protocols

    for p in protocols():
        print(
            f"{p.name:22}{p.paper.method}, {p.paper.place}: {p.title} (by {p.level}; {', '.join(p.datasets)})"
        )
    return OK


def run_protocol(known: argparse.Namespace) -> int:
    """Score what a protocol tests on, or take a table of scores, and print both beside each other."""
    from unseen.evaluate.protocol import compare, read_protocol
    from unseen.evaluate.protocol_card import protocol_card, to_json, to_markdown
    from unseen.evaluate.scores import ScoreTable

    protocol = read_protocol(known.protocol)
    row = known.row
    if known.scores is not None:
        scores = ScoreTable.read(known.scores)
    elif known.model is not None and known.manifest:
        scores = _score(known, protocol)
        row = row or _row_of(protocol, Path(known.model).name)
    else:
        raise InputError("evaluate --protocol: give a RUN and --manifest, or --scores TABLE", reason="usage")
    cells = compare(protocol, scores, row=row, split=None if known.split == "all" else known.split)
    card = protocol_card(protocol, scores)
    print(to_json(protocol, cells, card) if known.json else to_markdown(protocol, cells, card))
    if row is None and not known.json:
        print(f"Beside the row {protocol.own!r}; --row names another one.")
    return OK


def _row_of(protocol: Protocol, run: str) -> str | None:
    """Return the only row whose recipe is called like the run's folder."""
    found = [row.name for row in protocol.rows if row.recipe == run and not row.overrides]
    return found[0] if len(found) == 1 else None


def _score(known: argparse.Namespace, protocol: Protocol) -> ScoreTable:
    from unseen.checkpoint import load_run
    from unseen.data.manifest import Manifest
    from unseen.evaluate.run import score_records

    records: list[FaceRecord] = []
    for path in known.manifest:
        manifest = Manifest.read(path)
        rows = manifest if known.split == "all" else manifest.where(split=known.split)
        records += rows.records()
    chosen = _wanted(records, protocol)
    if not chosen:
        there = ", ".join(sorted({r.dataset or "(no name)" for r in records})) or "no rows at all"
        raise InputError(
            f"{', '.join(map(str, known.manifest))}: no rows of {', '.join(protocol.datasets)} in split "
            f"'{known.split}'; the data sets there are {there} (docs/protocols.md has the names that are "
            "understood)",
            reason="empty",
        )
    run = load_run(known.model)
    settings = run.recipe.expanded()
    card: dict[str, Any] = {
        "run": run.name,
        "weights": run.digest,
        "manifest": ", ".join(path.name for path in known.manifest),
        "split": known.split,
        "protocol": protocol.name,
        "crop": [_call(c) for c in settings["data"]["transforms"] if c["class_path"].endswith("AlignFace")],
        "checkpoint": f"the {settings['trainer']['keep']} one" + _choice(settings["trainer"]["keep"]),
        "seed": run.recipe.seed,
    }
    with watch("scoring", "images") as report:
        return score_records(
            run.detector,
            chosen,
            run.transforms,
            out=known.out or Path(f"scores_{protocol.name}.parquet"),
            batch_size=known.batch_size,
            workers=known.workers,
            device=known.device,
            card=card,
            report=lambda done, _: report(done, len(chosen)),
        )


def _choice(keep: str) -> str:
    return " by AUC on the validation split of the training data" if keep == "best" else ""


def _call(call: dict[str, Any]) -> str:
    arguments = ", ".join(f"{k}={v}" for k, v in call.get("init_args", {}).items() if v is not None)
    return f"{call['class_path'].rpartition('.')[2]}({arguments})"


def _wanted(records: list[FaceRecord], protocol: Protocol) -> list[FaceRecord]:
    """Return the rows that some column counts, in the frames that the protocol takes."""
    import polars as pl

    from unseen.data.names import method_name, set_name
    from unseen.evaluate.aggregate import chosen_frames
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
    frame = pl.DataFrame(
        {
            "dataset": [r.dataset for r in rows],
            # A row without a video is one of its own.
            "video": [r.video or r.path for r in rows],
            "method": [r.method for r in rows],
            "frame": [r.frame for r in rows],
        },
        schema={"dataset": pl.String, "video": pl.String, "method": pl.String, "frame": pl.Int64},
    )
    return [row for row, chosen in zip(rows, chosen_frames(frame, protocol.frames), strict=True) if chosen]
