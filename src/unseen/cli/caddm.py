"""`unseen import caddm`."""

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
        "import caddm",
        run,
        "Make a run folder of weights that CADDM's authors released.",
        "ResNet-34, EfficientNet-B3 or B4. Read as plain tensors; nothing in the file is executed.",
    )
    verb.add_argument("weights", type=Path, metavar="FILE", help="the released checkpoint")
    verb.add_argument("--out", type=Path, required=True, help="the run folder")


def run(known: argparse.Namespace) -> int:
    """Import."""
    from unseen.train.released import import_caddm

    folder = import_caddm(known.weights, known.out)
    print(f"Run: {folder}\nNext: unseen evaluate {folder} --manifest MANIFEST")
    return OK
