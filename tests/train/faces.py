"""Faces to learn from: one photograph, coloured into a few people; no face finder is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from unseen.data.manifest import Manifest
from unseen.types import FaceRecord, Label


def ellipse_landmarks(center: tuple[float, float], size: tuple[float, float]) -> np.ndarray:
    """81 points that lie about where a face's would: enough for alignment and for masks."""
    points = np.zeros((81, 2), np.float32)
    angle = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([np.cos(angle), 0.9 * np.sin(angle)], 1)  # jaw, from left to right
    points[17:22] = [(-0.75 + 0.13 * i, -0.35) for i in range(5)]
    points[22:27] = [(0.23 + 0.13 * i, -0.35) for i in range(5)]
    points[27:31] = [(0, -0.2 + 0.12 * i) for i in range(4)]
    points[31:36] = [(-0.16 + 0.08 * i, 0.25) for i in range(5)]
    ring = [(-0.16, 0), (-0.06, -0.06), (0.06, -0.06), (0.16, 0), (0.06, 0.06), (-0.06, 0.06)]
    points[36:42] = [(-0.42 + x, -0.15 + y) for x, y in ring]
    points[42:48] = [(0.42 + x, -0.15 + y) for x, y in ring]
    turn = np.linspace(np.pi, 3 * np.pi, 13)[:-1]
    points[48:60] = np.stack([0.32 * np.cos(turn), 0.5 + 0.14 * np.sin(turn)], 1)
    turn = np.linspace(np.pi, 3 * np.pi, 9)[:-1]
    points[60:68] = np.stack([0.24 * np.cos(turn), 0.5 + 0.06 * np.sin(turn)], 1)
    turn = np.linspace(np.pi, 2 * np.pi, 13)
    points[68:81] = np.stack([np.cos(turn), 0.8 * np.sin(turn) - 0.2], 1)
    return (points * np.float32(size) + np.float32(center)).astype(np.float32)


@pytest.fixture(scope="session")
def faces_file(portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 12 crops of 6 made-up people, real only, split into train and val (and one test row)."""
    folder = tmp_path_factory.mktemp("faces")
    face = portrait[40:360, 100:420]
    rng = np.random.default_rng(0)
    records = []
    for i in range(13):
        tint = rng.uniform(0.7, 1.0, 3)
        picture = np.clip(face * tint + rng.normal(0, 4, face.shape), 0, 255).astype(np.uint8)
        path = folder / f"{i:02d}.png"
        cv2.imwrite(str(path), picture[..., ::-1])
        split = "test" if i == 12 else "val" if i >= 8 else "train"
        records.append(
            FaceRecord(
                str(path),
                Label.REAL,
                dataset="made",
                video=f"clip{i}",
                method="real",
                split=split,
                identity=f"person{i // 2}",
                landmarks=ellipse_landmarks((150, 150), (80, 100)),
                box=np.float32([70, 50, 230, 250]),
            )
        )
    manifest = Manifest.from_records(records, folder)
    manifest.write(folder / "faces.parquet")
    return folder / "faces.parquet"


@pytest.fixture
def tiny(faces_file: Path) -> Callable[..., dict]:
    """A recipe, as a mapping, of a network that learns in seconds; sections given are merged in."""

    def make(**sections: dict | str | int | None) -> dict:
        recipe: dict = {
            "detector": {
                "backbone": {
                    "class_path": "TimmBackbone",
                    "init_args": {"name": "test_efficientnet", "image_size": 64, "drop_rate": 0.2},
                },
                "head": {"class_path": "BinaryHead", "init_args": {"dropout": 0.2}},
            },
            "data": {
                "manifest": str(faces_file),
                "transforms": [{"class_path": "AlignFace", "init_args": {"size": 64}}, "Flip"],
                "sampler": {
                    "class_path": "Balanced",
                    "init_args": {"batch_size": 4, "synthesise": {"class_path": "SelfBlend"}},
                },
                "workers": 0,
            },
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}},
            "trainer": {"max_steps": 4, "accelerator": "cpu", "val_every": 2, "log_every": 1, "graph": False},
        }
        for name, section in sections.items():
            if isinstance(section, dict) and isinstance(recipe.get(name), dict):
                recipe[name] = {**recipe[name], **section}
            else:
                recipe[name] = section
        return recipe

    return make
