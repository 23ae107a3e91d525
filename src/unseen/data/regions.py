"""A store of primary regions: for each face one rank map, and the maps of the detectors it was fused from.

A folder holds `regions.json`, the rule by which every map in it was made, and `shards/NNNNN.regions`, each
with the maps of some hundred faces. A shard repeats the rule and has an index of its own, so that it can be
judged by itself. A face is known by the path of its crop as seen from its manifest's folder: store and crops
may be moved, together or not.

    shard = MAGIC, length of the header (8 bytes), header (JSON), payload
    payload of a face = zlib(rank map), native maps (float16), places of the maps (float32)
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.types import FaceRecord, InputError

__all__ = ["RULE", "SHARDS", "FaceRegions", "RegionStore", "pack_shard", "region_key"]

RULE, SHARDS = "regions.json", "shards"
_MAGIC = b"unseen regions 1\n"
_MEND = "run `unseen prepare primary-regions` again: it makes what is missing"


@dataclass(frozen=True, eq=False)
class FaceRegions:
    """What detectors look at in one crop.

    Args:
        key: Path of the crop as seen from its manifest's folder.
        stamp: Changes with the crop's file.
        size: (height, width) of the crop.
        window: x0, y0, x1, y1 in the crop's pixels: what the rank map covers, all that any detector saw.
        rank: Rank map, 0 outside the region, else ceil(255 rank / |V|).
        maps: One native map a detector, divided by its maximum; none if only the rank map was read.
        places: Maps a point (x, y) of the crop into each detector's view, the unit square.

    Shape:
        rank: (S, S) uint8. maps: T times (h, w) float16. places: (T, 2, 3) float32.
    """

    key: str
    stamp: str
    size: tuple[int, int]
    window: tuple[int, int, int, int]
    rank: NDArray[np.uint8]
    maps: tuple[NDArray[np.float16], ...] = ()
    places: NDArray[np.float32] | None = None

    def attention(self, size: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the rank map in the crop's pixels.

        Args:
            size: (height, width) of the picture that is to be masked.

        Raises:
            InputError: That is not the size of the crop that the map was made of.

        Shape:
            Result: (H, W) uint8.
        """
        if tuple(size) != self.size:
            raise InputError(
                f"{self.key}: a picture of {size[1]} x {size[0]} pixels, but its map was made of one of "
                f"{self.size[1]} x {self.size[0]}; mask crops before they are aligned, or make the maps anew",
                reason="stale_regions",
            )
        x0, y0, x1, y1 = self.window
        whole = np.zeros(self.size, np.uint8)
        whole[y0:y1, x0:x1] = cv2.resize(self.rank, (x1 - x0, y1 - y0), interpolation=cv2.INTER_NEAREST)
        return whole


def region_key(path: str, root: PurePath) -> str:
    """Return the name under which a crop's maps are kept: its path from its manifest's folder."""
    try:
        return PurePath(path).relative_to(root).as_posix()
    except ValueError:
        return PurePath(path).as_posix()


def pack_shard(rule: Mapping[str, Any], rows: Iterable[FaceRegions]) -> bytes:
    """Return the bytes of a shard."""
    index: list[list[Any]] = []
    payload = bytearray()
    for row in rows:
        assert row.places is not None
        rank = zlib.compress(row.rank.tobytes(), 6)
        more = b"".join(np.asarray(m, "<f2").tobytes() for m in row.maps)
        more += np.asarray(row.places, "<f4").tobytes()
        shapes = [list(m.shape) for m in row.maps]
        place = [len(payload), len(rank), len(more), zlib.crc32(more)]
        index.append([row.key, row.stamp, list(row.size), list(row.window), len(row.rank), shapes, place])
        payload += rank + more
    header = json.dumps({"rule": rule, "bytes": len(payload), "rows": index}).encode()
    return _MAGIC + len(header).to_bytes(8, "little") + header + bytes(payload)


class RegionStore:
    """Reads a store; the index is read at once, a map when it is asked for.

    Args:
        folder: Where `regions.json` lies.
        lenient: Use what is whole in damaged shards and list them in `damaged`, instead of an error.

    Attributes:
        rule: How the maps were made.
        damaged: Shards that are not whole, each with the reason.

    Raises:
        InputError: No store (`missing`), a damaged shard (`truncated`, `unreadable`), or a shard that was
            made by another rule than the header says (`other_rule`), which is an error even if `lenient`.
    """

    def __init__(self, folder: str | Path, *, lenient: bool = False) -> None:
        self.folder = Path(folder)
        path = self.folder / RULE
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; expected a folder of maps, from `unseen prepare primary-regions`",
                reason="missing",
            )
        try:
            self.rule: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{path}: damaged ({error}); make the store again", reason="unreadable"
            ) from error
        self.damaged: list[tuple[Path, str]] = []
        self._where: dict[str, tuple[Path, int, list[Any]]] = {}  # shard, start of its payload, entry
        for shard in sorted((self.folder / SHARDS).glob("*.regions")):
            try:
                first, rows, count = self._header(shard)
            except InputError as error:
                if not lenient or error.reason == "other_rule":
                    raise
                self.damaged.append((shard, str(error)))
                continue
            there = shard.stat().st_size - first
            if there != count:
                said = f"{shard}: {there} bytes of maps; expected {count}: cut off; {_MEND}"
                if not lenient:
                    raise InputError(said, reason="truncated")
                self.damaged.append((shard, said))
            for row in rows:
                offset, length, more, _ = row[-1]
                if offset + length + more <= there:
                    self._where[row[0]] = (shard, first, row)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, record: object) -> bool:
        return isinstance(record, FaceRecord) and self._key(record.path) is not None

    @property
    def keys(self) -> list[str]:
        """The key of every face."""
        return list(self._where)

    def has(self, key: str, stamp: str) -> bool:
        """Whether the maps of this very crop are there."""
        return key in self._where and self._where[key][2][1] == stamp

    def inside(self, shard: Path) -> list[str]:
        """Return the keys of the faces whose maps are whole in one shard."""
        return [key for key, (path, _, _) in self._where.items() if path == shard]

    def find(self, record: FaceRecord, *, maps: bool = False) -> FaceRegions | None:
        """Return what is known of a record's crop, or None.

        Args:
            record: Its path may start anywhere; the end that is a key counts.
            maps: Read the native maps as well.
        """
        key = self._key(record.path)
        return None if key is None else self.read(key, maps=maps)

    def read(self, key: str, *, maps: bool = True) -> FaceRegions:
        """Return the maps of a face.

        Raises:
            InputError: The shard was changed or cut since it was opened (`unreadable`).
        """
        shard, start, (_, stamp, size, window, side, shapes, (offset, length, more, check)) = self._where[key]
        with shard.open("rb") as file:
            file.seek(start + offset)
            data = file.read(length + (more if maps else 0))
        try:
            rank = np.frombuffer(zlib.decompress(data[:length]), np.uint8).reshape(side, side)
        except (zlib.error, ValueError) as error:
            raise InputError(f"{shard}: the map of {key} is damaged; {_MEND}", reason="unreadable") from error
        row = FaceRegions(key, stamp, (size[0], size[1]), _four(window), rank)
        if not maps:
            return row
        if zlib.crc32(data[length:]) != check:
            raise InputError(f"{shard}: the maps of {key} are damaged; {_MEND}", reason="unreadable")
        found, place = [], length
        for shape in shapes:
            count = shape[0] * shape[1]
            found.append(np.frombuffer(data, "<f2", count, place).reshape(shape))
            place += 2 * count
        places = np.frombuffer(data, "<f4", 6 * len(shapes), place).reshape(-1, 2, 3)
        return FaceRegions(key, stamp, row.size, row.window, rank, tuple(found), places)

    def _key(self, path: str) -> str | None:
        """Return the longest end of a path that is a key."""
        name = PurePath(path).as_posix()
        while name not in self._where:
            _, slash, name = name.partition("/")
            if not slash:
                return None
        return name

    def _header(self, shard: Path) -> tuple[int, list[list[Any]], int]:
        """Return where a shard's maps begin, its index, and the bytes of its maps.

        Raises:
            InputError: It is no shard, or one that was made by another rule than this store's.
        """
        with shard.open("rb") as file:
            magic, length = file.read(len(_MAGIC)), int.from_bytes(file.read(8), "little")
            first = len(_MAGIC) + 8 + length
            if not _MAGIC.startswith(magic):
                raise InputError(f"{shard}: not a file of regions; {_MEND}", reason="unreadable")
            if shard.stat().st_size < first or not length:
                raise InputError(f"{shard}: cut off in its header; {_MEND}", reason="truncated")
            text = file.read(length)
        try:
            header = json.loads(text)
            rule, count, rows = header["rule"], int(header["bytes"]), list(header["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{shard}: its header is damaged; {_MEND}", reason="unreadable") from error
        if rule != self.rule:
            raise InputError(
                f"{shard}: made by another rule than {RULE} says ({differences(self.rule, rule)}); "
                "move it to a store of its own",
                reason="other_rule",
            )
        return first, rows, count


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Say in which keys two rules differ."""
    keys: Sequence[str] = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
    return ", ".join(f"{key}: {theirs.get(key)}, not {mine.get(key)}" for key in keys)


def _four(values: Sequence[int]) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = values
    return x0, y0, x1, y1
