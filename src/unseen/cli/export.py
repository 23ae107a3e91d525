"""`unseen export`."""

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
        "export",
        run,
        "Write a run as one file: network, calibration, preprocessing and card.",
        "unseen export default --format onnx --out model.onnx\nunseen detect face.jpg --run model.onnx",
    )
    verb.add_argument("model", metavar="RUN", help="a run folder, or 'default'")
    verb.add_argument("--format", choices=["onnx"], default="onnx", help="what to write (default: onnx)")
    verb.add_argument("--out", type=Path, required=True, help="the file, which must not exist")
    verb.add_argument(
        "--int8", action="store_true", help="weights in eight bits: smaller, and not the same scores"
    )


def run(known: argparse.Namespace) -> int:
    """Export, compare with torch, and say what came of it."""
    from unseen.detect.one_file import TOLERANCE, export_run

    found = export_run(known.model, known.out, int8=known.int8)
    said = (
        f"scores differ from the float network's by up to {found.difference:.3g}"
        if found.int8
        else f"scores are torch's within {found.difference:.1e} (at most {TOLERANCE:g} is allowed)"
    )
    print(f"{found.path}: {found.bytes / 1e6:.1f} MB; {said}\nNext: unseen detect FILE --run {found.path}")
    return OK
