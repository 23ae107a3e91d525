"""The local engine beside Ray's over the same files: `python benchmarks/engines.py --files 400`.

`prepare` and `detect`, in a new process each, the same number of workers. What an engine costs is counted in
seconds of the clock and in seconds of processor of all its processes (Ray's daemons, actors and the workers
inside them), which other work on the machine changes less. The start (processes, imports, models, the first
files) is told apart: a rate is that of the files behind the first ones. Ratios are of medians over rounds in
which the engines take turns.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import detect

MARK = "UNSEEN_BENCHMARK"  # every process of a run inherits it
TICK = os.sysconf("SC_CLK_TCK")


class Processes:
    """Adds up the processor time of all processes that carry a mark, the ended ones included."""

    def __init__(self, mark: str) -> None:
        self.mark = f"{MARK}={mark}".encode()
        self.ours: dict[int, bool] = {}
        self.spent: dict[int, float] = {}
        self.seen: list[tuple[float, float]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Processes:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()

    def at(self, moment: float) -> float:
        """Seconds of processor that were spent until a moment."""
        times, spent = zip(*self.seen, strict=True)
        return float(np.interp(moment, times, spent))

    def _watch(self) -> None:
        while not self.over.wait(0.05):
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    self._look(int(entry.name))
            self.seen.append((time.time(), sum(self.spent.values())))

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


def in_child(verb: str, engine: str, files: str, out: str, workers: int) -> None:
    """Run a verb and print when each file was done."""
    times: list[float] = []

    def report(done: int, total: int) -> None:
        times.append(time.time())

    if verb == "prepare":
        from unseen.prepare.inputs import list_inputs
        from unseen.prepare.pool import work_off as here
        from unseen.prepare.run import prepare
        from unseen.scale.ray import work_off as there

        work = there if engine == "ray" else here
        prepare(list_inputs([files]), out, workers=workers, engine=work, report=report)
    else:
        from unseen.detect.batch import Settings, inspect_folder
        from unseen.detect.cluster import on_cluster

        work_there = on_cluster(actors=workers) if engine == "ray" else None
        settings = Settings(jobs=workers)
        inspect_folder([files], Path(out) / "verdicts.parquet", settings, work=work_there, report=report)
    print(json.dumps(times[1:]))  # the first report comes before the first file


def measure(verb: str, engine: str, files: Path, workers: int) -> dict[str, float]:
    """Run a verb over a folder; return its start, and seconds of clock and processor a file behind it."""
    with tempfile.TemporaryDirectory() as out:
        began, mark = time.time(), str(time.monotonic_ns())
        words = ["--child", verb, engine, str(files), out, str(workers)]
        with Processes(mark) as processes:
            run = subprocess.run(
                [sys.executable, __file__, *words],
                env={**os.environ, MARK: mark},
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            ended = time.time()
            time.sleep(0.2)
    times = json.loads(run.stdout.splitlines()[-1])
    first = max(2 * workers, len(times) // 10)  # so that every worker has its model
    files_then = len(times) - first
    warm, last = times[first - 1], times[-1]
    return {
        "files": len(times),
        "clock": (last - warm) / files_then,
        "processor": (processes.at(last) - processes.at(warm)) / files_then,
        "start_clock": warm - began - first * (last - warm) / files_then,
        "start_processor": processes.at(warm)
        - first * (processes.at(last) - processes.at(warm)) / files_then,
        "all_clock": ended - began,
        "all_processor": processes.seen[-1][1],
    }


def compare(verb: str, files: Path, workers: int, rounds: int) -> list[dict[str, Any]]:
    """Measure both engines in turn."""
    found: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    for _ in range(rounds):
        for engine, runs in found.items():
            runs.append(measure(verb, engine, files, workers))
    kind = f"{verb}, {int(found['local'][0]['files'])} {files.name}, {workers} workers"
    rows: list[dict[str, Any]] = []
    say: list[tuple[str, str, Callable[[float], float], str]] = [
        ("files a second of processor", "processor", lambda v: 1 / v, "files/s"),
        ("files a second of the clock", "clock", lambda v: 1 / v, "files/s"),
        ("start, of processor", "start_processor", float, "s"),
        ("start, of the clock", "start_clock", float, "s"),
        ("all of it, of processor", "all_processor", float, "s"),
        ("all of it, of the clock", "all_clock", float, "s"),
    ]
    for what, key, turn, unit in say:
        base = turn(statistics.median(run[key] for run in found["local"]))
        for engine, runs in found.items():
            value = turn(statistics.median(run[key] for run in runs))
            rows.append(
                {"what": f"{kind}: {what}, {engine}", "value": value, "unit": unit, "ratio": value / base}
            )
    return rows


def measure_all(
    count: int, videos: int, workers: int, rounds: int, seconds: int = 10
) -> list[dict[str, Any]]:
    """Both verbs over photographs, and `prepare` over clips."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs(folder / "photographs", count)
        rows = compare("prepare", folder / "photographs", workers, rounds)
        rows += compare("detect", folder / "photographs", workers, rounds)
        if videos:
            clips(folder / "clips", videos, seconds)
            rows += compare("prepare", folder / "clips", workers, rounds)
    return rows


def main() -> None:
    """Print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=10, help="of a clip")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    known = parser.parse_args()
    if known.child:
        verb, engine, files, out, workers = known.child
        in_child(verb, engine, files, out, int(workers))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    rows = measure_all(known.files, known.clips, known.workers, known.rounds, known.seconds)
    for row in rows:
        print(f"| {row['what']} | {row['value']:,.3g} {row['unit']} | {row['ratio']:.2f} |")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
