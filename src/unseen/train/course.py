"""The course of a run: what happens between two optimizer steps, and what a resumed run must know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from safetensors.torch import save_file
from torch import nn

from unseen.train.learner import Learner
from unseen.train.progress import TrainingProgress
from unseen.types import InputError

__all__ = ["BEST", "LAST", "Course"]

LAST, BEST = "last.ckpt", "best.safetensors"
_FORMAT = 1


class Course:
    """Logs, validates, keeps the best weights, stops early, and writes checkpoints to resume from.

    Args:
        folder: The run folder.
        validate: Returns the numbers of a validation; `val_auc` decides. None for a run without.
        val_every: Optimizer steps between validations.
        save_every: Optimizer steps between checkpoints.
        log_every: Optimizer steps between lines of the log.
        patience: Validations without a better AUC after which the run stops.
        loggers: Where numbers go.
        progress: What a person sees.
        writes: False in all processes but the first.
        rows: Says which rows are learned from, so that a run is not resumed on others.
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
    ) -> None:
        self.folder, self.validate = folder, validate
        self.val_every, self.save_every, self.log_every = val_every, save_every, log_every
        self.patience, self.loggers, self.progress, self.writes = patience, list(loggers), progress, writes
        self.rows = rows
        self.best_auc, self.best_step, self.waited = float("-inf"), 0, 0
        self.stopped = False
        self.history: list[dict[str, float]] = []

    def __call__(self, learner: Learner, numbers: dict[str, float]) -> None:
        """Do what is due after a step."""
        step, last = learner.step, learner.step >= learner.steps
        self.progress.advance(step, int(numbers.pop("images")), numbers)
        if step % self.log_every == 0 or last:
            self._log({**numbers, "images_per_second": self.progress.rate}, step)
        validated = self.validate is not None and (step % self.val_every == 0 or last)
        if validated:
            self._validated(learner)
        if self.stopped or last:
            learner.trainer.should_stop = True
        if self.writes and (validated or last or (self.save_every and step % self.save_every == 0)):
            self.save(learner)

    def _validated(self, learner: Learner) -> None:
        assert self.validate is not None
        numbers = self.validate(learner.final)
        self._log(numbers, learner.step)
        self.progress.validated(learner.step, numbers)
        self.history.append({"step": learner.step, **numbers})
        if numbers["val_auc"] > self.best_auc:  # never true for NaN
            self.best_auc, self.best_step, self.waited = numbers["val_auc"], learner.step, 0
            if self.writes:
                state = {k: v.detach().cpu().contiguous() for k, v in learner.final.state_dict().items()}
                _replace(self.folder / BEST, lambda path: save_file(state, path))
        else:
            self.waited += 1
        # All processes must stop at the same step, whatever the last bit of each one's AUC.
        stopped = self.patience is not None and self.waited >= self.patience
        self.stopped = bool(learner.trainer.strategy.broadcast(stopped))

    def _log(self, numbers: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(numbers, step)
            logger.save()

    def save(self, learner: Learner) -> None:
        """Write all that the next steps depend on, in one piece or not at all."""
        state: dict[str, Any] = {
            "format": _FORMAT,
            "rows": self.rows,
            "step": learner.step,
            "model": learner.model.state_dict(),
            "average": None if learner.average is None else learner.average.state_dict(),
            "optimizer": learner.optimizer.state_dict(),
            "best_auc": self.best_auc,
            "best_step": self.best_step,
            "waited": self.waited,
            "stopped": self.stopped,
            "history": self.history,
        }
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
            self.best_auc, self.best_step = float(state["best_auc"]), int(state["best_step"])
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
