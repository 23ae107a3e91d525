"""The local engine beside Ray's over the same files: `python benchmarks/engines.py --files 400`.

`prepare` and `detect`, in a new process each, the same number of workers. What an engine costs is counted in
seconds of the clock and in seconds of processor of all its processes (Ray's daemons, actors and the workers
inside them), which other work on the machine changes less. A run over two files a worker is the start
(processes, imports, models); what a run over all files takes beyond it is the rate. Ratios are of medians
over rounds in which the engines take turns. `--scaling` compares one worker that may use one core with two
on two instead; its ratio by the clock says something on an idle machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import detect

MARK = "UNSEEN_BENCHMARK"  # every process of a run inherits it
Rows = list[dict[str, Any]]
TICK = os.sysconf("SC_CLK_TCK")


class Processes:
    """Adds up the processor time of all processes that carry a mark, the ended ones included."""

    def __init__(self, mark: str) -> None:
        self.mark = f"{MARK}={mark}".encode()
        self.ours: dict[int, bool] = {}
        self.spent: dict[int, float] = {}
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Processes:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(0.05):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    self._look(int(entry.name))

    def _look(self, number: int) -> None:
        try:
            if number not in self.ours:
                # A process that is being started may not have its environment yet: it is asked again.
                said = Path(f"/proc/{number}/environ").read_bytes()
                if not said:
                    return
                self.ours[number] = self.mark in said.split(b"\0")
            if self.ours[number]:
                facts = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                self.spent[number] = (int(facts[11]) + int(facts[12])) / TICK
        except OSError:
            pass  # it has ended


def photographs(folder: Path, count: int) -> None:
    """Write different photographs of one portrait: each a little brighter and elsewhere."""
    folder.mkdir(parents=True)
    image = cv2.imread(str(detect.PORTRAIT))
    for i in range(count):
        moved = np.roll(image, (i % 7, i % 11), (0, 1))
        lighter = cv2.convertScaleAbs(moved, alpha=1 - 0.02 * (i % 5), beta=i % 13)
        cv2.imwrite(str(folder / f"{i:05d}.jpg"), lighter, [cv2.IMWRITE_JPEG_QUALITY, 92])


def clips(folder: Path, count: int, seconds: int) -> None:
    """Write equal clips, since a finder and a decoder do not remember."""
    folder.mkdir(parents=True)
    detect.make_clip(folder / "0000.mp4", seconds=seconds)
    for i in range(1, count):
        (folder / f"{i:04d}.mp4").write_bytes((folder / "0000.mp4").read_bytes())


def in_child(verb: str, engine: str, files: str, out: str, workers: int, count: int) -> None:
    """Run a verb over the first files of a folder."""
    names = sorted(Path(files).iterdir())[:count]
    if verb == "prepare":
        from unseen.prepare.inputs import list_inputs
        from unseen.prepare.pool import work_off as here
        from unseen.prepare.run import prepare

        work = here
        if engine == "ray":
            from unseen.scale.ray import work_off as work
        prepare(list_inputs(names), out, workers=workers, engine=work)
    else:
        from unseen.detect.batch import Settings, inspect_folder
        from unseen.detect.cluster import on_cluster

        there = on_cluster(actors=workers) if engine == "ray" else None
        inspect_folder(names, Path(out) / "verdicts.parquet", Settings(jobs=workers), work=there)


def spend(
    verb: str, engine: str, files: Path, workers: int, count: int, cores: int | None = None
) -> tuple[float, float]:
    """Run a verb in a new process, on so many cores; return seconds of the clock and of processor."""
    with tempfile.TemporaryDirectory() as out:
        start, mark = time.perf_counter(), str(time.monotonic_ns())
        words = ["--child", verb, engine, str(files), out, str(workers), str(count), str(cores or 0)]
        with Processes(mark) as processes:
            # A session of its own: Linux shares the processor among sessions, and Ray has its own too.
            subprocess.run(
                [sys.executable, __file__, *words],
                env={**os.environ, MARK: mark},
                stdout=subprocess.DEVNULL,
                check=True,
                start_new_session=True,
            )
            clock = time.perf_counter() - start
    return clock, sum(processes.spent.values())


def measure(verb: str, engine: str, files: Path, workers: int, cores: int | None) -> dict[str, float]:
    """Measure a start and a whole run, and the rate between them."""
    some, count = 4, sum(1 for _ in files.iterdir())
    first, whole = (spend(verb, engine, files, workers, n, cores) for n in (some, count))
    return {
        "files a second of the clock": (count - some) / (whole[0] - first[0]),
        "files a second of processor": (count - some) / (whole[1] - first[1]),
        "all of it, clock": whole[0],
        "all of it, processor": whole[1],
        "start, clock": first[0],
        "start, processor": first[1],
    }


def compare(
    verb: str, files: Path, ways: Sequence[tuple[str, int]], rounds: int, *, pinned: bool = False
) -> Rows:
    """Measure ways (engine and workers) in turn; ratios are to the first of them.

    `pinned` gives each as many cores as it has workers.
    """
    found: dict[tuple[str, int], list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, runs in found.items():
            runs.append(measure(verb, way[0], files, way[1], way[1] if pinned else None))
    rows: Rows = []
    for what in found[ways[0]][0]:
        base = statistics.median(run[what] for run in found[ways[0]])
        for (engine, workers), runs in found.items():
            value = statistics.median(run[what] for run in runs)
            count = sum(1 for _ in files.iterdir())
            said = f"{verb}, {count} {files.name}, {what}: {engine}, {workers} workers"
            if pinned:
                said += f" on {workers} cores"
            unit = "files/s" if what.startswith("files") else "s"
            rows.append({"what": said, "value": value, "unit": unit, "ratio": value / base})
    return rows


def both_kinds(folder: Path, count: int, videos: int, seconds: int) -> list[Path]:
    """Make photographs and clips."""
    photographs(folder / "photographs", count)
    clips(folder / "clips", videos, seconds)
    return [folder / "photographs", folder / "clips"]


def main() -> None:
    """Print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=10, help="of a clip")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scaling", action="store_true", help="one worker beside two")
    parser.add_argument("--child", nargs=7, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.child:
        verb, engine, files, out, workers, count, cores = known.child
        if int(cores):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
        in_child(verb, engine, files, out, int(workers), int(count))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        pictures, videos = both_kinds(Path(name), known.files, known.clips, known.seconds)
        if known.scaling:
            ways = [("local", 1), ("local", 2)]
            works = [("prepare", pictures), ("prepare", videos)]
        else:
            ways = [(engine, known.workers) for engine in ("local", "ray")]
            works = [("prepare", pictures), ("detect", pictures), ("prepare", videos)]
        rows = [
            row
            for verb, files in works
            for row in compare(verb, files, ways, known.rounds, pinned=known.scaling)
        ]
    for row in rows:
        print(f"| {row['what']} | {row['value']:,.3g} {row['unit']} | {row['ratio']:.2f} |")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
