"""The parent's end of one worker process: hand it a file, wait no longer than allowed, replace it.

Each worker has a pipe of its own, so that one which is killed in the middle of a message can block no other.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar

from unseen.detect.verdict import HEADLINES
from unseen.serve.settings import Settings
from unseen.serve.worker import Make, work
from unseen.types import InputError

__all__ = ["Answer", "Lost", "Slot"]

LARGEST = 64 * 1024**2  # bytes of a report; a worker that sends more is broken or taken over
STARTING = 300.0  # seconds that loading a model may take
Doom = Literal["timeout", "stopped"]
T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a worker found. `verdict` is JSON."""

    verdict: bytes
    state: str
    report: bytes


class Lost(Exception):
    """A worker that gave no answer, and why."""

    def __init__(self, reason: Literal["timeout", "crashed", "stopped"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Slot:
    """One worker process after the other; used by one thread, except for `stop`.

    Args:
        settings: How long and how much a file may take.
        make: Makes the examiner, in the worker; importable by name.
    """

    def __init__(self, settings: Settings, make: Make) -> None:
        self.settings = settings
        self.make = make
        self.facts: dict[str, Any] = {}
        self.started = 0  # workers so far
        self._process: Any = None
        self._line: Any = None
        self._served = 0
        self._guard = threading.Lock()
        self._doom: Doom | None = None  # why the worker at hand was killed
        self._closed = False

    def start(self) -> dict[str, Any]:
        """Start a worker if none is alive, wait until its model is loaded, and return what it says of itself.

        Raises:
            InputError: The model cannot be loaded.
            Lost: The worker ended before it was ready.
        """
        if self._process is not None and self._process.is_alive() and self._doom is None:
            return self.facts
        self._end()
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=work, args=(theirs, self.make, self.settings), name="unseen-worker", daemon=True
        )
        with self._guard:
            if self._closed:
                raise Lost("stopped", "the server is stopping")
            process.start()
            theirs.close()
            self._process, self._line, self._served, self._doom = process, ours, 0, None
            self.started += 1
        with self._deadline(STARTING):
            said = self._say_or_lose(lambda: json.loads(self._line.recv_bytes(LARGEST)))
        if "failed" in said:
            raise InputError(said["failed"], reason=said["reason"])
        self.facts = said["ready"]
        return self.facts

    def examine(self, path: Path, name: str) -> Answer:
        """Have one file examined.

        Raises:
            Lost: The worker took too long and was killed, died, or sent nonsense.
        """
        self.start()

        def ask() -> Answer:
            self._line.send_bytes(json.dumps({"path": str(path), "name": name}).encode())
            verdict = bytes(self._line.recv_bytes(LARGEST))
            report = bytes(self._line.recv_bytes(LARGEST))
            state = json.loads(verdict)["verdict"]
            if state not in HEADLINES:  # a name of its own making would become a metric of its own
                raise ValueError(f"verdict {state!r:.40}")
            return Answer(verdict, state, report)

        with self._deadline(self.settings.time_limit):
            answer = self._say_or_lose(ask)
        self._served += 1
        if self._served >= self.settings.recycle:
            self._end()
        return answer

    def stop(self, *, forever: bool = False) -> None:
        """Kill the worker, from any thread; the next file gets a new one, unless this is for good."""
        with self._guard:
            self._closed = self._closed or forever
            if self._process is not None:
                self._doom = "stopped"
                self._process.kill()

    def close(self) -> None:
        """Kill the worker for good and wait until it is gone; nobody may be using it any more."""
        self.stop(forever=True)
        self._end()

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        """Kill the worker if what is done in here takes longer; a half-sent message would block for ever."""
        over = False

        def late() -> None:
            with self._guard:
                if not over and self._process is not None:
                    self._doom = "timeout"
                    self._process.kill()

        timer = threading.Timer(seconds, late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._guard:
                over = True

    def _say_or_lose(self, talk: Callable[[], T]) -> T:
        """Talk with the worker; whatever goes wrong, it is gone then."""
        try:
            return talk()
        except (EOFError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self._process.join(1)
            code, doom = self._process.exitcode, self._doom
            self._end()
            if doom == "timeout":
                limit = f"{self.settings.time_limit:g} s"
                raise Lost(
                    "timeout", f"it took more than {limit}, which is the limit; its examination was stopped"
                ) from error
            if doom == "stopped":
                raise Lost("stopped", "its examination was stopped") from error
            end = f"exit code {code}" if code is not None else type(error).__name__
            raise Lost("crashed", f"the process that examined it broke down ({end})") from error

    def _end(self) -> None:
        """Kill what is left of the worker and forget it."""
        with self._guard:
            process, line, self._process, self._line = self._process, self._line, None, None
        if process is not None:
            process.kill()
            process.join(10)
            process.close()
            line.close()
