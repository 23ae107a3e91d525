from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from unseen.data.manifest import Manifest, rows_of
from unseen.types import FaceRecord, InputError, Label


def make_records(folder: Path, count: int = 12) -> list[FaceRecord]:
    rng = np.random.default_rng(0)
    records = []
    for i in range(count):
        landmarks = (300 * rng.random((81, 2))).astype(np.float32)
        if i % 3 == 0:
            landmarks[68:] = np.nan
        records.append(
            FaceRecord(
                str(folder / "crops" / f'{i}, "{i}".jpg'),
                label=None if i == 5 else Label(i % 2),
                dataset="" if i % 2 else 'a,"b"',
                video=f"real/00{i // 4}",
                frame=i,
                time=float(rng.random()) / 3,
                method=["real", "007"][i % 2],
                split=None,
                identity=f"{i // 2:03d}",
                source=str(folder / "crops" / "0.jpg") if i % 2 else None,
                landmarks=None if i == 7 else landmarks,
                box=None if i == 8 else landmarks[:2].ravel(),
            )
        )
    return records


def assert_same(one: FaceRecord, other: FaceRecord) -> None:
    for field in FaceRecord.__slots__:
        a, b = getattr(one, field), getattr(other, field)
        if isinstance(a, np.ndarray):
            assert b.dtype == np.float32 and np.array_equal(a, b, equal_nan=True), field
        else:
            assert a == b and type(a) is type(b), field


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_round_trip_is_exact(tmp_path: Path, kind: str) -> None:
    records = make_records(tmp_path)
    manifest = Manifest.from_records(records, tmp_path)
    extra = manifest.frame.with_columns(
        pl.Series("status", ["kept"] * 12),
        pl.Series("blur", [0.1 * i for i in range(12)]),
        pl.Series("note", ["", None, "x,y", 'a "b"', "\n", " ", "1", "null", "NaN", "true", "é", "0"]),
        pl.Series("code", [f"{i:03d}" for i in range(12)]),
        pl.Series("tries", [*range(11), None]),
        pl.Series("gain", [1e-9, 1.5, None, *[2.25] * 9]),
        pl.Series("good", [True, False] * 6),
    )
    path = tmp_path / f"m.{kind}"
    Manifest(extra, tmp_path).write(path)
    again = Manifest.read(path)
    for one, other in zip(records, again.records(), strict=True):
        assert_same(one, other)
    assert again.frame.schema == extra.schema
    assert again.frame.drop("path", "source").equals(extra.drop("path", "source"), null_equal=True)
    first = path.read_bytes()
    again.write(path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing half-written is left


def test_paths_are_relative_below_the_manifest_and_follow_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    inside, outside = tmp_path / "a" / "crops" / "1.jpg", tmp_path / "elsewhere" / "2.jpg"
    manifest = Manifest.from_records([FaceRecord(str(inside)), FaceRecord(str(outside))])
    manifest.write(tmp_path / "a" / "m.csv")
    assert Manifest.read(tmp_path / "a" / "m.csv").frame["path"].to_list() == ["crops/1.jpg", str(outside)]
    Manifest.read(tmp_path / "a" / "m.csv").write(tmp_path / "b" / "m.parquet")  # another folder: made anew
    moved = Manifest.read(tmp_path / "b" / "m.parquet")
    assert [record.path for record in moved] == [str(inside), str(outside)]
    (tmp_path / "a").rename(tmp_path / "c")
    assert Manifest.read(tmp_path / "c" / "m.csv").records()[0].path == str(
        tmp_path / "c" / "crops" / "1.jpg"
    )


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.csv"
    Manifest.from_records([FaceRecord("a.jpg")]).write(path)
    before = path.read_bytes()

    def fail(self: pl.DataFrame, file: Path) -> None:
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pl.DataFrame, "write_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        Manifest.from_records([FaceRecord("b.jpg")]).write(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_only_path_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.jpg,1\nb.jpg,\n")
    first, second = Manifest.read(tmp_path / "m.csv")
    assert (first.label, first.video, first.identity, first.landmarks) == (Label.FAKE, "", None, None)
    assert second.label is None and second.path == str(tmp_path / "b.jpg")
    (tmp_path / "m.csv").write_text("file,label\na.jpg,1\n")
    with pytest.raises(InputError, match=r"m\.csv: no column 'path'; columns are file, label"):
        Manifest.read(tmp_path / "m.csv")


def test_rows_that_were_not_kept_are_no_records() -> None:
    frame = pl.DataFrame({"path": ["a", "", "c"], "label": [0, 9, 1], "status": ["kept", "no_face", None]})
    manifest = Manifest(frame, Path("/x"))
    assert len(manifest) == 3 and [r.path for r in manifest.records()] == ["/x/a", "/x/c"]
    manifest.check(files=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na,0\nb,maybe\n", r"m\.csv row 2: label 'maybe'; expected 0 \(real\) or 1 \(fake\)"),
        ("path,frame\na,1\nb,2\nc,2.5\n", r"row 3: frame '2\.5'; expected Int64"),
        ("path,time\na,soon\n", r"row 1: time 'soon'"),
        ('path,box\na,"[1,2,3,4]"\nb,"[1,2"\n', r"row 2: box '\[1,2'; expected a JSON list"),
        ("path,box\na,left\n", r"row 1: box 'left'"),
        ("path,label\na,0,7\n", "not a readable manifest"),
        ("", "not a readable manifest"),
    ],
)
def test_csv_that_does_not_fit_is_an_error_with_its_row(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        Manifest.read(tmp_path / "m.csv")


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such manifest"):
        Manifest.read(tmp_path / "m.parquet")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="not a readable manifest"):
        Manifest.read(tmp_path / "m.parquet")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(InputError, match="a folder"):
        Manifest.read(tmp_path / "d.csv")
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        Manifest.read(tmp_path / "m.txt")
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        Manifest.from_records([]).write(tmp_path / "m.json")


def test_where_takes_values_lists_functions_and_none() -> None:
    frame = pl.DataFrame(
        {
            "path": list("abcd"),
            "label": [0, 1, 1, 0],
            "split": ["train", "val", None, "train"],
            "blur": [1.0, 5, 9, 2],
        }
    )
    manifest = Manifest(frame, Path("/x"))

    def names(**wanted: object) -> str:
        return "".join(manifest.where(**wanted).frame["path"])

    assert names(label=Label.FAKE) == "bc"
    assert names(label=0, split="train") == "ad"
    assert names(split=["val", None]) == "bc"
    assert names(split=None) == "c"
    assert names(blur=lambda value: value > 2) == "bc"
    assert names() == "abcd"
    with pytest.raises(InputError, match=r"no column 'labels', did you mean 'label'\?"):
        manifest.where(labels=0)


def test_check_names_rows_and_mends(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    good = pl.DataFrame(
        {"path": ["a", "b"], "label": [0, 1], "landmarks": [[0.0] * 162, None], "box": [[0.0] * 4] * 2}
    )
    Manifest(good, tmp_path).check()

    def complaint(**columns: list[object]) -> tuple[str, str]:
        with pytest.raises(InputError) as caught:
            Manifest(
                good.with_columns(pl.Series(k, v) for k, v in columns.items()), tmp_path, name="m.csv"
            ).check()
        return str(caught.value), caught.value.reason

    assert complaint(label=[0, 2]) == ("m.csv row 2: label 2; expected 0 (real) or 1 (fake)", "bad_label")
    assert complaint(label=[None, 1]) == ("m.csv row 1: no label; expected 0 (real) or 1 (fake)", "no_label")
    assert (
        complaint(landmarks=[[0.0] * 136, None])[0] == "m.csv row 1: landmarks of 136 numbers; expected 162"
    )
    assert complaint(box=[[0.0] * 4, [0.0]])[0] == "m.csv row 2: box of 1 numbers; expected 4"
    text, reason = complaint(path=["a", "a"])
    assert "row 2: path a again, as in row 1" in text and reason == "duplicate"
    text, reason = complaint(path=["a", "gone"])
    assert "row 2: no file" in text and "gone" in text and reason == "missing"
    assert complaint(path=["a", None])[1] == "no_path"
    text, reason = complaint(identity=["p", "p"], split=["train", "test"])
    assert "row 2: identity p in split test, but in train in row 1" in text and reason == "leak"
    with pytest.raises(InputError, match="no column 'identity'"):
        Manifest(good, tmp_path).check(needs=("identity",))


def test_check_lists_five_findings_and_counts_the_rest(tmp_path: Path) -> None:
    frame = pl.DataFrame({"path": [f"{i}" for i in range(30)], "label": [0] * 30})
    with pytest.raises(InputError) as caught:
        Manifest(frame, tmp_path).check()
    lines = str(caught.value).splitlines()
    assert len(lines) == 6 and "row 1:" in lines[0] and lines[-1] == "and 25 more"
    Manifest(frame, tmp_path).check(files=False)


def test_records_refuse_what_check_would() -> None:
    with pytest.raises(InputError, match="manifest row 2: label 3"):
        Manifest(pl.DataFrame({"path": ["a", "b"], "label": [0, 3]}), Path()).records()
    with pytest.raises(InputError, match="row 1: landmarks of 10 numbers; expected 162"):
        Manifest(pl.DataFrame({"path": ["a"], "landmarks": [[1.0] * 10]}), Path()).records()


def people(count: int) -> Manifest:
    rng = np.random.default_rng(1)
    who = [f"p{i:03d}" for i in rng.integers(0, count, 40 * count)]
    return Manifest(pl.DataFrame({"path": [f"{i}" for i in range(len(who))], "identity": who}), Path())


def test_split_keeps_people_together_in_the_asked_shares() -> None:
    manifest = people(50)
    split = manifest.split(seed=3)
    by_person = split.frame.group_by("identity").agg(pl.col("split").unique())
    assert (by_person["split"].list.len() == 1).all()
    counts = dict(by_person.explode("split")["split"].value_counts().rows())
    assert counts == {"train": 40, "val": 5, "test": 5}
    split.check(needs=(), files=False)
    assert split.frame.equals(manifest.split(seed=3).frame)
    assert not split.frame.equals(manifest.split(seed=4).frame)
    # In whatever order the rows are.
    turned = Manifest(manifest.frame.reverse(), Path()).split(seed=3)
    assert turned.frame.reverse().equals(split.frame)


@pytest.mark.parametrize("count", [3, 4, 7, 10, 33])
def test_no_split_is_left_empty(count: int) -> None:
    frame = people(count).split({"train": 0.8, "val": 0.1, "test": 0.1}).frame
    counts = dict(frame.unique("identity")["split"].value_counts().rows())
    assert set(counts) == {"train", "val", "test"} and sum(counts.values()) == count
    assert counts["train"] >= counts["val"] and counts["train"] >= counts["test"]


def test_split_keeps_donors_and_videos_together() -> None:
    frame = pl.DataFrame(
        {
            "path": [f"{i}" for i in range(10)],
            "identity": ["a", "b", "c", "d", "e", "a", None, None, None, None],
            "donor": [None, None, None, None, None, "b", None, None, None, None],
            "video": [None] * 6 + ["v", "v", "w", None],
            "dataset": [None] * 6 + ["x", "x", "x", None],
        },
        schema_overrides={"donor": pl.String},
    )
    for seed in range(8):
        part = Manifest(frame, Path()).split({"train": 0.5, "test": 0.5}, seed=seed).frame["split"]
        assert part[0] == part[1] == part[5]  # b gave the face for a picture of a
        assert part[6] == part[7]


def test_split_says_when_there_are_too_few_people() -> None:
    with pytest.raises(InputError, match="2 people for 3 splits"):
        Manifest(pl.DataFrame({"path": ["a", "b"]}), Path()).split()
    with pytest.raises(InputError, match="positive"):
        people(5).split({"train": 1.0, "val": 0.0})


@pytest.mark.parametrize("label", [0.5, float("nan"), 1.2, float("inf")])
def test_a_label_between_the_classes_is_refused(label: float) -> None:
    rows = pl.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [0.0, None, label]})
    with pytest.raises(InputError, match=r"m row 3: label .*; expected 0 \(real\) or 1 \(fake\)"):
        Manifest(rows, Path(), name="m")
    assert Manifest(rows.head(2), Path()).frame["label"].to_list() == [0, None]


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    rows = make_records(tmp_path, 3)
    some = [replace(row, split=split) for row, split in zip(rows, ("train", "val", None), strict=True)]
    assert rows_of(some, "val", "m") == [some[1]]
    assert rows_of(some, None, "m") == some
    with pytest.raises(InputError, match=r"m: no rows of split 'test' \(there are: train, val\)"):
        rows_of(some, "test", "m")
    with pytest.raises(InputError, match=r"no row has one; .*Manifest\.split"):
        rows_of(rows, "test", "m")
    with pytest.raises(InputError, match="no crop"):
        rows_of([], None, "m")
