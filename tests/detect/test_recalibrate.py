"""Thresholds on somebody's own people."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.detect.engine import load_engine
from unseen.detect.inspector import Inspector
from unseen.detect.recalibrate import recalibrate_run
from unseen.evaluate.calibration import Calibration
from unseen.types import FaceRecord, InputError, Label

PEOPLE = 24


@pytest.fixture(scope="module")
def crops(portrait: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of people, two frames each, and forgeries of some; all of one face in other lights."""
    folder = tmp_path_factory.mktemp("crops")
    face = cv2.resize(portrait[20:420, 60:460], (160, 160), interpolation=cv2.INTER_AREA).astype(np.float32)
    points = np.stack(np.meshgrid(np.linspace(32, 128, 9), np.linspace(24, 136, 9)), -1).reshape(81, 2)
    rng, records = np.random.default_rng(0), []
    for i in range(PEOPLE):
        for frame in (0, 1):
            lit = (face * rng.uniform(0.5, 1.2) + rng.normal(0, 8, face.shape)).clip(0, 255)
            path = folder / f"{i}_{frame}.jpg"
            assert cv2.imwrite(str(path), lit.astype(np.uint8)[..., ::-1])
            common = {
                "dataset": "mine",
                "identity": f"p{i}",
                "frame": frame,
                "landmarks": points.astype(np.float32),
            }
            records.append(
                FaceRecord(path=str(path), label=Label.REAL, video=f"v{i}", method="real", **common)
            )
            if i % 4 == 0:
                records.append(
                    FaceRecord(path=str(path), label=Label.FAKE, video=f"f{i}", method="swap", **common)
                )
    Manifest.from_records(records, folder).write(folder / "all.parquet")
    Manifest.from_records([r for r in records if r.label == Label.REAL], folder).write(
        folder / "real.parquet"
    )
    return folder


def rows(crops: Path, name: str = "real") -> list[FaceRecord]:
    return Manifest.read(crops / f"{name}.parquet").records()


def test_reals_alone_move_the_threshold_and_keep_the_rest(
    real_run: Path, crops: Path, tmp_path: Path
) -> None:
    found = recalibrate_run(real_run, rows(crops), tmp_path / "mine", rate=0.05, made_from="real.parquet")
    new, old = found.new, found.old
    assert (new.n_real_people, new.n_real, new.default) == (PEOPLE, PEOPLE, "0.05")  # people, not frames
    assert new.threshold() < old.threshold()
    assert (new.temperature, new.real_threshold, new.n_fake) == (
        old.temperature,
        old.real_threshold,
        old.n_fake,
    )
    assert any("no fakes" in note for note in new.notes)
    assert new.scope is not None and new.scope.people == PEOPLE
    # What detect gives is judged by it, and the folder is whole for both engines.
    engine = load_engine(tmp_path / "mine")
    assert engine.calibration.to_json() == new.to_json()
    facts = json.loads((tmp_path / "mine" / "run.json").read_text())
    assert facts["recalibrated"][0]["real_people"] == PEOPLE
    before = Calibration.from_json(tmp_path / "mine" / "calibration_before_1.json")
    assert before.to_json() == old.to_json()
    assert "Calibrated anew" in (tmp_path / "mine" / "card.md").read_text()


def test_the_run_itself_is_never_touched_and_twice_keeps_both(
    real_run: Path, crops: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in real_run.iterdir()}
    recalibrate_run(real_run, rows(crops), tmp_path / "one", rate=0.05)
    recalibrate_run(tmp_path / "one", rows(crops, "all"), tmp_path / "two", rate=0.1)
    assert {path.name: path.read_bytes() for path in real_run.iterdir()} == before
    assert {p.name for p in (tmp_path / "two").glob("calibration_before_*")} == {
        "calibration_before_1.json",
        "calibration_before_2.json",
    }
    assert Calibration.from_json(tmp_path / "two" / "calibration.json").n_fake_people == PEOPLE // 4
    with pytest.raises(InputError, match="nothing is overwritten"):
        recalibrate_run(real_run, rows(crops), tmp_path / "one", rate=0.05)


def test_what_cannot_be_promised_is_refused(make_run, real_run: Path, crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    with pytest.raises(InputError, match=r"24 real people; .* takes 99 .* --false-alarms 0.04,") as error:
        recalibrate_run(real_run, rows(crops), out)
    assert error.value.reason == "too_few"
    assert recalibrate_run(real_run, rows(crops), tmp_path / "least", rate=0.04).new.default == "0.04"
    fakes = [r for r in rows(crops, "all") if r.label == Label.FAKE]
    with pytest.raises(InputError, match="no real people"):
        recalibrate_run(real_run, fakes, out)
    nameless = [FaceRecord(path=r.path, landmarks=r.landmarks) for r in rows(crops)]
    with pytest.raises(InputError, match="48 of 48 rows have no label"):
        recalibrate_run(real_run, nameless, out)
    assert not out.exists()


def test_training_people_are_refused(real_run: Path, crops: Path, tmp_path: Path) -> None:
    import shutil

    from unseen.evaluate.selection import marks

    run = tmp_path / "run"
    shutil.copytree(real_run, run)
    facts = json.loads((run / "run.json").read_text())
    facts["data"] = {"train": {"marks": marks(rows(crops)[:6])}}
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="3 of its videos trained this run"):
        recalibrate_run(run, rows(crops), tmp_path / "mine", rate=0.05)


def test_a_crop_that_cannot_be_read_costs_one_row(real_run: Path, crops: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    given = rows(crops)
    bad = FaceRecord(path=str(broken), label=Label.REAL, video="x", landmarks=given[0].landmarks)
    found = recalibrate_run(real_run, [*given, bad], tmp_path / "mine", rate=0.05)
    assert found.dropped == {"unreadable": 1}
    assert found.new.n_real_people == PEOPLE


def test_by_words_and_verdicts_say_what_is_unlike(
    real_run: Path, crops: Path, tmp_path: Path, portrait: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    words = ["calibrate", str(real_run), str(crops / "real.parquet"), "--out", str(out)]
    assert main(words) == 2
    assert "24 real people" in capsys.readouterr().err
    assert main([*words, "--false-alarms", "0.05", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["real_people"], told["false_alarms"]) == (24, 0.05)
    assert main([*words, "--false-alarms", "0.05"]) == 2  # it is there now
    soft = tmp_path / "soft.png"
    assert cv2.imwrite(str(soft), cv2.GaussianBlur(portrait, (0, 0), 2)[..., ::-1])
    facts = Inspector(out).inspect(soft).to_dict()
    (person,) = facts["people"]
    assert "less sharp" in person["unlike"] and person["quality"]["sharpness"] < 200
    assert any("less sharp" in text and "not promised" in text for text in facts["warnings"])
    assert "in 100 real people" in facts["rarity"] and person["rarity"] == facts["rarity"]
