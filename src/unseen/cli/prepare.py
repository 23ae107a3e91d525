"""`unseen prepare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.show import add_engine, add_verb, engine_of, positive, seconds, table, watch
from unseen.types import InputError, Label

if TYPE_CHECKING:
    from unseen.prepare.inputs import InputFile

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs, "prepare", run, "Crop the faces of pictures and videos into a folder with a manifest."
    )
    verb.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders, globs, or .csv lists")
    verb.add_argument("--out", type=Path, help="folder for crops and manifest.parquet")
    public = verb.add_argument_group(
        "public data sets", "INPUT is then the folder of the set (docs/datasets.md)"
    )
    public.add_argument("--layout", metavar="NAME", help="ff++, celeb-df-v2, dfdc, ... or folders")
    public.add_argument("--compression", choices=["raw", "c23", "c40"], help="of the FaceForensics++ family")
    public.add_argument("--splits", metavar="DIR", help="ff++: folder of the official lists; or derive, none")
    public.add_argument("--variant", help="deeperforensics-1.0: one of its 11 sets")
    public.add_argument("--complete", action="store_true", help="refuse a set of which something is missing")
    public.add_argument("--dry-run", action="store_true", help="print what was found, and stop")
    verb.add_argument("--label", choices=["real", "fake"], help="of every input that no list labels")
    verb.add_argument("--dataset", help="name of the data set (default: the folder's)")
    verb.add_argument("--method", help="who forged the fakes")
    verb.add_argument("--split", help="train, val or test, for every input that no list gives one")
    verb.add_argument("--frames", type=positive, default=32, help="frames a video (default: 32)")
    verb.add_argument("--people", choices=["largest", "all"], default="largest", help="whom to keep")
    verb.add_argument(
        "--margin", type=float, default=0.6, help="around the face, in face sizes (default: 0.6)"
    )
    verb.add_argument("--max-side", type=positive, default=640, help="of a crop, pixels (default: 640)")
    verb.add_argument("--min-size", type=positive, default=40, help="of a face, pixels (default: 40)")
    verb.add_argument("--format", choices=["jpg", "png"], default="jpg", help="of the crops (default: jpg)")
    verb.add_argument("--finder", choices=["default", "dlib", "mtcnn"], default="default")
    verb.add_argument("--workers", type=positive, help="processes (default: one a core)")
    verb.add_argument(
        "--seconds-per-file", type=seconds, default=600.0, help="then it is dropped (default: 600)"
    )
    add_engine(verb)


def run(known: argparse.Namespace) -> int:
    """Crop, and close with a table of what was kept, dropped and why."""
    from unseen.prepare.inputs import list_inputs
    from unseen.prepare.run import prepare
    from unseen.prepare.work import CropRule

    if known.layout:
        items = _listed(known)
    else:
        items = list_inputs(
            known.inputs,
            label=Label[known.label.upper()] if known.label else None,
            dataset=known.dataset,
            method=known.method,
            split=known.split,
        )
    if known.dry_run:
        print(f"{len(items)} files would be looked at; leave out --dry-run to do it")
        return OK
    if known.out is None:
        raise InputError("prepare: give --out FOLDER for the crops", reason="usage")
    names = ("frames", "people", "margin", "max_side", "min_size", "format", "finder")
    rule = CropRule(**{name: getattr(known, name) for name in names})
    with watch("preparing", "files") as report:
        made = prepare(
            items,
            known.out,
            rule=rule,
            workers=known.workers,
            seconds_per_file=known.seconds_per_file,
            engine=engine_of(known),
            report=report,
        )
    print(f"Manifest: {made.manifest}")
    dropped = [(f"dropped: {reason}", number) for reason, number in made.dropped.items()]
    table(("what", "rows"), [("kept", made.kept), *dropped])
    print(f"{made.files} files looked at, {made.skipped} done before")
    return OK


def _listed(known: argparse.Namespace) -> list[InputFile]:
    """List a public data set, and say what was found of it."""
    from unseen.data.layouts import list_dataset
    from unseen.prepare.inputs import from_listing

    for name in ("label", "dataset", "method"):
        if getattr(known, name) is not None:
            raise InputError(f"prepare: --{name} goes without --layout, which knows it", reason="usage")
    if len(known.inputs) != 1:
        raise InputError(
            f"prepare --layout {known.layout}: {len(known.inputs)} inputs; expected the one folder",
            reason="usage",
        )
    listing = list_dataset(
        known.layout,
        known.inputs[0],
        compression=known.compression,
        splits=known.splits,
        variant=known.variant,
    )
    for count in listing.counts:
        print(count)
    if listing.missing:
        more = f" and {len(listing.missing) - 3} more" if len(listing.missing) > 3 else ""
        print(f"missing: {', '.join(listing.missing[:3])}{more}")
    for note in listing.notes:
        print(f"note: {note}")
    if known.complete:
        listing.check_complete()
    return from_listing(listing, frames=known.frames, split=known.split)
