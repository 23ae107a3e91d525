"""A folder of synthetic people with their manifest, as `unseen prepare` would leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unseen.data.manifest import Manifest
from unseen.forge.family import Portrait
from unseen.forge.synthetic import synthesise
from unseen.media.crop import encode_crop
from unseen.types import FaceRecord, Label

PEOPLE = 10


@pytest.fixture(scope="session")
def people() -> list[Portrait]:
    """Ten synthetic people, one picture each."""
    return [synthesise(seed, size=256) for seed in range(PEOPLE)]


@pytest.fixture(scope="session")
def faces(people: list[Portrait], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of their crops."""
    root = tmp_path_factory.mktemp("faces")
    records = []
    for portrait in people:
        path = root / f"{portrait.identity}.jpg"
        path.write_bytes(encode_crop(portrait.image))
        records.append(
            FaceRecord(
                str(path),
                label=Label.REAL,
                dataset="synthetic",
                video=portrait.identity,
                method="real",
                identity=portrait.identity,
                landmarks=portrait.landmarks,
            )
        )
    Manifest.from_records(records, root).write(root / "manifest.parquet")
    return root / "manifest.parquet"
