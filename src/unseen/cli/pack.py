"""`unseen pack`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import FAILED, OK
from unseen.cli.show import add_verb, positive, watch
from unseen.data.places import name_of
from unseen.types import InputError

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs, "pack", run, "Pack the crops of a manifest into shards that many readers can stream."
    )
    verb.add_argument(
        "manifest", type=Path, metavar="MANIFEST", help="from `unseen prepare` or `unseen forge`"
    )
    verb.add_argument("--out", type=Path, help="folder for the shards and their manifest.parquet")
    verb.add_argument("--shard-mb", type=positive, default=256, help="million bytes a shard (default: 256)")
    verb.add_argument("--workers", type=positive, help="processes (default: one a core)")
    verb.add_argument(
        "--check", action="store_true", help="MANIFEST is packed: read every crop, compare its checksum"
    )


def run(known: argparse.Namespace) -> int:
    """Pack, or check what is packed."""
    from unseen.data.manifest import Manifest
    from unseen.prepare.pack import check_packed, pack

    manifest = Manifest.read(known.manifest)
    if known.check:
        bad = check_packed(manifest)
        for line in bad[:20]:
            print(line)
        name = name_of(known.manifest)
        print(f"{name}: {len(bad)} bad crops" if bad else f"{name}: every crop is whole")
        return FAILED if bad else OK
    if known.out is None:
        raise InputError("pack: give --out FOLDER for the shards", reason="usage")
    with watch("packing", "shards") as report:
        made = pack(manifest, known.out, shard_mb=known.shard_mb, workers=known.workers, report=report)
    print(f"Manifest: {made.manifest}")
    masks = f" and {made.masks} masks" if made.masks else ""
    print(
        f"{made.crops} crops{masks} in {made.shards} shards of {made.size / 1e6:.0f} MB together; "
        f"{made.made} packed now, {made.shards - made.made} done before"
    )
    return OK
