"""Packed shards: the same pixels in the same order as loose crops, and names for what is wrong."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.faces import faces_file, tiny
from unseen.cli import main
from unseen.data.dataset import FaceDataset, read_crop
from unseen.data.manifest import Manifest
from unseen.data.masks import read_mask
from unseen.data.places import piece, read_place
from unseen.evaluate.run import fingerprint
from unseen.explain.views import forged_regions, view_records
from unseen.prepare.audit import audit
from unseen.prepare.pack import check_packed, pack
from unseen.recipe import read_recipe
from unseen.train.fit import train
from unseen.types import FaceRecord, InputError, Label

__all__ = ["faces_file", "tiny"]


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    """Seven noisy crops of 8 kB; two are fakes, of a row and of a file elsewhere."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "loose"
    (folder / "crops").mkdir(parents=True)
    records = []
    for i in range(7):
        path = folder / "crops" / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (52, 52, 3), np.uint8))
        points = rng.random((81, 2), np.float32)
        records.append(FaceRecord(str(path), Label.REAL, "made", f"clip{i}", landmarks=points))
    (tmp_path / "far").mkdir()
    cv2.imwrite(str(tmp_path / "far" / "x.png"), rng.integers(0, 255, (52, 52, 3), np.uint8))
    for i, source in ((5, records[0].path), (6, str(tmp_path / "far" / "x.png"))):
        records[i] = replace(records[i], label=Label.FAKE, method="swap", source=source)
    Manifest.from_records(records, folder).write(folder / "manifest.parquet")
    return folder / "manifest.parquet"


def small(manifest: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pack into shards of 20 kB; return the number of shards, and of those made now."""
    from unseen.prepare import pack as module

    plan = module._plan
    monkeypatch.setattr(module, "_plan", lambda manifest, most: plan(manifest, most // 50))
    made = pack(Manifest.read(manifest), out, shard_mb=1, workers=1)
    monkeypatch.undo()
    return [made.shards, made.made]


def test_rows_pixels_and_order_are_the_same(
    loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small(loose, tmp_path / "packed", monkeypatch) == [3, 3]
    before = Manifest.read(loose)
    after = Manifest.read(tmp_path / "packed" / "manifest.parquet")
    assert fingerprint(before.records()) == fingerprint(after.records())
    for a, b in zip(before.records(), after.records(), strict=True):
        one, two = read_crop(a, source=True), read_crop(b, source=True)
        assert np.array_equal(one.image, two.image) and a.path != b.path
        assert np.array_equal(one.landmarks, two.landmarks)
        assert (one.source is None) == (two.source is None)
        if one.source is not None:
            assert np.array_equal(one.source, two.source)
        assert piece(b.path).name == f"crops/{Path(a.path).name}"
    assert before.frame.drop("path", "source").equals(after.frame.drop("path", "source"))
    after.check()
    assert check_packed(after) == []


def test_a_shard_is_a_tar_file_of_pictures_and_what_is_known_of_them(
    loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(loose, tmp_path / "packed", monkeypatch)
    record = Manifest.read(loose).records()[5]
    members = {}
    for shard in sorted((tmp_path / "packed" / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                members[member.name] = tar.extractfile(member).read()
    assert members["crops/5.png"] == Path(record.path).read_bytes()
    facts = json.loads(members["crops/5.json"])
    assert (facts["label"], facts["method"], facts["source"]) == (1, "swap", "crops/0.png")
    assert np.array_equal(np.float32(facts["landmarks"]), record.landmarks)
    elsewhere = [name for name in members if name.startswith("elsewhere/")]
    assert len(elsewhere) == 1 and str(tmp_path) not in elsewhere[0]
    assert len(members) == 8 + 7  # the picture elsewhere is no row: nothing is known of it


@pytest.fixture
def masked(loose: Path) -> Path:
    """The same crops; the two fakes have masks, and the last real one shares the first of them."""
    import polars as pl

    (loose.parent / "masks").mkdir()
    for i in (5, 6):
        mask = np.zeros((52, 52), np.uint8)
        mask[10 : 10 + 4 * i, 20:40] = 255
        cv2.imwrite(str(loose.parent / "masks" / f"{i}.png"), mask)
    frame = Manifest.read(loose).frame
    names = [None] * 4 + ["masks/5.png", "masks/5.png", "masks/6.png"]
    Manifest(frame.with_columns(pl.Series("mask", names)), loose.parent).write(loose)
    return loose


def test_masks_are_packed_beside_their_crops(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small(masked, tmp_path / "packed", monkeypatch) == [3, 3]
    before, after = Manifest.read(masked), Manifest.read(tmp_path / "packed" / "manifest.parquet")
    places = after.paths("mask")
    assert places[:4] == [None] * 4 and places[4] == places[5] and piece(places[5]).name == "crops/4.mask.png"
    for one, two in zip(before.paths("mask")[4:], places[4:], strict=True):
        assert Path(one).read_bytes() == read_place(two)
        assert np.array_equal(read_mask(one), read_mask(two)) and read_mask(two).max() == 255
    samples: dict[str, set[str]] = {}
    for shard in sorted((tmp_path / "packed" / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for name in tar.getnames():
                stem, _, kind = name.partition(".")
                samples.setdefault(f"{shard.name}/{stem}", set()).add(kind)
            if "crops/6.json" in tar.getnames():
                assert json.load(tar.extractfile("crops/6.json"))["mask"] == "crops/6.mask.png"
    # What belongs together is in one shard, as WebDataset wants it.
    assert {k.rpartition("/")[2]: v for k, v in samples.items()}["6"] == {"png", "json", "mask.png"}
    assert len(samples) == 8
    one, two = (view_records(m.records(), regions=forged_regions(m)) for m in (before, after))
    assert [v.mask is None for v in two] == [True] * 4 + [False] * 3
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(one[4:], two[4:], strict=True))


def test_a_bad_mask_is_named(masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(masked, tmp_path / "packed", monkeypatch)
    packed = Manifest.read(tmp_path / "packed" / "manifest.parquet")
    place = packed.paths("mask")[6]
    shard, data = Path(piece(place).shard), bytearray(Path(piece(place).shard).read_bytes())
    data[piece(place).start + 30] ^= 1
    shard.write_bytes(bytes(data))
    (said,) = check_packed(packed)
    assert "crops/6.mask.png" in said
    with pytest.raises(InputError, match=r"not a readable mask .*6\.mask\.png.*checksum"):
        view_records(packed.records(), regions=forged_regions(packed))
    (found,) = [f for f in audit(packed).findings if f.code == "bad_mask"]
    assert found.number == 1
    (masked.parent / "masks" / "5.png").unlink()
    with pytest.raises(InputError, match=r"1 of 10 crops or masks are not there, such as .*5\.png"):
        pack(Manifest.read(masked), tmp_path / "again")


def test_a_manifest_written_elsewhere_still_finds_its_masks(masked: Path, tmp_path: Path) -> None:
    Manifest.read(masked).where(label=1).write(tmp_path / "fakes" / "manifest.csv")
    moved = Manifest.read(tmp_path / "fakes" / "manifest.csv")
    assert [Path(place).is_file() for place in moved.paths("mask")] == [True, True]


def test_packing_goes_on_where_it_was_killed(
    loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "packed"
    small(loose, out, monkeypatch)
    whole = {p.name: p.read_bytes() for p in (out / "shards").iterdir()}
    table = (out / "manifest.parquet").read_bytes()
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(lines[:-1]) + lines[-1][:40])  # killed in a line
    (out / "shards" / "000000.tar").unlink()
    (out / "shards" / ".000002.tar.partial").write_bytes(b"half")
    assert small(loose, out, monkeypatch) == [3, 2]
    assert {p.name: p.read_bytes() for p in (out / "shards").iterdir()} == whole
    assert (out / "manifest.parquet").read_bytes() == table
    assert small(loose, out, monkeypatch) == [3, 0]
    crop = loose.parent / "crops" / "6.png"
    cv2.imwrite(str(crop), np.zeros((52, 52, 3), np.uint8))
    assert small(loose, out, monkeypatch)[1] == 1  # the shard of the crop that changed
    with pytest.raises(InputError, match="other rule"):
        pack(Manifest.read(loose), out, shard_mb=7)


def test_what_is_wrong_is_named(loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "packed"
    small(loose, out, monkeypatch)
    packed = Manifest.read(out / "manifest.parquet")
    record = packed.records()[1]
    shard = Path(piece(record.path).shard)
    data = bytearray(shard.read_bytes())
    data[piece(record.path).start + 100] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"000000\.tar: the .* bytes of crops/1\.png .*checksum") as error:
        read_crop(record)
    assert error.value.reason == "damaged"
    assert len(check_packed(packed)) == 1
    shard.write_bytes(bytes(data[:9000]))  # cut by a full disk
    assert {e.split(" bytes of ")[1].split(" ")[0] for e in check_packed(packed)} >= {"crops/1.png"}
    shard.unlink()
    with pytest.raises(InputError, match=r"000000\.tar, which holds crops/1\.png: no such file"):
        read_crop(record)
    (loose.parent / "crops" / "3.png").unlink()
    with pytest.raises(InputError, match=r"1 of 8 crops are not there, such as .*3\.png") as error:
        pack(Manifest.read(loose), tmp_path / "again")
    assert error.value.reason == "missing"


def test_object_storage(loose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    small(loose, tmp_path / "packed", monkeypatch)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "packed"), "/bucket/packed", recursive=True)
    far = Manifest.read(Path("memory://bucket/packed/manifest.parquet"))  # as the command line hands it over
    near = Manifest.read(tmp_path / "packed" / "manifest.parquet")
    assert far.records()[5].path.startswith("memory://bucket/packed/shards/000001.tar@")
    for a, b in zip(near.records(), far.records(), strict=True):
        assert np.array_equal(read_crop(a, source=True).image, read_crop(b, source=True).image)
    assert len(FaceDataset(far.where(label=1).records())) == 2
    far.check()
    memory.rm("/bucket/packed/shards/000001.tar")
    with pytest.raises(InputError, match="no such file"):
        read_crop(far.records()[5])
    with pytest.raises(InputError, match="driver"):
        Manifest.read("nosuch://bucket/manifest.parquet")


def test_training_from_shards_ends_with_the_same_bits(
    tiny: Callable[..., dict], faces_file: Path, tmp_path: Path
) -> None:
    packed = pack(Manifest.read(faces_file), tmp_path / "packed").manifest
    runs = [
        train(read_recipe(tiny(), [f"data.manifest={table}", "trainer.max_steps=2"]), tmp_path / name)
        for name, table in (("loose", faces_file), ("shards", packed))
    ]
    a, b = (load_file(run / "weights.safetensors") for run in runs)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_command(loose: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(loose), "--out", str(tmp_path / "packed"), "--workers", "1"]) == 0
    assert "8 crops in 1 shards" in capsys.readouterr().out
    table = str(tmp_path / "packed" / "manifest.parquet")
    assert main(["pack", table, "--check"]) == 0
    shard = tmp_path / "packed" / "shards" / "000000.tar"
    shard.write_bytes(b"x" * shard.stat().st_size)
    assert main(["pack", table, "--check"]) == 1
    assert "8 bad crops" in capsys.readouterr().out
    assert main(["pack", str(loose)]) == 2
