"""A run knows which videos trained and chose it, and its numbers on them carry a stamp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train.faces import faces_file, tiny
from unseen.checkpoint import load_run
from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.evaluate.selection import LENGTH, MARKS, marks, stamp
from unseen.recipe import read_recipe
from unseen.train.fit import train
from unseen.train.sweep import CHOOSING, to_markdown
from unseen.types import FaceRecord

__all__ = ["faces_file", "tiny"]


def face(video: str, frame: int = 0, folder: str = "here") -> FaceRecord:
    return FaceRecord(f"/{folder}/{video}/{frame}.png", 0, "d", video, frame)


def test_marks_are_of_videos_wherever_they_lie() -> None:
    here = marks([face("a"), face("a", 1), face("b")])
    assert len(here) == 2 * LENGTH
    assert here == marks([face("b", folder="there"), face("a", 7)])
    data = {"val": {MARKS: here}, "train": {MARKS: marks([face("c")])}}
    assert stamp(data, [face("x")]) == ""
    assert stamp(data, [face("a"), face("a", 1), face("x")]).startswith("NOT A TEST: 1 of 2 videos chose")
    both = stamp(data, [face("b"), face("c"), face("x")])
    assert "1 of 3 videos chose its checkpoint or its threshold and 1 of 3 videos trained it" in both
    assert stamp({}, [face("a")]) == ""  # a run of before says nothing


def test_a_run_measured_on_its_own_validation_says_so(
    tiny: Callable[..., dict], faces_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(read_recipe(tiny(trainer={"max_steps": 2, "val_every": 2})), tmp_path / "run", progress=False)
    known = load_run(run).facts["data"]
    rows = Manifest.read(faces_file).records()
    assert stamp(known, [r for r in rows if r.split == "test"]) == ""
    words = ["evaluate", str(run), "--manifest", str(faces_file), "--workers", "0", "--device", "cpu"]
    out = ["--out", str(tmp_path / "s.parquet"), "--resamples", "0"]
    assert main([*words, *out, "--split", "val"]) == 0
    assert capsys.readouterr().out.startswith("**NOT A TEST: 4 of 4 videos chose its checkpoint")
    assert main([*words, *out]) == 0
    said = capsys.readouterr().out
    assert "NOT A TEST" not in said
    for line in ("detector: run", "crop: AlignFace(size=64", "checkpoint: the best one by AUC", "seed: 0"):
        assert f"\n{line}" in said, line
    for key in ("weights", "rows", "frames", "split", "scored with", "aggregation"):
        assert f"\n{key}: " in said
        assert f"\n{key}: unknown" not in said


def test_a_sweep_says_what_choosing_by_it_means() -> None:
    import polars as pl

    def rows(*variants: str) -> pl.DataFrame:
        facts = {"seed": 0, "level": "frame", "group": "mean", "name": "all methods", "metric": "auc"}
        return pl.DataFrame([{"variant": v, **facts, "value": 0.5} for v in variants])

    assert CHOOSING in to_markdown(rows("a", "b"))
    assert CHOOSING not in to_markdown(rows("a"))
