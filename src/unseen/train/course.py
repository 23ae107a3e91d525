"""The course of a run: what happens between two optimizer steps, and what a resumed run must know."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from safetensors.torch import save_file
from torch import nn

from unseen.data.dataset import FaceDataset
from unseen.train.learner import Learner
from unseen.train.processes import gather
from unseen.train.progress import TrainingProgress
from unseen.train.sharding import whole, whole_state
from unseen.types import InputError

__all__ = ["BEST", "LAST", "Course"]

log = logging.getLogger("unseen.train")

LAST, BEST = "last.ckpt", "best.safetensors"
_FORMAT = 2


class Course:
    """Logs, validates, keeps the best weights, stops early, and writes checkpoints to resume from.

    Args:
        folder: The run folder.
        validate: Returns the numbers of a validation. None for a run without.
        val_every: Optimizer steps between validations.
        save_every: Optimizer steps between checkpoints.
        log_every: Optimizer steps between lines of the log.
        patience: Validations without better weights after which the run stops.
        loggers: Where numbers go.
        progress: What a person sees.
        writes: False in all processes but the first.
        rows: Says which rows are learned from, so that a run is not resumed on others.
        epoch: Optimizer steps between reports of what the data set had to do otherwise.
        best_by: The number of a validation by which weights are better than others.
        lowest: Less of it is better.
    """

    def __init__(
        self,
        folder: Path,
        *,
        validate: Callable[[nn.Module], dict[str, float]] | None,
        val_every: int,
        save_every: int | None,
        log_every: int,
        patience: int | None,
        loggers: Iterable[Logger],
        progress: TrainingProgress,
        writes: bool = True,
        rows: str = "",
        epoch: int = 1,
        best_by: str = "val_auc",
        lowest: bool = False,
    ) -> None:
        self.folder, self.validate = folder, validate
        self.val_every, self.save_every, self.log_every = val_every, save_every, log_every
        self.patience, self.loggers, self.progress, self.writes = patience, list(loggers), progress, writes
        self.rows = rows
        self.best_by, self.sign = best_by, -1.0 if lowest else 1.0
        self.best, self.best_step, self.waited = float("-inf"), 0, 0  # the best is the highest, with its sign
        self.stopped = False
        self.history: list[dict[str, float]] = []
        self.epoch = epoch
        self.faces: FaceDataset | None = None  # what is learned from; known once training begins
        self._told: dict[str, int] = {}

    def __call__(self, learner: Learner, numbers: dict[str, float]) -> None:
        """Do what is due after a step."""
        step, last = learner.step, learner.step >= learner.steps
        self.progress.advance(step, int(numbers.pop("images")), numbers)
        if step % self.log_every == 0 or last:
            self._log({**numbers, "images_per_second": self.progress.rate}, step)
        validated = self.validate is not None and (step % self.val_every == 0 or last)
        if validated:
            self._validated(learner)
        if step % self.epoch == 0 or last:
            self._report(step)
        if self.stopped or last:
            learner.trainer.should_stop = True
        if validated or last or (self.save_every and step % self.save_every == 0):
            self.save(learner)

    def _validated(self, learner: Learner) -> None:
        assert self.validate is not None
        with whole(learner.final):
            numbers = self.validate(learner.final)
        self._log(numbers, learner.step)
        self.progress.validated(learner.step, numbers)
        self.history.append({"step": learner.step, **numbers})
        # All processes must keep and stop at the same step, whatever the last bit of each one's number.
        value = self.sign * float(learner.trainer.strategy.broadcast(numbers[self.best_by]))
        if value > self.best:  # never true for NaN
            self.best, self.best_step, self.waited = value, learner.step, 0
            state = whole_state(learner.final) if self.writes or learner.shared else {}
            if self.writes:
                state = {k: v.detach().cpu().contiguous() for k, v in state.items()}
                _replace(self.folder / BEST, lambda path: save_file(state, path))
        else:
            self.waited += 1
        self.stopped = self.patience is not None and self.waited >= self.patience

    def _report(self, step: int) -> None:
        """Say what the data set had to do otherwise in this epoch, counted with what is loaded ahead."""
        if self.faces is None:
            return
        counts: Counter[str] = Counter()
        for seen in gather({**self.faces.notes, "replaced": len(self.faces.trouble)}):
            counts.update(seen)
        new = {name: count - self._told.get(name, 0) for name, count in counts.items()}
        new = {name: count for name, count in new.items() if count}
        self._told = dict(counts)
        if not new:
            return
        self._log({f"note_{name}": float(count) for name, count in new.items()}, step)
        if self.writes:
            said = ", ".join(f"{name} {count}" for name, count in sorted(new.items()))
            log.warning("up to step %d, done otherwise since the last report: %s", step, said)

    def _log(self, numbers: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(numbers, step)
            logger.save()

    def save(self, learner: Learner) -> None:
        """Write all that the next steps depend on, in one piece or not at all; all processes call this."""
        if not (self.writes or learner.shared):
            return
        state: dict[str, Any] = {
            "format": _FORMAT,
            "rows": self.rows,
            "step": learner.step,
            "model": whole_state(learner.model),
            "average": None if learner.average is None else whole_state(learner.average),
            "optimizer": learner.optimizer_state(),
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
            "stopped": self.stopped,
            "history": self.history,
        }
        if self.writes:
            _replace(self.folder / LAST, lambda path: torch.save(state, path))

    def resume(self, learner: Learner) -> None:
        """Bring the learner and the course to where the checkpoint was written.

        Raises:
            InputError: There is no checkpoint, or it is damaged or of another network.
        """
        path = self.folder / LAST
        if not path.is_file():
            raise InputError(f"{path}: there is no checkpoint to go on from", reason="missing")
        try:
            state = torch.load(path, "cpu", weights_only=True)
            if state["format"] != _FORMAT:
                raise InputError(f"{path}: format {state['format']}; this version reads {_FORMAT}")
            if state["rows"] != self.rows:
                raise InputError(
                    f"{path}: was written while other rows were learned from; restore the manifest"
                )
            learner.step = int(state["step"])
            learner.model.load_state_dict(state["model"])
            learner.optimizer.load_state_dict(state["optimizer"])
            if learner.average is not None:
                learner.average.load_state_dict(state["average"])
            self.best, self.best_step = float(state["best"]), int(state["best_step"])
            self.waited, self.stopped = int(state["waited"]), bool(state["stopped"])
            self.history = list(state["history"])
        except InputError:
            raise
        except Exception as error:  # a cut file fails in many ways
            raise InputError(
                f"{path}: cannot be resumed from ({' '.join(str(error).split())[:200]}); start the run anew",
                reason="unreadable",
            ) from error


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the old file and then take its place, so that a kill leaves one of the two whole."""
    fresh = path.with_name(f".{path.name}.new")
    write(fresh)
    fresh.replace(path)
