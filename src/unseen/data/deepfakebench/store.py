"""DeepfakeBench's LMDB: crops, landmarks and masks of a whole data set in one file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unseen.data.deepfakebench.naming import slashes
from unseen.data.deepfakebench.reading import Imported, read_tree
from unseen.types import LANDMARKS, InputError

__all__ = ["decode_landmarks", "read_lmdb"]


def read_lmdb(path: Path | str, out: Path | str) -> Imported:
    r"""Unpack an LMDB into a folder, as the tree that it was made of, and read that.

    Keys are paths below the data set with its name in front, `DATASET\rel\path` as Windows writes them or
    with slashes. Pictures are files as they were; landmarks are bare numbers, see `decode_landmarks`, and
    become `.npy` files that say their type. What is there already with the same size is not written again.

    Args:
        path: The folder that holds `data.mdb`.
        out: Where to.

    Raises:
        InputError: lmdb is not installed (`pip install 'unseen[lmdb]'`), or this is no such database.
    """
    path, out = Path(path), Path(out)
    if not (path / "data.mdb").is_file():
        raise InputError(f"{path}: no data.mdb; expected the folder of an LMDB", reason="missing")
    skipped = []
    number = 0
    for key, value in _items(path):
        parts = Path(slashes(key)).parts
        if not parts or ".." in parts or Path(slashes(key)).is_absolute():
            raise InputError(f"{path}: key {key!r} leaves the folder; not written", reason="unsafe")
        target = out.joinpath(*parts)
        content = value
        if target.suffix == ".npy":
            try:
                points = decode_landmarks(value, key)
            except InputError as error:
                skipped.append(str(error))
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            np.save(target, points)
        elif not target.is_file() or target.stat().st_size != len(content):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        number += 1
    if not number:
        raise InputError(f"{path}: the database holds nothing", reason="empty")
    found = read_tree(out)
    if skipped:
        found.notes.append(f"{len(skipped):,} landmarks cannot be read, such as {skipped[0]}")
    return found


def decode_landmarks(content: bytes, name: str = "landmarks") -> NDArray[np.float32]:
    """Return 81 points from bare numbers without a type.

    The writer stores whatever integers its machine uses, 4 bytes each on Windows and 8 on Linux; the length
    tells which. Whole numbers that are no pixels are tried as floats of the same width.

    Raises:
        InputError: Another length, or no numbers that can be pixels.

    Shape:
        Returns (81, 2).
    """
    kinds: dict[int, tuple[Any, Any]] = {4: (np.int32, np.float32), 8: (np.int64, np.float64)}
    width, rest = divmod(len(content), 2 * LANDMARKS)
    if rest or width not in kinds:
        raise InputError(
            f"{name}: {len(content)} bytes; expected {2 * LANDMARKS} numbers of 4 or 8 bytes",
            reason="bad_landmarks",
        )
    for kind in kinds[width]:
        points = np.frombuffer(content, kind).reshape(LANDMARKS, 2).astype(np.float64)
        # Points may lie a little outside the crop; bits read as the wrong type are billions or 1e-40.
        if np.isfinite(points).all() and np.abs(points).max() < 1e5 and np.abs(points).max() > 1:
            return points.astype(np.float32)
    raise InputError(f"{name}: numbers that are no pixels", reason="bad_landmarks")


def _items(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        lmdb = importlib.import_module("lmdb")  # optional, and without types
    except ImportError as error:
        raise InputError(
            "reading an LMDB needs lmdb: pip install 'unseen[lmdb]'", reason="not_installed"
        ) from error
    try:
        with lmdb.open(str(path), readonly=True, lock=False) as database, database.begin() as transaction:
            for key, value in transaction.cursor():
                yield bytes(key).decode("utf-8"), bytes(value)
    except (lmdb.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable LMDB ({error})", reason="unreadable") from error
