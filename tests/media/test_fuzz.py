"""Damaged files: never an exception but `InputError`, never a crash, never a hang.

`UNSEEN_MUTATIONS=5000 pytest tests/media/test_fuzz.py` looks longer than the usual 200 mutations.
"""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unseen.media.reader import open_media
from unseen.types import InputError

MUTATIONS = int(os.environ.get("UNSEEN_MUTATIONS", "200"))
PATIENCE = 20.0  # seconds a file; an undamaged one takes about 0.05
EXTREMES = (0, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF)


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of six ways."""
    damaged = bytearray(data)
    kind, at = rng.integers(6), int(rng.integers(len(data) - 8))
    if kind == 0:  # cut off
        del damaged[at:]
    elif kind == 1:  # flipped bytes anywhere
        for i in rng.integers(len(data), size=rng.integers(1, 20)):
            damaged[i] = rng.integers(256)
    elif kind == 2:  # a damaged header
        for i in rng.integers(min(len(data), 200), size=rng.integers(1, 8)):
            damaged[i] = rng.choice([0, 255, 127, 128, rng.integers(256)])
    elif kind == 3:  # a missing piece
        del damaged[at : at + int(rng.integers(1, 400))]
    elif kind == 4:  # a piece too many
        damaged[at:at] = rng.bytes(int(rng.integers(1, 300)))
    else:  # an absurd number
        order = "big" if rng.integers(2) else "little"
        damaged[at : at + 4] = int(rng.choice(EXTREMES)).to_bytes(4, order)
    return bytes(damaged)


def read_all(connection: Connection) -> None:
    """Read each file named through the pipe, and answer what came of it."""
    while (path := connection.recv()) is not None:
        try:
            for frame in open_media(path).frames(6):
                assert frame.image.dtype == np.uint8 and frame.image.ndim == 3 and frame.image.size
            connection.send("read")
        except InputError as error:
            connection.send(error.reason)
        except BaseException as error:
            connection.send(f"BAD {error!r}")


def seeds(portrait: np.ndarray, clip_file: Callable[..., Path]) -> dict[str, bytes]:
    small = Image.fromarray(portrait).resize((96, 112))
    turning = [small.rotate(10 * i) for i in range(5)]
    files = {}
    for form in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        buffer = io.BytesIO()
        small.save(buffer, form)
        files[form] = buffer.getvalue()
    for form in ("GIF", "WEBP"):
        buffer = io.BytesIO()
        turning[0].save(buffer, form, save_all=True, append_images=turning[1:], duration=100)
        files["moving " + form] = buffer.getvalue()
    for name, codec in (
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx"),
        ("a.mpg", "mpeg1video"),
        ("a.avi", "mpeg4"),
    ):
        files[name] = clip_file(name, frames=20, fps=25, size=(96, 96), codec=codec).read_bytes()
    return files


@pytest.mark.timeout(60 + MUTATIONS)
def test_damaged_files_raise_input_error_or_read(
    portrait: np.ndarray, clip_file: Callable[..., Path], tmp_path: Path
) -> None:
    files = seeds(portrait, clip_file)
    # In a process of its own, so that a crash or a hang in a decoder is seen instead of suffered.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=read_all, args=(theirs,), daemon=True)
    worker.start()
    theirs.close()
    rng = np.random.default_rng(2)
    outcomes = []
    path = tmp_path / "damaged.bin"
    try:
        for name, content in files.items():
            path.write_bytes(content)
            ours.send(path)
            assert ours.poll(60) and ours.recv() == "read", f"undamaged {name}"
        for i in range(MUTATIONS):
            name = list(files)[i % len(files)]
            path.write_bytes(mutate(files[name], rng))
            ours.send(path)
            where = f"mutation {i} of {name}, kept as {path}"
            assert ours.poll(PATIENCE), f"hung for {PATIENCE} s: {where}"
            try:
                outcome = ours.recv()
            except EOFError:
                worker.join(5)
                pytest.fail(f"crashed with exit code {worker.exitcode}: {where}")
            assert not outcome.startswith("BAD"), f"{outcome}: {where}"
            outcomes.append(outcome)
        ours.send(None)
    finally:
        worker.join(5)
        worker.kill()
    # The damage was real, and not so gross that nothing got past the headers.
    assert 0.1 * MUTATIONS < outcomes.count("read") < 0.9 * MUTATIONS
