"""DeepfakeBench's JSON, trees and LMDB in their exact shapes, read and written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from tests.train.faces import ellipse_landmarks
from unseen.data.deepfakebench import read_json, read_lmdb, read_tree, write_json, write_tree
from unseen.data.deepfakebench.store import decode_landmarks
from unseen.data.manifest import Manifest
from unseen.types import FaceRecord, InputError, Label

POINTS = np.arange(162).reshape(81, 2)
GROUPS = {
    "FF-real": "FaceForensics++/original_sequences/youtube/c23",
    "FF-DF": "FaceForensics++/manipulated_sequences/Deepfakes/c23",
    "FF-F2F": "FaceForensics++/manipulated_sequences/Face2Face/c23",
}


def crop(path: Path, *, mask: bool = False, points: np.ndarray | None = POINTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), 100, np.uint8))
    group, name = path.parents[2], Path(path.parent.name) / path.stem
    if points is not None:
        (group / "landmarks" / name.parent).mkdir(parents=True, exist_ok=True)
        np.save(group / "landmarks" / name.parent / f"{name.name}.npy", points)
    if mask:
        (group / "masks" / name.parent).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(group / "masks" / name.parent / f"{name.name}.png"), np.zeros((8, 8), np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Crops below a folder that is itself called `frames`, which a plain replace would corrupt."""
    root = tmp_path / "frames" / "rgb"
    for label, group in GROUPS.items():
        for video in ("000", "033") if label == "FF-real" else ("000_003", "033_097"):
            for frame in (0, 7, 12):
                crop(root / group / "frames" / video / f"{frame:03d}.png", mask=label == "FF-DF")
    return root


def content(style: str) -> dict[str, object]:
    """The published JSON has backslashes and no dot; what rearrange.py writes on Linux begins with one."""
    made: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for label, group in GROUPS.items():
        for split, video in (("train", "000"), ("test", "033")):
            name = video if label == "FF-real" else {"000": "000_003", "033": "033_097"}[video]
            frames = [f"{group}/frames/{name}/{n:03d}.png" for n in (12, 0, 7)]  # scandir's order is no order
            if style == "windows":
                frames = [f.replace("/", "\\") for f in frames]
            else:
                frames = [f"./datasets/rgb/{f}" for f in frames]
            made.setdefault(label, {"train": {}, "val": {}, "test": {}})[split]["c23"] = {
                name: {"label": label, "frames": frames}
            }
    return {"FaceForensics++": made}


@pytest.mark.parametrize("style", ["windows", "linux"])
@pytest.mark.parametrize("inside", ["", "FaceForensics++", "FaceForensics++/manipulated_sequences/.."])
def test_json_in_either_slash_below_a_remapped_root(
    root: Path, tmp_path: Path, style: str, inside: str
) -> None:
    file = tmp_path / "FaceForensics++.json"
    file.write_text(json.dumps(content(style)))
    found = read_json(file, root=root / inside)
    records = found.manifest.records()
    assert (len(records), found.missing) == (18, 0)
    fakes = {r.video for r in records if r.path.count("033_097")}
    assert fakes == {"deepfakes/033_097", "face2face/033_097"}
    one = [r for r in records if r.video == "face2face/033_097"]
    assert [r.frame for r in one] == [0, 7, 12]
    assert {(r.label, r.split, r.method, r.dataset) for r in one} == {
        (Label.FAKE, "test", "face2face", "ff++_c23")
    }
    assert {(r.identity, r.method) for r in records if r.video == "original/000"} == {("ff++/000", "real")}
    assert records[0].landmarks is not None
    np.testing.assert_array_equal(records[0].landmarks, POINTS.astype(np.float32))
    masks = found.manifest.frame.filter(method="deepfakes")["mask"]
    assert all(Path(mask).is_file() for mask in masks)
    assert found.manifest.frame.filter(method="face2face")["mask"].null_count() == 6


def test_missing_files_are_rows_that_say_so(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "FaceForensics++.json"
    file.write_text(json.dumps(content("linux")))
    (root / GROUPS["FF-DF"] / "frames/000_003/007.png").unlink()
    found = read_json(file, root=root)
    assert found.missing == 1
    assert len(found.manifest.records()) == 17
    gone = found.manifest.frame.filter(status="dropped")
    assert gone["reason"].to_list() == ["missing"]
    with pytest.raises(InputError, match=r"none of its 18 crops is there.*give --root") as caught:
        read_json(file, root=tmp_path / "elsewhere")
    assert caught.value.reason == "missing"


def test_overlapping_splits_are_said_and_never_train_on_the_test(tmp_path: Path) -> None:
    """As rearrange.py writes Celeb-DF: test is val, and train holds everything."""
    names = [f"Celeb-DF-v2/Celeb-real/frames/id0_000{i}/000.png" for i in range(3)]
    for name in names:
        crop(tmp_path / name)
    video = {f"id0_000{i}": {"label": "CelebDFv2_real", "frames": [f"./{names[i]}"]} for i in range(3)}
    tested = {"id0_0002": video["id0_0002"]}
    splits = {"train": video, "val": tested, "test": tested}
    (tmp_path / "c.json").write_text(json.dumps({"Celeb-DF-v2": {"CelebDFv2_real": splits}}))
    found = read_json(tmp_path / "c.json")
    assert Counter(r.split for r in found.manifest.records()) == {"train": 2, "test": 1}
    assert any("1 crops are named by the splits test+train+val: they count as test" in n for n in found.notes)
    assert found.manifest.frame["path"].n_unique() == 3
    assert {r.identity for r in found.manifest.records()} == {"celeb-df/id0"}


def test_a_single_record_in_place_of_a_split_is_left_out_and_said(tmp_path: Path) -> None:
    crop(tmp_path / "DFDC/test/frames/abc/000.png")
    entry = {"label": "DFDC_Fake", "frames": ["./DFDC/test/frames/abc/000.png"]}
    splits = {"train": {}, "test": {"abc": entry}, "val": entry}
    (tmp_path / "DFDC.json").write_text(json.dumps({"DFDC": {"DFDC_Fake": splits}}))
    found = read_json(tmp_path / "DFDC.json")
    assert [(r.video, r.split, r.label) for r in found.manifest.records()] == [("DFDC_Fake/abc", "test", 1)]
    assert any("single record" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable JSON"),
        ("[]", "expected {DATASET"),
        ('{"X": {"X_Real": {"train": {}}}}', "names no frames"),
        ('{"X": {"X_Real": {"holdout": {}}}}', "split 'holdout'"),
        (
            '{"X": {"roop": {"test": {"v": {"label": "roop", "frames": ["a.png"]}}}}}',
            "--labels roop=0 or roop=1",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "x.json")
    assert said in str(caught.value)


def test_labels_of_df40(tmp_path: Path) -> None:
    crop(tmp_path / "simswap/cdf/frames/id0_id1_0000/000.png")
    entry = {"v": {"label": "simswap", "frames": ["simswap\\cdf\\frames\\id0_id1_0000\\000.png"]}}
    (tmp_path / "x.json").write_text(json.dumps({"simswap_cdf": {"simswap": {"test": entry}}}))
    (record,) = read_json(tmp_path / "x.json", labels={"simswap": 1}).manifest.records()
    assert (record.label, record.dataset) == (Label.FAKE, "simswap_cdf")


def test_trees_without_json(root: Path) -> None:
    crop(root / "Celeb-DF-v2/Celeb-synthesis/frames/id0_id1_0003/031.png")
    crop(root / "Celeb-DF-v2/YouTube-real/frames/00170/1234.png", points=np.zeros((68, 2)))
    crop(root / "DFDCP/method_B/frames/1_A_2/000.png", points=None)
    crop(root / "UADFV/real/frames/0000/003.png")
    crop(root / "DFDC/test/frames/abc/000.png")
    found = read_tree(root)
    rows = {(r.dataset, r.video): r for r in found.manifest.records()}
    assert rows["ff++_c23", "deepfakes/000_003"].label is Label.FAKE
    assert rows["celeb-df-v2", "Celeb-synthesis/id0_id1_0003"].identity == "celeb-df/id0"
    assert "celeb-df/id1" in found.manifest.frame["donor"].to_list()
    real = rows["celeb-df-v2", "YouTube-real/00170"]
    assert (real.label, real.frame, real.landmarks) == (Label.REAL, 1234, None)
    assert rows["dfdc-preview", "method_B/1_A_2"].method == "method_B"
    assert rows["uadfv", "real/0000"].label is Label.REAL
    assert rows["dfdc", "test/abc"].label is None  # its labels are in a list, not in its folders
    assert any("say neither real nor fake" in note for note in found.notes)
    assert any("shape (68, 2); expected (81, 2)" in note for note in found.notes)
    # The same, asked for the folder of one group.
    assert {r.video for r in read_tree(root / GROUPS["FF-F2F"]).manifest} == {
        "face2face/000_003", "face2face/033_097"
    }  # fmt: skip
    with pytest.raises(InputError, match="no pictures at"):
        read_tree(root / "UADFV/real/landmarks")


@pytest.mark.parametrize("kind", [np.int32, np.uint32, np.int64, np.float32, np.float64])
def test_bare_landmarks_of_every_machine(kind: type) -> None:
    np.testing.assert_array_equal(decode_landmarks(POINTS.astype(kind).tobytes()), POINTS)


@pytest.mark.parametrize("content_", [b"", b"\0" * 1296, b"\xff" * 100, b"\x7f" * 648])
def test_bare_landmarks_that_are_none(content_: bytes) -> None:
    with pytest.raises(InputError):
        decode_landmarks(content_)


@pytest.mark.parametrize("slash", ["\\", "/"])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_lmdb(root: Path, tmp_path: Path, slash: str, kind: type) -> None:
    with (
        lmdb.open(str(tmp_path / "db"), map_size=2**24) as database,
        database.begin(write=True) as transaction,
    ):
        base = root / "FaceForensics++"
        for path in sorted(p for p in base.rglob("*") if p.is_file()):
            inside = path.relative_to(base).as_posix().replace("/", slash)
            value = np.load(path).astype(kind).tobytes() if path.suffix == ".npy" else path.read_bytes()
            transaction.put(f"FaceForensics++\\{inside}".encode(), value)
    found = read_lmdb(tmp_path / "db", tmp_path / "out")
    direct = read_tree(root)
    assert [(r.video, r.frame, r.label) for r in found.manifest] == [
        (r.video, r.frame, r.label) for r in direct.manifest
    ]
    for record in found.manifest:
        np.testing.assert_array_equal(record.landmarks, POINTS)
        assert Path(record.path).is_relative_to(tmp_path / "out")


def test_lmdb_key_that_leaves_the_folder(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "db")) as database, database.begin(write=True) as transaction:
        transaction.put(rb"..\..\evil.png", b"x")
    with pytest.raises(InputError, match="leaves the folder"):
        read_lmdb(tmp_path / "db", tmp_path / "out")
    assert not list(tmp_path.rglob("evil.png"))


def test_lmdb_missing_and_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no data\.mdb"):
        read_lmdb(tmp_path, tmp_path / "out")
    (tmp_path / "data.mdb").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    with pytest.raises(InputError, match=r"pip install 'unseen\[lmdb\]'"):
        read_lmdb(tmp_path, tmp_path / "out")


@pytest.fixture
def loose(tmp_path: Path) -> Manifest:
    """Loose crops with landmarks, as `unseen prepare` writes them."""
    rows = []
    rng = np.random.default_rng(0)
    for dataset, video, method in (
        ("ff++_c23", "original/000", "real"),
        ("ff++_c23", "deepfakes/000_003", "deepfakes"),
        ("ff++_c23", "face2face/000_003", "face2face"),
        ("celeb-df-v2", "YouTube-real/00170", "real"),
        ("mine", "fake/clip", "swap"),
    ):
        for frame in (0, 40):
            path = tmp_path / "loose" / dataset / video / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 255, (200, 180, 3), np.uint8))
            label = Label.REAL if method == "real" else Label.FAKE
            rows.append(
                FaceRecord(
                    str(path), label, dataset, video, frame, method=method, split="test",
                    landmarks=ellipse_landmarks((90, 100), (60, 80)),
                )
            )  # fmt: skip
    return Manifest.from_records(rows, tmp_path)


def test_written_and_read_again(loose: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned = write_tree(loose, tmp_path / "tree")
    files = write_json(aligned, tmp_path / "json", start=tmp_path)
    assert {f.name for f in files} == {
        "FaceForensics++.json", "FF-DF.json", "FF-F2F.json", "Celeb-DF-v2.json", "mine.json"
    }  # fmt: skip
    text = json.loads((tmp_path / "json/FaceForensics++.json").read_text())
    frames = text["FaceForensics++"]["FF-F2F"]["test"]["c23"]["000_003"]["frames"]
    # Its loader leaves alone only what begins with a dot.
    assert frames[0] == "./tree/FaceForensics++/manipulated_sequences/Face2Face/c23/frames/000_003/000.png"
    assert text["FaceForensics++"]["FF-real"]["train"] == {"c23": {}}
    assert set(json.loads((tmp_path / "json/FF-DF.json").read_text())["FF-DF"]) == {"FF-real", "FF-DF"}
    assert "test" in json.loads((tmp_path / "json/mine.json").read_text())["mine"]["mine_Fake"]
    monkeypatch.chdir(tmp_path)
    back = read_json(tmp_path / "json/FaceForensics++.json", root=tmp_path).manifest.records()
    ours = [r for r in aligned.records() if r.dataset == "ff++_c23"]
    assert sorted((r.video, r.frame, r.label, r.split) for r in back) == sorted(
        (r.video, r.frame, r.label, r.split) for r in ours
    )
    for record in back:
        picture = cv2.imread(record.path)
        assert picture.shape == (256, 256, 3)
        assert record.landmarks is not None
        assert 0 <= record.landmarks[:68].min() < record.landmarks[:68].max() < 256


def test_their_loader_finds_landmarks_by_its_own_rule(loose: Manifest, tmp_path: Path) -> None:
    """It replaces `frames` by `landmarks` in the whole path and expects 81 whole numbers."""
    for record in write_tree(loose, tmp_path / "tree").records():
        points = np.load(record.path.replace("frames", "landmarks").replace(".png", ".npy"))
        assert points.shape == (81, 2)
        assert points.dtype.kind == "i"


def test_writing_needs_splits_and_one_face_a_frame(loose: Manifest, tmp_path: Path) -> None:
    record = loose.records()[0]
    with pytest.raises(InputError, match="needs a label and train, val or test"):
        write_json(Manifest.from_records([FaceRecord(record.path, Label.REAL, "x", "v")]), tmp_path)
    with pytest.raises(InputError, match="another face of frame 0"):
        write_tree(Manifest.from_records([record, record]), tmp_path / "tree")
