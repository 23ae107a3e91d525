from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import polars
import pytest

from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.prepare.inputs import InputFile, list_inputs
from unseen.prepare.run import prepare
from unseen.prepare.work import CropRule, prepare_file
from unseen.types import InputError, Label

RULE = CropRule(frames=4)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, portrait: np.ndarray, clip_file: Callable[..., Path]
) -> Path:
    """Two portraits, a clip, a picture without a face, an empty and a broken file."""
    root = tmp_path_factory.mktemp("inputs")
    for name, picture in (
        ("a.jpg", portrait),
        ("b.png", portrait[:, ::-1]),
        ("wall.png", np.full_like(portrait, 90)),
    ):
        cv2.imwrite(str(root / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    shutil.copy(clip_file(frames=12), root / "clip.mp4")
    (root / "empty.jpg").write_bytes(b"")
    (root / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(200))
    return root


def tree_hash(root: Path) -> dict[str, str]:
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "journal.jsonl"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    prepare(list_inputs([folder], label=Label.REAL), out, rule=RULE, workers=1)
    return out


def test_every_file_ends_in_rows_with_a_reason(whole: Path) -> None:
    rows = polars.read_parquet(whole / "manifest.parquet")
    count = {(v, s, r): n for v, s, r, n in rows.group_by("video", "status", "reason").len().iter_rows()}
    assert count == {
        ("a", "kept", None): 1,
        ("b", "kept", None): 1,
        ("clip", "kept", None): 4,
        ("wall", "dropped", "no_face"): 1,
        ("empty", "dropped", "empty"): 1,
        ("broken", "dropped", "unreadable"): 1,
    }


def test_the_manifest_reads_as_records_with_landmarks_inside_their_crop(whole: Path) -> None:
    manifest = Manifest.read(whole / "manifest.parquet")
    manifest.check()
    records = manifest.records()
    assert len(records) == 6
    for record in records:
        picture = cv2.imread(record.path)
        assert record.label is Label.REAL
        assert record.landmarks is not None
        assert record.landmarks.shape == (81, 2)
        inside = (record.landmarks >= 0) & (record.landmarks < picture.shape[1::-1])
        assert inside.mean() > 0.95
    mirrored = {r.video: r for r in records}
    a, b = mirrored["a"].landmarks, mirrored["b"].landmarks
    assert a is not None
    assert b is not None
    assert a[36, 0] < a[45, 0]
    assert b[36, 0] < b[45, 0]  # left stays the picture's left


def test_killed_and_started_again_it_ends_with_the_same_bytes(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "unseen", "prepare", str(folder), "--label", "real", "--frames", "4"]
    command += ["--dataset", folder.name, "--out", str(tmp_path / "out"), "--workers", "2"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.parquet").exists(), "it was too fast to be killed in the middle"
    with journal.open("ab") as file:
        file.write(b'{"file": "cut sho')  # and its last line was cut short
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert tree_hash(tmp_path / "out") == tree_hash(whole)


def test_a_second_call_adds_files_and_does_only_those(folder: Path, tmp_path: Path) -> None:
    prepare(list_inputs([folder / "a.jpg"], dataset="d"), tmp_path, rule=RULE, workers=1)
    seen: list[tuple[int, int]] = []
    items = list_inputs([folder / "a.jpg", folder / "b.png"], dataset="d")
    made = prepare(items, tmp_path, rule=RULE, workers=1, report=lambda *at: seen.append(at))
    assert (made.files, made.skipped, made.kept) == (1, 1, 2)
    assert seen == [(1, 2), (2, 2)]


def test_one_folder_has_one_rule(folder: Path, tmp_path: Path) -> None:
    prepare(list_inputs([folder / "a.jpg"]), tmp_path, rule=RULE, workers=1)
    with pytest.raises(InputError, match="frames was 4, is 5") as caught:
        prepare(list_inputs([folder / "a.jpg"]), tmp_path, rule=CropRule(frames=5), workers=1)
    assert caught.value.reason == "other_rule"


def test_a_finder_that_is_not_installed_is_told_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mtcnn", None)
    with pytest.raises(InputError, match=r"pip install 'unseen\[mtcnn\]'"):
        prepare(list_inputs([folder]), tmp_path / "out", rule=CropRule(finder="mtcnn"), workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="expected face sizes around the face, 0 or more"):
        CropRule(margin=margin)


def test_a_changed_file_is_done_again(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "p.png"
    shutil.copy(folder / "wall.png", picture)
    out = tmp_path / "out"
    assert prepare(list_inputs([picture]), out, rule=RULE, workers=1).kept == 0
    shutil.copy(folder / "b.png", picture)
    assert prepare(list_inputs([picture]), out, rule=RULE, workers=1).kept == 1


def test_a_fake_is_paired_with_the_same_frame_of_its_source(
    clip_file: Callable[..., Path], tmp_path: Path
) -> None:
    real, fake = clip_file("real.mp4", frames=12), clip_file("fake.mp4", frames=12)
    rows = f"path,label,source\n{real},real,\n{fake},fake,{real}\n"
    (tmp_path / "list.csv").write_text(rows)
    prepare(list_inputs([tmp_path / "list.csv"]), tmp_path / "out", rule=RULE, workers=1)
    records = Manifest.read(tmp_path / "out" / "manifest.parquet").records()
    fakes = [record for record in records if record.label is Label.FAKE]
    assert len(fakes) == 4
    for record in fakes:
        assert record.source is not None
        assert Path(record.source).name == Path(record.path).name
        assert "real" in Path(record.source).parts[-2]


@pytest.mark.parametrize(("people", "kept"), [("largest", 1), ("all", 2)])
def test_people(portrait: np.ndarray, tmp_path: Path, people: str, kept: int) -> None:
    height, width = portrait.shape[:2]
    small = cv2.resize(portrait, (width // 2, height // 2))
    both = np.full((height, width + width // 2, 3), 120, np.uint8)
    both[:, :width] = portrait
    both[: height // 2, width : width + small.shape[1]] = small
    cv2.imwrite(str(tmp_path / "both.png"), cv2.cvtColor(both, cv2.COLOR_RGB2BGR))
    item = InputFile(tmp_path / "both.png", "d", "v")
    rows = prepare_file(item, CropRule(people=people), tmp_path)  # type: ignore[arg-type]
    assert [row["status"] for row in rows].count("kept") == kept
    assert [row.get("reason") for row in rows].count("other_person") == 2 - kept


def test_a_worker_that_dies_costs_one_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker is a fresh process, so the fault is planted where it looks: in the file's own folder.
    items = list_inputs([folder / "a.jpg", folder / "b.png"], dataset="d")
    monkeypatch.setattr("unseen.prepare.run.prepare_file", die_on_b)
    made = prepare(items, tmp_path, rule=RULE, workers=1)
    assert made.dropped == {"crashed": 1}
    assert made.kept == 1


def test_a_file_that_hangs_is_given_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unseen.prepare.run.prepare_file", sleep)
    made = prepare(list_inputs([folder / "a.jpg"]), tmp_path, rule=RULE, workers=1, seconds_per_file=0.5)
    assert made.dropped == {"timeout": 1}


def die_on_b(item: InputFile, rule: CropRule, out: Path) -> list[dict[str, object]]:
    if item.path.name == "b.png":
        os._exit(9)
    return prepare_file(item, rule, out)


def sleep(item: InputFile, rule: CropRule, out: Path) -> list[dict[str, object]]:
    time.sleep(60)
    return []


def test_the_rule_is_written_down(whole: Path) -> None:
    assert json.loads((whole / "prepare.json").read_text())["frames"] == 4


def test_a_public_data_set_is_prepared_by_its_layout(
    portrait_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("real_train/1/real/7", "fake_test/2/fake/9"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for frame in range(4):
            shutil.copy(portrait_file, tmp_path / "set" / name / f"{frame}.jpg")
    words = ["prepare", str(tmp_path / "set"), "--layout", "wilddeepfake", "--frames", "2"]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "real_train sequences: found 1" in said
    assert "4 files would be looked at" in said
    assert main([*words, "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    rows = Manifest.read(tmp_path / "out/manifest.parquet").records()
    assert [(r.video, r.frame, r.split, r.label) for r in rows] == [
        ("fake_test/2/fake/9", 1, "test", 1), ("fake_test/2/fake/9", 3, "test", 1),
        ("real_train/1/real/7", 1, "train", 0), ("real_train/1/real/7", 3, "train", 0),
    ]  # fmt: skip
    assert all(Path(r.path).is_file() for r in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layout", "ff++", "--label", "real", "--out", "o"], "--label goes without --layout"),
        (["more", "--layout", "ff++", "--out", "o"], "2 inputs; expected the one folder"),
        (["--layout", "uadfv", "--complete", "--dry-run"], "not complete (real: found 1 of 49"),
    ],
)
def test_words_of_a_layout(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("real/0000.mp4", "fake/0000_fake.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert main(["prepare", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err
