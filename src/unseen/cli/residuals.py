"""`unseen prepare residuals`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, natural, positive, table, watch

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "prepare residuals",
        run,
        "Compute the residuals of a manifest's faces once, by a trained inpainter (RFFR).",
        "a recipe reads them with: --data.residuals DIR",
    )
    verb.add_argument("manifest", type=Path, metavar="MANIFEST", help="face crops, from `unseen prepare`")
    verb.add_argument("--inpainter", required=True, metavar="RUN", help="run folder of rffr_inpainter.yaml")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the residuals")
    verb.add_argument("--split", default="all", help="rows of this split only (default: all)")
    verb.add_argument("--blocks", type=positive, default=4, help="blocks a side (default: 4)")
    verb.add_argument("--gain", type=float, default=4.0, help="of the residual (default: 4)")
    verb.add_argument("--no-clamp", action="store_true", help="do not limit it to [-1, 1]; needs float16")
    verb.add_argument(
        "--passes", choices=["exact", "grouped"], default="exact", help="grouped is approximate"
    )
    verb.add_argument("--dtype", choices=["int8", "float16"], default="int8")
    verb.add_argument("--batch-size", type=positive, default=8)
    verb.add_argument("--workers", type=natural, default=2, help="processes that read crops (default: 2)")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def run(known: argparse.Namespace) -> int:
    """Compute and say what was made."""
    from unseen.checkpoint import load_run
    from unseen.data.manifest import Manifest
    from unseen.prepare.residuals import prepare_residuals

    trained = load_run(known.inpainter)
    manifest = Manifest.read(known.manifest)
    if known.split != "all":
        manifest = manifest.where(split=known.split)
    with watch("repainting", "faces") as report:
        made = prepare_residuals(
            trained.inpainter,
            manifest.records(),
            trained.transforms,
            known.out,
            blocks=known.blocks,
            gain=known.gain,
            clamp=not known.no_clamp,
            passes=known.passes,
            dtype=known.dtype,
            batch_size=known.batch_size,
            workers=known.workers,
            device=known.device,
            report=report,
        )
    print(f"Residuals: {known.out}")
    dropped = [(f"dropped: {reason}", number) for reason, number in made.dropped.items()]
    table(("what", "faces"), [("made", made.made), ("there before", made.before), *dropped])
    return OK
