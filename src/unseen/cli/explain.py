"""`unseen explain`: what a run looks at, what it knows of people, where it is wrong."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, natural, positive, table, watch
from unseen.types import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unseen.checkpoint import Run
    from unseen.data.manifest import Manifest
    from unseen.explain.evidence import Summary
    from unseen.types import FaceRecord

__all__ = ["add"]

PICTURES, FACES, INTERACTIONS, WORST = 24, 2000, 200, 8  # what --limit is for each question, by default
_EPILOG = """\
unseen explain default photo.jpg --out seen/
unseen explain runs/caddm bench/manifest.parquet --with gradcam,regions --limit 12 --sanity
unseen explain runs/a runs/b bench/manifest.parquet --embedding tsne --color method
unseen explain runs/a ffpp.parquet celeb.parquet --leakage
unseen explain runs/a bench/manifest.parquet --balance --train faces.parquet
unseen explain runs/did bench/manifest.parquet --confusion
unseen explain primary-regions STORE MANIFEST --detector RUN     (a verb of its own)"""


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "explain",
        run,
        "Show what a run looks at, what it knows of people, and where it is wrong.",
        _EPILOG,
    )
    verb.add_argument(
        "words",
        nargs="+",
        metavar="RUN FILE|MANIFEST",
        help="run folders or 'default', then one picture or video, or manifests (.parquet, .csv)",
    )
    kind = verb.add_mutually_exclusive_group()
    kind.add_argument(
        "--with",
        dest="kinds",
        metavar="KINDS",
        help="of gradcam,regions,residual,prototypes,attention (default: all that the run has)",
    )
    kind.add_argument("--embedding", choices=["tsne", "umap", "pca"], help="features in the plane")
    kind.add_argument("--leakage", action="store_true", help="how much identity does it use? (CADDM)")
    kind.add_argument("--balance", action="store_true", help="reals called fake, fakes called real (RealID)")
    kind.add_argument("--confusion", action="store_true", help="which method is taken for which (DID)")
    verb.add_argument("--out", type=Path, default=Path("explained"), help="folder (default: explained)")
    verb.add_argument("--split", default="all", help="rows of a manifest (default: all)")
    verb.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"faces, evenly over methods (default: {PICTURES} on a sheet, {FACES} in the plane, "
        f"{INTERACTIONS} a data set for the interaction (0: none), {WORST} rows of worst reals)",
    )
    verb.add_argument("--frames", type=positive, help="of each video (default: 4 of a file; leakage: 5)")
    verb.add_argument("--seed", type=natural, default=0)
    verb.add_argument("--batch-size", type=positive, default=16)
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    pictures = verb.add_argument_group("pictures")
    pictures.add_argument(
        "--sanity",
        nargs="?",
        type=positive,
        const=20,
        default=0,
        metavar="STEPS",
        help="deletion and insertion for each heat map (20 steps); pointing and IoU need no asking",
    )
    plane = verb.add_argument_group("--embedding")
    plane.add_argument("--color", choices=["label", "method", "identity", "dataset"], default="label")
    leak = verb.add_argument_group("--leakage")
    leak.add_argument("--probe", choices=["real", "all"], default="real", help="faces of the linear probe")
    leak.add_argument("--epochs", type=positive, default=100, help="of the linear probe (default: 100)")
    leak.add_argument("--grid", type=positive, default=16, help="cells a side (default: 16)")
    leak.add_argument("--baseline", choices=["mean", "zero", "black"], default="mean", help="hides a cell")
    leak.add_argument("--output", choices=["logit", "probability"], default="logit")
    wrong = verb.add_argument_group("--balance")
    wrong.add_argument("--threshold", type=float, help="in log-odds (default: the run's)")
    wrong.add_argument("--train", type=Path, metavar="MANIFEST", help="whose reals the worst are held beside")
    wrong.add_argument("--train-split", default="train", help="rows of it (default: train)")


def run(known: argparse.Namespace) -> int:
    """Sort the words, load what they name, and answer the question."""
    from unseen.checkpoint import load_run
    from unseen.models.device import device_of

    runs, manifests, files = sort_words(known.words)
    sets = known.embedding or known.leakage or known.balance or known.confusion
    if not runs or bool(manifests) == bool(files) or len(files) > 1:
        raise InputError(
            "explain: give a RUN, then one file or manifests, such as `unseen explain default photo.jpg`",
            reason="usage",
        )
    if len(runs) > 1 and not known.embedding:
        raise InputError("explain: several runs go with --embedding only; give one", reason="usage")
    if sets and files:
        raise InputError(f"explain: {files[0]} is one file; this question takes a manifest", reason="usage")
    device = device_of(known.device)
    loaded = [load_run(name) for name in runs]
    for one in loaded:
        one.detector.to(device)
    if known.confusion:
        from unseen.explain.confusion import domain_part

        domain_part(loaded[0].detector)  # refused before anything is written
    known.out.mkdir(parents=True, exist_ok=True)
    if not sets:
        return _pictures(known, loaded[0], files, manifests)
    from unseen.cli import explain_sets

    records = [record for path in manifests for record in read_rows(path, known.split)[1]]
    if known.embedding:
        return explain_sets.embedding(known, loaded, records)
    if known.leakage:
        return explain_sets.leakage(known, loaded[0], records)
    if known.balance:
        return explain_sets.balance(known, loaded[0], records)
    return explain_sets.confusion(known, loaded[0], records)


def sort_words(words: list[str]) -> tuple[list[str], list[Path], list[Path]]:
    """Return runs, manifests and other files among the words.

    Raises:
        InputError: A word is none of them.
    """
    runs: list[str] = []
    manifests: list[Path] = []
    files: list[Path] = []
    for word in words:
        path = Path(word)
        if path.suffix.lower() in (".parquet", ".csv"):
            manifests.append(path)
        elif word == "default" or path.is_dir():
            runs.append(word)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{word}: no such file or run folder", reason="missing")
    return runs, manifests, files


def read_rows(path: Path, split: str) -> tuple[Manifest, list[FaceRecord]]:
    """Return a manifest and its rows of a split.

    Raises:
        InputError: There are none.
    """
    from unseen.data.manifest import Manifest, rows_of

    manifest = Manifest.read(path)
    return manifest, rows_of(manifest.records(), None if split == "all" else split, str(path))


def concept_pictures(run: Run) -> list[list[NDArray[np.uint8]]]:
    """Return the training faces that a run keeps of each of its real concepts; empty if it keeps none."""
    import cv2
    import numpy as np

    from unseen.detect.concepts import read_concepts

    return [
        [
            np.asarray(cv2.imdecode(np.frombuffer(one.picture, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)
            for one in nearest
            if one.picture
        ]
        for nearest in read_concepts(run.folder, run.facts).nearest
    ]


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture by the ending of its name."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), picture[..., ::-1], options):
        raise InputError(f"{path}: cannot be written", reason="unwritable")


def _pictures(known: argparse.Namespace, run: Run, files: list[Path], manifests: list[Path]) -> int:
    """Draw evidence: a picture a face and kind for one file, a contact sheet for manifests."""
    from unseen.explain.evidence import explain_views, summarize
    from unseen.explain.faces import evenly
    from unseen.explain.sheet import contact_sheet, evidence_pictures
    from unseen.explain.views import forged_regions, view_file, view_records

    if files:
        views = view_file(files[0], run.transforms, frames=known.frames or 4)
    else:
        rows: list[FaceRecord] = []
        regions: dict[str, Any] = {}
        for path in manifests:
            manifest, records = read_rows(path, known.split)
            rows += records
            regions |= forged_regions(manifest)
        views = view_records(evenly(rows, known.limit or PICTURES), run.transforms, regions=regions)
    if files and known.limit:
        views = views[: known.limit]
    kinds = None if known.kinds is None else [word.strip() for word in known.kinds.split(",") if word.strip()]
    with watch("explaining", "faces") as report:
        seen = explain_views(
            run.detector,
            views,
            kinds,
            name=run.name,
            batch_size=known.batch_size,
            steps=known.sanity,
            seed=known.seed,
            report=report,
        )
    concepts = concept_pictures(run)
    named: list[dict[str, Any]] = []
    for number, one in enumerate(seen, 1):
        told = one.to_dict()
        if files:
            told["pictures"] = {}
            for kind, picture in evidence_pictures(one, concepts=concepts).items():
                name = f"face-{number}_{kind.replace(' ', '-')}.jpg"
                write_picture(known.out / name, picture)
                told["pictures"][kind] = name
        named.append(told)
    if not files or len(seen) > 1:
        write_picture(known.out / "sheet.jpg", contact_sheet(seen, concepts=concepts))
        print(f"Sheet: {known.out / 'sheet.jpg'}")
    summary = summarize(seen)
    everything = {
        "run": run.name,
        "weights": run.digest,
        "target": [str(path) for path in [*files, *manifests]],
        "faces": named,
        "summary": [asdict(row) for row in summary],
    }
    path = known.out / "explain.json"
    path.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    columns = [n for n in _NUMBERS if any(getattr(row, n) is not None for row in summary)]
    table(
        ("kind", "method", "faces", *(_NUMBERS[n] for n in columns)),
        [(row.kind, row.method, row.faces, *(_worded(row, n) for n in columns)) for row in summary],
    )
    print(f"Numbers: {path}")
    return OK


_NUMBERS = {
    "percent": "% > 0",
    "pointing": "points",
    "iou": "IoU",
    "deletion": "deletion (random)",
    "insertion": "insertion (random)",
}


def _worded(row: Summary, name: str) -> str:
    """Return a number of a row as it is printed, beside the one of a random order if it has one."""
    value, random = getattr(row, name), getattr(row, f"{name}_random", None)
    if value is None:
        return "-"
    text = f"{value:.1f}" if name == "percent" else f"{value:.2f}"
    return text if random is None else f"{text} ({random:.2f})"
