"""A row a file, whatever a file does to the process that reads it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from unseen.cli import main
from unseen.detect import batch
from unseen.detect.batch import Settings, Summary, inspect_folder, list_media
from unseen.detect.table import COLUMNS, row_of, write_table
from unseen.detect.verdict import Verdict
from unseen.types import InputError


def fake_row(path: str, settings: Settings) -> dict[str, object]:
    """Stands in for an inspection, in a worker: what the file's name says, happens."""
    name = Path(path).stem
    if name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("hang"):
        time.sleep(60)
    if name.startswith("slow"):
        time.sleep(0.2)
    verdict = "fake" if name.startswith("fake") else "real"
    return row_of(Verdict(path, verdict, "below_threshold", probability=0.2, sha256=name, model="m"))  # type: ignore[arg-type]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes, the journal and the table are tested here, not the network."""
    monkeypatch.setattr(batch, "inspect_one", fake_row)
    monkeypatch.setattr(batch, "check_model", lambda settings: None)


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(name.encode())
    return folder


def names(path: Path) -> list[str]:
    return [Path(name).name for name in pl.read_parquet(path)["file"]]


def test_one_bad_file_costs_one_row(stand_in: None, tmp_path: Path) -> None:
    folder = files(tmp_path / "in", "a.jpg", "crash.jpg", "deep/fake.mp4", "hang.jpg", "z.png", "notes.txt")
    out = tmp_path / "out.parquet"
    found = inspect_folder([folder], out, Settings(jobs=2, seconds=4.0))
    rows = {Path(row["file"]).name: row for row in pl.read_parquet(out).to_dicts()}
    assert names(out) == ["a.jpg", "crash.jpg", "fake.mp4", "hang.jpg", "z.png"]
    assert [rows[n]["reason"] for n in ("crash.jpg", "hang.jpg")] == ["crashed", "timeout"]
    assert [rows[n]["verdict"] for n in rows] == ["real", "error", "fake", "error", "real"]
    assert pl.read_parquet(out).columns == list(COLUMNS)
    assert (found.files, found.fresh, found.verdicts["error"]) == (5, 5, 2)


def test_resume_does_what_is_missing_and_what_changed(stand_in: None, tmp_path: Path) -> None:
    folder = files(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    out, journal = tmp_path / "out.parquet", tmp_path / "out.parquet.journal.jsonl"
    inspect_folder([folder], out, Settings())
    with pytest.raises(InputError, match="--resume"):
        inspect_folder([folder], out, Settings())
    assert inspect_folder([folder], out, Settings(), resume=True).fresh == 0
    files(folder, "d.jpg")
    (folder / "b.jpg").write_bytes(b"longer than before")
    (folder / "a.jpg").unlink()
    found = inspect_folder([folder, folder / "d.jpg"], out, Settings(), resume=True)
    assert found.fresh == 2
    assert names(out) == ["b.jpg", "c.jpg", "d.jpg", "a.jpg"]  # what is gone keeps its row, at the end
    # A kill in the middle of a line, and the table lost.
    out.unlink()
    text = journal.read_bytes()
    journal.write_bytes(text[:-20])
    assert inspect_folder([folder], out, Settings(), resume=True).fresh == 1
    assert sorted(names(out)) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_other_settings_are_refused_by_name(stand_in: None, make_run, tmp_path: Path) -> None:
    folder, out = files(tmp_path / "in", "a.jpg"), tmp_path / "out.parquet"
    run = make_run()
    inspect_folder([folder], out, Settings(str(run)))
    with pytest.raises(InputError, match="frames was 32, is 8"):
        inspect_folder([folder], out, Settings(str(run), frames=8), resume=True)
    facts = run / "run.json"
    facts.write_text(facts.read_text() + "\n")  # another model in the same place
    with pytest.raises(InputError, match="model was"):
        inspect_folder([folder], out, Settings(str(run)), resume=True)


def test_what_cannot_be_written_or_found_is_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = files(tmp_path / "in", "a.txt")
    for words, said in [
        (["--out", str(tmp_path / "x.xlsx")], "ends in .parquet, .csv, .jsonl"),
        (["--out", str(tmp_path / "no" / "x.csv")], "make it first"),
        (["--out", str(tmp_path / "x.csv")], "no pictures or videos"),
        (["--out", str(tmp_path / "x.csv"), "--json"], "writes a table"),
        (["--jobs", "2"], "belong to --out"),
    ]:
        assert main(["detect", str(folder), *words]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_other_tables_hold_the_same(suffix: str, tmp_path: Path) -> None:
    verdict = Verdict('=cmd("x")\udcff.jpg', "error", "missing", message="a, b")
    path = tmp_path / f"out.{suffix}"
    write_table(path, [row_of(verdict)])
    if suffix == "csv":
        (row,) = csv.DictReader(path.open(encoding="utf-8"))
        assert row["file"].startswith("'=cmd")  # no formula for a spreadsheet
    else:
        row = json.loads(path.read_text())
        assert row["file"] == verdict.file
    assert list(row) == list(COLUMNS) and row["message"] == "a, b"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_listing_is_lazy_sorted_and_follows_no_loops(tmp_path: Path) -> None:
    folder = files(tmp_path / "in", "b.jpg", "a/z.mp4", ".hidden/x.jpg", ".y.jpg", "c.TXT", "a.PNG")
    (folder / "loop").symlink_to(folder)
    assert [p.relative_to(folder).as_posix() for p in list_media([folder])] == ["a/z.mp4", "a.PNG", "b.jpg"]
    assert [p.name for p in list_media([str(folder / "*.jpg"), "gone.bin"])] == ["b.jpg", "gone.bin"]


def test_what_may_not_be_looked_at_is_listed_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files(tmp_path / "in", "a/x.jpg", "b/y.jpg")
    scan = os.scandir

    def closed(place: Path):
        if Path(place).name == "a":
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr("unseen.detect.batch.os.scandir", closed)
    unnameable = str(tmp_path / ("a" * 300))
    assert list(list_media([unnameable, folder])) == [Path(unnameable), folder / "a", folder / "b/y.jpg"]


def test_lists_and_addresses_become_files_too(stand_in: None, tmp_path: Path) -> None:
    import fsspec

    folder = files(tmp_path / "in", "a.jpg", "deep/b.mp4")
    (folder / "list.csv").write_text("path,label\ndeep/b.mp4,0\n")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/batch", recursive=True)
    assert [p.name for p in list_media([folder / "list.csv", folder / "a.jpg"])] == ["b.mp4", "a.jpg"]
    far = "memory://bucket/batch"
    out = tmp_path / "out.parquet"
    inspect_folder([far, Path(f"{far}/a.jpg")], out, Settings())  # one of them twice
    assert pl.read_parquet(out)["file"].to_list() == [f"{far}/a.jpg", f"{far}/deep/b.mp4"]
    memory.pipe("/bucket/batch/a.jpg", b"another")
    assert inspect_folder([f"{far}/*.jpg", far], out, Settings(), resume=True).fresh == 1
    for given in (tmp_path / "in" / "*.png", "memory://bucket/none", files(tmp_path / "empty")):
        with pytest.raises(InputError, match=r"no pictures or videos|no file matches") as error:
            list(list_media([folder, given]))
        assert error.value.reason == "missing"


def test_one_listing_serves_words_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = files(tmp_path / "in", "b.jpg", "a/z.png", ".hidden/x.jpg")
    assert main(["detect", str(folder), "--json"]) == 1
    told = [Path(one["file"]) for one in json.loads(capsys.readouterr().out)]
    assert told == list(list_media([folder])) == [folder / "a/z.png", folder / "b.jpg"]


def test_a_summary_counts_reasons() -> None:
    found = Summary()
    for row in ({"verdict": "real", "reason": "below_threshold"}, {"verdict": "error", "reason": "timeout"}):
        found.count(row)
    assert (found.files, dict(found.reasons)) == (2, {"timeout": 1})


@pytest.mark.slow
def test_killed_and_resumed_nothing_is_lost_and_nothing_twice(portrait: np.ndarray, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out.parquet"
    folder.mkdir()
    small = cv2.resize(portrait, (256, 300))
    for i in range(12):
        assert cv2.imwrite(str(folder / f"{i:02}.jpg"), np.roll(small, i, 1)[..., ::-1])
    (folder / "99.jpg").write_bytes(b"no picture")
    words = [sys.executable, "-m", "unseen", "detect", str(folder), "--out", str(out), "--frames", "4"]
    words += ["--jobs", "1", "--engine", "onnx"]  # the embedded model, which starts without torch
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    journal = tmp_path / "out.parquet.journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = journal.read_bytes().count(b"\n") - 1
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 1  # one file is no picture
    assert f"13 files, {13 - kept} inspected now" in done.stdout
    assert names(out) == sorted(path.name for path in folder.iterdir())
    table = pl.read_parquet(out)
    assert table["sha256"].n_unique() == 13 and table["verdict"].to_list()[-1] == "error"
    assert table["probability"].null_count() == 1
