"""The command line's words: help without torch, exit codes, and what is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unseen.cli import main
from unseen.detect.verdict import Verdict


class Inspects:
    """Stands in for the inspector: the words are tested here, not the network."""

    def __init__(self, run: str, *, frames: int, device: str, engine: str) -> None:
        self.frames = frames

    def load(self) -> None:
        """There is nothing to load."""

    def inspect(self, file: Path) -> Verdict:
        state = file.stem.split("_")[0]
        return Verdict(str(file), state, "below_threshold", probability=0.25, threshold=0.5)  # type: ignore[arg-type]


@pytest.fixture
def inspector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unseen.detect.inspector.Inspector", Inspects)


def test_help_names_every_verb() -> None:

    said = subprocess.run(
        [sys.executable, "-m", "unseen", "--help"], capture_output=True, text=True, check=True
    )
    for verb in ("detect", "prepare", "forge", "sample", "train", "evaluate", "explain"):
        assert verb in said.stdout


@pytest.mark.parametrize(
    ("files", "more", "code"),
    [
        (["real_1.jpg", "fake_1.jpg", "inconclusive_1.jpg"], [], 0),
        (["real_1.jpg", "error_1.jpg", "fake_1.jpg"], [], 1),
        (["real_1.jpg"], ["--fail-on-fake"], 0),
        (["real_1.jpg", "fake_1.jpg"], ["--fail-on-fake"], 3),
        (["error_1.jpg", "fake_1.jpg"], ["--fail-on-fake"], 1),
    ],
)
def test_exit_codes(inspector: None, files: list[str], more: list[str], code: int) -> None:
    assert main(["detect", *files, *more]) == code


def test_an_empty_folder_stops_nothing_else(
    inspector: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "error_empty").mkdir()
    given = [str(tmp_path / "error_empty"), "real_1.jpg", str(tmp_path / "error_*.png")]
    assert main(["detect", *given, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found] == given and found[1]["verdict"] == "real"
    assert found[0]["explanation"] == f"{given[0]}: no pictures or videos in this folder or below"
    assert found[2]["explanation"] == f"{given[2]}: no file matches this pattern"


@pytest.mark.parametrize(("name", "said"), [("a.pdf", "ends in .html or .json"), ("", "is a folder")])
def test_a_report_that_cannot_be_written_is_told_before_the_work(
    inspector: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    said: str,
) -> None:
    monkeypatch.setattr(Inspects, "inspect", lambda self, file: pytest.fail("inspected"))
    assert main(["detect", "real_1.jpg", "--report", str(tmp_path / name)]) == 2
    # And nothing but the sentence: no empty line of a bar that nobody sees.
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["detect", "a.jpg", "--frames", "x"], "x; expected a whole number above zero"),
        (["prepare", "a.jpg", "--seconds-per-file", "-1"], "-1; expected seconds above zero"),
        (["forge", "m.parquet", "--seed", "-1"], "-1; expected a whole number, 0 or more"),
        (["evaluate", "default", "--workers", "1.5"], "1.5; expected a whole number, 0 or more"),
    ],
)
def test_numbers_are_read_with_what_they_may_be(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_what_the_system_refuses_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.png").write_bytes(b"")
    where = tmp_path / "file.png" / "out"
    assert main(["prepare", str(tmp_path), "--out", str(where)]) == 2
    assert f"{where}: cannot be made a folder for the crops (Not a directory)" in capsys.readouterr().err
    assert main(["sample", str(where)]) == 2
    assert capsys.readouterr().err.startswith(f"unseen: {where}")


def test_a_face_that_is_listed_twice_is_told_before_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "path,label,video,split\na.jpg,0,a,test\nb.jpg,1,b,test\na.jpg,0,a,test\n"
    (tmp_path / "m.csv").write_text(rows)
    assert main(["evaluate", "nowhere", "--manifest", str(tmp_path / "m.csv")]) == 2
    assert f"m.csv: {tmp_path}/a.jpg is listed twice; keep one of them" in capsys.readouterr().err


def test_families_may_stand_with_blanks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.parquet").touch()
    assert main(["forge", str(tmp_path), "--out", "b", "--families", "swap, foo"]) == 2
    assert "foo" in capsys.readouterr().err
    assert main(["forge", str(tmp_path), "--out", str(tmp_path / "b"), "--families", "swap, poisson"]) == 2
    assert f"a folder; expected a .parquet or .csv file; give {tmp_path}/manifest.parquet" in (
        capsys.readouterr().err
    )


def test_json_is_one_list_and_nothing_else(inspector: None, capsys: pytest.CaptureFixture[str]) -> None:
    main(["detect", "real_1.jpg", "fake_1.jpg", "--json"])
    first, second = json.loads(capsys.readouterr().out)
    assert (first["verdict"], second["verdict"]) == ("real", "fake")


def test_a_folder_is_its_media_and_a_bad_name_still_gets_its_verdict(
    inspector: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("real_a.jpg", "notes.txt", "deep/fake_b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    main(["detect", str(tmp_path), "error_gone.jpg", "--json"])
    assert [Path(v["file"]).name for v in json.loads(capsys.readouterr().out)] == [
        "fake_b.mp4",
        "real_a.jpg",
        "error_gone.jpg",
    ]


def test_a_report_needs_a_folder_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "x.jpg", "--report", str(tmp_path / "no" / "v.html")]) == 2
    assert "make it first" in capsys.readouterr().err


def test_an_unknown_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", "x", "--out", "y", "--nonsense"])
    assert stopped.value.code == 2
    assert "--nonsense" in capsys.readouterr().err


def test_no_verb_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "VERB" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    words = ["corrupt", str(file), "--corruption", "h264", "--level", "3", "--out", str(file)]
    assert main(words) == 2
    assert capsys.readouterr().err.strip().startswith(f"unseen: {file}: File exists")


def test_a_recipe_that_is_not_there_says_where_ours_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "recipes/nosuch.yaml", "--out", "x"]) == 2
    said = capsys.readouterr().err
    assert "recipes/nosuch.yaml: there is no such recipe" in said and str(Path.cwd()) in said
