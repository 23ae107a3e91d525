"""What waits, what runs and what was found: the server's only memory, bounded on every side."""

from __future__ import annotations

import datetime
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from unseen.detect.verdict import Verdict
from unseen.serve.settings import Settings
from unseen.serve.slot import Answer, Lost, Slot
from unseen.serve.spool import Spool
from unseen.serve.worker import Make, load_examiner
from unseen.types import InputError

__all__ = ["Busy", "Desk", "Inspection", "Status"]

log = logging.getLogger(__name__)
Status = Literal["queued", "running", "done", "failed"]
MOST = 20_000  # results kept, however small


class Busy(Exception):
    """The queue is full."""


@dataclass(eq=False)
class Inspection:
    """One file on its way. `verdict` is JSON; `failed` means that no worker came back with one of its own."""

    name: str
    path: Path | None = None
    size: int = 0
    sha256: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    status: Status = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    verdict: bytes = b""
    state: str = ""  # of the verdict
    report: bytes = b""
    slot: Slot | None = None

    @property
    def weight(self) -> int:
        """Bytes that its result takes."""
        return len(self.verdict) + len(self.report) + 1000


class Desk:
    """Takes files in, has them examined by worker processes, keeps what they found for a while.

    Every method may be called from any thread and returns at once; entering and leaving it take a while.

    Args:
        settings: Its bounds.
        make: What a worker does; tests take something simpler than a network.

    Attributes:
        heard: Called with each finished inspection and with the reason of each lost worker, for metrics.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        make: Make = load_examiner,
    ) -> None:
        self.settings = settings
        self.spool = Spool(settings.folder, settings.spool_bytes)
        self.heard: Callable[[Inspection, str | None], None] = lambda inspection, lost: None
        self.facts: dict[str, Any] = {}
        self.slots = [Slot(settings, make) for _ in range(settings.workers)]
        self.running = 0  # files that are being examined
        self.kept_bytes = 0
        self._all: OrderedDict[str, Inspection] = OrderedDict()
        self._finished: OrderedDict[str, Inspection] = OrderedDict()  # the oldest first
        self._queue: deque[Inspection] = deque()
        self._reserved = 0  # places for uploads under way
        self._change = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Start the workers and wait for the first.

        Raises:
            InputError: The model cannot be loaded.
        """
        try:
            self.facts = self.slots[0].start()
        except BaseException as error:
            self.__exit__()
            if isinstance(error, Lost):
                raise InputError(f"no worker could be started: {error}", reason="workers") from error
            raise
        for number, slot in enumerate(self.slots):
            thread = threading.Thread(target=self._run, args=(slot,), name=f"slot-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *error: object) -> None:
        """Kill the workers, forget everything, remove every file."""
        with self._change:
            self._closing = True
            self._queue.clear()
            self._change.notify_all()
        for slot in self.slots:
            slot.stop(forever=True)
        for thread in self._threads:
            thread.join(15)
        for slot in self.slots:
            slot.close()
        self.spool.close()

    @property
    def queued(self) -> int:
        """Files that wait."""
        return len(self._queue)

    @property
    def kept(self) -> int:
        """Results that can be fetched."""
        return len(self._finished)

    def reserve(self) -> None:
        """Take a place in the queue for a file that is about to come.

        Raises:
            Busy: There is none.
        """
        with self._change:
            if len(self._queue) + self._reserved >= self.settings.queue:
                raise Busy
            self._reserved += 1

    def release(self) -> None:
        """Give a reserved place back."""
        with self._change:
            self._reserved -= 1

    def add(self, inspection: Inspection) -> None:
        """Put a file into the place that was reserved for it."""
        with self._change:
            self._reserved -= 1
            self._all[inspection.id] = inspection
            self._queue.append(inspection)
            self._change.notify()

    def get(self, id: str) -> Inspection | None:
        """Find an inspection; None if it never was, was deleted, or has expired."""
        self.sweep()
        return self._all.get(id)

    def ahead(self, inspection: Inspection) -> int:
        """How many files are examined before this one."""
        with self._change:
            return next((place for place, other in enumerate(self._queue) if other is inspection), 0)

    def delete(self, id: str) -> bool:
        """Forget an inspection, stopping it if it runs; whether there was one."""
        with self._change:
            inspection = self._all.pop(id, None)
            if inspection is None:
                return False
            if inspection in self._queue:
                self._queue.remove(inspection)
                self._drop_file(inspection)
            if self._finished.pop(id, None) is not None:
                self.kept_bytes -= inspection.weight
            if inspection.slot is not None:
                inspection.slot.stop()
            return True

    def sweep(self, now: float | None = None) -> None:
        """Forget results that are too old or, the oldest first, too many."""
        now = time.time() if now is None else now
        with self._change:
            while self._finished:
                inspection = next(iter(self._finished.values()))
                old = (inspection.finished or 0) + self.settings.keep <= now
                if not old and self.kept_bytes <= self.settings.keep_bytes and len(self._finished) <= MOST:
                    return
                del self._finished[inspection.id]
                self._all.pop(inspection.id, None)
                self.kept_bytes -= inspection.weight

    def _run(self, slot: Slot) -> None:
        """What the thread of one slot does: the next file, again and again."""
        while True:
            with self._change:
                while not self._queue and not self._closing:
                    self._change.wait()
                if self._closing:
                    return
                inspection = self._queue.popleft()
                inspection.status, inspection.started, inspection.slot = "running", time.time(), slot
                self.running += 1
            answer, lost = self._examine(slot, inspection)
            with self._change:
                inspection.slot = None
                self._drop_file(inspection)
                inspection.finished = time.time()
                inspection.verdict, inspection.report = answer.verdict, answer.report
                inspection.state = answer.state
                self.running -= 1
                inspection.status = "failed" if lost else "done"
                if inspection.id in self._all:
                    self._finished[inspection.id] = inspection
                    self.kept_bytes += inspection.weight
            self.heard(inspection, lost)
            self.sweep()

    def _examine(self, slot: Slot, inspection: Inspection) -> tuple[Answer, str | None]:
        """The worker's answer, or a verdict in its place and why."""
        assert inspection.path is not None
        try:
            return slot.examine(inspection.path, inspection.name), None
        except Lost as error:
            reason, why = error.reason, str(error)
        except Exception as error:  # no worker can be started: the server must live on, and say so
            log.exception("no worker for inspection %s", inspection.id)
            reason, why = "crashed", f"no process could be started to examine it ({type(error).__name__})"
        return self._refuse(inspection, reason, why), reason

    def _refuse(self, inspection: Inspection, reason: str, why: str) -> Answer:
        now = time.time()
        verdict = Verdict(
            inspection.name, "error", reason, message=f"{inspection.name}: {why}", sha256=inspection.sha256
        )
        verdict.model = self.facts.get("model")
        verdict.model_card = dict(self.facts.get("model_card", {}))
        verdict.versions = dict(self.facts.get("versions", {}))
        verdict.media = {"bytes": inspection.size}
        verdict.created = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        verdict.seconds = round(now - (inspection.started or now), 3)
        return Answer(verdict.to_json(indent=None).encode(), "error", verdict.to_html().encode())

    def _drop_file(self, inspection: Inspection) -> None:
        if inspection.path is not None:
            self.spool.remove(inspection.path, inspection.size)
            inspection.path = None
