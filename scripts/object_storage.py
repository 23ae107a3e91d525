"""Prepare, detect, pack, check and train's loader over `s3://`, with an S3 server on the loopback.

    uv run --with 'moto[server]' --with s3fs python scripts/object_storage.py

The suite tests addresses with `memory://` and `http://`; this speaks the real protocol through the real
driver. Their packages take 190 MB, which is why they are no dependency of the tests. Everything that differs
from the disk is an error; nothing leaves this machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import fsspec
import polars as pl
import torch
from moto.server import ThreadedMotoServer

from unseen.cli import main as unseen
from unseen.data.dataset import FaceDataset, read_crop
from unseen.data.manifest import Manifest
from unseen.data.samplers import Shuffled
from unseen.data.transforms import AlignFace
from unseen.train.loaders import BatchStream, FaceBatches, make_loader
from unseen.types import FaceRecord, InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import engines


def call(*words: object) -> None:
    """Call the command line and insist on its success."""
    print("$ unseen", *words, flush=True)
    code = unseen([str(word) for word in words])
    if code != 0:
        raise SystemExit(f"ended with {code}")


def batches(records: list[FaceRecord], workers: int) -> list[torch.Tensor]:
    """Read ten batches as training does."""
    faces = FaceBatches(FaceDataset(records, [AlignFace(64)]))
    loader = iter(make_loader(faces, BatchStream(Shuffled(4), records, seed=0), workers=workers))
    return [batch.image for batch in (next(loader) for _ in range(10)) if batch is not None]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Compare batches bit by bit."""
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def main() -> None:
    """Start a server, fill a bucket, and compare everything with the disk."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    os.environ["FSSPEC_S3_ENDPOINT_URL"] = f"http://{host}:{port}"  # workers read it when they start
    fsspec.config.set_conf_env(fsspec.config.conf)
    bucket = fsspec.filesystem("s3")
    bucket.mkdir("bucket")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines.photographs(folder / "photos", 8)
        bucket.put(str(folder / "photos"), "bucket/photos", recursive=True)
        call("prepare", "s3://bucket/photos", "--out", folder / "far", "--workers", 2, "--label", "real")
        call("prepare", folder / "photos", "--out", folder / "near", "--workers", 2, "--label", "real")
        far, near = (pl.read_parquet(folder / n / "manifest.parquet") for n in ("far", "near"))
        assert far.drop("file").equals(near.drop("file")) and len(far) == 8
        assert all(
            (folder / "far" / p).read_bytes() == (folder / "near" / p).read_bytes() for p in far["path"]
        )
        call("detect", "s3://bucket/photos/*.jpg", "--out", folder / "far.csv", "--jobs", 1)
        call("detect", folder / "photos", "--out", folder / "near.csv", "--jobs", 1)
        far, near = (pl.read_csv(folder / f"{n}.csv").drop("file", "seconds") for n in ("far", "near"))
        assert far.equals(near)
        call("pack", folder / "far" / "manifest.parquet", "--out", folder / "packed")
        bucket.put(str(folder / "packed"), "bucket/packed", recursive=True)
        call("pack", "s3://bucket/packed/manifest.parquet", "--check")
        wanted = batches(Manifest.read(folder / "packed" / "manifest.parquet").records(), 0)
    for place in ("s3://bucket/packed/manifest.parquet", "filecache::s3://bucket/packed/manifest.parquet"):
        records = Manifest.read(place).records()
        for workers in (0, 2):
            assert same(wanted, batches(records, workers))
            print(f"{place}, {workers} workers: the bits of the disk")
    server.stop()
    try:
        read_crop(replace(records[0], path="s3://bucket/packed/other.jpg"))
    except InputError as error:
        print(f"without a server: {error}")


if __name__ == "__main__":
    main()
