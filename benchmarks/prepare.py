"""Frames a second of the default face finder against dlib (HOG detector, 68 points), on the same frames.

    uv run --extra dlib python benchmarks/prepare.py [FRAMES...]

Both run in this process with one thread, after one warm-up frame; dlib upsamples once, as the benchmarks of
the field do. Without FRAMES: the example portrait on canvases of 1280x720 and 640x360.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from unseen.media.faces import face_finder

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"


def rgb(path: Path) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def canvases(width: int, height: int, count: int = 8) -> list[np.ndarray]:
    """Return frames of a given size with the portrait at different places."""
    portrait = rgb(PORTRAIT)
    scale = 0.9 * height / portrait.shape[0]
    portrait = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frames = []
    for i in range(count):
        frame = np.full((height, width, 3), 110, np.uint8)
        x = i * (width - portrait.shape[1]) // count
        frame[: portrait.shape[0], x : x + portrait.shape[1]] = portrait
        frames.append(frame)
    return frames


def rate(find: Callable[[np.ndarray], list], frames: list[np.ndarray]) -> tuple[float, int]:
    """Return frames a second and how many faces were found."""
    find(frames[0])
    start = time.perf_counter()
    found = sum(len(find(frame)) for frame in frames)
    return len(frames) / (time.perf_counter() - start), found


def main() -> None:
    """Print one row a set of frames."""
    files = [rgb(Path(name)) for name in sys.argv[1:]]
    sets = {"given": files} if files else {"1280x720": canvases(1280, 720), "640x360": canvases(640, 360)}
    cv2.setNumThreads(1)
    ours, theirs = face_finder("default", threads=1), face_finder("dlib", threads=1)
    print("| frames | finder | frames/s | faces | times dlib |\n|---|---|---|---|---|")
    for name, frames in sets.items():
        base, base_found = rate(theirs, frames)
        fast, found = rate(ours, frames)
        print(f"| {name} | dlib HOG (upsample 1) + 68 points | {base:.1f} | {base_found} | 1.0 |")
        print(f"| {name} | default (81 points) | {fast:.1f} | {found} | {fast / base:.1f} |")


if __name__ == "__main__":
    main()
