"""`unseen audit`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import FAILED, OK
from unseen.cli.show import add_verb, positive, watch

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "audit",
        run,
        "Look a manifest through for what makes numbers wrong: missing files, overlap, wrong labels, leaks.",
        "exit code: 0 no errors, 1 errors, 2 no such manifest",
    )
    verb.add_argument("manifest", type=Path, metavar="MANIFEST", help=".parquet or .csv")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--out", type=Path, metavar="FILE", help="write the report too; .json or text")
    verb.add_argument("--min-frames", type=positive, default=8, help="of a video (default: 8)")
    verb.add_argument("--strict", action="store_true", help="exit code 1 for warnings too")


def run(known: argparse.Namespace) -> int:
    """Audit, print, and tell by the exit code."""
    from unseen.data.manifest import Manifest
    from unseen.prepare.audit import audit

    manifest = Manifest.read(known.manifest)
    with watch("reading", "files") as report:
        found = audit(manifest, min_frames=known.min_frames, report=report)
    print(found.to_json() if known.json else found.to_text())
    if known.out is not None:
        text = found.to_json() if known.out.suffix == ".json" else found.to_text()
        known.out.write_text(text + "\n", encoding="utf-8")
    warned = any(finding.severity == "warning" for finding in found.findings)
    return OK if found.ok and not (known.strict and warned) else FAILED
