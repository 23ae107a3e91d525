"""From a recipe to a run folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from unseen.checkpoint import RECIPE, same_recipe
from unseen.data.batched import movable
from unseen.data.dataset import FaceDataset
from unseen.data.domains import forgery_methods
from unseen.data.memory import keep_memory
from unseen.data.residuals import ResidualStore
from unseen.evaluate.run import fingerprint
from unseen.methods.rffr import ResidualBackbone
from unseen.models.backbone import Backbone
from unseen.models.inpainter import FaceInpainter
from unseen.recipe import DataSettings, Recipe, Schedule, TrainerSettings
from unseen.run_files import LIST
from unseen.train.course import LAST, Course
from unseen.train.finish import finish
from unseen.train.learner import Learner, draw_seed
from unseen.train.loaders import BatchStream, FaceBatches, make_loader
from unseen.train.processes import ByHand, SharedOut, layout
from unseen.train.progress import TrainingProgress
from unseen.train.rows import check_sizes, fixed, made, places, read_rows, worker_count
from unseen.train.sharding import blocks, roots
from unseen.train.validation import Judge, PaintingJudge
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
    "trainer.strategy",
)


def train(recipe: Recipe, out: str | Path, *, resume: bool = False, progress: bool = True) -> Path:
    """Train a detector, or an inpainter, and write its run folder.

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
    keep_memory()
    training, validation = read_rows(data, recipe.origin)
    torch.manual_seed(draw_seed(recipe.seed))
    model = recipe.model(pretrained=False if resume else None)
    check_sizes(data, model.image_size, recipe.origin)
    if not resume:  # or the checkpoint brings the weights, and has been checked
        if recipe.init is not None:
            initialize(model, recipe.init, transforms=data.transforms)
        model.check(training, made(data))
    shared = [b for root in roots(model) for b in blocks(root)] if settings.strategy == "fsdp" else None
    if settings.channels_last and shared is None:  # what is cut into pieces keeps torch's own layout
        model.to(memory_format=torch.channels_last)
    if settings.compile:
        for network in networks(model) if shared is None else shared:
            network.compile()
    trainer = _trainer(settings, out)
    steps, epoch = _lengths(settings, data, training, trainer.world_size)
    schedule = recipe.schedule()
    learner = Learner(
        model,
        recipe.optimizer,
        schedule=schedule,
        settings=settings,
        steps=steps,
        seed=recipe.seed,
        scale=_rate_scale(schedule, settings, data, trainer.world_size),
    )
    first = trainer.global_rank == 0
    if first:
        out.mkdir(parents=True, exist_ok=True)
        (out / RECIPE).write_text(recipe.to_yaml(), encoding="utf-8")

    stored = None if data.residuals is None else ResidualStore(data.residuals)
    judge: Judge | PaintingJudge | None = None
    if validation and isinstance(model, FaceInpainter):
        judge = PaintingJudge(data, validation, settings, workers=worker_count(data))
    elif validation:
        judge = Judge(data, validation, settings, workers=worker_count(data), residuals=stored)
    line = TrainingProgress(steps, shown=progress and first)
    course = Course(
        out,
        validate=None if judge is None else judge.metrics,
        best_by="val_auc" if judge is None else judge.best_by,
        lowest=judge is not None and judge.lowest,
        val_every=settings.val_every or epoch,
        save_every=settings.save_every,
        log_every=settings.log_every,
        patience=settings.patience,
        loggers=[],
        progress=line,
        writes=first,
        rows=fingerprint(training),
        epoch=epoch,
    )
    if resume:
        course.resume(learner)
    if stored is not None:
        stored.check_network(model)
    if first:
        course.loggers += _loggers(out, learner.step)
    learner.after_step = course
    if learner.step < steps and not course.stopped:
        loader, course.faces = _training_loader(
            recipe, data, training, settings, learner.step, trainer, stored
        )
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
    finish(out, recipe, learner, course, judge, training, validation, trainer.strategy.root_device)
    return out


def networks(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose forward pass is worth compiling: backbones, never losses and memories.

    They are compiled in place, so that weights keep their names.
    """
    if isinstance(model, FaceInpainter):
        return [*model.encoder, *model.decoder]
    backbone = model.backbone
    if isinstance(backbone, ResidualBackbone):
        return [b for b in (backbone.image_branch, backbone.residual_branch) if b is not None]
    assert isinstance(backbone, Backbone)
    return [backbone]


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


def _lengths(
    settings: TrainerSettings, data: DataSettings, records: Sequence[FaceRecord], world: int
) -> tuple[int, int]:
    """Return the optimizer steps of the run and of an epoch."""
    epoch = settings.epoch_steps or max(1, data.sampler.count(records, world) // settings.accumulate)
    if settings.max_steps is not None:
        return settings.max_steps, epoch
    if settings.max_epochs is None:
        raise InputError("trainer: give max_epochs or max_steps")
    return settings.max_epochs * epoch, epoch


def _rate_scale(schedule: Schedule, settings: TrainerSettings, data: DataSettings, world: int) -> float:
    """Return what the learning rate is multiplied by: the faces of a step over those it is meant for."""
    if schedule.batch is None:
        return 1.0
    size = getattr(data.sampler, "batch_size", None)
    if size is None:
        raise InputError(
            f"schedule.batch: {type(data.sampler).__name__} does not say how many faces a batch has"
        )
    return float(size * settings.accumulate * world / schedule.batch)


def _trainer(settings: TrainerSettings, out: Path) -> Trainer:
    devices, nodes, many = layout(settings)
    with _quiet():
        return Trainer(
            accelerator=settings.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=SharedOut() if settings.strategy == "fsdp" else ByHand() if many else "auto",
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
    stored: ResidualStore | None,
) -> tuple[Any, FaceDataset]:
    synthesise = getattr(data.sampler, "synthesise", None)
    faces = FaceDataset(
        records,
        data.transforms,
        seed=recipe.seed,
        training=True,
        synthesise=synthesise,
        photometric=data.photometric,
    )
    if data.photometric == "device" and trainer.global_rank == 0:
        log.warning("%s", places(data.transforms))  # not all that was asked for may be possible
    named = all(r.method for r in records if r.label == Label.FAKE)  # what needs names has asked for them
    methods = forgery_methods(records, made(data)) if named else None
    stream = BatchStream(
        data.sampler,
        records,
        seed=recipe.seed,
        start=step * settings.accumulate,
        rank=trainer.global_rank,
        world=trainer.world_size,
    )
    # What is random in training was never stored.
    same = synthesise is None and fixed(data.transforms)
    if stored is not None and not same:
        log.info("residuals are read from %s in validation only: training alters the pictures", stored.folder)
    if stored is not None and same and data.photometric == "device" and movable(data.transforms):
        raise InputError(
            f"data.residuals: {stored.folder} knows finished pictures, and `data.photometric: device` would "
            "finish them after the look-up; leave one of the two keys out"
        )
    batches = FaceBatches(faces, methods, residuals=stored if same else None)
    pin = trainer.strategy.root_device.type == "cuda"
    return make_loader(batches, stream, workers=worker_count(data), pin=pin), faces


def _without_traceback(error: InputError) -> InputError:
    """Bring back the one line of an error that a worker process handed over with its whole traceback."""
    name = f"{InputError.__module__}.{InputError.__name__}: "
    return InputError(str(error).rpartition(name)[2].strip(), reason=error.reason)


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
