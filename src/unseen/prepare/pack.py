"""Crops of a manifest packed into shards: fewer, larger files that many readers can stream.

A shard is an uncompressed tar file that `webdataset` and `tar` read: each crop under the path that it had,
and beside it its mask (`0.jpg`, `0.mask.png`) and, for other readers than ours, what the manifest says of it
as JSON. The packed manifest names shard, first byte, length and checksum of each (`unseen.data.places`), so
that a crop is one read wherever it lies, and rows may be drawn in any order: the same pixels in the same
order as from loose files.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unseen.data.manifest import Manifest
from unseen.data.places import Piece, read_place
from unseen.prepare.journal import Journal, Row, claim_folder
from unseen.prepare.pool import work_off
from unseen.types import FaceRecord, InputError

__all__ = ["Packed", "check_packed", "pack"]

_BLOCK = 512  # of a tar file


@dataclass(frozen=True)
class Packed:
    """What a packed folder holds after one call.

    Args:
        manifest: Path of the packed manifest.
        crops: Crops in all shards, sources of fakes included.
        masks: Masks beside them.
        shards: How many there are; `made` of them in this call.
        size: Of all shards, in bytes.
    """

    manifest: Path
    crops: int
    masks: int
    shards: int
    made: int
    size: int


@dataclass(frozen=True)
class _File:
    """One crop or mask to be packed: where it lies, its name in the shard, and what is said of it."""

    path: str
    name: str
    facts: bytes | None
    stamp: tuple[int, int]  # size, and when it was changed
    mask: bool = False


@dataclass(frozen=True)
class _Shard:
    name: str
    files: tuple[_File, ...]

    def stamp(self) -> str:
        said = [(f.path, f.name, f.stamp, zlib.crc32(f.facts or b"")) for f in self.files]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def pack(
    manifest: Manifest,
    out: str | Path,
    *,
    shard_mb: int = 256,
    workers: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Packed:
    """Pack the crops of a manifest, the sources of its fakes and their masks; write `out/manifest.parquet`.

    Killed and called again, it goes on behind the shards that are whole; called again after crops changed, it
    does their shards again. Equal crops give equal bytes.

    Args:
        manifest: Of loose crops. Its other columns are kept; a `mask` of text names a picture that is packed.
        out: The folder; one size of shards a folder.
        shard_mb: A shard is closed once it holds so many million bytes.
        workers: Processes; default: one a core.
        report: Called with (shards done, shards in all).

    Raises:
        InputError: There are no crops (`empty`), crops or masks are missing (`missing`), or `out` holds other
            shards.
    """
    out = Path(out).absolute()
    shards = _plan(manifest, shard_mb * 1_000_000)
    claim_folder(out, "pack", {"shard_mb": shard_mb})
    with Journal(out / "journal.jsonl") as journal:
        todo = [s for s in shards if not (journal.has(s.name, s.stamp()) and (out / s.name).is_file())]
        done = len(shards) - len(todo)
        if report:
            report(done, len(shards))
        for shard, rows in _work(todo, out, workers):
            if "error" in rows[0]:
                raise InputError(rows[0]["error"], reason=rows[0]["reason"])
            journal.add(shard.name, shard.stamp(), rows)
            done += 1
            if report:
                report(done, len(shards))
    names = {shard.name for shard in shards}
    for stray in (out / "shards").glob("*.tar"):
        if f"shards/{stray.name}" not in names:
            stray.unlink()  # of a longer manifest, packed here before
    places = {row["path"]: row["place"] for row in journal.rows() if row["shard"] in names}
    path = out / "manifest.parquet"
    _packed(manifest, places, out).write(path)
    size = sum((out / name).stat().st_size for name in names)
    masks = sum(file.mask for shard in shards for file in shard.files)
    crops = sum(len(shard.files) for shard in shards) - masks
    return Packed(path, crops, masks, len(shards), len(todo), size)


def check_packed(manifest: Manifest) -> list[str]:
    """Read every crop and mask of a packed manifest and compare checksums; return a sentence a bad one."""
    found: list[str] = []
    masks = manifest.paths("mask")
    for place in dict.fromkeys(
        p for r, mask in zip(manifest.records(), masks, strict=True) for p in (r.path, r.source, mask) if p
    ):
        try:
            read_place(place)
        except InputError as error:
            found.append(str(error))
    return found


def _plan(manifest: Manifest, most: int) -> list[_Shard]:
    """Share the crops out to shards, in the order of the rows: a function of files and sizes alone."""
    shards: list[_Shard] = []
    files: list[_File] = []
    size = 0
    for together in _files(manifest):
        files += together
        size += sum(file.stamp[0] for file in together)
        if size >= most:
            shards.append(_Shard(f"shards/{len(shards):06d}.tar", tuple(files)))
            files, size = [], 0
    if files:
        shards.append(_Shard(f"shards/{len(shards):06d}.tar", tuple(files)))
    if not shards:
        raise InputError(f"{manifest.name}: no crops to pack; every row was dropped", reason="empty")
    return shards


def _files(manifest: Manifest) -> Iterator[list[_File]]:
    """Yield each crop, with its mask behind it if it has one."""
    root = manifest.root.absolute()
    records = manifest.records()
    masks = manifest.paths("mask")
    of_row = {record.path: (record, mask) for record, mask in zip(records, masks, strict=True)}
    missing: list[str] = []
    seen: set[str] = set()
    named: dict[str, str] = {}

    def look(path: str | None, name: str, facts: bytes | None, mask: bool) -> list[_File]:
        if not path or path in seen:
            return []
        seen.add(path)
        try:
            state = Path(path).stat()
        except OSError:
            missing.append(path)
            return []
        return [_File(path, name, facts, (state.st_size, state.st_mtime_ns), mask)]

    for path in (p for record in records for p in (record.path, record.source) if p):
        name = _name(Path(path), root)
        record, mask = of_row.get(path, (None, None))
        beside = ""
        if mask:  # beside the first crop that names it
            beside = named.setdefault(mask, str(PurePosixPath(name).with_suffix(f".mask{Path(mask).suffix}")))
        facts = None if record is None else _facts(record, root, beside)
        together = look(path, name, facts, False) + look(mask, beside, None, True)
        if together:
            yield together
    if missing:
        what = "crops or masks" if any(masks) else "crops"
        raise InputError(
            f"{manifest.name}: {len(missing)} of {len(seen)} {what} are not there, such as {missing[0]}; "
            "prepare them again, or leave their rows out (`Manifest.where`)",
            reason="missing",
        )


def _name(path: Path, root: Path) -> str:
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    # Crops elsewhere: their folder as a few digits, since its name may say more than it should.
    return f"elsewhere/{hashlib.sha256(str(path.parent).encode()).hexdigest()[:10]}/{path.name}"


def _facts(record: FaceRecord, root: Path, mask: str) -> bytes:
    plain = {
        "label": None if record.label is None else int(record.label),
        **{
            n: getattr(record, n)
            for n in ("dataset", "video", "frame", "time", "method", "split", "identity")
        },
        "source": _name(Path(record.source), root) if record.source else None,
        "landmarks": None if record.landmarks is None else _numbers(record.landmarks),
        "box": None if record.box is None else _numbers(record.box),
        **({"mask": mask} if mask else {}),
    }
    return json.dumps(plain).encode()


def _numbers(array: Any) -> list[Any]:
    """Shortest decimals that are the same float32; a point that a finder has not is null."""
    flat = [None if value != value else float(str(value)) for value in array.ravel()]
    return [flat[i : i + 2] for i in range(0, len(flat), 2)] if array.ndim == 2 else flat


def _work(todo: Sequence[_Shard], out: Path, workers: int | None) -> Iterator[tuple[_Shard, list[Row]]]:
    if len(todo) == 1 or workers == 1:  # a process of its own would only have to be started
        yield from ((shard, _write(shard, out)) for shard in todo)
    else:
        yield from work_off(_write, todo, out, lost=_lost, workers=workers, seconds=86_400)


def _lost(shard: _Shard, reason: str, note: str) -> list[Row]:
    return [{"error": f"{shard.name}: not written ({reason}: {note})", "reason": reason}]


def _write(shard: _Shard, out: Path) -> list[Row]:
    """Write one shard, whole or not at all; return a row a file, or one row with an error."""
    target = out / shard.name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    rows: list[Row] = []
    try:
        with partial.open("wb") as tar:
            for file in shard.files:
                data = Path(file.path).read_bytes()
                start = _add(tar, file.name, data)
                place = Piece(shard.name, start, len(data), zlib.crc32(data), file.name).place()
                rows.append({"path": file.path, "place": place, "shard": shard.name})
                if file.facts is not None:
                    _add(tar, str(PurePosixPath(file.name).with_suffix(".json")), file.facts)
            tar.write(bytes(2 * _BLOCK))
    except OSError as error:
        partial.unlink(missing_ok=True)
        return [{"error": f"{shard.name}: {error.filename or ''} {error.strerror}", "reason": "unreadable"}]
    partial.replace(target)
    return rows


def _add(tar: Any, name: str, data: bytes) -> int:
    """Append a member as a reproducible one: no time, no owner. Return where its bytes begin."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.write(info.tobuf(tarfile.PAX_FORMAT))
    start = int(tar.tell())
    tar.write(data + bytes(-len(data) % _BLOCK))
    return start


def _packed(manifest: Manifest, places: dict[str, str], out: Path) -> Manifest:
    import polars as pl

    columns = []
    for name in ("path", "source", "mask"):
        if manifest.frame.schema.get(name) == pl.String:
            texts = [(t and places.get(manifest.absolute(t))) or t for t in manifest.frame[name]]
            columns.append(pl.Series(name, texts, pl.String))
    return Manifest(manifest.frame.with_columns(columns), out)
