"""The sections of a recipe, each a plain signature: what jsonargparse checks a file against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch

from unseen.data.samplers import Sampler, Shuffled
from unseen.data.transforms import Transform
from unseen.models.backbone import Backbone
from unseen.models.detector import Head, Part
from unseen.types import InputError

__all__ = ["DataSettings", "DetectorSlots", "Optimizer", "Schedule", "TrainerSettings"]

Optimizer = Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class DetectorSlots:
    """The slots of a detector; a method is a filling of them.

    Args:
        backbone: Sees the picture.
        head: Turns features into logits.
        parts: Stand between the two, in this order.
    """

    backbone: Backbone
    head: Callable[[Backbone], Head]
    parts: list[Callable[[Backbone], Part]] = field(default_factory=list)


@dataclass(frozen=True)
class DataSettings:
    """What is learned from.

    Args:
        manifest: Parquet or CSV file with a row a face.
        transforms: Applied in this order; those that augment are left out outside training.
        sampler: Draws the batches.
        train_split: Rows with this `split` are learned from; null takes all rows.
        val_split: Rows with this `split` choose the epoch and calibrate; null trains without validation.
        methods: Forgery methods (the manifest's `method`) that are learned from and validated on, beside all
            real faces; the others stay unseen. Null for every method.
        workers: Processes that load pictures; null for one a core, at most 8.
        val_batch: Faces in a batch of the validation.
        val_limit: At most so many faces are validated on, spread evenly over the rows; null for all.
        residuals: Folder that `unseen prepare residuals` wrote, for a `ResidualBackbone`. Validation reads
            them from there, and training as well if nothing in it is random.
        photometric: Where training carries out the last transforms, from the first on behind which all only
            change colours, sharpness, noise or compression. `processor`: in the loading processes. `device`:
            on the network's device, a batch at a time; numbers are drawn in the loading processes all the
            same, by the same rule.
    """

    manifest: str | None = None
    transforms: list[Transform] = field(default_factory=list)
    sampler: Sampler = field(default_factory=Shuffled)
    train_split: str | None = "train"
    val_split: str | None = "val"
    methods: list[str] | None = None
    workers: int | None = None
    val_batch: int = 32
    val_limit: int | None = None
    residuals: str | None = None
    photometric: Literal["processor", "device"] = "processor"


@dataclass(frozen=True)
class Schedule:
    """The learning rate at each optimizer step, as a factor: warm up linearly, hold at 1, then decay.

    Args:
        decay: Shape of the fall after holding; `none` holds to the end, `steps` follows `drops`.
        warmup: Share of all steps in which the factor rises to 1.
        hold: Share of all steps, counted from the first, before the fall begins.
        final: Factor at the last step.
        batch: The optimizer's rate is meant for steps of so many faces, over all processes and accumulated
            batches, and is scaled to those that a step has; null takes it as it is.
        drops: Of `decay: steps`, pairs of a share of all steps and the factor from there on.

    Example:
        SBI keeps the rate for three quarters, then lets it fall in a line:

        >>> schedule = Schedule(decay="linear", hold=0.75)
        >>> [schedule.factor(step, 101) for step in (0, 75, 80, 100)]
        [1.0, 1.0, 0.8, 0.0]
    """

    decay: Literal["none", "linear", "cosine", "steps"] = "none"
    warmup: float = 0.0
    hold: float = 0.0
    final: float = 0.0
    batch: int | None = None
    drops: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.decay == "steps") != bool(self.drops):
            raise InputError("schedule: `decay: steps` and `drops: [[share, factor], ...]` go together")
        shares = [share for share, _ in self.drops]
        if shares != sorted(set(shares)) or not all(0 <= s <= 1 and f >= 0 for s, f in self.drops):
            raise InputError(
                f"schedule.drops: {[list(pair) for pair in self.drops]}; expected rising shares between 0 "
                "and 1, each with a factor from 0"
            )
        if self.batch is not None and self.batch < 1:
            raise InputError(f"schedule.batch: {self.batch}; expected at least 1 face")
        for name in ("warmup", "hold", "final"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"schedule.{name}: {value}; expected a share between 0 and 1")

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of step `step` (from 0) out of `steps`."""
        last = max(steps - 1, 1)
        rise = round(self.warmup * last)
        if step < rise:
            return (step + 1) / (rise + 1)
        if self.decay == "steps":
            return next((factor for share, factor in reversed(self.drops) if step >= share * steps), 1.0)
        start = max(rise, round(self.hold * last))
        if self.decay == "none" or step <= start:
            return 1.0
        done = min((step - start) / (last - start), 1.0)
        left = 1 - done if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * done))
        return self.final + (1 - self.final) * left


@dataclass(frozen=True)
class TrainerSettings:
    """How it is learned.

    Args:
        max_epochs: Passes over the training rows, as the sampler counts them, or epochs of `epoch_steps`.
        epoch_steps: Optimizer steps that make an epoch, for papers whose epochs are no passes over the rows;
            null for a pass.
        max_steps: Optimizer steps; wins over `max_epochs` if both are given.
        precision: `bf16-mixed` is for processors that have bfloat16.
        accelerator: Kind of device, as Lightning names it.
        devices: How many of them on each node, or `auto`: what torchrun or srun started, else all GPUs.
        num_nodes: Machines that train together.
        strategy: `ddp` keeps the whole network in each process; `auto` does so if there is more than one;
            `fsdp` keeps a piece of the backbone, its gradients and its optimizer's memory in each.
        channels_last: Memory layout of pictures; faster for convolutions on CPUs and newer GPUs.
        compile: Let torch.compile make kernels of the backbone. It takes minutes once, and needs a compiler.
        clip: Largest norm of all gradients together; null does not clip.
        clip_value: Largest absolute value of any one gradient; null does not clip.
        decay_all: False spares biases, norms and other vectors the optimizer's weight decay.
        accumulate: Batches whose gradients are averaged into one optimizer step.
        ema: Decay of a moving average of the weights, which is then validated and saved; null for none.
        sam: Radius of sharpness-aware minimisation (Foret et al. 2021); null for none.
        patience: Stop after so many validations without a better AUC (or error, of an inpainter); null never
            stops early.
        val_every: Optimizer steps between validations; null for one at the end of each epoch.
        keep: Which weights the run folder gets, those of the best validation or the last.
        save_every: Optimizer steps between checkpoints, besides one after each validation.
        log_every: Optimizer steps between lines of the log.
        graph: Write `graph.onnx` into the run folder, so that verdicts need no torch.
        concepts: What a run with a `RealMemory` keeps of the training faces nearest to each real concept:
            `pictures` of 96 pixels, `paths` only, or `none`.
    """

    max_epochs: int | None = None
    epoch_steps: int | None = None
    max_steps: int | None = None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    channels_last: bool = True
    compile: bool = False
    clip: float | None = None
    clip_value: float | None = None
    decay_all: bool = True
    accumulate: int = 1
    ema: float | None = None
    sam: float | None = None
    patience: int | None = None
    val_every: int | None = None
    keep: Literal["best", "last"] = "best"
    save_every: int | None = None
    log_every: int = 10
    graph: bool = True
    concepts: Literal["pictures", "paths", "none"] = "pictures"

    def __post_init__(self) -> None:
        for name in (
            "max_epochs",
            "epoch_steps",
            "max_steps",
            "num_nodes",
            "accumulate",
            "patience",
            "val_every",
            "save_every",
            "log_every",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"trainer.{name}: {value}; expected at least 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"trainer.ema: {self.ema}; expected a decay between 0 and 1, such as 0.999")
        for name in ("clip", "clip_value", "sam"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"trainer.{name}: {value}; expected above 0, or null for none")
