"""One optimizer step of anything trainable: gradients, accumulation, SAM, clipping, schedule, moving average.

Steps are taken by hand (Lightning's manual optimisation), so that each of them is whole: it has all of its
batches, and whatever is random in it is a function of (seed, step, process). A run that goes on from a
checkpoint therefore ends with the very bits of one that was never stopped.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from unseen.models.detector import Detector
from unseen.recipe import Schedule, TrainerSettings
from unseen.train.processes import average, average_gradients, average_statistics
from unseen.train.sharding import (
    check_optimizer,
    clip_norm,
    gradient_norm,
    load_optimizer,
    piece,
    share_out,
    split_groups,
    whole_optimizer,
)
from unseen.types import FaceBatch, InputError

__all__ = ["Learner", "draw_seed", "frozen_statistics", "settled"]

AfterStep = Callable[["Learner", dict[str, float]], None]


def draw_seed(*numbers: int) -> int:
    """Return a well mixed seed for torch, a function of these numbers alone."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norms use their batch and leave their running statistics alone, as SAM's second pass must.

    So with everything else that has `track_running_stats`, such as a memory of prototypes. The public code of
    SBI updates them in both passes, once with weights that the network never has.
    """
    norms: list[Any] = [m for m in model.modules() if getattr(m, "track_running_stats", False)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def settled(model: nn.Module) -> Iterator[None]:
    """Let memories, which have `waits` and `settle()`, move once at the end of an optimizer step.

    Every batch of the step, and SAM's second pass over them, then meets the memory with which the step began,
    as one large batch would. After an error they stay as they were.
    """
    memories: list[Any] = [m for m in model.modules() if hasattr(m, "settle")]
    for memory in memories:
        memory.waits = True
    try:
        yield
    finally:
        for memory in memories:
            memory.waits = False
    for memory in memories:
        memory.settle()


def _parameters(model: nn.Module, decay_all: bool) -> list[dict[str, Any]]:
    """Return what is learned, as one group or with the vectors in a group without weight decay."""
    learned = [p for p in model.parameters() if p.requires_grad]
    if decay_all:
        return [{"params": learned}]
    return [
        {"params": [p for p in learned if p.ndim > 1]},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]


class Learner(LightningModule):
    """Sums the terms of a model's losses and steps its optimizer.

    Args:
        model: Has `losses(batch) -> dict of scalars`; see `unseen.models.detector.Trainable`.
        make_optimizer: Makes the optimizer of the parameters it is handed.
        schedule: The course of the learning rate.
        settings: Accumulation, clipping, SAM, moving average.
        steps: Optimizer steps of the whole run, for the schedule.
        seed: See the module.
        scale: What the optimizer's rate is multiplied by.
        after_step: Called with the learner and the step's numbers, each of them a float.
    """

    def __init__(
        self,
        model: nn.Module,
        make_optimizer: Callable[[Iterable[Tensor]], torch.optim.Optimizer],
        *,
        schedule: Schedule,
        settings: TrainerSettings,
        steps: int,
        seed: int = 0,
        scale: float = 1.0,
        after_step: AfterStep | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.schedule, self.settings = schedule, settings
        self.steps, self.seed = steps, seed
        self.after_step = after_step
        self.step = 0  # optimizer steps done, those before a resume included
        self._make_optimizer, self._scale = make_optimizer, scale
        self.shared = False  # whether each process holds a piece of the weights
        self.optimizer = self._optimizer_of(_parameters(model, settings.decay_all))
        self.average: nn.Module | None = None
        if settings.ema is not None:
            self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self._waiting: list[FaceBatch] = []

    @property
    def final(self) -> nn.Module:
        """The model that is validated and saved: the moving average if there is one."""
        return self.model if self.average is None else self.average

    def _optimizer_of(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        made = self._make_optimizer(groups if len(groups) > 1 else groups[0]["params"])  # type: ignore[arg-type]
        self.rates = [self._scale * float(group["lr"]) for group in made.param_groups]
        return made

    def share_out(self) -> None:
        """Keep in this process a piece of the weights, of their average and of the optimizer's memory."""
        check_optimizer(self.optimizer)
        state = self.optimizer.state_dict()
        share_out(self.model)
        if self.average is not None:
            share_out(self.average)
        groups = _parameters(self.model, self.settings.decay_all)
        self.optimizer = self._optimizer_of(split_groups(groups))
        load_optimizer(self.optimizer, groups, state)
        self.shared = True

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer's state as one process has it; see `unseen.train.sharding.whole_optimizer`."""
        if not self.shared:
            return self.optimizer.state_dict()
        return whole_optimizer(self.optimizer, _parameters(self.model, self.settings.decay_all))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, for Lightning to place and wrap."""
        return self.optimizer

    def transfer_batch_to_device(
        self, batch: FaceBatch, device: torch.device, dataloader_idx: int
    ) -> FaceBatch:
        """Move a batch; its uint8 pictures become floats on the device."""
        batch = batch.to(device, non_blocking=True)
        if self.settings.channels_last:
            batch.image = batch.image.contiguous(memory_format=torch.channels_last)
        return batch

    def training_step(self, batch: FaceBatch, batch_idx: int) -> None:
        """Take an optimizer step once `accumulate` batches have come."""
        self._waiting.append(batch)
        if len(self._waiting) < self.settings.accumulate:
            return
        batches, self._waiting = self._waiting, []
        numbers = self._take_step(batches)
        self.step += 1
        if self.after_step is not None:
            self.after_step(self, numbers)

    def _take_step(self, batches: Sequence[FaceBatch]) -> dict[str, float]:
        torch.manual_seed(draw_seed(self.seed, self.step, self.global_rank))
        factor = self.schedule.factor(self.step, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        if isinstance(self.model, Detector):
            self.model.progress(self.step / self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        with settled(self.model):
            numbers = self._gradients(batches)
            if self.settings.sam is not None:
                moved = self._climb(self.settings.sam)
                self.optimizer.zero_grad(set_to_none=True)
                with frozen_statistics(self.model):
                    self._gradients(batches)
                with torch.no_grad():
                    for parameter, move in moved:
                        parameter.sub_(move)
        if self.settings.clip is not None:
            norm = self._clip(self.settings.clip)
            numbers["gradient_norm"] = self._finite_norm(norm)
        if self.settings.clip_value is not None:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    piece(parameter.grad).clamp_(-self.settings.clip_value, self.settings.clip_value)
        # Lightning's own wrapper: it counts steps, which is how the trainer knows when to stop.
        wrapped: Any = self.optimizers()
        wrapped.step()
        average_statistics(self.model)
        if self.average is not None:
            self._update_average()
        numbers["lr"] = self.optimizer.param_groups[0]["lr"]
        numbers["images"] = float(sum(len(batch) for batch in batches) * self.trainer.world_size)
        return numbers

    def _gradients(self, batches: Sequence[FaceBatch]) -> dict[str, float]:
        """Add the mean gradient of these batches; return the mean of each term, and what the model tells."""
        sums: dict[str, float] = {}
        told: dict[str, Tensor] = getattr(self.model, "numbers", dict)()
        for batch in batches:
            terms: dict[str, Tensor] = self.model.losses(batch)  # type: ignore[operator]
            here = torch.stack([t.detach().float() for t in (*terms.values(), *told.values())])
            both = torch.stack([here, average(here)])  # of this process, and of all of them
            self.manual_backward(torch.stack(list(terms.values())).sum() / len(batches))
            # All in one, and once backward is under way: each value on its own would make a GPU wait.
            own, values = both.tolist()
            seen = dict(zip(told, values[len(terms) :], strict=True))
            for name, mine, value in zip(terms, own, values, strict=False):
                if not np.isfinite(value):  # in all processes alike, so that none waits for another
                    where = batches if not np.isfinite(mine) else ()
                    raise InputError(
                        self._not_finite(f"the loss term {name!r} is {value}", where), reason="not_finite"
                    )
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        average_gradients(self.model.parameters())
        return {**seen, "loss": sum(sums.values()), **sums}

    def _clip(self, most: float) -> Tensor:
        if not self.shared:
            return nn.utils.clip_grad_norm_(self.model.parameters(), most)
        return clip_norm([p.grad for p in self.model.parameters() if p.grad is not None], most)

    @torch.no_grad()
    def _climb(self, radius: float) -> list[tuple[Tensor, Tensor]]:
        """Move the weights `radius` along the gradient (SAM, eq. 2); return what each was moved by."""
        with_gradient = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]
        norm = gradient_norm([g for _, g in with_gradient])
        self._finite_norm(norm)
        moved = [(piece(p), piece(g) * (radius / (norm + 1e-12))) for p, g in with_gradient]
        for parameter, move in moved:
            parameter.add_(move)
        return moved

    @torch.no_grad()
    def _update_average(self) -> None:
        assert self.average is not None and self.settings.ema is not None
        # The first weights are forgotten quickly: the decay grows to its value over the first steps.
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        now = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                piece(value).lerp_(piece(now[name]).to(value.dtype), 1 - decay)
            else:
                piece(value).copy_(piece(now[name]))

    def _finite_norm(self, norm: Tensor) -> float:
        value = float(norm)
        if not np.isfinite(value):
            raise InputError(
                self._not_finite(f"the norm of the gradient is {value}", ()), reason="not_finite"
            )
        return value

    def _not_finite(self, what: str, batches: Sequence[FaceBatch]) -> str:
        paths = [record.path for batch in batches for record in batch.records]
        faces = f"; the batch held {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}" if paths else ""
        return (
            f"step {self.step}: {what}, so training stops here{faces}; "
            "try a lower learning rate, `trainer.clip: 1.0`, or `precision: 32-true`"
        )
