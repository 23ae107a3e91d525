"""The private folder where files wait to be examined, under names that mean nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO

from unseen.types import InputError

__all__ = ["Full", "Spool"]

PREFIX = "unseen-serve-"
LOCK = "lock"


class Full(Exception):
    """There is no room for more waiting bytes."""


class Spool:
    """A folder that only this user may enter, with a bound on what lies in it.

    The name that a file came under never becomes part of a path. What an earlier server left behind when it
    was killed is removed: each holds a lock on its folder for as long as it lives.

    Args:
        folder: Where to make it; None for the system's folder for temporary files.
        capacity: Bytes of all files together.
    """

    def __init__(self, folder: str | None, capacity: int) -> None:
        parent = Path(folder or tempfile.gettempdir())
        try:
            if os.name == "posix":  # locks are; elsewhere what a killed server left is for its user to remove
                sweep_abandoned(parent)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
            self._held = _lock(self.path / LOCK) if os.name == "posix" else None
        except OSError as error:
            raise InputError(f"{parent}: no folder can be made here ({error}); see --folder") from error
        self.capacity = capacity
        self.used = 0
        self._guard = threading.Lock()

    def create(self) -> tuple[Path, BinaryIO]:
        """Open a new empty file that only this user may read."""
        path = self.path / secrets.token_hex(16)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return path, os.fdopen(descriptor, "wb")

    def claim(self, count: int) -> None:
        """Take room for bytes that are about to be written.

        Raises:
            Full: There is none; nothing was taken.
        """
        with self._guard:
            if self.used + count > self.capacity:
                raise Full
            self.used += count

    def remove(self, path: Path, size: int) -> None:
        """Delete a file and give its room back."""
        path.unlink(missing_ok=True)
        with self._guard:
            self.used -= size

    def close(self) -> None:
        """Delete the folder and everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None


def sweep_abandoned(parent: Path) -> int:
    """Remove folders of servers that no longer live; return how many."""
    count = 0
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            facts = folder.lstat()
            if folder.is_symlink() or not folder.is_dir() or facts.st_uid != os.getuid():
                continue
            if not (folder / LOCK).is_file():  # one that is being made just now has none yet
                continue
            held = _lock(folder / LOCK)
        except OSError:
            continue
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
            count += 1
    return count


def _lock(path: Path) -> int | None:
    """Hold a file for this process; None if another holds it."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
