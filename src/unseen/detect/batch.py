"""A folder of any size to a table with a row a file, in worker processes, resumable after a kill.

Every finished file is one line of a journal beside the table, written as soon as it is known; the table is
made of the journal at the end. A file that crashes a worker, or takes too long, costs its own row. Memory
holds two numbers a file and never a list of results, so that a million files are a matter of time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from unseen.data.places import address, exists, name_of, state_of
from unseen.detect.engine import DEFAULT_RUN, Kind
from unseen.detect.table import COLUMNS, check_suffix, row_of, write_table
from unseen.prepare.inputs import MEDIA_SUFFIXES, far_files, read_list
from unseen.prepare.pool import open_pool, settle
from unseen.run_files import LIST, digest
from unseen.types import InputError

__all__ = ["Settings", "Summary", "inspect_folder", "list_media"]

Row = dict[str, Any]
Report = Callable[[int, int], None]
Work = Callable[[Iterable[tuple[str, int]], "Settings"], Iterator[tuple[tuple[str, int], Row]]]
STAMPS = 2**40  # stamps are below it: a place in the journal and a stamp share one number


@dataclass(frozen=True)
class Settings:
    """What the rows depend on, and how they are made.

    Attributes:
        run: `default`, a run folder or an exported file.
        frames: Of a video.
        engine: What runs the network.
        device: Where torch works.
        seconds: A file that takes longer is given up.
        jobs: Worker processes.
    """

    run: str = "default"
    frames: int = 32
    engine: Kind = "auto"
    device: str = "auto"
    seconds: float = 120.0
    jobs: int = 1

    def rule(self) -> dict[str, Any]:
        """What a resumed table must share: other values would put two kinds of rows into one table."""
        from unseen import __version__

        path = DEFAULT_RUN if self.run == "default" else Path(self.run)
        listed = path / LIST if path.is_dir() else path
        if not listed.is_file():
            raise InputError(f"{path}: is no run folder and no exported model", reason="missing")
        return {
            "run": self.run,
            "model": digest(listed),  # run.json lists the SHA-256 of weights and calibration
            "frames": self.frames,
            "engine": self.engine,
            "device": self.device,
            "unseen": __version__,
        }


@dataclass
class Summary:
    """What a run over a folder came to.

    Attributes:
        files: Rows in the table.
        fresh: Rows that this call made.
        verdicts: How many of each.
        reasons: Of those that are `error` or `not_applicable`.
    """

    files: int = 0
    fresh: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def count(self, row: Row) -> None:
        """Take a row in."""
        self.files += 1
        self.verdicts[row["verdict"]] += 1
        if row["verdict"] in ("error", "not_applicable"):
            self.reasons[row["reason"]] += 1


def inspect_folder(
    given: Sequence[str | Path],
    out: Path,
    settings: Settings,
    *,
    resume: bool = False,
    work: Work | None = None,
    report: Report | None = None,
) -> Summary:
    """Inspect every picture and video, a row each.

    Args:
        given: What `list_media` takes.
        out: `.parquet`, `.csv` or `.jsonl`.
        settings: The model and the processes.
        resume: Go on with what an earlier call left; files whose size or time changed are done again.
        work: What inspects files elsewhere (`unseen.detect.cluster`); default: processes here.
        report: Called with files done and files in all.

    Raises:
        InputError: `out` is there and `resume` is not said; it was begun with other settings (they are
            named); nothing to inspect; the workers or the model cannot start.
    """
    check_suffix(out)
    journal = out.with_name(f"{out.name}.journal.jsonl")
    if (out.exists() or journal.exists()) and not resume:
        raise InputError(
            f"{out if out.exists() else journal}: exists already; go on with --resume, or give another --out",
            reason="exists",
        )
    if out.exists() and not journal.exists():
        raise InputError(
            f"{journal}: missing, so nothing can be resumed; give another --out", reason="missing"
        )
    total = sum(1 for _ in list_media(given))
    done = _read_journal(journal, settings.rule())
    check_model(settings)
    fresh = 0
    with journal.open("ab") as file:
        if not journal.stat().st_size:
            _append(file, {"rule": settings.rule()})
        finished = 0
        if done:
            finished = sum(done.get(_key(path), 0) % STAMPS == _stamp(path) for path in list_media(given))
        if report is not None:
            report(finished, total)
        for (path, stamp), row in (work or _work)(_missing(given, done), settings):
            done[_key(Path(path))] = _append(file, {"stamp": stamp, "row": row}) * STAMPS + stamp
            fresh += 1
            if report is not None:
                report(finished + fresh, total)
    summary = Summary(fresh=fresh)
    write_table(out, _rows_in_order(journal, list_media(given), done, summary))
    return summary


def _missing(given: Sequence[str | Path], done: dict[int, int]) -> Iterator[tuple[str, int]]:
    """Yield the files that have no row, or have changed since, each once."""
    for path in list_media(given):
        key, stamp = _key(path), _stamp(path)
        if done.get(key, 0) % STAMPS != stamp:
            done[key] = stamp  # at place 0 lies the rule, never a row: named twice, it is still one file
            yield name_of(path), stamp


def check_model(settings: Settings) -> None:
    """Load the model once here: a broken one is said at once, not once a file."""
    from unseen.detect.engine import load_engine

    load_engine(settings.run, kind=settings.engine, device=settings.device)


def list_media(given: Iterable[str | Path]) -> Iterator[Path]:
    """Yield files one by one, folders in order of name; a file that is named is taken whatever its name.

    Links to folders are not followed, hidden files and folders are passed over.

    Args:
        given: Files, folders (walked for media by their suffix), globs, addresses of object storage (of a
            file, a folder or a glob; `Path(url)` stands for each file) and `.csv` lists with a column `path`.

    Raises:
        InputError: A folder, a glob or an address has no media (`missing`), or a list cannot be read.
    """
    import glob

    for item in given:
        path, text = Path(item), str(item)
        try:
            there, folder = path.exists(), path.is_dir()
        except OSError:  # a name too long, a folder that may not be entered: its verdict says so
            yield path
            continue
        url = None if there else address(text)
        if path.suffix.lower() == ".csv" and exists(text):
            yield from (row.path for row in read_list(path))
        elif url is not None:
            yield from far_files(url)
        elif folder:
            yield from _some(_walk(path), f"{text}: no pictures or videos in this folder or below")
        elif not there and any(mark in text for mark in "*?["):
            matches = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - absolute patterns
            files = (Path(match) for match in matches if Path(match).is_file())
            yield from _some(files, f"{text}: no file matches this pattern")
        else:
            yield path


def _some(files: Iterator[Path], none: str) -> Iterator[Path]:
    first = next(files, None)
    if first is None:
        raise InputError(none, reason="missing")
    yield first
    yield from files


def _walk(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            inside = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError:  # may not be read: an error of its own in the table, not a gap that nobody sees
        yield folder
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif Path(entry.name).suffix.lower() in MEDIA_SUFFIXES:
            yield Path(entry.path)


def _key(path: Path) -> int:
    """A number that stands for a path: among a million files two agree with a probability of 3 in 10^8."""
    name = os.fsencode(address(path) or path.absolute())
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def _stamp(path: Path) -> int:
    """A number that is another one when the file changes; never 0."""
    size, changed = state_of(path)
    if size == changed == -1:
        return 1
    told = hashlib.blake2b(f"{size} {changed}".encode(), digest_size=8).digest()
    return int.from_bytes(told, "big") % (STAMPS - 2) + 2


def _append(file: Any, entry: Any) -> int:
    """Write one line, hand it to the kernel, which a kill does not touch, and return its place."""
    place = int(file.seek(0, os.SEEK_END))
    file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
    file.flush()
    return place


def _read_journal(path: Path, rule: dict[str, Any]) -> dict[int, int]:
    """Return the place and stamp of every finished file; a line that a kill cut short is taken off."""
    done: dict[int, int] = {}
    if not path.exists():
        return done
    place = 0
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else {}
                if place == 0:
                    _same(path, entry["rule"], rule)
                else:
                    done[_key(Path(entry["row"]["file"]))] = place * STAMPS + int(entry["stamp"])
            except (KeyError, TypeError, json.JSONDecodeError):
                break
            place += len(line)
    if place < path.stat().st_size:
        os.truncate(path, place)
    return done


def _same(path: Path, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
    other = [f"{k} was {theirs.get(k)!r}, is {v!r}" for k, v in mine.items() if theirs.get(k) != v]
    if other:
        raise InputError(
            f"{path}: its rows were made with other settings ({'; '.join(other)}); give the same, or "
            "another --out",
            reason="other_rule",
        )


def _work(jobs: Iterable[tuple[str, int]], settings: Settings) -> Iterator[tuple[tuple[str, int], Row]]:
    """Inspect in worker processes; at most four files a worker are handed out at a time."""
    waiting: dict[Any, tuple[str, int]] = {}
    more, source = True, iter(jobs)
    with open_pool(settings.jobs, settings.jobs) as pool:
        while more or waiting:
            while more and len(waiting) < 4 * settings.jobs:
                job = next(source, None)
                if job is None:
                    more = False
                    break
                waiting[pool.schedule(inspect_one, args=(job[0], settings), timeout=settings.seconds)] = job
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                job = waiting.pop(future)
                late = partial(
                    lost_row, job[0], "timeout", f"more than {settings.seconds:g} s", settings.seconds
                )
                row = settle(future, late=late, crashed=partial(lost_row, job[0], "crashed"))
                yield job, row


def inspect_one(path: str, settings: Settings) -> Row:
    """Inspect one file in a worker process."""
    return row_of(_inspector(settings).inspect(path))


@lru_cache(maxsize=1)
def _inspector(settings: Settings) -> Any:
    """One inspector a worker, with its share of the cores."""
    import cv2

    from unseen.detect.inputs import cores
    from unseen.detect.inspector import Inspector
    from unseen.media.faces import face_finder

    threads = max(1, cores() // settings.jobs)
    cv2.setNumThreads(threads)
    return Inspector(
        settings.run,
        frames=settings.frames,
        finder=face_finder("default", threads=threads),
        device=settings.device,
        engine=settings.engine,
        evidence=0,
        traces=False,
        threads=threads,
    )


def lost_row(path: str, reason: str, message: str, seconds: float | None = None) -> Row:
    """Return the row of a file that has no verdict because of what it did to its worker."""
    row: Row = dict.fromkeys(COLUMNS)
    return row | {
        "file": path,
        "verdict": "error",
        "reason": reason,
        "message": f"{path}: {message}",
        "people": 0,
        "seconds": seconds,
    }


def _rows_in_order(
    journal: Path, listed: Iterable[Path], done: dict[int, int], summary: Summary
) -> Iterator[Row]:
    """Yield the rows in the order of the listing, then those of files that are no longer there."""
    with journal.open("rb") as file:

        def at(place: int) -> Row:
            file.seek(place)
            row: Row = json.loads(file.readline())["row"]
            summary.count(row)
            return row

        for path in listed:
            found = done.pop(_key(path), 0) // STAMPS
            if found:
                yield at(found)
        for value in sorted(done.values()):
            if value // STAMPS:
                yield at(value // STAMPS)
