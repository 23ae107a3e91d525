"""The questions of `unseen explain` that take many faces: the plane, identity, errors, domains."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.explain import FACES, INTERACTIONS, WORST, concept_pictures, read_rows, write_picture
from unseen.cli.scoring import choose_frames
from unseen.cli.show import table, watch
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.checkpoint import Run
    from unseen.explain.faces import FaceFeatures
    from unseen.types import FaceRecord

__all__ = ["balance", "confusion", "embedding", "leakage"]


def embedding(known: argparse.Namespace, runs: Sequence[Run], records: Sequence[FaceRecord]) -> int:
    """Draw the features of the same faces as several runs see them."""
    from unseen.explain.embedding import embed
    from unseen.explain.faces import evenly
    from unseen.explain.scatter import scatter_html, scatter_png, scatter_svg

    rows = evenly(choose_frames(records, known.frames), known.limit or FACES)
    found = []
    for run in runs:
        features = _features(known, run, rows)
        found.append(embed(features, known.embedding, name=_told_apart(run, runs), seed=known.seed))
    path = known.out / f"embedding_{known.embedding}_{known.color}"
    path.with_suffix(".svg").write_text(scatter_svg(found, known.color), encoding="utf-8")
    path.with_suffix(".html").write_text(scatter_html(found, known.color), encoding="utf-8")
    write_picture(path.with_suffix(".png"), scatter_png(found, known.color))
    points = [
        {"run": one.name, "weights": run.digest, "faces": one.rows()}
        for one, run in zip(found, runs, strict=True)
    ]
    told = {"embedding": known.embedding, "seed": known.seed, "runs": points}
    path.with_suffix(".json").write_text(json.dumps(told) + "\n", encoding="utf-8")
    print(f"Picture: {path}.png, {path}.svg; page: {path}.html; numbers: {path}.json")
    return OK


def _told_apart(run: Run, runs: Sequence[Run]) -> str:
    """Return a run's name, with its parent folder's if another has the same, as the seeds of a sweep do."""
    same = sum(other.name == run.name for other in runs) > 1
    return f"{run.folder.resolve().parent.name}/{run.name}" if same else run.name


def leakage(known: argparse.Namespace, run: Run, records: Sequence[FaceRecord]) -> int:
    """Write the report on identity."""
    from unseen.explain.leakage import measure_leakage
    from unseen.explain.report import leakage_html, leakage_json, leakage_markdown

    frames = known.frames or 5
    rows = choose_frames(records, frames)
    limit = INTERACTIONS if known.limit is None else known.limit
    bars: list[Any] = []

    def begin(what: str) -> Callable[[int, int], None]:
        while bars:
            bars.pop().__exit__(None, None, None)
        bars.append(watch(what, "faces"))
        report: Callable[[int, int], None] = bars[-1].__enter__()
        return report

    try:
        found = measure_leakage(
            run.detector,
            rows,
            run.transforms,
            trained_on=trained_on(run),
            which=known.probe,
            epochs=known.epochs,
            limit=limit,
            grid=known.grid,
            baseline=known.baseline,
            output=known.output,
            batch_size=known.batch_size,
            seed=known.seed,
            report=begin,
        )
    finally:
        while bars:
            bars.pop().__exit__(None, None, None)
    settings = {
        "frames a video at most": frames,
        "probe on faces": known.probe,
        "cells": f"{known.grid} x {known.grid}",
        "hidden cells show": known.baseline,
        "output": known.output,
        "faces of the interaction at most": limit,
        "seed": known.seed,
    }
    text = leakage_markdown(run.name, found, settings)
    (known.out / "leakage.md").write_text(text, encoding="utf-8")
    (known.out / "leakage.html").write_text(leakage_html(run.name, found, settings), encoding="utf-8")
    (known.out / "leakage.json").write_text(leakage_json(run.name, found, settings), encoding="utf-8")
    print(text)
    print(f"Report: {known.out / 'leakage.html'}, leakage.md; numbers: leakage.json")
    return OK


def balance(known: argparse.Namespace, run: Run, records: Sequence[FaceRecord]) -> int:
    """Print what is called wrong, and draw the worst reals with real training faces like them."""
    from unseen.explain.balance import Near, balance_sheet, error_balance, nearest_reals, worst_faces

    features = _features(known, run, choose_frames(records, known.frames))
    threshold = run.calibration.threshold() if known.threshold is None else known.threshold
    errors = error_balance(features, threshold)
    worst = worst_faces(features, "real", known.limit or WORST)
    near: list[list[Any]] = []
    if known.train is not None:
        rows = read_rows(known.train, known.train_split)[1]
        train = _features(known, run, [record for record in rows if record.label == 0])
        near = nearest_reals(features.vector[worst], train) if worst else []
    else:
        near = _concepts(run, features, worst)
    told = {
        "run": run.name,
        "weights": run.digest,
        "threshold": threshold,
        "rule": run.calibration.threshold_rule if known.threshold is None else "--threshold",
        "rows": [row.to_dict() for row in errors],
        "worst_reals": [
            {
                "path": features.records[row].path,
                "score": round(float(features.score[row]), 4),
                "nearest": [
                    {"path": one.record.path, "similarity": round(one.similarity, 4)}
                    for one in (near[place] if place < len(near) else [])
                    if isinstance(one, Near)
                ],
            }
            for place, row in enumerate(worst)
        ],
    }
    (known.out / "balance.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    table(
        ("data set", "method", "videos", "called wrong", "faces", "called wrong ", "mean score"),
        [
            (r.dataset, r.method, r.videos, f"{r.wrong_videos} ({100 * r.rate:.1f} %)", r.faces,
             f"{r.wrong_faces} ({100 * r.wrong_faces / r.faces:.1f} %)", f"{r.score:+.2f}")
            for r in errors
        ],
    )  # fmt: skip
    print(f"Threshold: score {threshold:.3f}. Numbers: {known.out / 'balance.json'}")
    if worst:
        write_picture(known.out / "worst_reals.jpg", balance_sheet(features, worst, near))
        beside = "real training faces like them" if any(near) else "give --train MANIFEST for faces like them"
        print(f"Worst reals: {known.out / 'worst_reals.jpg'} ({beside})")
    return OK


def confusion(known: argparse.Namespace, run: Run, records: Sequence[FaceRecord]) -> int:
    """Write the matrix of what each method is taken for."""
    from unseen.data.domains import forgery_methods
    from unseen.explain.confusion import domain_confusion, draw_confusion

    learned = _methods(run)
    found = domain_confusion(
        run.detector,
        choose_frames(records, known.frames),
        run.transforms,
        methods=learned or forgery_methods(records),
        batch_size=known.batch_size,
    )
    shares = found.shares()
    table(
        ("is / taken for", *found.columns),
        [
            (name, *(f"{share:.2f}" if share == share else "-" for share in row))
            for name, row in zip(found.rows, shares, strict=True)
        ],
    )
    told = {
        "run": run.name,
        "weights": run.digest,
        "rows": found.rows,
        "columns": found.columns,
        "counts": found.counts.tolist(),
        "accuracy": found.accuracy(),
    }
    path = known.out / "confusion.json"
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draw_confusion(found).savefig(known.out / "confusion.png", dpi=130)
    print(f"Recognised among those learned: {found.accuracy():.3f}. Numbers: {path}, picture: confusion.png")
    return OK


def trained_on(run: Run) -> list[str] | None:
    """Return the data sets that a run learned from; None if it does not say."""
    sets = run.facts.get("data", {}).get("train", {}).get("datasets")
    return None if sets is None else sorted(sets)


def _methods(run: Run) -> list[str]:
    sets = run.facts.get("data", {}).get("train", {}).get("datasets") or {}
    return sorted({name for told in sets.values() for name in told.get("methods", {}) if name != "real"})


def _concepts(run: Run, features: FaceFeatures, rows: Sequence[int]) -> list[list[Any]]:
    """Return for each face the kept training faces of the real concept that it is most like."""
    import numpy as np
    import torch

    from unseen.methods.realid import RealMemory

    pictures = concept_pictures(run)
    memory = next((part for part in run.detector.parts if isinstance(part, RealMemory)), None)
    if memory is None or not pictures or not rows:
        return []
    with torch.inference_mode():
        vector = torch.from_numpy(features.vector[list(rows)]).to(next(run.detector.parameters()).device)
        most = np.asarray(memory.similarity(vector).argmax(1).cpu())
    return [list(pictures[int(concept)]) for concept in most]


def _features(known: argparse.Namespace, run: Run, records: Sequence[FaceRecord]) -> FaceFeatures:
    from unseen.explain.faces import face_features

    if not records:
        raise InputError("explain: no rows are left", reason="empty")
    with watch(run.name, "faces") as report:
        return face_features(
            run.detector, records, run.transforms, batch_size=known.batch_size, report=report
        )
