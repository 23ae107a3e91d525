"""What was done of a folder of crops: one line a file, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from unseen.prepare.inputs import InputFile

__all__ = ["Journal"]

Row = dict[str, Any]


class Journal:
    """The rows of every finished file, in `journal.jsonl`; use it as a context manager.

    One process writes it. A line that a kill cut short is forgotten and its file done again; a file that
    changed since, or of which something else is said now, counts as not done.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done: dict[str, tuple[str, list[Row]]] = {}
        whole = 0
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    try:
                        entry = json.loads(line) if line.endswith(b"\n") else {}
                        self._done[entry["file"]] = (entry["stamp"], entry["rows"])
                    except (ValueError, KeyError):
                        break
                    whole += len(line)
            if whole < path.stat().st_size:
                with path.open("r+b") as file:
                    file.truncate(whole)

    def __enter__(self) -> Journal:
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def has(self, item: InputFile) -> bool:
        """Whether this very file, with the same things said of it, is done."""
        return self._done.get(item.path.as_posix(), ("", []))[0] == _stamp(item)

    def add(self, item: InputFile, rows: list[Row]) -> None:
        """Remember the rows of a finished file; they survive a kill from here on."""
        stamp = _stamp(item)
        self._done[item.path.as_posix()] = (stamp, rows)
        self._file.write(json.dumps({"file": item.path.as_posix(), "stamp": stamp, "rows": rows}) + "\n")
        self._file.flush()  # in the kernel's hands, which a kill of this process does not touch

    def rows(self) -> list[Row]:
        """Every row of every finished file."""
        return [row for _, rows in self._done.values() for row in rows]


def _stamp(item: InputFile) -> str:
    try:
        state = item.path.stat()
        size, changed = state.st_size, state.st_mtime_ns
    except OSError:
        size, changed = -1, -1
    said = [
        item.dataset,
        item.video,
        item.label,
        item.method,
        item.split,
        item.identity,
        str(item.source or ""),
    ]
    return json.dumps([size, changed, *said])
