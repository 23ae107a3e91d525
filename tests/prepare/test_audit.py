"""Each fault is planted in a clean manifest and must be found; the clean one must be clean."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from tests.train.faces import ellipse_landmarks
from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.prepare.audit import Audit, audit
from unseen.prepare.fingerprint import fingerprint, near_pairs
from unseen.types import FaceRecord, Label

PEOPLE = 24


def picture(seed: int) -> np.ndarray:
    """Smooth colours, so that two people are far apart and a recompressed copy is near."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (12, 12, 3), np.uint8)
    return cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC)


def write(path: Path, image: np.ndarray, quality: int = 95) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> list[FaceRecord]:
    """24 people, four frames of a real and a forged video each; 16 train, 4 validate, 4 test."""
    found = []
    for person in range(PEOPLE):
        split = "train" if person < 16 else "val" if person < 20 else "test"
        for label in Label:
            method = "real" if label is Label.REAL else "swap"
            for frame in range(4):
                image = picture(1000 * person + 10 * frame + int(label))
                path = write(tmp_path / f"crops/{person}/{method}/{frame}.jpg", image)
                found.append(
                    FaceRecord(
                        path, label, "set", f"{method}/{person}", frame, method=method, split=split,
                        identity=f"p{person}", landmarks=ellipse_landmarks((48, 48), (30, 40)),
                    )
                )  # fmt: skip
    return found


def look(rows: list[FaceRecord], **columns: list[str | None]) -> Audit:
    manifest = Manifest.from_records(rows, "/")
    frame = manifest.frame.with_columns(pl.Series(k, v, pl.String) for k, v in columns.items())
    return audit(Manifest(frame, Path("/")), min_frames=3)


def codes(found: Audit, severity: str | None = None) -> set[str]:
    return {f.code for f in found.findings if severity in (None, f.severity)}


def test_clean_data_is_clean(rows: list[FaceRecord]) -> None:
    found = look(rows)
    assert found.ok
    assert codes(found) == {"no_masks"}  # a note
    assert "0 errors, 0 warnings, 1 note" in found.to_text()


def gone(rows: list[FaceRecord]) -> list[FaceRecord]:
    Path(rows[5].path).unlink()
    return rows


def cut(rows: list[FaceRecord]) -> list[FaceRecord]:
    path = Path(rows[5].path)
    path.write_bytes(path.read_bytes()[:-200])  # decodes, with a grey rest
    return rows


def text(rows: list[FaceRecord]) -> list[FaceRecord]:
    Path(rows[5].path).write_text("no picture")
    return rows


def flipped(rows: list[FaceRecord]) -> list[FaceRecord]:
    return [replace(row, label=Label(1 - int(row.label or 0))) for row in rows]


def folder_says_otherwise(rows: list[FaceRecord]) -> list[FaceRecord]:
    # The reals lie in folders called `real`; without a method only these contradict the label.
    return [replace(rows[0], label=Label.FAKE, video="other", method=None), *rows[1:]]


def shared_person(rows: list[FaceRecord]) -> list[FaceRecord]:
    return [replace(row, identity="p0") if row.identity == "p23" else row for row in rows]


def shared_video(rows: list[FaceRecord]) -> list[FaceRecord]:
    return [replace(rows[0], split="test", identity=None), *(replace(r, identity=None) for r in rows[1:])]


def two_labels(rows: list[FaceRecord]) -> list[FaceRecord]:
    return [replace(row, video=row.video.split("/")[1]) for row in rows]


def one_frame(rows: list[FaceRecord]) -> list[FaceRecord]:
    return rows[3:]


def val_is_test(rows: list[FaceRecord]) -> list[FaceRecord]:
    made = [row for row in rows if row.split != "val"]
    for row in [row for row in rows if row.split == "test"]:
        copy = Path(row.path).with_suffix(".copy.jpg")
        copy.write_bytes(Path(row.path).read_bytes())
        made.append(replace(row, path=str(copy), split="val", video=f"{row.video} copy", identity=None))
    return made


def copied(rows: list[FaceRecord]) -> list[FaceRecord]:
    target = next(row for row in rows if row.split == "test")
    Path(target.path).write_bytes(Path(rows[0].path).read_bytes())
    return rows


def copied_inside(rows: list[FaceRecord]) -> list[FaceRecord]:
    Path(rows[1].path).write_bytes(Path(rows[0].path).read_bytes())
    return rows


def real_and_fake(rows: list[FaceRecord]) -> list[FaceRecord]:
    Path(rows[4].path).write_bytes(Path(rows[0].path).read_bytes())
    return rows


def recompressed(rows: list[FaceRecord]) -> list[FaceRecord]:
    target = next(row for row in rows if row.split == "test")
    write(Path(target.path), cv2.resize(cv2.imread(rows[0].path), (80, 80)), quality=70)
    return rows


def other_format(rows: list[FaceRecord]) -> list[FaceRecord]:
    made = []
    for row in rows:
        if row.label is Label.FAKE:
            path = str(Path(row.path).with_suffix(".png"))
            cv2.imwrite(path, cv2.imread(row.path))
            row = replace(row, path=path)
        made.append(row)
    return made


def other_quality(rows: list[FaceRecord]) -> list[FaceRecord]:
    for row in rows:
        if row.label is Label.FAKE:
            write(Path(row.path), cv2.imread(row.path), quality=40)
    return rows


@pytest.mark.parametrize(
    ("plant", "code", "severity"),
    [
        (gone, "missing", "error"),
        (cut, "unreadable", "error"),
        (text, "unreadable", "error"),
        (flipped, "label_polarity", "error"),
        (folder_says_otherwise, "label_folder", "warning"),
        (shared_person, "identity_overlap", "error"),
        (shared_video, "video_overlap", "error"),
        (two_labels, "mixed_video", "error"),
        (one_frame, "few_frames", "warning"),
        (val_is_test, "val_is_test", "error"),
        (copied, "duplicate_overlap", "error"),
        (copied_inside, "duplicate", "warning"),
        (real_and_fake, "label_conflict", "error"),
        (recompressed, "near_duplicate", "warning"),
        (other_format, "format_leak", "error"),
        (other_quality, "codec_leak", "warning"),
    ],
)
def test_a_planted_fault_is_found(
    rows: list[FaceRecord],
    plant: Callable[[list[FaceRecord]], list[FaceRecord]],
    code: str,
    severity: str,
) -> None:
    assert code not in codes(look(rows))
    found = look(plant(rows))
    assert code in codes(found, severity)
    assert found.ok == (severity != "error")
    assert f"[{code}]" in found.to_text()


def test_donors_count_as_people(rows: list[FaceRecord]) -> None:
    donors = ["p23" if row.identity == "p0" and row.label is Label.FAKE else None for row in rows]
    found = look(rows, donor=donors)
    assert codes(found, "error") == {"identity_overlap"}
    assert any("p23: test, train" in f.examples for f in found.findings)


def test_a_mask_away_from_the_face_is_suspected(rows: list[FaceRecord], tmp_path: Path) -> None:
    on, off = np.zeros((96, 96), np.uint8), np.zeros((96, 96), np.uint8)
    on[24:72, 30:66] = 255
    off[:10, :10] = 255
    cv2.imwrite(str(tmp_path / "on.png"), on)
    cv2.imwrite(str(tmp_path / "off.png"), off)
    masks = [str(tmp_path / "on.png") if row.label is Label.FAKE else None for row in rows]
    assert "wrong_face" not in codes(look(rows, mask=masks))
    masks[4] = str(tmp_path / "off.png")
    found = look(rows, mask=masks)
    (one,) = [f for f in found.findings if f.code == "wrong_face"]
    assert one.number == 1
    assert rows[4].path in one.examples[0]


def test_what_cannot_be_looked_at_is_a_note(rows: list[FaceRecord]) -> None:
    found = look([replace(row, split=None, identity=None, label=None) for row in rows])
    assert codes(found, "note") == {"no_split", "no_label"}
    assert "no_identity" in codes(look([replace(row, identity=None) for row in rows]), "note")


def test_near_pairs_finds_what_comparing_all_finds_and_is_about_linear() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (400, 32), np.uint8)
    for row in range(0, 60, 2):  # copies with up to 12 bits flipped
        hashes[row + 1] = hashes[row]
        for bit in rng.choice(256, rng.integers(0, 13), replace=False):
            hashes[row + 1, bit // 8] ^= np.uint8(1 << (bit % 8))
    by_all = {
        (a, b)
        for a in range(400)
        for b in range(a + 1, 400)
        if np.bitwise_count(hashes[a] ^ hashes[b]).sum() <= 10
    }
    found = [(a, b) for a, b, _ in near_pairs(hashes)]
    assert set(found) == by_all
    assert len(found) == len(by_all) > 15
    # 5,000 equal rows are 12 million pairs; each is compared with its next 64 only.
    assert len(list(near_pairs(np.zeros((500, 32), np.uint8), most=8))) <= 16 * 8 * 500


def test_the_hash_survives_recompression(tmp_path: Path) -> None:
    first = fingerprint(Path(write(tmp_path / "a.jpg", picture(1))))
    again = fingerprint(Path(write(tmp_path / "b.jpg", cv2.resize(picture(1), (64, 64)), quality=60)))
    other = fingerprint(Path(write(tmp_path / "c.jpg", picture(2))))
    assert np.bitwise_count(first.hash ^ again.hash).sum() <= 10
    assert np.bitwise_count(first.hash ^ other.hash).sum() > 60


def test_exit_codes_and_reports(
    rows: list[FaceRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Manifest.from_records(rows, "/").write(tmp_path / "m.parquet")
    words = ["audit", str(tmp_path / "m.parquet"), "--min-frames", "3"]
    assert main(words) == 0
    assert main([*words, "--strict"]) == 0
    Manifest.from_records(copied_inside(rows), "/").write(tmp_path / "m.parquet")
    assert main(words) == 0
    assert main([*words, "--strict"]) == 1
    Path(rows[9].path).unlink()
    capsys.readouterr()
    assert main([*words, "--json", "--out", str(tmp_path / "report.json")]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "report.json").read_text())
    assert (said["ok"], said["rows"], said["findings"][0]["code"]) == (False, len(rows), "missing")
    assert main(["audit", str(tmp_path / "none.parquet")]) == 2
