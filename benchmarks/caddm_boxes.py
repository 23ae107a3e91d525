"""How well the artifact detector finds forged regions: `caddm_boxes.py --runs RUN... --bench MANIFEST`.

The truth is the box of the forged region that `unseen forge` writes beside each fake (`region_x0` ...),
carried through the recipe's alignment; average precision at an overlap of 0.5, real faces included, a line a
family and the mean and standard deviation over the runs (seeds).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from unseen.checkpoint import load_run
from unseen.data.dataset import read_crop
from unseen.data.manifest import Manifest
from unseen.evaluate.boxes import box_average_precision
from unseen.methods.caddm import ArtifactDetector
from unseen.types import Label

CORNERS = ("region_x0", "region_y0", "region_x1", "region_y1")


def regions(manifest: Path) -> dict[str, np.ndarray]:
    """Return each fake's forged region in its crop's pixels, by path."""
    frame = pl.read_parquet(manifest).filter(pl.col("region_x0").is_not_null())
    return {
        str((manifest.parent / row["path"]).resolve()): np.float32([[row[c] for c in CORNERS]])
        for row in frame.iter_rows(named=True)
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--bench", type=Path, required=True, help="manifest of `unseen forge`")
    known = parser.parse_args()
    truth_of = regions(known.bench)
    rows = Manifest.read(known.bench).where(split="test").records()
    found: dict[str, list[float]] = defaultdict(list)
    for folder in known.runs:
        run = load_run(folder)
        seen = defaultdict(lambda: ([], [], []))
        for record in rows:
            sample = read_crop(record)
            if record.label == Label.FAKE:
                sample = replace(sample, regions=truth_of[str(Path(record.path).resolve())])
            for transform in run.transforms:
                sample = transform(sample, np.random.default_rng(0))
            image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255
            with torch.inference_mode():
                output = run.detector(image)
            part = next(i for i, p in enumerate(run.detector.parts) if isinstance(p, ArtifactDetector))
            boxes, scores = (t[0].numpy() for t in run.detector.parts[part].decoded(output.aux[part]))
            best = np.argsort(-scores)[:20]
            truth = np.zeros((0, 4), np.float32) if sample.regions is None else sample.regions
            for name in [str(record.method)] if record.label == Label.FAKE else ["real"]:
                for column, value in zip(
                    seen[name], (boxes[best] * run.detector.image_size, scores[best], truth), strict=True
                ):
                    column.append(value)
        reals = seen.pop("real", ([], [], []))
        for name, columns in seen.items():
            joined = [[*fake, *real] for fake, real in zip(columns, reals, strict=True)]
            found[name].append(box_average_precision(*joined))
    print("| family | " + "AP at 0.5 |\n|---|---:|")
    for name, values in sorted(found.items()):
        print(f"| {name} | {100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f} |")


if __name__ == "__main__":
    main()
