"""The end of a training: which weights are kept, what they are worth, and the run folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from unseen.checkpoint import save_run
from unseen.data.dataset import read_crop
from unseen.evaluate.calibration import Calibration
from unseen.evaluate.scope import Scope
from unseen.evaluate.selection import MARKS, marks
from unseen.media.quality import Quality, quality_of
from unseen.models.detector import Detector
from unseen.models.inpainter import FaceInpainter
from unseen.recipe import Recipe
from unseen.train.card import describe_data, write_card, write_inpainter_card
from unseen.train.concepts import describe_concepts
from unseen.train.course import BEST, LAST, Course
from unseen.train.learner import Learner
from unseen.train.rows import worker_count
from unseen.train.validation import Judge, PaintingJudge
from unseen.types import FaceRecord, InputError

__all__ = ["finish", "measure_scope"]

CROPS = 4  # a person, whose quality is measured


def finish(
    out: Path,
    recipe: Recipe,
    learner: Learner,
    course: Course,
    judge: Judge | PaintingJudge | None,
    training: list[FaceRecord],
    validation: list[FaceRecord],
    device: torch.device,
) -> None:
    """Choose the weights, measure and calibrate them, and write what is left of the run folder."""
    model = _final(out, recipe, learner)
    best = learner.settings.keep == "best" and (out / BEST).is_file()
    if best:
        model.load_state_dict(load_file(out / BEST))
    metrics = {
        "step": course.best_step if best else learner.step,
        "steps": learner.step,
        "stopped_early": course.stopped,
    }
    facts = {
        role: {**describe_data(rows), MARKS: marks(rows)}
        for role, rows in (("train", training), ("val", validation))
    }
    if isinstance(model, FaceInpainter):
        assert not isinstance(judge, Judge)
        _finish_inpainter(out, recipe, model, course, judge, metrics, facts, device)
        return
    assert isinstance(model, Detector) and not isinstance(judge, PaintingJudge)
    _finish_detector(out, recipe, model, course, judge, metrics, facts, training, device)


def _final(out: Path, recipe: Recipe, learner: Learner) -> nn.Module:
    """Return the model with which training ended, in main memory."""
    if not learner.shared:
        return copy.deepcopy(learner.final).cpu()
    # The other processes, who hold the rest of it, are gone; but the last step wrote it down.
    state = torch.load(out / LAST, "cpu", weights_only=True)
    model: nn.Module = recipe.model(pretrained=False)
    model.load_state_dict(state["model" if state["average"] is None else "average"])
    return model


def _finish_detector(
    out: Path,
    recipe: Recipe,
    detector: Detector,
    course: Course,
    judge: Judge | None,
    metrics: dict[str, Any],
    facts: dict[str, Any],
    training: list[FaceRecord],
    device: torch.device,
) -> None:
    settings, data = recipe.trainer(), recipe.data()
    calibration = Calibration.uncalibrated()
    if judge is not None:
        scores = judge.scores(detector.to(device))  # by this process alone; the others are gone
        detector.cpu()
        made = " and fakes made of it" if judge.made else ""
        metrics |= {**scores.metrics(), "history": course.history}
        metrics["protocol"] = (
            f"{scores.score.size} faces of split {recipe.settings['data']['val_split']!r}{made}"
        )
        if len(set(scores.label.tolist())) == 2:
            calibration = Calibration.fit(
                scores.score,
                scores.label,
                [f"{r.dataset}/{r.identity}" if r.identity else None for r in scores.records],
                [f"{r.dataset}/{r.video or r.path}" for r in scores.records],
                made_from=metrics["protocol"],
            )
            calibration = replace(calibration, scope=measure_scope(scores.records, scores.label))
    concepts = None
    if settings.concepts != "none":
        concepts = describe_concepts(
            detector,
            data,
            training,
            device=device,
            workers=worker_count(data),
            pictures=settings.concepts == "pictures",
        )
    card = write_card(out.resolve().name, recipe, facts, metrics, calibration)
    save_run(
        out,
        detector,
        recipe,
        calibration=calibration,
        metrics=metrics,
        card=card,
        data=facts,
        graph=settings.graph,
        concepts=concepts,
    )


def measure_scope(records: Sequence[FaceRecord], label: NDArray[np.int64]) -> Scope | None:
    """Measure the real people's pictures, a few crops of each person; see `unseen.evaluate.scope`.

    Shape:
        label: (N,), beside N records.
    """
    taken: dict[str, int] = {}

    def crops() -> Iterator[tuple[str, Quality]]:
        for record, kind in zip(records, label.tolist(), strict=True):
            person = f"{record.dataset}/{record.identity or record.video or record.path}"
            if kind != 0 or record.landmarks is None or taken.get(person, 0) >= CROPS:
                continue
            taken[person] = taken.get(person, 0) + 1
            try:
                quality = quality_of(read_crop(record).image, record.landmarks)
            except InputError:  # what cannot be read had no score either
                continue
            if quality is not None:
                yield person, quality

    return Scope.fit(crops())


def _finish_inpainter(
    out: Path,
    recipe: Recipe,
    inpainter: FaceInpainter,
    course: Course,
    judge: PaintingJudge | None,
    metrics: dict[str, Any],
    facts: dict[str, Any],
    device: torch.device,
) -> None:
    if judge is not None:
        metrics |= {**judge.metrics(inpainter.to(device), together=False), "history": course.history}
        metrics["protocol"] = f"{judge.faces} real faces of split {recipe.settings['data']['val_split']!r}"
    inpainter.cpu()
    metrics |= {"faces": int(inpainter.seen), "digest": inpainter.digest()}
    card = write_inpainter_card(out.resolve().name, recipe, facts, metrics)
    save_run(out, inpainter, recipe, metrics=metrics, card=card, data=facts)
