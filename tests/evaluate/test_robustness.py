"""Robustness: clean and corrupted tables beside each other, from score files and from the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.evaluate.foreign import ForeignDetector, import_function
from unseen.evaluate.metrics import auc
from unseen.evaluate.robustness import measure_robustness, to_markdown, to_svg
from unseen.evaluate.scores import ScoreTable
from unseen.types import FaceRecord, InputError

SHARP = '''
"""A detector of sharpness, which blur takes away: forged faces of this test have fine stripes."""
import numpy as np
SEEN = []

def score(crops):
    assert crops.dtype == np.uint8 and crops.ndim == 4 and crops.shape[-1] == 3
    SEEN.append(crops.shape)
    return np.abs(np.diff(crops[..., 0].astype(float), axis=2)).mean((1, 2)) - 10

def chance(crops):
    return (1 / (1 + np.exp(-score(crops)))).tolist()

def wrong(crops):
    return np.zeros(3)
'''


def tables(levels: dict[tuple[str, int], float], lost: int = 0) -> list[ScoreTable]:
    """Scores that separate less the worse a corruption is; the share of separation left is given."""
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    base = rng.normal(0, 1, 80)
    made = []
    for (name, level), left in levels.items():
        score: list[float | None] = (base + 3 * left * label + (1 - left)).tolist()
        for i in range(lost if name else 0):
            score[i] = None
        rows = [FaceRecord(f"{i}.png", int(y), "d", f"v{i}") for i, y in enumerate(label)]
        card = {"corruption": name, "severity": level} if name else {}
        made.append(replace(ScoreTable.from_records(rows, score), card=card))
    return made


def test_numbers_by_table() -> None:
    made = tables({("", 0): 1.0, ("noise", 1): 0.8, ("noise", 5): 0.1, ("blur", 3): 0.9})
    found = measure_robustness(made, resamples=200)
    assert found.clean.drop == 0
    assert found.clean.drop_low == found.clean.drop_high == 0
    assert [r.level for r in found.of("noise")] == [1, 5]
    assert found.corruptions == ["noise", "blur"]  # the worst first
    for table, reading in zip(made[1:], [*found.of("noise"), *found.of("blur")], strict=True):
        videos = table.videos()
        assert reading.auc == pytest.approx(auc(videos["score"].to_numpy(), videos["label"].to_numpy()))
    worst = found.of("noise")[1]
    assert worst.drop_low > 0  # drawn together with the clean ones
    assert worst.low < worst.auc < worst.high
    assert found.clean.alarms == 0.05  # 2 of 40 reals
    assert worst.alarms > 0.2  # the same threshold, and reals that look more suspicious


def test_written_and_drawn() -> None:
    found = measure_robustness(tables({("", 0): 1.0, ("noise", 1): 0.5, ("blur", 2): 0.9}), resamples=20)
    text = to_markdown(found)
    assert text.index("| noise |") < text.index("| blur |")
    assert "| corruption | level 1 | level 2 |" in text
    assert " | - | " in text
    drawn = to_svg(found)
    assert drawn.count("<polyline") == 2
    assert f"clean {found.clean.auc:.3f}" in drawn
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["n_real"] == 40


def test_a_video_that_is_lost_is_counted() -> None:
    found = measure_robustness(tables({("", 0): 1.0, ("noise", 1): 1.0}, lost=3), resamples=20)
    assert found.of("noise")[0].lost == 3
    assert "3 times a video could not be scored" in to_markdown(found)


def test_what_is_missing_or_twice() -> None:
    with pytest.raises(InputError, match="no table of clean"):
        measure_robustness(tables({("noise", 1): 1.0}))
    with pytest.raises(InputError, match="noise at level 1 twice"):
        measure_robustness([*tables({("", 0): 1.0, ("noise", 1): 1.0}), *tables({("noise", 1): 1.0})])
    one = [replace(t, rows=t.where(label=1).rows) for t in tables({("", 0): 1.0})]
    with pytest.raises(InputError, match="0 real and 40 fake"):
        measure_robustness(one)


# Anybody's detector, and the command


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Crops of 48 pixels, the fakes with fine stripes, and a module with a detector of them."""
    (tmp_path / "crops").mkdir()
    rng = np.random.default_rng(0)
    records = []
    for i in range(16):
        image = np.full((48, 48, 3), rng.integers(90, 160), np.uint8)
        image = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
        if i % 2:
            image[:, ::2] = np.clip(image[:, ::2].astype(int) + 10 + i, 0, 255)
        path = tmp_path / "crops" / f"{i:02d}.png"
        cv2.imwrite(str(path), image)
        method = "swap" if i % 2 else "real"
        records.append(FaceRecord(str(path), i % 2, "made", f"v{i}", method=method, split="test"))
    Manifest.from_records(records, tmp_path / "crops").write(tmp_path / "crops" / "manifest.parquet")
    (tmp_path / "sharp_detector.py").write_text(SHARP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "sharp_detector", raising=False)
    return tmp_path


WORDS = ["--manifest", "crops/manifest.parquet", "--workers", "0", "--device", "cpu", "--resamples", "20"]


def test_a_function_is_scored_like_a_run(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["evaluate", "--predict", "sharp_detector:score", *WORDS, "--out", "s.parquet", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["video"]["auc"] == 1
    assert found["facts"]["detector"] == "sharp_detector:score"
    assert found["facts"]["weights"].startswith("code ")
    assert sys.modules["sharp_detector"].SEEN == [(16, 48, 48, 3)]
    assert (
        main(
            ["evaluate", "--predict", "sharp_detector:chance", "--probability", *WORDS, "--out", "p.parquet"]
        )
        == 0
    )
    a, b = (ScoreTable.read(f"{n}.parquet").frames()["score"].to_numpy() for n in "sp")
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_robustness_by_one_command_and_again(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--predict", "sharp_detector:score", *WORDS, "--robustness", "--out", "robust"]
    assert main([*words, "--corruptions", "blur,contrast", "--levels", "1,5"]) == 0
    said = capsys.readouterr().out
    assert "Clean: AUC 1.0000" in said
    names = {path.name for path in Path("robust").iterdir()}
    assert names == {
        "clean.parquet", "blur_1.parquet", "blur_5.parquet", "contrast_1.parquet", "contrast_5.parquet",
        "robustness.md", "robustness.json", "robustness.svg",
    }  # fmt: skip
    card = ScoreTable.read("robust/blur_5.parquet").card
    assert (card["corruption"], card["severity"]) == ("blur", 5)
    found = json.loads(Path("robust/robustness.json").read_text())
    at = {(r["corruption"], r["level"]): r["caught"] for r in found["readings"]}
    assert at["blur", 5] == 0 < at["contrast", 1] <= at["", 0] == 1
    # A second call scores only what is new; the tables can be measured without a detector.
    calls = len(sys.modules["sharp_detector"].SEEN)
    assert main([*words, "--corruptions", "blur", "--levels", "1,3"]) == 0
    assert len(sys.modules["sharp_detector"].SEEN) == calls + 1
    assert main(["evaluate", "--robustness", "--scores", "robust", "--resamples", "20"]) == 0
    assert "level 3" in capsys.readouterr().out
    # Other rows in the same folder would be another experiment.
    assert main([*words, "--frames", "1", "--corruptions", "blur"]) == 2
    assert "is of another frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--predict", "sharp_detector"], "expected module:function"),
        (["--predict", "nowhere_at_all:score"], "no module 'nowhere_at_all'"),
        (["--predict", "sharp_detector:scores"], "it has score, chance, wrong"),
        (["--predict", "sharp_detector:wrong"], "gave shape (3,) for 16 crops"),
        (["--predict", "sharp_detector:score", "--probability"], "expected probabilities in [0, 1]"),
        (["--predict", "sharp_detector:score", "--align", "arcface"], "expected TEMPLATE:SIZE"),
        (["--predict", "sharp_detector:score", "--align", "face:256"], "template 'face'"),
        (
            ["--predict", "sharp_detector:score", "--split", "tests"],
            "no rows of split 'tests' (there are: test)",
        ),
        (["default", "--predict", "sharp_detector:score"], "give a RUN, or --predict"),
        ([], "give a RUN and --manifest"),
        (
            ["--predict", "sharp_detector:score", "--robustness", "--corruptions", "blurr"],
            "no corruption 'blurr'",
        ),
        (["--predict", "sharp_detector:score", "--robustness", "--levels", "0"], "level 0"),
    ],
)
def test_wrong_words(bench: Path, words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *words, *WORDS, *([] if "--split" in words else ["--split", "test"])]) == 2
    assert text in capsys.readouterr().err


def test_an_error_inside_somebodys_module_is_theirs(bench: Path) -> None:
    Path("broken_detector.py").write_text("import a_library_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        import_function("broken_detector:score")


def test_crops_arrive_as_they_lie_on_disk(bench: Path) -> None:
    seen = []
    detector = ForeignDetector(lambda crops: seen.append(crops.copy()) or np.zeros(len(crops)))
    import torch

    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    detector(torch.from_numpy(image).permute(0, 3, 1, 2).float().div(255))
    assert (seen[0] == image).all()


def test_a_score_file_must_hold_every_row(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"crops/{i:02d}.png,v{i},{i % 2},{i}" for i in range(16)]
    words = ["evaluate", "--scores", "s.csv", "--manifest", "crops/manifest.parquet", "--resamples", "0"]

    def measured(rows: list[str]) -> tuple[int, str]:
        Path("s.csv").write_text("path,video,label,score\n" + "\n".join(rows) + "\n")
        code = main(words)
        said = capsys.readouterr()
        return code, said.err or said.out

    root = str(bench.name)
    full = [f"{root}/{line}" for line in lines]
    assert measured(full)[0] == 0
    code, said = measured(full[:5] + full[6:])
    assert code == 2
    assert "1 of 16 rows of crops/manifest.parquet are missing, the first is number 6" in said
    empty = [line.rpartition(",")[0] + "," if i == 5 else line for i, line in enumerate(full)]
    code, said = measured(empty)
    assert code == 0
    assert "1 could not be scored" in said
    code, said = measured([*full, f"{root}/crops/99.png,v99,1,3"])
    assert code == 2
    assert "s.csv row 17: not in crops/manifest.parquet" in said
    code, said = measured([*full[:3], f"{root}/crops/03.png,v3,0,3", *full[4:]])
    assert code == 2
    assert "s.csv row 4: label 0, but crops/manifest.parquet says 1" in said
    code, said = measured([*full, full[2]])
    assert code == 2
    assert "row 17: the same face as row 3" in said
