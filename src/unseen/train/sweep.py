"""Many trainings that differ in one thing: recipes, a part's weights, seeds; and one table of them all."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unseen.data.manifest import Manifest
from unseen.evaluate.metrics import auc, eer, threshold_at_fpr
from unseen.evaluate.scores import Level, ScoreTable
from unseen.prepare.pool import work_off
from unseen.recipe import Recipe, read_recipe
from unseen.run_files import LIST
from unseen.types import FaceRecord, InputError, Label

__all__ = ["Trial", "folder_name", "measure_trial", "sweep", "to_markdown", "variants"]

log = logging.getLogger("unseen.train")

SCORES, RESULT, TABLE = "scores.parquet", "sweep.csv", "sweep.md"
VALIDATION, MEASURED = "validation", "measured"  # what a row is to the trial, whatever its own split
CHOOSING = (
    "Whoever picks a row of this table by these numbers has chosen on the rows that judge it, and must say "
    "so; measure the choice on others."
)
COLUMNS = {
    "variant": pl.String,
    "seed": pl.Int64,
    "level": pl.String,
    "group": pl.String,
    "name": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}
RATE = 0.01  # of false alarms on validation people, at which the others' are counted


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Args:
        variant: What the table calls it.
        seed: Of the training.
        settings: The expanded recipe.
        folder: Its run folder.
        measured: Manifest rows that judge it, as (manifest, split); `all` for every row.
    """

    variant: str
    seed: int
    settings: Mapping[str, Any]
    folder: Path
    measured: tuple[tuple[Path, str], ...]


def variants(recipe: Recipe, over: Mapping[str, Sequence[Any]], *, name: str) -> dict[str, Recipe]:
    """Return a recipe for each combination of values.

    Args:
        recipe: The recipe that is varied.
        over: Key to its values; see `Recipe.with_values` for keys, such as `RealMemory.diversity_weight`.
        name: What the recipe is called; the values are added to it.

    Raises:
        InputError: A key is not in the recipe, or has no values.
    """
    for key, values in over.items():
        if not values:
            raise InputError(f"--over {key}: no values; expected --over {key}=V1,V2,...", reason="usage")
    made: dict[str, Recipe] = {}
    for values in itertools.product(*over.values()):
        chosen = dict(zip(over, values, strict=True))
        words = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in chosen.items()]
        made[" ".join([name, *words])] = recipe.with_values(chosen) if chosen else recipe
    return made


def sweep(
    recipes: Mapping[str, Recipe],
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    measured: Sequence[tuple[str | Path, str]] = (),
    jobs: int = 1,
    keep: bool = True,
    report: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Train every recipe with every seed, score the same faces with each, and write one table.

    A trial that was finished before is not trained again, so a sweep can be stopped and called once more.

    Args:
        recipes: Name to recipe.
        out: Folder: a run folder a trial, `sweep.csv`, `sweep.md`.
        seeds: Each recipe is trained with each of them.
        measured: Manifests with their split that judge the trials; nothing is chosen by them. Without any the
            table has no rows, and trials are only trained.
        jobs: Trainings at a time, each in a process with its share of the cores.
        keep: Keep weights and logs; otherwise only scores, recipe and card stay.
        report: Called with trials done and in all.

    Returns:
        Long table: variant, seed, level, group, name, metric, value. See `measure_trial`.

    Raises:
        InputError: A recipe was changed since a trial in `out` was trained, or a trial failed; names it.
    """
    out = Path(out)
    trials = [
        Trial(
            name,
            seed,
            {**recipe.expanded(), "seed": seed},
            out / folder_name(name) / f"seed{seed}",
            tuple((Path(path).resolve(), split) for path, split in measured),
        )
        for name, recipe in recipes.items()
        for seed in seeds
    ]
    rows: list[dict[str, Any]] = []
    for done, (trial, found) in enumerate(_work(trials, jobs, keep), 1):
        if isinstance(found, str):
            raise InputError(f"{trial.folder}: {found}; what was finished is kept", reason="trial")
        rows += found
        frame = _ordered(rows, trials)
        frame.write_csv(out / RESULT)
        (out / TABLE).write_text(to_markdown(frame), encoding="utf-8")
        if report is not None:
            report(done, len(trials))
    return _ordered(rows, trials)


def _work(
    trials: Sequence[Trial], jobs: int, keep: bool
) -> Iterator[tuple[Trial, list[dict[str, Any]] | str]]:
    if jobs == 1:
        for trial in trials:
            yield trial, _run(trial, None, keep)
        return
    import os

    threads = max(1, (os.cpu_count() or 1) // jobs)
    yield from work_off(
        _run,
        trials,
        threads,
        keep,
        lost=lambda _, reason, text: f"{reason}: {text}",
        workers=jobs,
        seconds=7 * 86400,
    )


def _run(trial: Trial, threads: int | None, keep: bool) -> list[dict[str, Any]] | str:
    """Train and score one trial, or take what is there; a mistake in its data becomes a sentence."""
    import torch

    from unseen.train.fit import train

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        recipe = read_recipe(trial.settings)
        scores = trial.folder / SCORES
        if scores.is_file():
            _same(trial, recipe)
        else:
            if not (trial.folder / LIST).is_file():
                shutil.rmtree(trial.folder, ignore_errors=True)
                train(recipe, trial.folder, progress=False)
            _score(trial, recipe, scores)
            if not keep:
                for path in (*trial.folder.glob("*.safetensors"), *trial.folder.glob("*.ckpt")):
                    path.unlink()
        return measure_trial(ScoreTable.read(scores), trial.variant, trial.seed)
    except InputError as error:
        return str(error)


def _same(trial: Trial, recipe: Recipe) -> None:
    from unseen.checkpoint import same_recipe

    changed = same_recipe(trial.folder, recipe)
    if changed:
        raise InputError(
            f"was trained by another recipe ({', '.join(changed[:4])}); remove it, or sweep elsewhere",
            reason="changed",
        )


def _score(trial: Trial, recipe: Recipe, out: Path) -> None:
    from unseen.checkpoint import load_run
    from unseen.evaluate.run import score_records

    run = load_run(trial.folder)
    records: list[FaceRecord] = []
    data = recipe.data()
    if data.manifest is not None and data.val_split is not None:
        val = Manifest.read(Path(data.manifest)).where(split=data.val_split).records()
        records += [replace(r, split=VALIDATION) for r in val if r.label == Label.REAL]
    for path, split in trial.measured:
        manifest = Manifest.read(path)
        rows = (manifest if split == "all" else manifest.where(split=split)).records()
        records += [replace(r, split=MEASURED) for r in rows]
    partial = out.with_name(f"partial_{out.name}")
    score_records(
        run.model,
        records,
        run.transforms,
        out=partial,
        card={"run": run.name, "weights": run.digest},
    )
    partial.replace(out)


def measure_trial(scores: ScoreTable, variant: str, seed: int) -> list[dict[str, Any]]:
    """Return the numbers of one trial, a row each.

    * group `method`: AUC and EER of a forgery method's fakes against the reals of the data sets it is in;
    * group `mean`: the mean of the methods' AUC;
    * group `reals`: for a data set, the share of its reals at or above the threshold that lets 1 % of the
      validation reals through (`false_alarms`); with few validation reals that is the highest of them;
    * group `mean`, metric `caught`: the share of fakes at or above that threshold, mean over methods, without
      which a rate of false alarms says nothing.

    Args:
        scores: Validation reals, of split `validation`, which only set the threshold, and the faces judged,
            of split `measured`.
        variant: Goes into each row.
        seed: Goes into each row.
    """
    rows: list[dict[str, Any]] = []
    levels: tuple[Level, ...] = ("frame", "video")
    for level in levels:
        limit = scores.where(split=VALIDATION).at(level)["score"].to_numpy()
        tested = scores.where(split=MEASURED).at(level)
        numbers: list[tuple[str, str, str, float]] = []
        threshold = threshold_at_fpr(limit, RATE)
        caught: list[float] = []
        for (method,), fakes in sorted(tested.filter(pl.col("label") == 1).group_by("method")):
            against = tested.filter(
                (pl.col("label") == 0) & pl.col("dataset").is_in(fakes["dataset"].unique().to_list())
            )
            score = [*against["score"], *fakes["score"]]
            label = [0] * len(against) + [1] * len(fakes)
            numbers.append(("method", str(method), "auc", auc(score, label)))
            numbers.append(("method", str(method), "eer", eer(score, label)))
            caught.append(float(np.mean(fakes["score"].to_numpy() >= threshold)))
        if numbers:
            mean = sum(n[3] for n in numbers if n[2] == "auc") / sum(n[2] == "auc" for n in numbers)
            numbers.append(("mean", "all methods", "auc", mean))
        if len(limit):
            if caught:
                numbers.append(("mean", "caught", "caught", float(np.mean(caught))))
            for (name,), reals in sorted(tested.filter(pl.col("label") == 0).group_by("dataset")):
                share = float(np.mean(reals["score"].to_numpy() >= threshold))
                numbers.append(("reals", str(name), "false_alarms", share))
        rows += [
            {
                "variant": variant,
                "seed": seed,
                "level": level,
                "group": group,
                "name": name,
                "metric": metric,
                "value": value,
            }
            for group, name, metric, value in numbers
        ]
    return rows


def _ordered(rows: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> pl.DataFrame:
    """Return rows in the order of the recipes and seeds, whatever order they were finished in."""
    place = {(t.variant, t.seed): i for i, t in enumerate(trials)}
    return pl.DataFrame(sorted(rows, key=lambda r: place[r["variant"], r["seed"]]), schema=COLUMNS)


def to_markdown(frame: pl.DataFrame, *, level: Level = "frame") -> str:
    """Write a line a variant: mean and standard deviation over seeds, in percent.

    Args:
        frame: Of `sweep`.
        level: `frame` or `video`.
    """
    shown = frame.filter((pl.col("level") == level) & (pl.col("metric") != "eer"))
    columns = list(dict.fromkeys(zip(shown["group"], shown["name"], strict=True)))
    order = ("method", "mean", "reals")
    columns.sort(key=lambda c: order.index(c[0]))
    heads = [f"false alarms {name}" if group == "reals" else name for group, name in columns]
    lines = [f"| variant | {' | '.join(heads)} |", "|---|" + "---:|" * len(columns)]
    for variant in dict.fromkeys(shown["variant"]):
        cells = []
        for group, name in columns:
            values = shown.filter(
                (pl.col("variant") == variant) & (pl.col("group") == group) & (pl.col("name") == name)
            )["value"]
            mean, spread = values.mean(), values.std()
            assert isinstance(mean, float)
            text = f"{100 * mean:.1f}"
            cells.append(f"{text} ± {100 * spread:.1f}" if isinstance(spread, float) else text)
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    seeds = shown["seed"].n_unique()
    lines += [
        "",
        f"AUC at {level} level; fakes caught (mean over methods) and false alarms at the threshold of 1 % on "
        "validation reals; all in percent, "
        f"mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''}.",
    ]
    if shown["variant"].n_unique() > 1:
        lines += ["", f"**{CHOOSING}**"]
    return "\n".join(lines) + "\n"


def folder_name(variant: str) -> str:
    """Return a variant's name as a folder's."""
    return "".join(c if c.isalnum() or c in "+-=._" else "_" for c in variant)
