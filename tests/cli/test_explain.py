"""`unseen explain`: every question of it on a tiny run, and words that cannot be answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from tests.train.faces import ellipse_landmarks, faces_file, tiny
from unseen.checkpoint import save_run
from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.recipe import read_recipe
from unseen.types import FaceRecord, Label

__all__ = ["faces_file", "tiny"]

LEARNED = {"train": {"datasets": {"made": {"methods": {"real": 3, "swap": 3}}}}}


@pytest.fixture
def make(tiny: Callable[..., dict], tmp_path: Path) -> Callable[..., Path]:
    def run(name: str, **detector: object) -> Path:
        torch.manual_seed(len(name))
        settings = tiny()
        settings["detector"] |= detector
        recipe = read_recipe(settings)
        return save_run(tmp_path / name, recipe.detector(pretrained=False), recipe, data=LEARNED)

    return run


@pytest.fixture
def bench(portrait: np.ndarray, tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    crop, records = portrait[40:360, 100:420], []
    for number in range(12):
        path, label = tmp_path / f"{number}.png", Label(number % 3 > 0)
        noisy = crop * rng.uniform(0.7, 1, 3) + rng.normal(0, 4, crop.shape)
        cv2.imwrite(str(path), noisy.clip(0, 255).astype(np.uint8)[..., ::-1])
        records.append(
            FaceRecord(str(path), label, "made" if number < 6 else "other", f"v{number}",
                       method=("real", "swap", "sbi")[number % 3], identity=f"p{number % 2}",
                       split="test", landmarks=ellipse_landmarks((150, 150), (80, 100)))
        )  # fmt: skip
    Manifest.from_records(records, tmp_path).write(tmp_path / "bench.csv")
    return tmp_path / "bench.csv"


def test_one_file(make: Callable[..., Path], portrait_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    assert (
        main(["explain", str(make("run")), str(portrait_file), "--with", "gradcam", "--out", str(out)]) == 0
    )
    told = json.loads((out / "explain.json").read_text())
    (face,) = told["faces"]
    assert face["pictures"] == {"gradcam": "face-1_gradcam.jpg"} and len(face["box"]) == 4
    assert cv2.imread(str(out / "face-1_gradcam.jpg")).shape[0] > 500
    assert told["summary"][0]["kind"] == "gradcam" and told["weights"]


def test_a_manifest_and_what_a_run_cannot_give(
    make: Callable[..., Path], bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(make("run")), tmp_path / "seen"
    words = ["explain", run, str(bench), "--limit", "3", "--sanity", "2", "--out", str(out)]
    assert main(words) == 0
    told = json.loads((out / "explain.json").read_text())
    assert len(told["faces"]) == 3 and {face["method"] for face in told["faces"]} <= {"real", "swap", "sbi"}
    assert "deletion" in told["faces"][0]["trust"]["gradcam"] and (out / "sheet.jpg").stat().st_size > 3000
    capsys.readouterr()
    assert main([*words, "--with", "residual,gradcam"]) == 2
    assert "--with residual: run has none" in capsys.readouterr().err


def test_the_plane(make: Callable[..., Path], bench: Path, tmp_path: Path) -> None:
    runs, out = [str(make("first")), str(make("second"))], tmp_path / "plane"
    words = ["explain", *runs, str(bench), "--embedding", "tsne", "--color", "method", "--out", str(out)]
    assert main(words) == 0
    points = json.loads((out / "embedding_tsne_method.json").read_text())
    assert [run["name"] if "name" in run else run["run"] for run in points["runs"]] == ["first", "second"]
    paths = [[face["path"] for face in run["faces"]] for run in points["runs"]]
    assert paths[0] == paths[1] and len(paths[0]) == 12
    assert cv2.imread(str(out / "embedding_tsne_method.png")) is not None
    before = (out / "embedding_tsne_method.svg").read_text()
    assert main([*words, "--seed", "0"]) == 0
    assert (out / "embedding_tsne_method.svg").read_text() == before and before.count("data-row") == 24
    assert "<script" in (out / "embedding_tsne_method.html").read_text()


def test_leakage(make: Callable[..., Path], bench: Path, tmp_path: Path) -> None:
    out = tmp_path / "leak"
    words = [
        "explain",
        str(make("run")),
        str(bench),
        "--leakage",
        "--grid",
        "3",
        "--limit",
        "3",
        "--epochs",
        "5",
    ]
    assert (
        main([*words, "--probe", "all", "--baseline", "black", "--output", "probability", "--out", str(out)])
        == 0
    )
    told = json.loads((out / "leakage.json").read_text())
    home, other = told["datasets"]
    assert (home["dataset"], home["trained_on"], other["trained_on"]) == ("made", True, False)
    assert home["probe"]["people"] == 2 and home["whole"]["faces"] == 3
    assert told["settings"]["hidden cells show"] == "black"
    assert "How much identity" in (out / "leakage.html").read_text()
    assert (out / "leakage.md").read_text().startswith("# How much identity")


def test_balance(make: Callable[..., Path], bench: Path, faces_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "wrong"
    words = ["explain", str(make("run")), str(bench), "--balance", "--threshold", "-99", "--out", str(out)]
    assert main([*words, "--train", str(faces_file)]) == 0
    told = json.loads((out / "balance.json").read_text())
    assert {(row["dataset"], row["method"]): row["rate"] for row in told["rows"]}["made", "real"] == 1.0
    worst = told["worst_reals"][0]
    assert (
        len(worst["nearest"]) == 4 and worst["nearest"][0]["similarity"] >= worst["nearest"][-1]["similarity"]
    )
    assert cv2.imread(str(out / "worst_reals.jpg")) is not None


def test_confusion(
    make: Callable[..., Path], bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "domains"
    parts = [{"class_path": "Decomposition", "init_args": {"domains": 3}}]
    run = make("did", parts=parts, head="AucHead")
    assert main(["explain", str(run), str(bench), "--confusion", "--out", str(out)]) == 0
    told = json.loads((out / "confusion.json").read_text())
    assert told["rows"][:2] == ["real", "swap"] and "sbi" in told["rows"]  # learned first, then unseen ones
    assert sum(map(sum, told["counts"])) == 12 and (out / "confusion.png").exists()
    nowhere = tmp_path / "nowhere"
    assert main(["explain", str(make("run")), str(bench), "--confusion", "--out", str(nowhere)]) == 2
    assert "no part of this detector tells domains" in capsys.readouterr().err
    assert not nowhere.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["default"], "give a RUN, then one file or manifests"),
        (["default", "gone.jpg"], "gone.jpg: no such file or run folder"),
        (["default", "{photo}", "--leakage"], "this question takes a manifest"),
        (["default", "default", "{photo}"], "several runs go with --embedding only"),
    ],
)
def test_words_that_cannot_be_answered(
    words: list[str], said: str, portrait_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *(word.format(photo=portrait_file) for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_runs_of_one_name_are_told_apart_by_their_folders() -> None:
    from unseen.cli.explain_sets import _told_apart

    first, second, third = (
        SimpleNamespace(name=Path(path).name, folder=Path(path))
        for path in ("/a/plain/seed0", "/a/did/seed0", "/a/other")
    )
    runs = [first, second, third]
    assert [_told_apart(run, runs) for run in runs] == ["plain/seed0", "did/seed0", "other"]  # type: ignore[arg-type]
