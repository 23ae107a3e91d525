"""A crop with landmarks laid out like a face, and files of such crops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unseen.types import FaceRecord, FaceSample, Label


def face_points(side: float = 200) -> np.ndarray:
    """(81, 2) float32: an upright face, symmetric about the middle of a square picture of `side` pixels."""
    jaw = [(-np.cos(a), 0.1 + 0.9 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
    brow = [(x, -0.45 - 0.1 * np.sin(np.pi * i / 4)) for i, x in enumerate(np.linspace(-0.75, -0.2, 5))]
    brows = brow + [(-x, y) for x, y in reversed(brow)]
    bridge = [(0.0, y) for y in np.linspace(-0.25, 0.2, 4)]
    nostrils = [(x, 0.3) for x in np.linspace(-0.2, 0.2, 5)]
    eye = [(-0.6, -0.2), (-0.5, -0.27), (-0.4, -0.27), (-0.3, -0.2), (-0.4, -0.14), (-0.5, -0.14)]
    other = [(-eye[i][0], eye[i][1]) for i in (3, 2, 1, 0, 5, 4)]
    upper = [(-0.35 * np.cos(a), 0.6 - 0.1 * np.sin(a)) for a in np.linspace(0, np.pi, 7)]
    lower = [(0.35 * np.cos(a), 0.6 + 0.12 * np.sin(a)) for a in np.linspace(0, np.pi, 7)[1:-1]]
    inner = [(x, 0.58) for x in np.linspace(-0.25, 0.25, 5)] + [(x, 0.62) for x in (0.13, 0, -0.13)]
    forehead = [(-0.95 * np.cos(a), -0.35 - 0.6 * np.sin(a)) for a in np.linspace(0, np.pi, 13)]
    points = [*jaw, *brows, *bridge, *nostrils, *eye, *other, *upper, *lower, *inner, *forehead]
    return ((side - 1) / 2 + 0.25 * side * np.array(points)).astype(np.float32)


@pytest.fixture
def points() -> np.ndarray:
    return face_points()


@pytest.fixture
def crop(portrait: np.ndarray) -> np.ndarray:
    """(200, 200, 3) uint8 RGB, with texture everywhere."""
    return np.ascontiguousarray(cv2.resize(portrait[:512, :512], (200, 200), interpolation=cv2.INTER_AREA))


@pytest.fixture
def sample(crop: np.ndarray, points: np.ndarray) -> FaceSample:
    return FaceSample(crop, Label.REAL, FaceRecord("crops/a.jpg", label=Label.REAL), landmarks=points)


@pytest.fixture
def make_records(crop: np.ndarray, tmp_path: Path) -> Callable[[int, int], list[FaceRecord]]:
    """A function (real, fake) -> records with files of their own."""

    def make(real: int, fake: int) -> list[FaceRecord]:
        records = []
        for i in range(real + fake):
            path = tmp_path / f"{i}.jpg"
            cv2.imwrite(str(path), np.roll(crop, 5 * i, axis=1)[..., ::-1])
            label = Label.REAL if i < real else Label.FAKE
            records.append(FaceRecord(str(path), label=label, landmarks=face_points()))
        return records

    return make
