"""What workers do in tests: no network, trouble on demand. Workers import it, so it imports little."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from unseen.detect.verdict import Verdict
from unseen.serve.settings import Settings
from unseen.serve.worker import Examiner
from unseen.types import InputError


def make(settings: Settings) -> tuple[Examiner, dict[str, Any]]:
    """A worker that does what the first word of a file says."""

    def examine(path: Path, name: str) -> tuple[dict[str, Any], str]:
        data = path.read_bytes()
        word = data[:20].split(b" ")[0]
        if word == b"hang":
            time.sleep(600)
        if word == b"slow":
            time.sleep(0.4)
        if word == b"crash":
            os._exit(7)
        if word == b"raise":
            raise RuntimeError("a worker must not raise, and this one does")
        if word == b"lies":
            return {"verdict": "whatever"}, ""
        if word == b"greedy":
            bytearray(2 * settings.memory)
        verdict = Verdict(name, "real", "below_threshold", probability=0.25, threshold=0.5)
        verdict.sha256 = hashlib.sha256(data).hexdigest()
        verdict.model = "staged"
        return verdict.to_dict(), f"<!doctype html><title>report on {verdict.sha256}</title>"

    return examine, {"model": "staged", "model_card": {}, "versions": {"unseen": "test"}}


def broken(settings: Settings) -> tuple[Examiner, dict[str, Any]]:
    """A model that cannot be loaded."""
    raise InputError("runs/none: no such run; train one", reason="missing")


def dies(settings: Settings) -> tuple[Examiner, dict[str, Any]]:
    """A model whose loading kills the process."""
    os._exit(9)
