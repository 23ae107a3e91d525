"""`unseen train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "train",
        run,
        "Train a detector by a recipe and leave a run folder.",
        "any value can be overridden: unseen train RECIPE --out RUN --data.manifest faces.parquet",
    )
    verb.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file, see recipes/")
    verb.add_argument("--out", type=Path, required=True, help="the run folder")
    verb.add_argument("--resume", action="store_true", help="go on from RUN/last.ckpt")


def run(known: argparse.Namespace) -> int:
    """Train."""
    from unseen.recipe import read_recipe
    from unseen.train.fit import train

    folder = train(read_recipe(known.recipe, known.overrides), known.out, resume=known.resume)
    print(f"Run: {folder}\nNext: unseen evaluate {folder} --manifest MANIFEST")
    return OK
