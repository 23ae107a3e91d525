"""Pictures and clips that tests share; made here or shipped by a dependency, never fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import matplotlib
import numpy as np
import pytest


@pytest.fixture(scope="session")
def portrait_file() -> Path:
    """A photograph with one face that matplotlib ships (US Navy, public domain)."""
    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


@pytest.fixture(scope="session")
def portrait(portrait_file: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    return cv2.cvtColor(cv2.imread(str(portrait_file)), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="session")
def clip_file(portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A factory of short clips in which the portrait drifts slowly to the right."""

    def make(
        name: str = "clip.mp4",
        *,
        frames: int = 30,
        fps: int = 10,
        size: tuple[int, int] = (320, 320),
        codec: str = "libx264",
        face: bool = True,
    ) -> Path:
        path = tmp_path_factory.mktemp("clip") / name
        height, width = size
        picture = cv2.resize(portrait, (width, round(portrait.shape[0] * width / portrait.shape[1])))
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            for i in range(frames):
                image = (
                    np.roll(picture[:height], i, axis=1)
                    if face
                    else np.full((height, width, 3), 4 * i % 255, np.uint8)
                )
                for packet in stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                ):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path

    return make
