"""`unseen sweep`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, positive, watch
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.recipe import Recipe

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "sweep",
        run,
        "Train recipes over seeds and values of any key, and put them in one table.",
        "unseen sweep realid.yaml --over RealMemory.diversity_weight=0,0.5,1 --seeds 0,1,2 "
        "--out sweeps/figure4 --measure bench/manifest.parquet\n"
        "further --KEY VALUE pairs override all recipes alike",
    )
    verb.add_argument("recipes", type=Path, nargs="+", metavar="RECIPE", help="YAML files; a variant each")
    verb.add_argument("--out", type=Path, required=True, help="folder of the trials and of sweep.md")
    verb.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="vary a key, by path (schedule.warmup) or by class (RealMemory.margin); may be repeated",
    )
    verb.add_argument("--seeds", default="0", help="such as 0,1,2 (default: 0)")
    verb.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="MANIFEST[:SPLIT]",
        help="faces that judge the trials, split test if none is named; may be repeated",
    )
    verb.add_argument("--jobs", type=positive, default=1, help="trainings at a time (default: 1)")


def run(known: argparse.Namespace) -> int:
    """Train, score, and print the table."""
    import yaml

    from unseen.recipe import read_recipe
    from unseen.train.sweep import sweep, to_markdown, variants

    over: dict[str, list[Any]] = {}
    for text in known.over:
        key, mark, values = text.partition("=")
        if not mark:
            raise InputError(f"--over {text}: expected KEY=V1,V2,...", reason="usage")
        over[key] = yaml.safe_load(f"[{values}]")
    try:
        seeds = [int(text) for text in known.seeds.split(",")]
    except ValueError:
        raise InputError(
            f"--seeds {known.seeds}: expected whole numbers such as 0,1,2", reason="usage"
        ) from None
    recipes: dict[str, Recipe] = {}
    for path in known.recipes:
        recipes |= variants(read_recipe(path, known.overrides), over, name=path.stem)
    measured = []
    for text in known.measure:
        path, mark, split = text.rpartition(":")
        measured.append((path, split) if mark else (text, "test"))
    with watch("training", "trials") as report:
        table = sweep(recipes, known.out, seeds=seeds, measured=measured, jobs=known.jobs, report=report)
    print(to_markdown(table))
    return OK
