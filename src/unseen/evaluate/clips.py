"""Corrupted copies of whole clips, to be prepared anew: what befalls a video before a face is found."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unseen.evaluate.codecs import write_clip
from unseen.evaluate.corruptions import LEVELS, check_corruption, corrupt
from unseen.media.frames import Limits
from unseen.media.video import index_video, read_video
from unseen.types import InputError

__all__ = ["NEUTRAL", "corrupt_clip"]

NEUTRAL = 12  # constant rate factor of a clip whose corruption is another one: hardly visible


def corrupt_clip(
    source: Path,
    out: Path,
    name: str,
    level: int,
    *,
    seed: int = 0,
    limits: Limits | None = None,
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Write a corrupted copy of a clip as MP4, H.264 or H.265, without its sound.

    `h264` and `h265` compress the clip as a whole, with prediction between frames. `reshare` makes it smaller
    and compresses it; its JPEG is for single pictures and left out. Everything else is done frame by frame
    and written at a constant rate factor of 12; noise and blocks differ from frame to frame.

    Args:
        source: The clip; it is only read.
        out: The copy; must not be the source.
        name: In `corruptions.NAMES`.
        level: 1 to 5.
        seed: With the clip's name, the level and the frame it decides what is drawn.
        limits: What the clip may ask of this machine.
        report: Called with frames done and in all.

    Returns:
        Frames written.

    Raises:
        InputError: The clip cannot be read, source and copy are one file, or the corruption is unknown.
    """
    check_corruption(name, level)
    if out.resolve() == source.resolve():
        raise InputError(f"{out}: is the clip itself; give another folder", reason="exists")
    index = index_video(source, limits or Limits())
    remarks: list[str] = []
    codec, crf, share = "h264", NEUTRAL, 1.0
    if name in ("h264", "h265"):
        codec, crf = name, LEVELS[name][level - 1]
    elif name == "reshare":
        share, crf, _ = LEVELS[name][level - 1]

    def frames() -> Iterator[tuple[NDArray[np.uint8], int]]:
        import cv2

        for frame in read_video(source, index, np.arange(len(index.stamps)), remarks):
            image = frame.image
            if share < 1:
                size = max(2, round(image.shape[1] * share)), max(2, round(image.shape[0] * share))
                image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            elif name not in ("h264", "h265"):
                parts = [
                    seed,
                    level,
                    zlib.crc32(name.encode()),
                    zlib.crc32(source.name.encode()),
                    frame.index,
                ]
                image = corrupt(image, name, level, np.random.default_rng(parts))
            yield image, int(index.stamps[frame.index] - index.stamps[0])

    step = float(np.median(np.diff(index.times))) if len(index.times) > 1 else 0.04
    total = len(index.stamps)
    written = write_clip(
        out,
        frames(),
        time_base=index.time_base,
        rate=Fraction(1 / max(step, 1e-3)).limit_denominator(1001),
        codec=codec,
        crf=crf,
        report=None if report is None else lambda done: report(done, total),
    )
    if not written:
        raise InputError(f"{source.name}: none of its {total} frames can be decoded", reason="no_frames")
    return written
