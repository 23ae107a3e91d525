from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from unseen.data.manifest import Manifest
from unseen.forge.families import FAMILIES
from unseen.forge.sample import film, sample_splits, write_sample
from unseen.forge.synthetic import Scene
from unseen.media.reader import open_media
from unseen.types import InputError, Label


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample"), people=6, workers=1)


def test_a_sample_is_a_whole_bench(sample: Path) -> None:
    manifest = Manifest.read(sample)
    manifest.check(needs=("label", "split", "identity", "landmarks"))
    records = manifest.records()
    reals = [r for r in records if r.label is Label.REAL]
    assert len(reals) == 12 and {r.method for r in reals} == {"real"}
    assert {r.method for r in records} == {"real", *FAMILIES}
    for method in FAMILIES:  # most of what was tried is kept
        assert sum(r.method == method for r in records) >= 4
    assert {r.split for r in records} == {"train", "val", "test"}
    assert all(r.landmarks is not None and r.landmarks.shape == (81, 2) for r in records)


def test_nobody_is_in_two_splits(sample: Path) -> None:
    frame = Manifest.read(sample).frame
    where: dict[str, set[str]] = {}
    for identity, donor, split in frame.select("identity", "donor", "split").rows():
        for who in (identity, donor):
            if who:
                where.setdefault(who, set()).add(split)
    assert len(where) == 6 and all(len(splits) == 1 for splits in where.values())


def test_a_sample_is_small_and_has_clips(sample: Path) -> None:
    folder = sample.parent
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert size < 5_000_000
    for name in ("real", "fake"):
        clip = open_media(folder / "clips" / f"{name}.mp4")
        assert clip.kind == "video" and 1.0 <= clip.duration <= 2.0
        assert (clip.width, clip.height) == (256, 256)
    assert len(list((folder / "photographs").iterdir())) == 12


def test_a_second_call_adds_nothing(sample: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in sample.parent.rglob("*.jpg")}
    assert write_sample(sample.parent, people=6, workers=1) == sample
    assert {p: p.stat().st_mtime_ns for p in sample.parent.rglob("*.jpg")} == before


def test_splits() -> None:
    assert sample_splits(5) == ["train"] * 5
    assert sample_splits(6) == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert sample_splits(20).count("test") == 4


def test_people_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 people"):
        write_sample(tmp_path, people=1)


def test_film_moves_smoothly() -> None:
    frames = list(film(2, seconds=0.5, size=128, scene=Scene(noise=0.0)))
    assert len(frames) == 8 and frames[0].shape == (128, 128, 3)
    steps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    far = np.abs(frames[0].astype(int) - frames[-1]).mean()
    assert 0 < max(steps) < 12 and far > 0.5
