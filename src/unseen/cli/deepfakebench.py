"""`unseen import deepfakebench` and `unseen export deepfakebench`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb
from unseen.types import InputError

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare both verbs."""
    verb = add_verb(
        verbs,
        "import deepfakebench",
        take,
        "Read DeepfakeBench's weights, JSON, crops or LMDB; what SOURCE is, it tells itself.",
        "unseen import deepfakebench xception_best.pth --out runs/xception\n"
        "unseen import deepfakebench FaceForensics++.json --root /data --out ffpp.parquet\n"
        "unseen import deepfakebench /data/Celeb-DF-v2 --out celeb.parquet      (a tree of crops)\n"
        "unseen import deepfakebench /data/UADFV_lmdb --unpack crops --out uadfv.parquet",
    )
    verb.add_argument(
        "source", type=Path, metavar="SOURCE", help=".pth, .json, a folder of crops, or an LMDB"
    )
    verb.add_argument("--out", type=Path, help="run folder, or manifest (.parquet or .csv)")
    verb.add_argument("--root", type=Path, help="JSON: where its crops are now")
    verb.add_argument("--unpack", type=Path, metavar="DIR", help="LMDB: folder for its pictures")
    verb.add_argument(
        "--labels", action="append", default=[], metavar="NAME=0|1", help="JSON: what a label name means"
    )
    verb.add_argument("--dry-run", action="store_true", help="JSON, crops: say what is there, write nothing")
    verb = add_verb(
        verbs,
        "export deepfakebench",
        give,
        "Write crops as DeepfakeBench and its forks read them: aligned, with landmarks and JSON.",
    )
    verb.add_argument("manifest", type=Path, metavar="MANIFEST", help="from `unseen prepare`, with splits")
    verb.add_argument("--out", type=Path, required=True, help="folder for crops and dataset_json/")
    verb.add_argument(
        "--start", type=Path, help="folder that its train.py is called from (default: this one)"
    )
    verb.add_argument("--json-only", action="store_true", help="the crops are aligned already")


def take(known: argparse.Namespace) -> int:
    """Import weights or data."""
    source: Path = known.source
    if source.suffix in (".pth", ".pt", ".safetensors"):
        from unseen.train.adopt import adopt_deepfakebench

        folder = adopt_deepfakebench(source, _out(known))
        print(f"Run: {folder}\nNext: unseen evaluate {folder} --manifest MANIFEST")
        return OK
    from unseen.data.deepfakebench import read_json, read_lmdb, read_tree

    if source.suffix == ".json":
        found = read_json(source, root=known.root, labels=_labels(known.labels))
    elif (source / "data.mdb").is_file():
        if known.unpack is None:
            raise InputError(
                f"{source}: give --unpack DIR, a folder for the pictures of the LMDB", reason="usage"
            )
        found = read_lmdb(source, known.unpack)
    elif source.is_dir():
        found = read_tree(source)
    else:
        raise InputError(
            f"{source}: expected weights (.pth), a .json, a folder of crops, or an LMDB", reason="missing"
        )
    print(f"{len(found.manifest):,} crops, {found.missing:,} of them missing")
    for note in found.notes:
        print(f"note: {note}")
    if not known.dry_run:
        out = _out(known)
        found.manifest.write(out)
        print(f"Manifest: {out}\nNext: unseen audit {out}")
    return OK


def give(known: argparse.Namespace) -> int:
    """Export a manifest."""
    from unseen.data.deepfakebench import write_json, write_tree
    from unseen.data.manifest import Manifest

    manifest = Manifest.read(known.manifest)
    if not known.json_only:
        manifest = write_tree(manifest, known.out)
    for file in write_json(manifest, known.out / "dataset_json", start=known.start):
        print(file)
    return OK


def _out(known: argparse.Namespace) -> Path:
    if known.out is None:
        raise InputError("import deepfakebench: give --out, a run folder or a manifest", reason="usage")
    out: Path = known.out
    return out


def _labels(given: list[str]) -> dict[str, int]:
    labels = {}
    for text in given:
        name, _, value = text.rpartition("=")
        if not name or value not in ("0", "1"):
            raise InputError(f"--labels {text}: expected NAME=0 (real) or NAME=1 (fake)", reason="usage")
        labels[name] = int(value)
    return labels
