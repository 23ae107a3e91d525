"""A tiny benchmark of people who do not exist, made on the spot: for tests, examples and a first look."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from unseen.data.manifest import Manifest
from unseen.forge.clips import ENCODER, forge_clip
from unseen.forge.families import FAMILIES
from unseen.forge.run import forge
from unseen.forge.synthetic import Scene, synthesise
from unseen.media.crop import encode_crop
from unseen.prepare.journal import write_whole
from unseen.types import FaceRecord, InputError, Label

__all__ = ["film", "sample_splits", "write_clip", "write_sample"]

SIZE = 256  # pixels, the side of photographs and clips
SHOTS = 2  # photographs a person
QUICK = {"autoencode": {"iterations": 8, "batch": 6}}  # enough to see whose face it is


def write_sample(
    folder: str | Path, *, people: int = 8, seed: int = 0, clips: bool = True, workers: int | None = None
) -> Path:
    """Write photographs, forgeries of every family, masks, a manifest, and two clips.

    `photographs/` holds the people as a camera would have left them, for `unseen prepare`; `crops/`, `masks/`
    and `manifest.parquet` are a bench as `unseen forge` makes it, split by person; `clips/real.mp4` is a
    person talking and `clips/fake.mp4` the same with somebody else's face. The same arguments give the same
    pictures.

    Args:
        folder: Made if missing; a sample that was begun there with the same arguments is finished.
        people: How many, 2 to 500. From 6 on they are split into train, val and test.
        seed: Who they are.
        clips: Whether to make the clips.
        workers: Processes; default: one a core.

    Returns:
        The manifest's path.

    Raises:
        InputError: Too few or too many people, or a folder that holds something else.
    """
    if not 2 <= people <= 500:
        raise InputError(f"sample: {people} people; expected 2 to 500", reason="few_people")
    folder = Path(folder)
    splits = sample_splits(people)
    records = []
    for number, split in enumerate(splits):
        for shot in range(SHOTS):
            portrait = synthesise(1000 * seed + number, size=SIZE, shot=shot)
            path = folder / "photographs" / f"{portrait.identity}_{shot}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                write_whole(path, encode_crop(portrait.image))
            low, high = portrait.landmarks.min(0), portrait.landmarks.max(0)
            records.append(
                FaceRecord(
                    path=str(path.absolute()),
                    label=Label.REAL,
                    dataset="synthetic",
                    video=f"{portrait.identity}/{shot}",
                    method="real",
                    split=split,
                    identity=portrait.identity,
                    landmarks=portrait.landmarks,
                    box=np.concatenate([low, high]),
                )
            )
    faces = Manifest.from_records(records, folder)
    made = forge(faces, folder, families=FAMILIES, seed=seed, strengths=QUICK, workers=workers)
    shutil.rmtree(folder / ".networks", ignore_errors=True)  # larger than all the rest
    if clips:
        write_clips(folder / "clips", seed)
    return made.manifest


def sample_splits(people: int) -> list[str]:
    """Return the split of each person; each has two at least, so that everybody finds a donor.

    >>> sample_splits(8)
    ['train', 'train', 'train', 'train', 'val', 'val', 'test', 'test']
    """
    if people < 6:
        return ["train"] * people
    few = max(2, round(0.2 * people))
    return ["train"] * (people - 2 * few) + ["val"] * few + ["test"] * few


def write_clips(folder: Path, seed: int) -> None:
    """Write a real clip of the first person, and a forged one, through the same encoder."""
    real, fake = folder / "real.mp4", folder / "fake.mp4"
    if real.is_file() and fake.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / ".camera.mp4"
    try:
        write_clip(raw, film(1000 * seed, size=SIZE), crf=12)
        forge_clip(raw, synthesise(1000 * seed + 1, size=SIZE, scene=Scene()), "swap", fake, seed=seed)
        forge_clip(raw, None, None, real, seed=seed)
    finally:
        raw.unlink(missing_ok=True)


def film(
    seed: int, *, seconds: float = 1.5, fps: int = 16, size: int = SIZE, scene: Scene | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Film a synthetic person who talks, nods and blinks once.

    Args:
        seed: Who.
        seconds: How long.
        fps: Frames a second.
        size: Side of the picture, pixels.
        scene: Light, background and camera; drawn if None.

    Yields:
        Pictures.

    Shape:
        Each (size, size, 3) uint8 RGB.
    """
    rng = np.random.default_rng([seed, 6])
    still = Scene.draw(rng) if scene is None else scene
    # A smile repaints the whole person, so it stays; the rest only moves what is painted.
    still = replace(still, smile=0.2, roll=0.4 * still.roll)
    phase = rng.uniform(0, 2 * math.pi, 4)
    count = max(1, round(seconds * fps))
    blink = rng.uniform(0.3, 0.7) * seconds
    for n in range(count):
        t = n / fps
        swing = [
            math.sin(2 * math.pi * rate * t + p)
            for rate, p in zip((0.45, 0.6, 0.35, 2.6), phase, strict=True)
        ]
        talking = max(0.0, 0.12 + 0.16 * swing[3]) * (0.6 + 0.4 * math.sin(2 * math.pi * 0.9 * t))
        yield synthesise(
            seed,
            size=size,
            scene=replace(
                still,
                yaw=6 * swing[0],
                pitch=3 * swing[1],
                roll=still.roll + 1.5 * swing[2],
                shift=(still.shift[0] + 0.06 * swing[0], still.shift[1] + 0.03 * swing[1]),
                mouth=talking,
                blink=max(0.0, 1 - abs(t - blink) / 0.12),
                brows=0.3 * swing[1],
                grain=n,
            ),
        ).image


def write_clip(path: Path, frames: Iterator[NDArray[np.uint8]], *, fps: int = 16, crf: int = 18) -> None:
    """Write an H.264 clip.

    Args:
        path: Ends in `.mp4`.
        frames: Pictures of one even size.
        fps: Frames a second.
        crf: Constant rate factor.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf), **ENCODER})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        for number, frame in enumerate(frames):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
