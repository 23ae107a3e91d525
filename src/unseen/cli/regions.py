"""`unseen prepare primary-regions` and `unseen explain primary-regions`."""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, natural, positive, table, watch
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.data.manifest import Manifest
    from unseen.regions.store import Made

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verbs."""
    verb = add_verb(
        verbs,
        "prepare primary-regions",
        make,
        "Ask trained detectors where they look in every face, for PRLE.",
        "Maps are kept: --from STORE fuses those of another store anew, without its detectors.",
    )
    verb.add_argument("manifest", nargs="?", type=Path, metavar="MANIFEST", help="from `unseen prepare`")
    verb.add_argument("--detectors", nargs="+", metavar="RUN", help="run folders; with --from names in it")
    verb.add_argument("--from", dest="source", type=Path, metavar="STORE", help="fuse its maps anew")
    verb.add_argument("--out", type=Path, required=True, help="the store")
    verb.add_argument("--split", default="train", help="rows to look at; 'all' for all (default: train)")
    verb.add_argument("--fusion", choices=["neighbour", "average"], default="neighbour")
    verb.add_argument("--threshold", type=float, default=0.3, help="of the average, tau1 (default: 0.3)")
    verb.add_argument("--difference", type=float, default=0.15, help="to neighbours, lambda (default: 0.15)")
    verb.add_argument("--floor", type=float, help="of the average, below which nothing is expanded")
    verb.add_argument("--rank-by", choices=["value", "average"], default="value")
    verb.add_argument("--target", choices=["label", "fake", "predicted"], default="label")
    verb.add_argument("--size", type=positive, default=256, help="side of the fused map (default: 256)")
    verb.add_argument("--batch-size", type=positive, default=16)
    verb.add_argument("--workers", type=natural, default=2, help="processes that read crops (default: 2)")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument("--bfloat16", action="store_true", help="faster; maps differ a little")

    verb = add_verb(
        verbs,
        "explain primary-regions",
        show,
        "Print how much of a face the regions cover, and draw what erasing them does.",
    )
    verb.add_argument("regions", type=Path, metavar="STORE", help="from `unseen prepare primary-regions`")
    verb.add_argument("manifest", type=Path, metavar="MANIFEST", help="the faces it was made of")
    verb.add_argument("--detector", metavar="RUN", help="score the faces with this run for eleven alphas")
    verb.add_argument("--out", type=Path, default=Path(), help="folder for the pictures (default: here)")
    verb.add_argument("--split", default="all", help="rows to look at (default: all)")
    verb.add_argument("--faces", type=positive, default=6, help="rows of the picture (default: 6)")
    verb.add_argument("--batch-size", type=positive, default=32)
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def make(known: argparse.Namespace) -> int:
    """Make a store, and close with what has no map and why."""
    from unseen.methods.prle import Fusion
    from unseen.regions.store import fuse_again, primary_regions

    fusion = Fusion(
        kind=known.fusion,
        threshold=known.threshold,
        difference=known.difference,
        floor=known.floor,
        rank_by=known.rank_by,
    )
    with watch("looking", "faces") as report:
        if known.source is not None:
            made = fuse_again(
                known.source, known.out, fusion=fusion, size=known.size, zoo=known.detectors, report=report
            )
        else:
            if known.manifest is None or known.detectors is None:
                raise InputError(
                    "prepare primary-regions: give MANIFEST and --detectors RUN..., or --from STORE",
                    reason="usage",
                )
            from unseen.checkpoint import load_run

            made = primary_regions(
                _rows(known.manifest, known.split),
                [load_run(run) for run in known.detectors],
                known.out,
                fusion=fusion,
                size=known.size,
                target=known.target,
                batch_size=known.batch_size,
                workers=known.workers,
                device=known.device,
                bfloat16=known.bfloat16,
                report=report,
            )
    _close(made)
    return OK


def show(known: argparse.Namespace) -> int:
    """Print Table I's numbers, draw Figure 7, and Figure 8 if there is a detector."""
    import cv2

    from unseen.data.regions import RegionStore
    from unseen.regions.draw import alpha_curve, alpha_sheet
    from unseen.regions.measure import region_shares, scores_by_alpha

    store = RegionStore(known.regions)
    records = [r for r in _rows(known.manifest, known.split).records() if r in store]
    rows = region_shares(store, records)
    table(
        ("detector", "method", "% of pixels", "mean map", "faces"),
        [(r.detector, r.method, f"{r.percent:.2f}", f"{r.heat:.3f}", r.faces) for r in rows],
    )
    known.out.mkdir(parents=True, exist_ok=True)
    few = records[:: max(1, len(records) // known.faces)][: known.faces]
    sheet = alpha_sheet(few, str(known.regions))
    cv2.imwrite(str(known.out / "masks.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    print(f"Masks: {known.out / 'masks.jpg'}")
    if known.detector is None:
        return OK
    from unseen.checkpoint import load_run

    run = load_run(known.detector)
    with watch("scoring", "faces") as report:
        scores = scores_by_alpha(
            run,
            records,
            str(known.regions),
            batch_size=known.batch_size,
            device=known.device,
            report=report,
        )
    with (known.out / "alpha.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(scores[0])))
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)
    (known.out / "alpha.svg").write_text(alpha_curve(scores, run.name), encoding="utf-8")
    table(
        ("alpha", "AUC", "mean score of real", "of fake"),
        [(f"{s.alpha:.1f}", f"{s.auc:.4f}", f"{s.real:+.2f}", f"{s.fake:+.2f}") for s in scores],
    )
    print(f"Curve: {known.out / 'alpha.svg'}, numbers: {known.out / 'alpha.csv'}")
    return OK


def _rows(path: Path, split: str) -> Manifest:
    from unseen.data.manifest import Manifest

    manifest = Manifest.read(path)
    return manifest if split == "all" else manifest.where(split=split)


def _close(made: Made) -> None:
    print(f"Store: {made.folder}")
    table(("what", "faces"), [("made", made.made), ("had maps", made.kept), ("no map", len(made.missing))])
    for reason in made.repaired:
        print(f"repaired: {reason}")
    if made.missing:
        path = made.folder / "missing.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "reason"), *made.missing])
        for _, reason in made.missing[:3]:
            print(f"no map: {reason}")
        print(f"All of them: {path}")
