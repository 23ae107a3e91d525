from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from unseen.data.residuals import ResidualStore, ResidualWriter, picture_key
from unseen.types import InputError

MADE_BY = {"inpainter": "a" * 64, "clamp": True, "blocks": 4}


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)


def residual(number: int) -> np.ndarray:
    found = np.random.default_rng(number).uniform(-1, 1, (3, 8, 8)).astype(np.float32)
    found[:, [0, 1, -2, -1]] = found[:, :, [0, 1, -2, -1]] = 0  # a frame of two pixels
    return found


def fill(folder: Path, count: int, dtype: str = "int8", rows: int = 2) -> ResidualWriter:
    writer = ResidualWriter(folder, MADE_BY, frame=2, dtype=dtype, rows=rows)  # type: ignore[arg-type]
    for i, picture in enumerate(pictures(count)):
        writer.add(picture_key(picture), residual(i))
    return writer


@pytest.mark.parametrize(("dtype", "error"), [("int8", 0.5 / 127), ("float16", 5e-4)])
def test_what_was_written_is_read_to_rounding(tmp_path: Path, dtype: str, error: float) -> None:
    fill(tmp_path, 5, dtype).flush()
    store = ResidualStore(tmp_path)
    assert len(store) == 5 and len(list(tmp_path.glob("*.npy"))) == 3
    found = store.of(pictures(5)[[3, 0]])
    value = found.astype(np.float32) / (127 if dtype == "int8" else 1)
    assert found.dtype == dtype and found.shape == (2, 3, 8, 8)
    assert np.abs(value - np.stack([residual(3), residual(0)])).max() <= error


def test_a_killed_writer_loses_only_its_open_shard_and_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, 5)  # never flushed: the fifth waits for a sixth
    assert len(ResidualStore(tmp_path)) == 4
    again = fill(tmp_path, 5)
    again.flush()
    assert len(ResidualStore(tmp_path)) == 5 and len(list(tmp_path.glob("*.keys"))) == 3
    assert (ResidualStore(tmp_path).of(pictures(5)[4:])[0] != 0).any()


def test_the_same_picture_is_kept_once_and_another_is_missing(tmp_path: Path) -> None:
    writer = fill(tmp_path, 2)
    writer.add(picture_key(pictures(2)[1]), residual(7))
    writer.flush()
    store = ResidualStore(tmp_path)
    assert len(store) == 2 and picture_key(pictures(2)[0]) in store
    other = pictures(1).copy()
    other[0, 0, 0, 0] ^= 1  # one pixel by one level
    with pytest.raises(InputError, match=r"no residual of a\.png as it is aligned here") as error:
        store.of(other, ["a.png"])
    assert error.value.reason == "missing"


def test_a_store_travels_to_workers(tmp_path: Path) -> None:
    fill(tmp_path, 2).flush()
    store = ResidualStore(tmp_path)
    before = store.of(pictures(2))
    assert (pickle.loads(pickle.dumps(store)).of(pictures(2)) == before).all()


def test_other_residuals_are_not_mixed_in(tmp_path: Path) -> None:
    fill(tmp_path, 2).flush()
    with pytest.raises(
        InputError, match=r"another inpainter \(aaaaaaaaaaaa; expected bbbbbbbbbbbb\)"
    ) as error:
        ResidualWriter(tmp_path, {**MADE_BY, "inpainter": "b" * 64}, frame=2)
    assert error.value.reason == "other_inpainter"
    with pytest.raises(InputError, match="holds residuals as int8"):
        ResidualWriter(tmp_path, MADE_BY, frame=2, dtype="float16")
    with pytest.raises(InputError, match="do not fit int8"):
        ResidualWriter(tmp_path / "new", {**MADE_BY, "clamp": False}, frame=2)


def test_damage_is_told(tmp_path: Path) -> None:
    fill(tmp_path, 2).flush()
    keys, rows = tmp_path / "shard_00000.keys", tmp_path / "shard_00000.npy"
    whole = keys.read_bytes()
    keys.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="31 bytes for 2 rows"):
        ResidualStore(tmp_path)
    keys.write_bytes(whole)
    rows.write_bytes(b"no numbers")
    with pytest.raises(InputError, match="cannot be read"):
        ResidualStore(tmp_path)
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        ResidualStore(tmp_path)
    with pytest.raises(InputError, match="no folder of residuals"):
        ResidualStore(tmp_path / "none")
