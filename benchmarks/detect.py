"""How long `unseen detect` takes from start-up to verdict, and how much memory, for a clip and a photograph.

    python benchmarks/detect.py [--run default]

The alternative in the same run is the torch engine (`--engine torch`), which imports torch and timm.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"


def make_clip(path: Path, seconds: int = 10, fps: int = 30) -> None:
    """Write a 1280x720 H.264 clip in which a portrait drifts before a noisy wall."""
    portrait = cv2.cvtColor(cv2.imread(str(PORTRAIT)), cv2.COLOR_BGR2RGB)
    portrait = cv2.resize(portrait, (round(portrait.shape[1] * 700 / portrait.shape[0]), 700))
    wall = cv2.resize(np.random.default_rng(0).integers(90, 130, (90, 160, 3), np.uint8), (1280, 720))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for i in range(seconds * fps):
            image = wall.copy()
            x = 100 + i * 500 // (seconds * fps)
            image[10:710, x : x + portrait.shape[1]] = portrait
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def measure(*arguments: str) -> tuple[float, float, float]:
    """Run `unseen detect` in a new process; return seconds, seconds of processor, peak memory in GB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "unseen", "detect", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"unseen detect {' '.join(arguments)} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main() -> None:
    """Measure both engines on both files, three times each, and print the best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="default")
    parser.add_argument("--repeats", type=int, default=3)
    known = parser.parse_args()
    print(f"{os.cpu_count()} cores\n")
    print("| file | engine | seconds | of processor | peak memory GB | times the torch engine |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip)
        for name, file in (("10 s 1280x720 clip, 32 frames", clip), ("photograph", PORTRAIT)):
            best = {}
            for engine in ("torch", "onnx"):
                runs = [
                    measure(str(file), "--engine", engine, "--run", known.run) for _ in range(known.repeats)
                ]
                best[engine] = min(runs)
            for engine, (seconds, busy, memory) in best.items():
                times = best["torch"][0] / seconds
                print(f"| {name} | {engine} | {seconds:.1f} | {busy:.1f} | {memory:.2f} | {times:.1f} |")


if __name__ == "__main__":
    main()
