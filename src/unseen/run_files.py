"""The list of a run folder's files, and whether each is the one that training wrote; no torch needed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unseen.types import InputError

__all__ = ["CONCEPTS", "EXPORTED", "LIST", "check_file", "digest", "read_facts"]

LIST = "run.json"
EXPORTED = "1"  # the format of the one file that `unseen export` writes
CONCEPTS = "concepts.json"  # only of runs with a memory of real concepts


def read_facts(folder: Path) -> dict[str, Any]:
    """Return `run.json`.

    Raises:
        InputError: It is missing or damaged.
    """
    path = folder / LIST
    if not path.is_file():
        raise InputError(
            f"{path}: missing; the training of this run was not finished (`unseen train --resume`), "
            "or this is no run folder",
            reason="missing",
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        files = facts["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); copy the run again", reason="tampered") from error
    if not isinstance(files, dict):
        raise InputError(f"{path}: damaged (`files` is no mapping); copy the run again", reason="tampered")
    return dict(facts)


def check_file(path: Path, files: Mapping[str, Any]) -> None:
    """Compare a file with its entry in `files` of `run.json`.

    Raises:
        InputError: It is missing, not listed, or another file.
    """
    if not path.is_file():
        raise InputError(f"{path}: missing; copy the whole run folder", reason="missing")
    if digest(path) != files.get(path.name):
        raise InputError(
            f"{path}: is not the file that training wrote (its SHA-256 is another than in {LIST}); "
            "copy the run again",
            reason="tampered",
        )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
