"""`unseen forge` and `unseen sample`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, natural, positive, table, watch

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare both verbs."""
    verb = add_verb(
        verbs,
        "forge",
        run,
        "Make labelled forgeries of several families from real faces: a stand-in benchmark.",
        "Forge only people who agreed. A bench is for developing and comparing; it is not FaceForensics++.",
    )
    verb.add_argument("manifest", type=Path, metavar="MANIFEST", help="real faces, from `unseen prepare`")
    verb.add_argument("--out", type=Path, help="folder of the bench")
    verb.add_argument("--families", default="all", help="comma-separated, or all")
    verb.add_argument(
        "--per-identity", type=positive, default=1, help="forgeries a family and person (default: 1)"
    )
    verb.add_argument("--seed", type=natural, default=0)
    verb.add_argument("--workers", type=positive, help="processes (default: one a core)")
    verb.add_argument(
        "--preview", type=Path, metavar="PNG", help="only write a contact sheet: a row a person"
    )
    verb.add_argument("--video", action="store_true", help="forge whole clips instead of crops")
    verb.add_argument("--crf", type=int, default=23, help="with --video: H.264 quality (default: 23)")
    verb = add_verb(
        verbs, "sample", sample, "Write a tiny ready-made benchmark of synthetic people, in seconds."
    )
    verb.add_argument("folder", type=Path, metavar="DIR")
    verb.add_argument("--people", type=positive, default=8)
    verb.add_argument("--seed", type=natural, default=0)
    verb.add_argument("--workers", type=positive, help="processes (default: one a core)")


def run(known: argparse.Namespace) -> int:
    """Forge a bench, clips, or a contact sheet."""
    from unseen.forge.families import FAMILIES
    from unseen.types import InputError

    words = tuple(word.strip() for word in known.families.split(","))
    families = FAMILIES if words == ("all",) else words
    if known.preview is not None:
        from unseen.forge.sheet import preview

        with watch("forging", "pictures") as report:
            sheet = preview(known.manifest, known.preview, families=families, seed=known.seed, report=report)
        print(f"Contact sheet: {sheet}")
        return OK
    if known.out is None:
        raise InputError("forge: give --out FOLDER for a bench, or --preview FILE.png for a contact sheet")
    if known.video:
        from unseen.forge.films import forge_clips

        with watch("forging", "clips") as report:
            made = forge_clips(
                known.manifest,
                known.out,
                families=families,
                crf=known.crf,
                seed=known.seed,
                workers=known.workers,
                report=report,
            )
        table(
            ("clip", "number"), [*made.kept.items(), *((f"dropped: {k}", n) for k, n in made.dropped.items())]
        )
        print(f"List: {made.list}\nNext: unseen prepare {made.list} --out CROPS")
        return OK
    from unseen.forge.run import forge

    with watch("forging", "pictures") as report:
        bench = forge(
            known.manifest,
            known.out,
            families=families,
            per_identity=known.per_identity,
            seed=known.seed,
            workers=known.workers,
            report=report,
        )
    print(f"Manifest: {bench.manifest}")
    table(
        ("rows", "number"), [*bench.kept.items(), *((f"dropped: {k}", n) for k, n in bench.dropped.items())]
    )
    people = ", ".join(f"{number} {split}" for split, number in bench.people.items())
    print(f"People: {people}. Nobody is in two splits, donors included.")
    return OK


def sample(known: argparse.Namespace) -> int:
    """Write the sample benchmark."""
    from unseen.forge.sample import write_sample

    manifest = write_sample(known.folder, people=known.people, seed=known.seed, workers=known.workers)
    print(f"Manifest: {manifest}")
    print(f"Next: unseen train recipes/tiny.yaml --out runs/tiny --data.manifest {manifest}")
    return OK
