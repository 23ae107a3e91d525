"""Loose crops, tar shards and Parquet with image bytes: `python benchmarks/pack.py --crops 2000`.

Bytes only, no decoding: in the order of the rows, and in the random order in which training draws them; with
the files in the kernel's memory (the best of five rounds, by processor time, which other work changes less),
and after it was told to forget them (`posix_fadvise`, by the clock). Parquet is read by row group of 64,
which is the least that it gives, and held until another one is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unseen.data.manifest import Manifest
from unseen.data.places import read_place
from unseen.prepare.pack import pack
from unseen.types import FaceRecord, Label

GROUP = 64


def forget(folder: Path) -> None:
    """Ask the kernel to drop what it holds of these files."""
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.fsync(number)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def rate(read: Callable[[int], bytes], order: list[int], *, cold: bool) -> float:
    """Return crops a second: of the clock, once, or of processor, the best round."""
    best = 0.0
    for _ in range(1 if cold else 5):
        clock = time.perf_counter if cold else time.process_time
        start = clock()
        for row in order:
            read(row)
        best = max(best, len(order) / (clock() - start))
    return best


def measure(crops: int = 2000, size: int = 54_000) -> list[dict[str, object]]:
    """Write the three forms of one set of crops, and read each in four ways."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loose = folder / "loose"
        records = []
        for i in range(crops):
            path = loose / "crops" / f"video{i // 32:05d}" / f"{i % 32:06d}_0.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rng.bytes(int(size * rng.uniform(0.7, 1.3))))
            records.append(FaceRecord(str(path), Label.REAL, "made", f"video{i // 32:05d}", i % 32))
        manifest = Manifest.from_records(records, loose)
        start = time.perf_counter()
        made = pack(manifest, folder / "tar", workers=1)
        pack_s = time.perf_counter() - start
        packed = Manifest.read(made.manifest).records()
        start = time.perf_counter()
        (folder / "parquet").mkdir()
        schema = pa.schema([("path", pa.string()), ("image", pa.binary())])
        with pq.ParquetWriter(folder / "parquet" / "0.parquet", schema, compression="none") as writer:
            for i in range(0, crops, GROUP):
                some = [Path(r.path) for r in records[i : i + GROUP]]
                writer.write_table(
                    pa.table([[str(p) for p in some], [p.read_bytes() for p in some]], schema=schema)
                )
        parquet_s = time.perf_counter() - start
        table = pq.ParquetFile(folder / "parquet" / "0.parquet")
        held: dict[int, pa.ChunkedArray] = {}

        def of_parquet(row: int) -> bytes:
            group = row // GROUP
            if group not in held:
                held.clear()
                held[group] = table.read_row_group(group, columns=["image"])["image"]
            return bytes(held[group][row % GROUP].as_py())

        ways: dict[str, tuple[Path, Callable[[int], bytes]]] = {
            "loose": (loose, lambda row: read_place(records[row].path)),
            "tar": (folder / "tar", lambda row: read_place(packed[row].path)),
            "parquet": (folder / "parquet", of_parquet),
        }
        for row in (0, crops // 2, crops - 1):
            assert len({read(row) for _, read in ways.values()}) == 1
        orders = {"in order": list(range(crops)), "random": rng.permutation(crops).tolist()}
        for what, order in orders.items():
            for state in ("cold", "warm"):
                found: dict[str, float] = {}
                for name, (place, read) in ways.items():
                    held.clear()
                    if state == "cold":
                        forget(place)
                    some = order if name != "parquet" or what == "in order" else order[: max(64, crops // 10)]
                    found[name] = rate(read, some, cold=state == "cold")
                rows += [
                    {
                        "what": f"read {what}, {state}: {name}",
                        "value": value,
                        "unit": "crops/s",
                        "ratio": value / found["loose"],
                    }
                    for name, value in found.items()
                ]
        rows.append({"what": "write tar", "value": crops / pack_s, "unit": "crops/s"})
        rows.append({"what": "write parquet", "value": crops / parquet_s, "unit": "crops/s"})
        size_of = {
            n: sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for n, (p, _) in ways.items()
        }
        for name, size in size_of.items():
            rows.append(
                {"what": f"size {name}", "value": size / 1e6, "unit": "MB", "ratio": size / size_of["loose"]}
            )
    return rows


def main() -> None:
    """Print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=2000)
    known = parser.parse_args()
    rows = measure(known.crops)
    for row in rows:
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        print(f"| {row['what']} | {row['value']:,.0f} {row['unit']} | {ratio} |")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
