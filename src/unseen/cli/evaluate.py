"""`unseen evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.efficiency import run_efficiency
from unseen.cli.protocol import list_protocols, run_protocol
from unseen.cli.show import add_verb, positive, watch
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.evaluate.scores import ScoreTable

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(verbs, "evaluate", run, "Score a manifest with a run, or measure a table of scores.")
    verb.add_argument("model", nargs="?", metavar="RUN", help="a run folder, or 'default'")
    verb.add_argument(
        "--manifest",
        type=Path,
        action="append",
        help="crops to score, from `unseen prepare`; may be repeated",
    )
    verb.add_argument("--split", default="test", help="rows to score; 'all' for every row (default: test)")
    verb.add_argument("--scores", type=Path, help="measure this table (.parquet or .csv) instead of scoring")
    verb.add_argument("--protocol", metavar="NAME", help="put the numbers beside a published table")
    verb.add_argument("--row", help="the row of the table that RUN stands for (default: by the run's name)")
    verb.add_argument("--list-protocols", action="store_true", help="print the published tables and stop")
    verb.add_argument(
        "--efficiency",
        action="store_true",
        help="multiply-adds, parameters and pictures a second; --manifest adds reading and augmenting",
    )
    verb.add_argument("--size", type=positive, help="side of the picture for --efficiency (default: RUN's)")
    verb.add_argument("--out", type=Path, help="where the scores go (default: ./scores_SPLIT.parquet)")
    verb.add_argument("--batch-size", type=positive, default=32)
    verb.add_argument("--workers", type=int, default=2, help="processes that read crops (default: 2)")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(known: argparse.Namespace) -> int:
    """Measure, and print both levels."""
    from unseen.evaluate.scores import ScoreTable
    from unseen.evaluate.summary import summary, to_json, to_markdown

    if known.list_protocols:
        return list_protocols()
    if known.efficiency:
        return run_efficiency(known)
    if known.protocol is not None:
        return run_protocol(known)
    if known.scores is not None:
        scores = ScoreTable.read(known.scores)
    elif known.model is not None and known.manifest is not None:
        scores = _score(known)
    else:
        raise InputError("evaluate: give a RUN and --manifest, or --scores TABLE", reason="usage")
    numbers = summary(scores)
    print(to_json(numbers) if known.json else to_markdown(numbers))
    return OK


def _score(known: argparse.Namespace) -> ScoreTable:
    from unseen.checkpoint import load_run
    from unseen.data.manifest import Manifest
    from unseen.evaluate.run import score_records

    records = []
    for path in known.manifest:
        manifest = Manifest.read(path)
        records += (manifest if known.split == "all" else manifest.where(split=known.split)).records()
    names = ", ".join(map(str, known.manifest))
    if not records:
        raise InputError(
            f"{names}: no rows of split '{known.split}'; name another with --split, or --split all",
            reason="empty",
        )
    run = load_run(known.model)
    card = {
        "run": run.name,
        "weights": run.digest,
        "manifest": ", ".join(p.name for p in known.manifest),
        "split": known.split,
    }
    with watch("scoring", "images") as report:
        return score_records(
            run.model,
            records,
            run.transforms,
            out=known.out or Path(f"scores_{known.split}.parquet"),
            batch_size=known.batch_size,
            workers=known.workers,
            device=known.device,
            card=card,
            report=lambda done, _: report(done, len(records)),
        )
