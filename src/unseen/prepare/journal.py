"""What was done of a folder of crops: one line a job, so that a killed run goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from unseen.types import InputError

__all__ = ["Journal", "claim_folder", "write_whole"]

Row = dict[str, Any]


class Journal:
    """The rows of every finished job, in `journal.jsonl`; use it as a context manager.

    One process writes it. A line that a kill cut short is forgotten and its job done again; a job whose stamp
    is another now (its file changed, or something else is said of it) counts as not done.

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

    def has(self, key: str, stamp: str) -> bool:
        """Whether this very job is done: `key` names it, `stamp` is everything that its result depends on."""
        return self._done.get(key, ("", []))[0] == stamp

    def add(self, key: str, stamp: str, rows: list[Row]) -> None:
        """Remember the rows of a finished job; they survive a kill from here on."""
        self._done[key] = (stamp, rows)
        self._file.write(json.dumps({"file": key, "stamp": stamp, "rows": rows}) + "\n")
        self._file.flush()  # in the kernel's hands, which a kill of this process does not touch

    def rows(self) -> list[Row]:
        """Every row of every finished job."""
        return [row for _, rows in self._done.values() for row in rows]


def claim_folder(out: Path, verb: str, rule: dict[str, Any], *, what: str = "crops") -> None:
    """Make a folder ours, or see that it already is, by the same rule.

    Args:
        out: The folder.
        verb: Who writes it; the rule is kept in `<verb>.json`.
        rule: Plain values that decide the folder's bytes.
        what: What the folder is for, in errors.

    Raises:
        InputError: It is a file (`not_a_folder`), cannot be made (`permission`), or was made by another rule
            (`other_rule`).
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; expected a folder for the {what}", reason="not_a_folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be made a folder for the {what} ({error.strerror}); give a place that can be "
            "written to",
            reason="permission",
        ) from error
    for stray in out.rglob(".*.partial"):
        stray.unlink()
    path = out / f"{verb}.json"
    mine = json.loads(json.dumps(rule))
    if not path.exists():
        write_whole(path, (json.dumps(mine, indent=2) + "\n").encode())
    theirs = json.loads(path.read_text())
    if theirs != mine:
        said = ", ".join(f"{k} was {theirs.get(k)}, is {v}" for k, v in mine.items() if theirs.get(k) != v)
        raise InputError(
            f"{out}: its {what} were made by another rule ({said}); give another --out or the same options",
            reason="other_rule",
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
