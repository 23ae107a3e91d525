"""The store of primary regions: what is written comes back, and what is damaged is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unseen.data.regions import RULE, SHARDS, FaceRegions, RegionStore, pack_shard, region_key
from unseen.types import FaceRecord, InputError

ZOO = {"version": 1, "fusion": {"threshold": 0.3}, "zoo": [{"name": "a"}, {"name": "b"}]}


def row(key: str, *, size: tuple[int, int] = (50, 40), seed: int = 0) -> FaceRegions:
    rng = np.random.default_rng(seed)
    return FaceRegions(
        key,
        f"stamp of {key}",
        size,
        (4, 10, 36, 50),
        rng.integers(0, 256, (16, 16), dtype=np.uint8),
        (rng.random((3, 3)).astype(np.float16), rng.random((5, 4)).astype(np.float16)),
        rng.random((2, 2, 3)).astype(np.float32),
    )


def write(folder: Path, rows: list[FaceRegions], *, number: int = 0, rule: dict = ZOO) -> Path:
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    (folder / RULE).write_text(json.dumps(ZOO))
    path = folder / SHARDS / f"{number:05d}.regions"
    path.write_bytes(pack_shard(rule, rows))
    return path


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    rows = [row(f"swap/{i}.jpg", seed=i) for i in range(3)]
    write(tmp_path, rows[:2])
    write(tmp_path, rows[2:], number=1)
    store = RegionStore(tmp_path)
    assert store.keys == [r.key for r in rows]
    for known in rows:
        found = store.read(known.key)
        assert (found.key, found.stamp, found.size, found.window) == (
            known.key,
            known.stamp,
            known.size,
            known.window,
        )
        assert np.array_equal(found.rank, known.rank)
        assert all(np.array_equal(a, b) for a, b in zip(found.maps, known.maps, strict=True))
        assert np.array_equal(found.places, known.places)
        assert store.has(known.key, known.stamp)
        assert not store.has(known.key, "changed")


def test_a_later_shard_replaces_what_an_earlier_one_says(tmp_path: Path) -> None:
    write(tmp_path, [row("a.jpg", seed=1)])
    write(tmp_path, [row("a.jpg", seed=2)], number=1)
    assert np.array_equal(RegionStore(tmp_path).read("a.jpg").rank, row("a.jpg", seed=2).rank)


def test_a_face_is_known_by_the_longest_end_of_its_path(tmp_path: Path) -> None:
    write(tmp_path, [row("swap/0.jpg", seed=1), row("0.jpg", seed=2)])
    store = RegionStore(tmp_path)
    for path, seed in (("/crops/swap/0.jpg", 1), ("swap/0.jpg", 1), ("/crops/other/0.jpg", 2)):
        found = store.find(FaceRecord(path))
        assert found is not None
        assert np.array_equal(found.rank, row("", seed=seed).rank)
        assert found.maps == ()
    assert FaceRecord("/crops/swap/1.jpg") not in store
    assert store.find(FaceRecord("1.jpg")) is None


def test_keys_are_paths_from_the_manifest() -> None:
    assert region_key("/data/crops/swap/0.jpg", Path("/data/crops")) == "swap/0.jpg"
    assert region_key("/elsewhere/0.jpg", Path("/data/crops")) == "/elsewhere/0.jpg"


def test_attention_covers_the_window_and_nothing_else() -> None:
    known = FaceRegions("a", "", (6, 8), (2, 1, 6, 5), np.array([[1, 2], [3, 4]], np.uint8))
    whole = known.attention((6, 8))
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 2:4], expected[1:3, 4:6], expected[3:5, 2:4], expected[3:5, 4:6] = 1, 2, 3, 4
    assert np.array_equal(whole, expected)
    with pytest.raises(InputError, match="8 x 6") as error:
        known.attention((64, 64, 3)[:2])
    assert error.value.reason == "stale_regions"


def test_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prepare primary-regions") as error:
        RegionStore(tmp_path)
    assert error.value.reason == "missing"
    (tmp_path / RULE).write_text("{")
    with pytest.raises(InputError, match="damaged") as error:
        RegionStore(tmp_path)
    assert error.value.reason == "unreadable"


def test_a_truncated_shard_is_said_and_what_is_whole_stays_usable(tmp_path: Path) -> None:
    rows = [row(f"{i}.jpg", seed=i) for i in range(4)]
    write(tmp_path, rows[:1])
    cut = write(tmp_path, rows[1:], number=1)
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"00001\.regions.*cut off.*again") as error:
        RegionStore(tmp_path)
    assert error.value.reason == "truncated"
    store = RegionStore(tmp_path, lenient=True)
    assert store.keys == ["0.jpg", "1.jpg", "2.jpg"]
    assert np.array_equal(store.read("2.jpg").rank, rows[2].rank)
    assert [path for path, _ in store.damaged] == [cut]


@pytest.mark.parametrize("left", [0, 5, 20, 60])
def test_a_shard_cut_in_its_header(tmp_path: Path, left: int) -> None:
    write(tmp_path, [row("0.jpg")])
    cut = write(tmp_path, [row("1.jpg")], number=1)
    cut.write_bytes(cut.read_bytes()[:left])
    with pytest.raises(InputError, match="cut off in its header"):
        RegionStore(tmp_path)
    assert RegionStore(tmp_path, lenient=True).keys == ["0.jpg"]


def test_another_file_is_no_shard(tmp_path: Path) -> None:
    write(tmp_path, [row("0.jpg")]).write_bytes(b"\x89PNG" * 100)
    with pytest.raises(InputError, match="not a file of regions"):
        RegionStore(tmp_path)


@pytest.mark.parametrize("other", [{"fusion": {"threshold": 0.1}}, {"zoo": [{"name": "c"}]}])
def test_a_shard_of_another_rule_or_zoo_is_refused_even_if_lenient(tmp_path: Path, other: dict) -> None:
    write(tmp_path, [row("0.jpg")])
    write(tmp_path, [row("1.jpg")], number=1, rule={**ZOO, **other})
    for lenient in (False, True):
        with pytest.raises(InputError, match=f"00001.*{next(iter(other))}") as error:
            RegionStore(tmp_path, lenient=lenient)
        assert error.value.reason == "other_rule"


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    known = row("0.jpg")
    path = write(tmp_path, [known])
    data = bytearray(path.read_bytes())
    data[-1] ^= 255  # the last of the maps' places
    path.write_bytes(data)
    store = RegionStore(tmp_path)
    assert np.array_equal(store.read("0.jpg", maps=False).rank, known.rank)
    with pytest.raises(InputError, match="damaged"):
        store.read("0.jpg")
    data[data.index(b"x\x9c") + 4] ^= 255  # inside the compressed ranks
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        RegionStore(tmp_path).read("0.jpg", maps=False)
