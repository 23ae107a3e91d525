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
