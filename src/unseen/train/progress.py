"""What a person sees while a network learns."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["TrainingProgress"]

log = logging.getLogger("unseen.train")


class TrainingProgress:
    """A line with steps, losses, images a second and the time left; quiet where nobody watches.

    Args:
        steps: Optimizer steps of the whole run.
        done: Steps done before.
        shown: False hides the line; validations still go to the log.
    """

    def __init__(self, steps: int, *, done: int = 0, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} images/s"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._task = self._bar.add_task("train", total=steps, completed=done, rate=0.0, note="")
        self._since: float | None = None
        self._images = 0
        self._note = ""

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def rate(self) -> float:
        """Images a second since the last validation; the first step, which warms up, is not counted."""
        return 0.0 if self._since is None else self._images / max(time.perf_counter() - self._since, 1e-9)

    def advance(self, step: int, images: int, numbers: Mapping[str, float]) -> None:
        """Show one more step."""
        if self._since is None:
            self._since = time.perf_counter()
        else:
            self._images += images
        note = f"loss {numbers['loss']:.3f}{self._note}"
        self._bar.update(self._task, completed=step, rate=self.rate, note=note)

    def validated(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show a validation, and keep its time out of the rate."""
        log.info("step %d: %s", step, ", ".join(f"{k} {v:.4f}" for k, v in numbers.items()))
        shown = {"val_auc": "AUC", "val_error": "error"}
        self._note = "".join(f" {text} {numbers[key]:.4f}" for key, text in shown.items() if key in numbers)
        self._since, self._images = None, 0
