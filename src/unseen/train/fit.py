"""From a recipe to a run folder."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from torch import nn

from unseen.checkpoint import RECIPE, same_recipe, save_run
from unseen.data.dataset import FaceDataset
from unseen.data.domains import forgery_methods
from unseen.data.manifest import Manifest
from unseen.data.transforms import AlignFace
from unseen.evaluate.calibration import Calibration
from unseen.evaluate.run import fingerprint
from unseen.models.detector import Detector
from unseen.recipe import DataSettings, Recipe, TrainerSettings
from unseen.run_files import LIST
from unseen.train.card import describe_data, write_card
from unseen.train.concepts import describe_concepts
from unseen.train.course import BEST, LAST, Course
from unseen.train.learner import Learner, draw_seed
from unseen.train.loaders import BatchStream, FaceBatches, make_loader
from unseen.train.progress import TrainingProgress
from unseen.train.validation import Judge
from unseen.train.weights import initialize
from unseen.types import FaceRecord, InputError, Label

__all__ = ["train"]

log = logging.getLogger("unseen.train")

# What may change between the first part of a run and its continuation without changing what is learned.
_FREE = (
    "data.workers",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.patience",
    "trainer.concepts",
)


class _ByHand(DDPStrategy):
    """Several processes without PyTorch's wrapper: the learner averages gradients itself."""

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        return model


def train(recipe: Recipe, out: str | Path, *, resume: bool = False, progress: bool = True) -> Path:
    """Train a detector and write its run folder.

    Args:
        recipe: From `read_recipe`.
        out: The run folder; must not hold a run yet, unless `resume`.
        resume: Go on from `last.ckpt` in `out`; on a CPU the result is the same, bit for bit, as if the run
            had never been stopped.
        progress: Show a line with losses and images a second, if somebody watches.

    Returns:
        The run folder.

    Raises:
        InputError: The recipe, the manifest, the first weights or the checkpoint cannot be used, or a loss is
            not finite.
    """
    out = Path(out)
    settings, data = recipe.trainer(), recipe.data()
    _check_folder(out, recipe, resume)
    training, validation = _records(data, recipe.origin)
    torch.manual_seed(draw_seed(recipe.seed))
    detector = recipe.detector(pretrained=False if resume else None)
    _check_sizes(data, detector, recipe.origin)
    detector.check(training, _made(data))
    if recipe.init is not None and not resume:
        initialize(detector, recipe.init)
    if settings.channels_last:
        detector.to(memory_format=torch.channels_last)
    trainer = _trainer(settings, out)
    steps, epoch = _lengths(settings, data, training, trainer.world_size)
    learner = Learner(
        detector,
        recipe.optimizer,
        schedule=recipe.schedule(),
        settings=settings,
        steps=steps,
        seed=recipe.seed,
    )
    first = trainer.global_rank == 0
    if first:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")

    judge = Judge(data, validation, settings, workers=_workers(data)) if validation else None
    line = TrainingProgress(steps, shown=progress and first)
    course = Course(
        out,
        validate=None if judge is None else judge.metrics,
        val_every=settings.val_every or epoch,
        save_every=settings.save_every,
        log_every=settings.log_every,
        patience=settings.patience,
        loggers=[],
        progress=line,
        writes=first,
        rows=fingerprint(training),
    )
    if resume:
        course.resume(learner)
    if first:
        course.loggers += _loggers(out, learner.step)
    learner.after_step = course
    if learner.step < steps and not course.stopped:
        loader = _training_loader(recipe, data, training, settings, learner.step, trainer)
        with line, _quiet():
            try:
                trainer.fit(learner, loader)
            except InputError as error:
                raise _without_traceback(error) from error
            finally:
                for logger in course.loggers:
                    logger.finalize("finished")  # or its threads would outlive the run
    if not first:
        return out
    _finish(out, recipe, learner, course, judge, training, validation, trainer.strategy.root_device)
    return out


def _check_folder(out: Path, recipe: Recipe, resume: bool) -> None:
    if not resume:
        if (out / LIST).exists() or (out / LAST).exists():
            raise InputError(f"{out}: already holds a run; give --resume, or another folder", reason="exists")
        return
    if not (out / LAST).is_file():
        raise InputError(f"{out / LAST}: there is no checkpoint to go on from", reason="missing")
    changed = [key for key in same_recipe(out, recipe) if key not in _FREE]
    if changed:
        raise InputError(
            f"{recipe.origin}: differs from the recipe that {out} was started with in "
            f"{', '.join(changed[:6])}; resume with {out / RECIPE}, or start a new run"
        )


def _records(data: DataSettings, origin: str) -> tuple[list[FaceRecord], list[FaceRecord]]:
    """Return training and validation rows, having made sure that no test person is among them."""
    if data.manifest is None:
        raise InputError(f"{origin}: `data.manifest` is missing; override it: data.manifest=faces.parquet")
    for name, split in (("train_split", data.train_split), ("val_split", data.val_split)):
        if split is not None and split.strip().lower().startswith("test"):
            raise InputError(
                f"{origin}: data.{name} is {split!r}; test people judge the finished detector only: "
                "nothing is learned from them, and they choose no epoch and no threshold"
            )
    rows = _known(Manifest.read(Path(data.manifest)).records(), data)
    training = [r for r in rows if data.train_split is None or r.split == data.train_split]
    validation = [] if data.val_split is None else [r for r in rows if r.split == data.val_split]
    there = ", ".join(sorted({str(r.split) for r in rows})) or "no rows at all"
    if not training:
        raise InputError(
            f"{data.manifest}: no rows of split {data.train_split!r}; there are: {there}", reason="empty"
        )
    if data.val_split is not None and not validation:
        raise InputError(
            f"{data.manifest}: no rows of split {data.val_split!r}; there are: {there}; make one with "
            "Manifest.split, or give `data: {val_split: null}` to train without validation and calibration",
            reason="empty",
        )
    for row in training + validation:
        if row.label is None:
            raise InputError(f"{data.manifest}: {row.path} has no label; expected 0 (real) or 1 (fake)")
    seen = {r.path for r in training}
    both = [r.path for r in validation if r.path in seen]
    if both:
        raise InputError(
            f"{data.manifest}: {len(both)} crops are in training and validation alike, such as {both[0]}"
        )
    people = {(r.dataset, r.identity) for r in training if r.identity}
    shared = sorted({str(r.identity) for r in validation if (r.dataset, r.identity) in people})
    if shared:
        log.warning(
            "%d people are in training and validation alike, such as %s: validation will look too good",
            len(shared),
            shared[0],
        )
    if data.val_limit is not None and len(validation) > data.val_limit:
        validation = [validation[i * len(validation) // data.val_limit] for i in range(data.val_limit)]
    return training, validation


def _known(rows: list[FaceRecord], data: DataSettings) -> list[FaceRecord]:
    """Leave out the fakes of methods that are to stay unseen."""
    if data.methods is None:
        return rows
    there = {r.method for r in rows if r.label == Label.FAKE}
    missing = sorted(set(data.methods) - there)
    if missing:
        raise InputError(
            f"{data.manifest}: no fakes of method {', '.join(missing)}; there are: "
            f"{', '.join(sorted(map(str, there))) or 'none'}",
            reason="unknown_method",
        )
    return [r for r in rows if r.label != Label.FAKE or r.method in data.methods]


def _check_sizes(data: DataSettings, detector: Detector, origin: str) -> None:
    """A convolutional network would take any size, and quietly learn at another one than was meant."""
    sizes = [t.size for t in data.transforms if isinstance(t, AlignFace)]
    if sizes and sizes[-1] != detector.image_size:
        raise InputError(
            f"{origin}: AlignFace makes pictures of {sizes[-1]} pixels, the backbone takes "
            f"{detector.image_size}; give both the same"
        )


def _lengths(
    settings: TrainerSettings, data: DataSettings, records: Sequence[FaceRecord], world: int
) -> tuple[int, int]:
    """Return the optimizer steps of the run and of an epoch."""
    epoch = max(1, data.sampler.count(records, world) // settings.accumulate)
    if settings.max_steps is not None:
        return settings.max_steps, epoch
    if settings.max_epochs is None:
        raise InputError("trainer: give max_epochs or max_steps")
    return settings.max_epochs * epoch, epoch


def _trainer(settings: TrainerSettings, out: Path) -> Trainer:
    many = settings.devices not in (1, "auto") or (
        settings.devices == "auto" and torch.cuda.device_count() > 1
    )
    with _quiet():
        return Trainer(
            accelerator=settings.accelerator,
            devices=1 if settings.devices == "auto" and not torch.cuda.is_available() else settings.devices,
            strategy=_ByHand() if many else "auto",
            precision=settings.precision,
            max_epochs=-1,
            max_steps=-1,  # the learner says when it is done: Lightning would count from the last resume
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=out,
        )


def _loggers(out: Path, step: int) -> list[Any]:
    # A continued run gets a table of its own; TensorBoard joins the two by itself.
    return [
        CSVLogger(out, name="logs", version=f"from_step_{step}"),
        TensorBoardLogger(out, name="logs", version="tensorboard"),
    ]


def _training_loader(
    recipe: Recipe,
    data: DataSettings,
    records: Sequence[FaceRecord],
    settings: TrainerSettings,
    step: int,
    trainer: Trainer,
) -> Any:
    synthesise = getattr(data.sampler, "synthesise", None)
    faces = FaceDataset(records, data.transforms, seed=recipe.seed, training=True, synthesise=synthesise)
    named = all(r.method for r in records if r.label == Label.FAKE)  # what needs names has asked for them
    methods = forgery_methods(records, _made(data)) if named else None
    stream = BatchStream(
        data.sampler,
        records,
        seed=recipe.seed,
        start=step * settings.accumulate,
        rank=trainer.global_rank,
        world=trainer.world_size,
    )
    return make_loader(FaceBatches(faces, methods), stream, workers=_workers(data))


def _made(data: DataSettings) -> list[str]:
    """Return the methods of the fakes that are made while training."""
    synthesise = getattr(data.sampler, "synthesise", None)
    return [] if synthesise is None else [synthesise.method]


def _workers(data: DataSettings) -> int:
    return min(os.cpu_count() or 1, 8) if data.workers is None else data.workers


def _without_traceback(error: InputError) -> InputError:
    """Bring back the one line of an error that a worker process handed over with its whole traceback."""
    name = f"{InputError.__module__}.{InputError.__name__}: "
    return InputError(str(error).rpartition(name)[2].strip(), reason=error.reason)


def _finish(
    out: Path,
    recipe: Recipe,
    learner: Learner,
    course: Course,
    judge: Judge | None,
    training: list[FaceRecord],
    validation: list[FaceRecord],
    device: torch.device,
) -> None:
    """Choose the weights, calibrate, and write what is left of the run folder."""
    detector = copy.deepcopy(learner.final).cpu()
    assert isinstance(detector, Detector)
    best = learner.settings.keep == "best" and (out / BEST).is_file()
    if best:
        detector.load_state_dict(load_file(out / BEST))
    step = course.best_step if best else learner.step
    metrics: dict[str, Any] = {"step": step, "steps": learner.step, "stopped_early": course.stopped}
    calibration = Calibration.uncalibrated()
    if judge is not None:
        scores = judge.scores(detector)
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
    concepts, data = None, recipe.data()
    if learner.settings.concepts != "none":
        concepts = describe_concepts(
            detector,
            data,
            training,
            device=device,
            workers=_workers(data),
            pictures=learner.settings.concepts == "pictures",
        )
    facts = {"train": describe_data(training), "val": describe_data(validation)}
    card = write_card(out.resolve().name, recipe, facts, metrics, calibration)
    save_run(
        out,
        detector,
        recipe,
        calibration=calibration,
        metrics=metrics,
        card=card,
        data=facts,
        graph=recipe.trainer().graph,
        concepts=concepts,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notices to itself while it works; its errors still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
