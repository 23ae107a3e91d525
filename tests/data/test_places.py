"""Crops that lie on a server: the loopback's own, by HTTP with ranges, as object storage answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import torch

from unseen.data.dataset import FaceDataset, read_crop
from unseen.data.manifest import Manifest
from unseen.data.samplers import Shuffled
from unseen.evaluate.run import fingerprint
from unseen.prepare.inputs import list_inputs
from unseen.prepare.pack import check_packed, pack
from unseen.prepare.run import prepare
from unseen.train.loaders import BatchStream, FaceBatches, make_loader
from unseen.types import FaceRecord, InputError, Label


class Ranges(SimpleHTTPRequestHandler):
    """Files of a folder, whole or by `Range: bytes=a-b`; counts the bytes that it gave."""

    given: dict[str, int]

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()[int(wanted[1]) : int(wanted[2]) + 1]
        self.given[path.name] = self.given.get(path.name, 0) + len(data)
        self.send_response(206)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address under which a folder is served."""
    Ranges.given = {}
    there = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=there.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{there.server_port}"
    there.shutdown()
    there.server_close()
    thread.join()


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Twelve crops in a shard below the served folder."""
    rng = np.random.default_rng(0)
    (tmp_path / "loose").mkdir()
    records = []
    for i in range(12):
        path = tmp_path / "loose" / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (48, 48, 3), np.uint8))
        records.append(FaceRecord(str(path), Label(i % 2), "made", f"v{i}", method="swap"))
    return pack(Manifest.from_records(records, tmp_path / "loose"), tmp_path / "served", workers=1).manifest


def batches(manifest: Manifest, workers: int) -> list[torch.Tensor]:
    records = manifest.records()
    draws = BatchStream(Shuffled(4), records, seed=0)
    loader = iter(make_loader(FaceBatches(FaceDataset(records)), draws, workers=workers))
    return [next(loader).image for _ in range(6)]


def test_batches_from_a_server_are_those_of_the_disk(packed: Path, server: str, tmp_path: Path) -> None:
    near, far = Manifest.read(packed), Manifest.read(f"{server}/manifest.parquet")
    assert fingerprint(near.records()) == fingerprint(far.records())
    assert check_packed(far) == []
    size = (packed.parent / "shards" / "000000.tar").stat().st_size
    assert Ranges.given["000000.tar"] < size  # twelve pieces, not twelve shards
    wanted = batches(near, 0)
    # Threads of fsspec stay behind in the parent when a worker is forked.
    for workers in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(wanted, batches(far, workers), strict=True))
    cached = Manifest.read(f"filecache::{server}/manifest.parquet")
    assert all(torch.equal(a, b) for a, b in zip(wanted, batches(cached, 2), strict=True))


def test_what_a_server_has_not_or_gives_wrongly_is_told(packed: Path, server: str) -> None:
    far = Manifest.read(f"{server}/manifest.parquet").records()
    shard = packed.parent / "shards" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"000000\.tar: the .* bytes of 5\.png .*checksum") as error:
        read_crop(far[5])
    assert error.value.reason == "damaged"
    shard.unlink()
    with pytest.raises(InputError, match="no such file"):
        read_crop(far[5])
    with pytest.raises(InputError, match="no such file"):
        Manifest.read(f"{server}/none.parquet")


def test_pictures_of_a_server_are_prepared(portrait_file: Path, server: str, tmp_path: Path) -> None:
    (tmp_path / "served" / "photos").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "served" / "photos" / name).write_bytes(portrait_file.read_bytes())
    (tmp_path / "served" / "photos" / "b.jpg").write_bytes(b"no picture")
    items = list_inputs([f"{server}/photos/a.jpg", f"{server}/photos/b.jpg"], dataset="photos")
    made = prepare(items, tmp_path / "crops", workers=1)
    rows = pl.read_parquet(made.manifest)
    assert (made.kept, made.dropped) == (1, {"unreadable": 1})
    assert rows["file"].to_list() == [f"{server}/photos/a.jpg", f"{server}/photos/b.jpg"]
    assert prepare(items, tmp_path / "crops", workers=1).skipped == 2
