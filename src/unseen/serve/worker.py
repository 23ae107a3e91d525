"""What runs in a worker process: a model, loaded once, and one hostile file after the other.

The parent trusts nothing that comes from here: results travel as JSON and text, never as pickles, because
whoever takes over a decoder owns this process. See `unseen.serve.slot` for the other end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.serve.settings import Settings
from unseen.types import InputError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Examiner", "Make", "load_examiner", "work"]

Examiner = Callable[[Path, str], tuple[dict[str, Any], str]]
"""Takes a file and the name it came under; gives `Verdict.to_dict()` and the report."""
Make = Callable[[Settings], tuple[Examiner, dict[str, Any]]]
"""Makes an examiner, and says what every verdict of this server has in common."""


def load_examiner(settings: Settings) -> tuple[Examiner, dict[str, Any]]:
    """Load the model.

    Raises:
        InputError: The run cannot be loaded.
    """
    from unseen.detect.inspector import Inspector, versions

    inspector = Inspector(
        settings.run,
        frames=settings.frames,
        device=settings.device,
        engine=settings.engine,
        limits=settings.limits,
    )
    engine = inspector.load()

    def examine(path: Path, name: str) -> tuple[dict[str, Any], str]:
        verdict = inspector.inspect(path)
        # The reader knows the file by the name it came under; where it lay meanwhile is nobody's business.
        verdict.file = name
        verdict.message = rename(verdict.message, path, name)
        verdict.command = rename(verdict.command, path, name)
        verdict.warnings = [rename(warning, path, name) for warning in verdict.warnings]
        return verdict.to_dict(), verdict.to_html()

    return examine, {"model": engine.model, "model_card": dict(engine.card), "versions": versions()}


def rename(text: str, path: Path, name: str) -> str:
    """Put the name that a file came under where a text names its path.

    >>> rename("/tmp/x/0a1b: is empty; 0a1b", Path("/tmp/x/0a1b"), "cat.jpg")
    'cat.jpg: is empty; cat.jpg'
    """
    return text.replace(str(path), name).replace(path.name, name)


def work(line: Connection, make: Make, settings: Settings) -> None:
    """Serve files from `line` until it closes: the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    try:
        examine, facts = make(settings)
        confine(settings.memory)
    except InputError as error:
        line.send_bytes(_json({"failed": str(error), "reason": error.reason}))
        return
    line.send_bytes(_json({"ready": facts}))
    while True:
        try:
            job = json.loads(line.recv_bytes())
        except EOFError:
            return
        try:
            verdict, page = examine(Path(job["path"]), job["name"])
        except (
            BaseException
        ):  # an examiner has no business raising; start afresh, at once, and say where it was
            traceback.print_exc()
            os._exit(70)
        line.send_bytes(_json(verdict))
        line.send_bytes(page.encode("utf-8", "replace"))


def confine(memory: int) -> None:
    """Bound what this process may take; no core dumps, which would hold pictures of people.

    Args:
        memory: Bytes of address space beyond what is taken already, since libraries of torch reserve many
            gigabytes that they never touch; 0 for no bound.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits; the time limit holds there too
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory and sys.platform == "linux":  # elsewhere address space is reserved far beyond what is used
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))


def _die_with_parent(parent: int) -> None:
    """End when the server was killed, even in the middle of a file."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
