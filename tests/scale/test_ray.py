"""Two workers of a local Ray cluster: the rows of the local engine, with an actor killed in the middle."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.scale import deeds
from tests.train.faces import faces_file, tiny
from unseen.checkpoint import save_run
from unseen.cli import main
from unseen.cli.show import engine_of
from unseen.evaluate.scores import ScoreTable
from unseen.prepare import run as prepare_run
from unseen.prepare.inputs import list_inputs
from unseen.prepare.pool import work_off as here
from unseen.prepare.run import prepare
from unseen.recipe import read_recipe
from unseen.types import InputError

__all__ = ["faces_file", "tiny"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "src"), before or ""])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def files(portrait_file: Path, tmp_path: Path) -> Path:
    """Three pictures of a face, one that kills, one that crashes, one that is none."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a", "b", "fatal", "crash"):
        shutil.copy(portrait_file, folder / f"{name}.jpg")
    (folder / "text.jpg").write_text("not a picture")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_actor_loses_nothing_and_doubles_nothing(
    cluster: None, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unseen.scale import ray
    from unseen.scale.ray import work_off

    with monkeypatch.context() as patch:
        patch.setattr(prepare_run, "prepare_file", deeds.prepare_and_suffer)
        patch.setattr(ray, "_SHARE", 1)  # two files a block
        made = prepare(list_inputs([files]), tmp_path / "ray", workers=2, engine=work_off)
    opened = (tmp_path / "ray" / "opened.txt").read_text().split()
    assert opened.count("fatal") == 2  # killed, and done again by another actor
    assert (made.kept, made.dropped) == (3, {"crashed": 1, "unreadable": 1})
    local = prepare(list_inputs([files]), tmp_path / "local", workers=1)
    a, b = (pl.read_parquet(m.manifest) for m in (local, made))
    same = pl.col("video") != "crash"
    assert a.filter(same).equals(b.filter(same))
    assert b.filter(~same)["reason"].to_list() == ["crashed"]
    for path in a.filter(same)["path"]:
        if path:
            assert (tmp_path / "ray" / path).read_bytes() == (tmp_path / "local" / path).read_bytes()
    again = prepare(list_inputs([files]), tmp_path / "ray", workers=2, engine=work_off)
    assert (again.files, again.skipped) == (0, 5)  # what is done stays done


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_scores_of_a_cluster_are_those_of_one_process(
    cluster: None,
    tiny: Callable[..., dict],
    faces_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = read_recipe(tiny())
    run = save_run(tmp_path / "run", recipe.detector(), recipe)
    faces = pl.read_parquet(faces_file)
    root = faces_file.parent
    faces = faces.with_columns(pl.concat_str([pl.lit(f"{root}/"), pl.col("path")]).alias("path"))
    broken = faces.with_row_index("i").with_columns(
        pl.when(pl.col("i") == 2).then(pl.lit("/no/such.png")).otherwise(pl.col("path")).alias("path"),
        # A whole batch without landmarks: each row of it says so.
        pl.when(pl.col("i") >= 8).then(None).otherwise(pl.col("landmarks")).alias("landmarks"),
    )
    broken.drop("i").write_parquet(tmp_path / "faces.parquet")
    words = ["evaluate", str(run), "--manifest", str(tmp_path / "faces.parquet"), "--split", "all"]
    words += ["--batch-size", "4", "--resamples", "0", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "here.parquet"), "--workers", "0"]) == 0
    assert main([*words, "--out", str(tmp_path / "there.parquet"), "--engine", "ray"]) == 0
    a, b = (ScoreTable.read(tmp_path / name).rows.collect() for name in ("here.parquet", "there.parquet"))
    assert a.drop("score").equals(b.drop("score"))
    assert a["score"].is_null().sum() == 1 + 5
    assert (a["score"] - b["score"]).abs().max() < 1e-5  # to the rounding of another number of threads
    assert not (tmp_path / "there.parquet.journal").exists()


def test_scoring_goes_on_with_the_batches_that_are_missing(
    tiny: Callable[..., dict], faces_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unseen.cli import scoring

    recipe = read_recipe(tiny())
    run = save_run(tmp_path / "run", recipe.detector(), recipe)
    done: list[int] = []

    def engine(function, jobs, *more, lost, workers):
        for job in reversed(jobs):  # in any order
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(job[0])
            yield job, function(job, *more)

    monkeypatch.setattr(scoring, "engine_of", lambda known: engine)
    out = tmp_path / "scores.parquet"
    words = ["evaluate", str(run), "--manifest", str(faces_file), "--split", "all", "--batch-size", "4"]
    words += ["--resamples", "0", "--device", "cpu", "--engine", "ray", "--out", str(out)]
    assert main(words) != 0 and done == [3, 2] and not out.exists()
    lines = (tmp_path / "scores.parquet.journal").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["3", "2"]
    done.clear()
    assert main(words) == 0 and sorted(done) == [0, 1]
    assert len(ScoreTable.read(out)) == 13
    other = tmp_path / "other.parquet"
    assert main([*words[:-4], "--out", str(other), "--workers", "0"]) == 0
    assert ScoreTable.read(out).rows.collect().equals(ScoreTable.read(other).rows.collect())


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_of(argparse.Namespace(engine="local", address=None)) is here
    with pytest.raises(InputError, match="--address goes with --engine ray"):
        engine_of(argparse.Namespace(engine="local", address="auto"))
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'unseen\[scale\]'"):
        list(engine_of(argparse.Namespace(engine="ray", address=None))(print, [1], lost=print))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_verdicts_of_a_cluster_are_those_of_one_process(cluster: None, files: Path, tmp_path: Path) -> None:
    (files / "fatal.jpg").unlink()
    (files / "crash.jpg").unlink()
    words = ["detect", str(files), "--jobs", "1"]
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    assert main([*words, "--out", str(here)]) == main([*words, "--out", str(there), "--engine", "ray"]) == 1
    a, b = (pl.read_parquet(path).drop("seconds") for path in (here, there))
    assert a.equals(b) and len(a) == 3
    # What the cluster left is gone on with by processes here.
    assert main([*words, "--out", str(there), "--resume"]) == 1
    assert pl.read_parquet(there).drop("seconds").equals(a)
    with pytest.raises(SystemExit):
        main(["detect", str(files), "--engine", "nowhere"])
    assert main(["detect", str(files), "--engine", "ray"]) == 2
