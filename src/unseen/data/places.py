"""Where the bytes of a crop lie: a file, a piece of a packed shard, or either of them in object storage.

A place is a text. A packed one names its shard, the first byte, the number of bytes and their CRC-32, and
ends with the path that the crop had before: `packed/shards/000000.tar@512+48211+9f3c2a10/crops/a/0.jpg`.
What comes before `://` makes it an address that fsspec reads (`s3://`, `gs://`, `https://`, `memory://`, also
chained as in `filecache::s3://`).
"""

from __future__ import annotations

import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from unseen.types import InputError

__all__ = [
    "Piece",
    "address",
    "after_fork",
    "exists",
    "listed",
    "local_copy",
    "name_of",
    "piece",
    "read_place",
    "state_of",
]

_PACKED = re.compile(r"^(.+\.tar)@(\d+)\+(\d+)\+([0-9a-f]{8})/(.+)$", re.DOTALL)
# Two letters at least: `C:/` is a Windows drive. Path() makes one slash of two, which is mended here.
_ADDRESS = re.compile(r"^((?:[a-zA-Z0-9+.-]+::)*[a-zA-Z][a-zA-Z0-9+.-]+):/+(.*)$", re.DOTALL)
_OPEN = 64  # shards held open in a process


class Piece(NamedTuple):
    """A crop inside a shard."""

    shard: str
    start: int
    size: int
    crc: int
    name: str  # the crop's path before it was packed

    def place(self) -> str:
        """Return the text that stands for it in a manifest."""
        return f"{self.shard}@{self.start}+{self.size}+{self.crc:08x}/{self.name}"


def piece(place: str) -> Piece | None:
    """Read a packed place; None if it is none.

    Example:
        >>> piece("shards/000000.tar@512+48211+9f3c2a10/crops/a.jpg").name
        'crops/a.jpg'
    """
    found = _PACKED.match(place) if ".tar@" in place else None
    if found is None:
        return None
    shard, start, size, crc, name = found.groups()
    return Piece(shard, int(start), int(size), int(crc, 16), name)


def address(place: str | Path) -> str | None:
    """Return the address for fsspec; None for a place in the file system.

    Example:
        >>> address(Path("s3://bucket/packed/manifest.parquet"))
        's3://bucket/packed/manifest.parquet'
    """
    found = _ADDRESS.match(place if isinstance(place, str) else place.as_posix())
    if found is None:
        return None
    kind, rest = found.groups()
    return f"{kind}://{'/' if kind == 'file' else ''}{rest}"


def read_place(place: str) -> bytes:
    """Return the bytes of a file, or of a piece of a shard, whose checksum is then compared.

    Raises:
        InputError: There is nothing (`missing`), it cannot be read (`unreadable`), or the shard holds other
            bytes than when it was packed (`damaged`).
    """
    packed = piece(place)
    try:
        if packed is not None:
            return _whole(packed)
        url = address(place)
        return Path(place).read_bytes() if url is None else _remote(url)
    except FileNotFoundError:
        where = place if packed is None else f"{packed.shard}, which holds {packed.name}"
        raise InputError(
            f"{where}: no such file; was the manifest moved without its crops?", reason="missing"
        ) from None
    except OSError as error:
        raise InputError(
            f"{place}: cannot be read ({error.strerror or error})", reason="unreadable"
        ) from error


def _whole(packed: Piece) -> bytes:
    """Return the bytes of a piece, compared with its checksum."""
    url = address(packed.shard)
    data = _local(packed) if url is None else _remote(url, packed.start, packed.start + packed.size)
    if zlib.crc32(data) == packed.crc:
        return data
    if url is None:
        os.close(_shards.pop(packed.shard))  # the shard may have been packed anew since it was opened
        data = _local(packed)
    if zlib.crc32(data) != packed.crc:
        raise InputError(
            f"{packed.shard}: the {packed.size} bytes of {packed.name} at byte {packed.start} are not what "
            "was packed (checksum); copy the shard again, or pack again",
            reason="damaged",
        )
    return data


def exists(place: str) -> bool:
    """Say whether a file is there; of a packed crop, whether its shard is."""
    packed = piece(place)
    where = place if packed is None else packed.shard
    url = address(where)
    return Path(where).is_file() if url is None else bool(_system(url)[0].exists(url))


@contextmanager
def local_copy(place: str | Path) -> Iterator[Path]:
    """Give a path to a file; one in object storage is fetched for as long as it is needed.

    Raises:
        InputError: It is not there, or cannot be fetched.
    """
    url = address(place)
    if url is None:
        yield Path(place)
        return
    with TemporaryDirectory(prefix="unseen-") as folder:
        here = Path(folder) / Path(place).name
        here.write_bytes(read_place(url))
        yield here


def name_of(place: str | Path) -> str:
    """Return how a file is called in a manifest: its path, or its address."""
    return address(place) or Path(place).as_posix()


def state_of(place: str | Path) -> tuple[int, int | str]:
    """Return what changes with a file: its size and its time or tag; (-1, -1) if it is not there."""
    url = address(place)
    try:
        if url is None:
            state = Path(place).stat()
            return state.st_size, state.st_mtime_ns
        system, path = _system(url)
        facts = system.info(path)
        tags = [
            str(facts[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime") if key in facts
        ]
        return int(facts.get("size") or -1), " ".join(tags)
    except OSError:
        return -1, -1


def listed(url: str) -> list[str]:
    """Return the addresses of all files below a folder in object storage, or that match a pattern, sorted.

    Raises:
        InputError: The storage cannot be asked.
    """
    system, path = _system(url)
    try:
        found = system.glob(path) if any(mark in path for mark in "*?[") else system.find(path)
        return sorted(str(system.unstrip_protocol(one)) for one in found if not system.isdir(one))
    except Exception as error:  # each kind of storage has errors of its own
        raise InputError(
            f"{url}: cannot be listed ({type(error).__name__}: {error})", reason="missing"
        ) from error


def after_fork() -> None:
    """Forget, in a forked worker, the threads of fsspec that stayed behind in the parent."""
    import sys

    asynchronous = sys.modules.get("fsspec.asyn")
    if asynchronous is not None:
        asynchronous.reset_lock()


# File numbers by shard, the least recently used first; of another process after a fork.
_shards: OrderedDict[str, int] = OrderedDict()


def _local(packed: Piece) -> bytes:
    number = _shards.pop(packed.shard, None)
    if number is None:
        number = os.open(packed.shard, os.O_RDONLY)
        if len(_shards) >= _OPEN:
            os.close(_shards.popitem(last=False)[1])
    _shards[packed.shard] = number
    return os.pread(number, packed.size, packed.start)  # a forked process may share the number: no seek


def _remote(url: str, start: int | None = None, end: int | None = None) -> bytes:
    system, path = _system(url)
    try:
        return bytes(system.cat_file(path, start=start, end=end))
    except OSError:
        raise
    except Exception as error:  # each kind of storage has errors of its own
        raise OSError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{url}: {error}; object storage needs fsspec and its driver: pip install 'unseen[scale]' s3fs",
            reason="missing_extra",
        ) from error
