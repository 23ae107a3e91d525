from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from PIL import Image

from unseen.data.manifest import Manifest
from unseen.forge.family import Portrait
from unseen.forge.run import forge, plan
from unseen.forge.sheet import contact_sheet, preview
from unseen.forge.work import TRIM, ForgeRule
from unseen.prepare.inputs import list_inputs
from unseen.prepare.run import prepare
from unseen.prepare.work import CropRule
from unseen.types import InputError, Label

FAMILIES = ("swap", "sbi")


@pytest.fixture(scope="module")
def bench(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench")
    forge(faces, out, families=FAMILIES, workers=1)
    return out


def tree_hash(root: Path) -> dict[str, str]:
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "journal.jsonl"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def kept(bench: Path) -> pl.DataFrame:
    return pl.read_parquet(bench / "manifest.parquet").filter(pl.col("status") == "kept")


def test_a_bench_reads_as_records_with_sources_and_masks(bench: Path, faces: Path) -> None:
    manifest = Manifest.read(bench / "manifest.parquet")
    manifest.check(needs=("label", "method", "identity", "split", "landmarks"))
    records = manifest.records()
    reals = {r.path: r for r in records if r.label is Label.REAL}
    fakes = [r for r in records if r.label is Label.FAKE]
    assert len(reals) == 10
    assert len(fakes) >= 16  # the gate may drop a few of twenty
    for record in fakes:
        assert record.method in FAMILIES
        source = reals[record.source or ""]
        assert source.identity == record.identity
        assert source.split == record.split
        assert Path(record.path).parts[-3:-1] == (record.method, record.identity)
    for row in kept(bench).filter(pl.col("label") == 1).iter_rows(named=True):
        image, mask = cv2.imread(str(bench / row["path"])), cv2.imread(str(bench / row["mask"]), 0)
        source = cv2.imread(str(bench / row["source"]))
        assert image.shape[:2] == mask.shape == source.shape[:2]
        away = cv2.dilate(mask, np.ones((25, 25), np.uint8)) == 0
        # What was not forged went through the same path: only JPEG's own blocks at the edge may differ.
        assert np.abs(image.astype(int) - source)[away].mean() < 0.3
        assert (
            mask[
                int(row["region_y0"]) : int(row["region_y1"]), int(row["region_x0"]) : int(row["region_x1"])
            ].max()
            > 127
        )
        assert json.loads(row["parameters"]) is not None
        assert row["seed"] >= 0
    original = cv2.imread(str(next(iter(faces.parent.glob("*.jpg")))))
    assert source.shape[0] == original.shape[0] - TRIM


def test_no_person_is_in_two_splits_not_even_as_donor(bench: Path) -> None:
    rows = kept(bench)
    assert rows["donor"].drop_nulls().len() >= 8
    seen: dict[str, str] = {}
    for column in ("identity", "donor"):
        for who, split in rows.select(column, "split").drop_nulls().iter_rows():
            assert seen.setdefault(who, split) == split
    assert (rows.drop_nulls("donor")["donor"] != rows.drop_nulls("donor")["identity"]).all()
    assert set(rows["split"]) == {"train", "val", "test"}
    assert rows.group_by("split").agg(pl.col("identity").n_unique())["identity"].min() >= 2


def test_a_list_says_whose_photographs_they_are(people: list[Portrait], tmp_path: Path) -> None:
    """The way of docs/forge.md from a folder of photographs to a bench: list, prepare, forge."""
    lines = ["path,label,identity"]
    for number, portrait in enumerate(people[:3]):
        for shot in range(2):
            path = tmp_path / "photographs" / f"{number}_{shot}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(portrait.image[:, shot:]).save(path, quality=97)
            lines.append(f"photographs/{path.name},real,volunteer:{number:03}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    crops = prepare(list_inputs([tmp_path / "list.csv"]), tmp_path / "crops", rule=CropRule(), workers=1)
    made = forge(crops.manifest, tmp_path / "bench", families=("sbi",), workers=1)
    assert made.kept["real"] == 6 and sum(made.people.values()) == 3
    rows = kept(tmp_path / "bench")
    assert set(rows["identity"]) == {"volunteer:000", "volunteer:001", "volunteer:002"}
    folders = {Path(path).parent.name for path in rows["path"]}  # no colon, which some file systems refuse
    assert len(folders) == 3 and not any(":" in name for name in folders)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_with_more_workers_it_ends_with_the_same_bytes(
    bench: Path, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = (
        "import sys\nfrom unseen.forge.run import forge\n"
        "if __name__ == '__main__':\n"
        "    forge(sys.argv[1], sys.argv[2], families=('swap', 'sbi'), workers=2)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script), str(faces), str(out)], start_new_session=True)
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.parquet").exists(), "it was too fast to be killed in the middle"
    with journal.open("ab") as file:
        file.write(b'{"file": "cut sho')
    made = forge(faces, out, families=FAMILIES, workers=2)
    assert made.skipped > 0
    assert tree_hash(out) == tree_hash(bench)


def test_a_seed_belongs_to_a_name_and_not_to_an_order(faces: Path) -> None:
    def jobs(**more: object) -> dict[str, tuple[int, str | None]]:
        settings: dict[str, object] = {"families": ("swap", "sbi"), "per_identity": 1, "rule": ForgeRule()}
        found = plan(faces, **(settings | more)).jobs  # type: ignore[arg-type]
        return {job.name: (job.seed, job.donor.path if job.donor else None) for job in found}

    plain = jobs()
    assert jobs(families=("sbi", "swap")) == plain
    more = jobs(per_identity=2)
    assert {name: more[name] for name in plain} == plain
    assert len(more) == 10 + 2 * 20
    other = jobs(rule=ForgeRule(seed=1))
    assert all(other[name] != plain[name] for name in plain if not name.startswith("real/"))


def test_families_are_added_to_a_bench(faces: Path, tmp_path: Path) -> None:
    first = forge(faces, tmp_path, families=("sbi",), workers=1)
    assert first.made == 20
    again = forge(faces, tmp_path, families=("sbi",), workers=1, per_identity=2)
    assert (again.made, again.skipped) == (10, 20)
    with pytest.raises(InputError, match="seed was 0, is 1") as caught:
        forge(faces, tmp_path, families=("sbi",), seed=1)
    assert caught.value.reason == "other_rule"


def changed(faces: Path, out: Path, *columns: pl.Expr, rows: int | None = None) -> Path:
    frame = Manifest.read(faces).frame.head(rows or 99).with_columns(*columns)
    path = out / "manifest.parquet"
    Manifest(frame, faces.parent).write(path)
    return path


def test_one_identity_only(faces: Path, tmp_path: Path) -> None:
    path = changed(faces, tmp_path, rows=1)
    with pytest.raises(InputError, match=r"one identity only .* choose from texture, restore, sbi") as caught:
        forge(path, tmp_path / "out", families=("swap",))
    assert caught.value.reason == "one_identity"
    assert not (tmp_path / "out").exists()
    jobs = plan(path, families=("sbi",), per_identity=1, rule=ForgeRule()).jobs
    assert [job.method for job in jobs] == ["real", "sbi"]


def test_what_cannot_be_used_is_counted(faces: Path, tmp_path: Path) -> None:
    frame = Manifest.read(faces).frame
    row = pl.int_range(len(frame))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    path = changed(
        faces,
        tmp_path,
        pl.when(row == 0).then(None).otherwise(pl.col("landmarks")).alias("landmarks"),
        pl.when(row == 1).then(pl.lit(str(broken))).otherwise(pl.col("path")).alias("path"),
        pl.when(row == 2)
        .then(pl.lit("/nowhere.jpg"))
        .when(row == 1)
        .then(pl.lit(str(broken)))
        .otherwise(pl.col("path"))
        .alias("path2"),
        pl.when(row == 3)
        .then(pl.col("landmarks").list.eval(pl.element() * 0.05))
        .when(row == 0)
        .then(None)
        .otherwise(pl.col("landmarks"))
        .alias("landmarks2"),
    )
    table = Manifest.read(path).frame
    table = table.with_columns(path=pl.col("path2"), landmarks=pl.col("landmarks2")).drop(
        "path2", "landmarks2"
    )
    Manifest(table, faces.parent).write(path)
    found = plan(path, families=("sbi",), per_identity=1, rule=ForgeRule())
    assert sorted(row["reason"] for row in found.rows) == [
        "face_too_small",
        "no_landmarks",
        "unreadable",
        "unreadable",
    ]
    assert sum(job.method == "real" for job in found.jobs) == 6


def test_nothing_usable_says_why(faces: Path, tmp_path: Path) -> None:
    path = changed(faces, tmp_path, pl.lit(None, pl.Int8).alias("label"))
    with pytest.raises(InputError, match=r"10 no_label.*unseen prepare --label real"):
        plan(path, families=("sbi",), per_identity=1, rule=ForgeRule())


def test_half_split_manifests_are_refused(faces: Path, tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    path = changed(faces, tmp_path, pl.when(row < 3).then(pl.lit("train")).alias("split"))
    with pytest.raises(InputError, match="some rows have a split and some have none"):
        plan(path, families=("sbi",), per_identity=1, rule=ForgeRule())


def test_given_splits_are_kept_and_a_lonely_person_is_dropped(faces: Path, tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    split = pl.when(row == 0).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split")
    path = changed(faces, tmp_path, split, rows=3)
    made = forge(path, tmp_path / "out", families=("swap",), workers=1)
    assert made.people == {"test": 1, "train": 2}
    assert made.dropped.get("no_donor") == 1


def test_a_contact_sheet(faces: Path, tmp_path: Path) -> None:
    sheet = contact_sheet([[np.zeros((40, 20, 3), np.uint8), "none"]], ["a", "b"], cell=64)
    assert sheet.shape[1] == 2 * 64 + 3 * 2
    path = preview(faces, tmp_path / "sheet.png", families=("swap", "sbi"), people=2, cell=96)
    width, height = Image.open(path).size
    assert width == 3 * 96 + 4 * 3
    assert height > 2 * 96
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        preview(faces, tmp_path / "sheet.gif")
