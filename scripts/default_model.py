"""Make the model that comes with the package: rows, training, calibration, and the numbers of its card.

    python scripts/default_model.py rows REALS BENCH --volunteers frll --out default
    unseen train recipes/default_lite0.yaml      --data.manifest default/train.parquet --out default/first
    unseen train recipes/default_lite0_more.yaml --data.manifest default/more.parquet \
        --init default/first --out default/second
    python scripts/default_model.py calibrate default/second default/more.parquet --blends BLENDS --out run
    python scripts/default_model.py measure run default/train.parquet --wild WILD --out default/measured
    python scripts/default_model.py ship run card.md --out src/unseen/default_run

REALS is a manifest of real people with splits and identities (`unseen prepare`), BENCH one of `unseen
forge` with the volunteers' forgeries (`--per-identity 4`), BLENDS one of `unseen forge --families sbi` with
the others blended with themselves, WILD one of real faces of other cameras, which nothing is learned from
or set by. The first three share splits and identities. `calibrate` shows every validation person as
photographed and through eight alterations, so that the promised rate of false alarms is one over channels
and not over one studio.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path

import polars as pl

from unseen.checkpoint import load_run, save_run
from unseen.cli import main as unseen
from unseen.data.dataset import read_crop
from unseen.data.manifest import Manifest
from unseen.evaluate.calibration import Calibration
from unseen.evaluate.corruptions import Corrupt, corrupt, generator
from unseen.evaluate.intervals import Interval
from unseen.evaluate.resampling import measure_intervals
from unseen.evaluate.run import score_records
from unseen.media.crop import encode_crop
from unseen.types import FaceRecord, Label

HELD = ("autoencode", "sbi")  # families of the bench that are not learned from; self-blends are made anew
REPEATS, CLIPS = 8, 3  # of volunteers' reals, so that a studio says nothing of a label; of clips' frames
MORE_CALIBRATION = 60  # people of the most varied data set who move from training to validation
ALTERED = (
    ("jpeg", 3), ("webp", 3), ("resize", 3), ("noise", 1), ("blur", 1), ("contrast", 2), ("reshare", 2),
    ("screenshot", 2),
)  # fmt: skip
CHANGES = (("", 0), ("jpeg", 3), ("h264", 3), ("reshare", 3), ("resize", 4), ("blur", 3))  # of the card


def number(text: str) -> int:
    """Return a number that depends on a text and on nothing else."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def rows(reals: Path, bench: Path, volunteers: str, varied: str, clips: list[str], out: Path) -> None:
    """Write what is learned from: `train.parquet`, and `more.parquet` for the second stage."""
    forged = [r for r in Manifest.read(bench).records() if r.dataset == volunteers]
    real = [r for r in Manifest.read(reals).records() if r.dataset != volunteers]
    people = sorted({str(r.identity) for r in real if r.dataset == varied and r.split == "train"}, key=number)
    moved = set(people[:MORE_CALIBRATION])
    real = [replace(r, split="val") if r.identity in moved else r for r in real]
    learned = [r for r in forged if r.split != "train" or r.method not in HELD]
    again = [r for r in learned if r.split == "train" and r.label == Label.REAL]
    first = [*learned, *real, *(REPEATS - 1) * again]
    frames = [r for r in real if r.split == "train" and r.dataset in clips]
    out.mkdir(parents=True, exist_ok=True)
    for name, records in (("train", first), ("more", [*first, *(CLIPS - 1) * frames])):
        Manifest.from_records(records).write(out / f"{name}.parquet")
        print(f"{out / name}.parquet: {len(records)} rows")


def altered(record: FaceRecord, folder: Path) -> list[FaceRecord]:
    """Write a crop's altered copies, as JPEG like every crop, each a further video of the same person."""
    sample, made = read_crop(record), []
    for name, level in ALTERED:
        image = corrupt(sample.image, name, level, generator(record, name, level, 0))
        path = folder / f"{number(record.path) % 10**12:012d}_{name}.jpg"
        path.write_bytes(encode_crop(image))
        made.append(replace(record, path=str(path), video=f"{record.video or record.path} {name}"))
    return made


def calibrate(run: Path, manifest: Path, blends: Path, out: Path) -> None:
    """Set threshold and p-values by validation people, clean and altered, and by forgeries of them."""
    known = Manifest.read(manifest).where(split="val").records()
    people = {r.identity for r in known}
    known += [r for r in Manifest.read(blends).where(label=1, split="val").records() if r.identity in people]
    folder = out.with_name(f"{out.name}_altered")
    folder.mkdir(parents=True, exist_ok=True)
    copies = [c for r in known if r.label == Label.REAL for c in altered(r, folder)]
    path = folder / "calibration.parquet"
    Manifest.from_records([*known, *copies]).write(path)
    if code := unseen(["calibrate", str(run), str(path), "--out", str(out)]):
        raise SystemExit(code)


def ship(run: Path, card: Path, out: Path) -> None:
    """Write the run folder of the package: a card by hand, and no path of this machine."""
    loaded = load_run(run)
    recipe = loaded.recipe.with_values({"data.manifest": "more.parquet", "init": "runs/default_lite0"})
    save_run(
        out,
        loaded.model,
        recipe,
        calibration=loaded.calibration,
        metrics=loaded.metrics,
        card=card.read_text(encoding="utf-8"),
        data=loaded.facts["data"],
        graph=True,
    )


def measure(run: Path, manifest: Path, wild: list[Path], volunteers: str, out: Path) -> None:
    """Print the tables of the card: families on new people, real people taken for fake, both re-encoded."""
    tested = Manifest.read(manifest).where(split="test").records()
    out.mkdir(parents=True, exist_ok=True)
    changed = [scored(run, tested, out, "test", *change) for change in CHANGES]
    names = " | ".join(name for name, _ in CHANGES[1:])
    lines = Lines(load_run(run).calibration)
    print(f"| forgery | people | real | fake | AUC | {names} | called fake | cannot tell |")
    clean = changed[0].filter(pl.col("dataset") == volunteers)
    for method in sorted(set(clean.filter(pl.col("label") == 1)["method"])):
        tables = [
            table.filter(
                (pl.col("dataset") == volunteers) & ((pl.col("label") == 0) | (pl.col("method") == method))
            )
            for table in changed
        ]
        found = [area(table) for table in tables]
        fakes, reals = (tables[0].filter(pl.col("label") == label) for label in (1, 0))
        cells = [fakes["identity"].n_unique(), len(reals), len(fakes)]
        cells += [f"{found[0].value:.3f} [{found[0].low:.2f}, {found[0].high:.2f}]"]
        cells += [f"{other.value:.3f}" for other in found[1:]]
        print(f"| `{method}` | " + " | ".join(map(str, cells)) + f" | {lines.shares(fakes['score'])} |")
    print(f"| real people | people | faces or clips | called fake | cannot tell | called fake: {names} |")
    for path in [None, *wild]:
        records = tested if path is None else Manifest.read(path).records()
        name = "test" if path is None else path.parent.name
        tables = [scored(run, records, out, name, *change) for change in CHANGES]
        for dataset in sorted(set(tables[0]["dataset"])):
            clips = [
                table.filter((pl.col("label") == 0) & (pl.col("dataset") == dataset))
                .group_by("video")
                .agg(pl.col("score").mean(), pl.col("identity").first())
                for table in tables
            ]
            cells = [clips[0]["identity"].n_unique(), len(clips[0]), lines.shares(clips[0]["score"])]
            cells += [lines.fake(clip["score"]) for clip in clips[1:]]
            print(f"| {dataset} | " + " | ".join(map(str, cells)) + " |")


class Lines:
    """The two scores that part fake, cannot tell and real."""

    def __init__(self, calibration: Calibration) -> None:
        self.upper, self.lower = calibration.threshold(), calibration.real_threshold

    def fake(self, scores: pl.Series) -> str:
        """Return the share that is called fake."""
        return f"{100 * float((scores >= self.upper).mean()):.0f} %"  # type: ignore[arg-type]

    def shares(self, scores: pl.Series) -> str:
        """Return the shares that are called fake, and neither."""
        neither = ((scores < self.upper) & (scores >= self.lower)).mean()
        return f"{self.fake(scores)} | {100 * float(neither):.0f} %"  # type: ignore[arg-type]


def area(table: pl.DataFrame) -> Interval:
    """Return the AUC with its interval over draws of people."""
    who = (table["identity"] + table["label"].cast(pl.String)).to_numpy()
    return measure_intervals(table["score"].to_numpy(), table["label"].to_numpy(), who)["auc"]


def scored(run: Path, records: list[FaceRecord], out: Path, name: str, kind: str, level: int) -> pl.DataFrame:
    """Score rows, corrupted if a kind is given, unless that was done before."""
    path = out / f"{name}_{kind or 'clean'}.parquet"
    if not path.exists():
        loaded = load_run(run)
        before = [Corrupt(kind, level)] if kind else []
        score_records(loaded.model, records, [*before, *loaded.transforms], out=path, card={"run": str(run)})
    return pl.read_parquet(path).filter(pl.col("score").is_not_null())


def main() -> None:
    """Do one of the four."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("rows")
    verb.add_argument("reals", type=Path)
    verb.add_argument("bench", type=Path)
    verb.add_argument("--volunteers", default="frll")
    verb.add_argument("--varied", default="archive", help="data set that gives further people to validation")
    verb.add_argument("--clips", nargs="*", default=["grid"], help="data sets of clips, repeated later")
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("calibrate")
    verb.add_argument("run", type=Path)
    verb.add_argument("manifest", type=Path)
    verb.add_argument("--blends", type=Path, required=True, help="self-blends of the other people")
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("ship")
    verb.add_argument("run", type=Path)
    verb.add_argument("card", type=Path)
    verb.add_argument("--out", type=Path, required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("run", type=Path)
    verb.add_argument("manifest", type=Path)
    verb.add_argument("--wild", type=Path, nargs="*", default=[])
    verb.add_argument("--volunteers", default="frll")
    verb.add_argument("--out", type=Path, required=True)
    known = parser.parse_args()
    if known.verb == "rows":
        rows(known.reals, known.bench, known.volunteers, known.varied, known.clips, known.out)
    elif known.verb == "calibrate":
        calibrate(known.run, known.manifest, known.blends, known.out)
    elif known.verb == "ship":
        ship(known.run, known.card, known.out)
    else:
        measure(known.run, known.manifest, known.wild, known.volunteers, known.out)


if __name__ == "__main__":
    main()
