"""What a new user does, on files of this repository: prepare, train, evaluate, detect, read the report."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unseen.cli import main
from unseen.evaluate.scores import ScoreTable

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray) -> Path:
    """Pictures of 'people' (one portrait under several lights), real and crudely forged, in three splits."""
    root = tmp_path_factory.mktemp("people")
    rows = ["path,label,identity,split,method,source"]
    for person, split in enumerate(["train", "train", "train", "val", "val", "test", "test"]):
        light = np.clip(portrait * (0.7 + 0.08 * person), 0, 255).astype(np.uint8)
        real = light[:, ::-1] if person % 2 else light
        fake = real.copy()
        height, width = fake.shape[:2]
        face = fake[height // 6 : height // 2, width // 3 : 2 * width // 3]
        face[:] = cv2.GaussianBlur(face, (0, 0), 3)
        for name, picture in (("real", real), ("fake", fake)):
            cv2.imwrite(str(root / f"{name}{person}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        rows += [
            f"real{person}.png,real,p{person},{split},,",
            f"fake{person}.png,fake,p{person},{split},blur,real{person}.png",
        ]
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    out = root / "crops"
    assert main(["prepare", str(root / "list.csv"), "--out", str(out), "--workers", "1"]) == 0
    return out


@pytest.fixture(scope="module")
def run(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector, trained for three steps, then resumed for three more."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    command = ["train", str(ROOT / "recipes/tiny.yaml"), "--out", str(out)]
    command += ["--data.manifest", str(crops / "manifest.parquet"), "--trainer.accelerator=cpu"]
    assert main([*command, "--trainer.max_steps=3"]) == 0
    return out


def test_the_run_folder_is_whole(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {
        "weights.safetensors",
        "graph.onnx",
        "recipe.yaml",
        "calibration.json",
        "card.md",
        "run.json",
    } <= names
    assert not [path for path in run.rglob("*") if path.suffix in (".pkl", ".pth", ".pt")]


def test_evaluate_names_both_levels(
    run: Path, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.parquet"
    command = [
        "evaluate",
        str(run),
        "--manifest",
        str(crops / "manifest.parquet"),
        "--workers",
        "0",
        "--json",
    ]
    assert main([*command, "--out", str(scores)]) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert {"frame", "video"} <= set(numbers)
    assert 0 <= numbers["frame"]["auc"] <= 1
    assert len(ScoreTable.read(scores)) == 4  # two people of split "test", real and forged
    assert main(["evaluate", "--scores", str(scores)]) == 0
    assert "frame" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_detect_gives_json_and_a_report(
    run: Path, engine: str, portrait_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    report = tmp_path / "verdict.html"
    files = [str(portrait_file), str(tmp_path / "broken.jpg"), str(tmp_path / "gone.mp4")]
    command = ["detect", *files, "--run", str(run), "--engine", engine, "--json", "--report", str(report)]
    assert main(command) == 1  # two of the three could not be inspected, the first was all the same
    good, broken, gone = json.loads(capsys.readouterr().out)
    assert good["verdict"] in ("real", "fake", "inconclusive")
    assert 0 <= good["probability"] <= 1
    assert good["people"][0]["frames"]
    assert (broken["verdict"], broken["reason"], broken["probability"]) == ("error", "unreadable", None)
    assert (gone["verdict"], gone["reason"]) == ("error", "missing")
    page = report.read_text()
    assert good["headline"] in page
    assert "<script" not in page


def test_engines_agree(run: Path, portrait_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = []
    for engine in ("onnx", "torch"):
        main(["detect", str(portrait_file), "--run", str(run), "--engine", engine, "--json"])
        scores.append(json.loads(capsys.readouterr().out)[0]["score"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_the_embedded_model_takes_the_readme_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report = tmp_path / "verdict.html"
    assert main(["detect", str(ROOT / "examples/portrait.jpg"), "--report", str(report)]) == 0
    assert "portrait.jpg" in capsys.readouterr().out
    assert report.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["detect", "x.jpg", "--run", "gone"], "gone"),
        (["evaluate"], "give a RUN and --manifest"),
        (["evaluate", "--scores", "gone.parquet"], "gone.parquet"),
        (["train", "gone.yaml", "--out", "run"], "gone.yaml"),
        (["prepare", "gone/", "--out", "crops"], "gone/"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    command: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert error.count("\n") <= 2
