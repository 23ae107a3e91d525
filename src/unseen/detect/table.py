"""The table that a batch writes: a row a file, as Parquet, CSV or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from unseen.detect.verdict import Verdict, plain
from unseen.types import InputError

__all__ = ["COLUMNS", "check_suffix", "row_of", "write_table"]

Row = dict[str, Any]
CHUNK = 10_000  # rows in memory at a time
# Name to the type of its column in Parquet.
COLUMNS: dict[str, str] = {
    "file": "string",
    "verdict": "string",
    "reason": "string",
    "message": "string",
    "probability": "double",
    "score": "double",
    "p_value": "double",
    "threshold": "double",
    "people": "int64",
    "people_fake": "int64",
    "faces_judged": "int64",
    "frames": "int64",
    "kind": "string",
    "codec": "string",
    "width": "int64",
    "height": "int64",
    "duration": "double",
    "bytes": "int64",
    "sha256": "string",
    "warnings": "string",
    "model": "string",
    "seconds": "double",
}
SUFFIXES = (".parquet", ".csv", ".jsonl")


def check_suffix(path: Path) -> None:
    """See that a table of this name can be written.

    Raises:
        InputError: Another suffix, or its folder is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}", reason="suffix")
    if not path.resolve().parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; make it first", reason="missing")


def row_of(verdict: Verdict) -> Row:
    """One verdict as a row."""
    media, counts = verdict.media, verdict.counts
    row: Row = plain(
        {
            "file": verdict.file,
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "message": verdict.message,
            "probability": verdict.probability,
            "score": verdict.score,
            "p_value": verdict.p_value,
            "threshold": verdict.threshold,
            "people": len(verdict.people),
            "people_fake": sum(person.verdict == "fake" for person in verdict.people),
            "faces_judged": counts.get("faces_judged"),
            "frames": counts.get("frames"),
            **{name: media.get(name) for name in ("kind", "codec", "width", "height", "duration", "bytes")},
            "sha256": verdict.sha256,
            "warnings": " | ".join(verdict.warnings),
            "model": verdict.model,
            "seconds": verdict.seconds,
        }
    )
    return row


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as they come; the file is there whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    write = {".parquet": _parquet, ".csv": _csv, ".jsonl": _lines}[path.suffix.lower()]
    try:
        write(partial, iter(rows))
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: the table cannot be written ({error})", reason="permission") from error


def _parquet(path: Path, rows: Iterator[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while chunk := list(islice(rows, CHUNK)):
            # A file name that is no text (bytes that are no UTF-8) is written out, as in reports.
            clean = [{k: _text(v) if isinstance(v, str) else v for k, v in row.items()} for row in chunk]
            writer.write_table(pa.Table.from_pylist(clean, schema=schema))


def _csv(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: _cell(v) if isinstance(v, str) else v for k, v in row.items()})


def _lines(path: Path, rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _cell(value: str) -> str:
    """Keep a spreadsheet from taking a file's name for a formula."""
    text = _text(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
