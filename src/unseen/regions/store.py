"""Makes and re-makes stores of primary regions: resumable, and every row that has no map with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unseen.checkpoint import Run
from unseen.data.manifest import Manifest
from unseen.data.regions import SHARDS, FaceRegions, RegionStore, pack_shard, region_key
from unseen.methods.prle import Fusion
from unseen.models.device import device_of
from unseen.prepare.journal import claim_folder, write_whole
from unseen.regions.zoo import Seen, Target, bring_back, look
from unseen.types import FaceRecord, InputError

__all__ = ["Made", "fuse_again", "primary_regions"]

VERSION = 2  # of the way from maps to ranks; 1 cut maps to 0 beyond a detector's view before they were fused
Report = Callable[[int, int], None]


@dataclass
class Made:
    """What a store holds after one call.

    Args:
        folder: Where it is.
        made: Faces whose maps were made now; `kept` had them already.
        repaired: Damaged shards of which what was whole was kept.
        missing: Faces without a map: path and reason.
    """

    folder: Path
    made: int = 0
    kept: int = 0
    repaired: list[str] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)


def primary_regions(
    manifest: Manifest,
    runs: Sequence[Run],
    out: str | Path,
    *,
    fusion: Fusion | None = None,
    size: int = 256,
    target: Target = "label",
    batch_size: int = 16,
    workers: int = 0,
    device: str | torch.device = "auto",
    bfloat16: bool = False,
    shard: int = 256,
    report: Report | None = None,
) -> Made:
    """Ask a zoo where it looks in every face, fuse, rank, and write a store.

    Killed and called again, it goes on behind the last whole shard. A crop whose file changed is done again.

    Args:
        manifest: The faces: those that another detector will learn from, and their labels.
        runs: The zoo, any number of trained detectors of any kind and input size.
        out: The store; one zoo and one rule a store.
        fusion: How maps become one; the paper's if None.
        size: Side of the fused map, which covers what the zoo saw of the crop.
        target: For which class places speak, see `unseen.regions.zoo.look`.
        batch_size: Faces at a time.
        workers: Processes that read and align.
        device: `auto` takes a CUDA device if there is one.
        bfloat16: Half precision: faster, and maps differ a little.
        shard: Faces a file.
        report: Called with (faces done, faces in all).

    Raises:
        InputError: No detectors, no faces, or `out` holds maps of another zoo or rule (`other_rule`).
    """
    if not runs:
        raise InputError("primary regions: no detectors; expected at least one run folder", reason="empty")
    out, fusion = Path(out), fusion or Fusion()
    rule = {
        "version": VERSION,
        "size": size,
        "fusion": fusion.to_dict(),
        "target": target,
        "precision": "bfloat16" if bfloat16 else "float32",
        "zoo": [{"name": r.name, "weights": r.digest, "image_size": r.detector.image_size} for r in runs],
        "zoo_hash": zoo_hash(r.digest for r in runs),
    }
    made, store = _open(out, rule)
    records, todo = manifest.records(), list[FaceRecord]()
    if not records:
        raise InputError(f"{manifest.name}: no rows; does `--split` leave any?", reason="empty")
    stamps: dict[str, str] = {}
    for record in records:
        key = region_key(record.path, manifest.root)
        try:
            stamps[record.path] = _stamp(record.path)
        except OSError as error:
            made.missing.append((record.path, f"{record.path}: cannot be read ({error.strerror})"))
            continue
        if not store.has(key, stamps[record.path]):
            todo.append(record)
    made.kept = len(stamps) - len(todo)
    place = device_of(device)
    done = len(records) - len(todo)
    if report:
        report(done, len(records))
    precision = torch.bfloat16 if bfloat16 else torch.float32
    batches = look(
        runs, todo, target=target, batch_size=batch_size, workers=workers, device=place, precision=precision
    )
    with _Writer(out, rule, shard) as writer:
        for batch in batches:
            good = [(todo[row], seen) for row, seen in batch if isinstance(seen, Seen)]
            made.missing += [(todo[row].path, seen) for row, seen in batch if isinstance(seen, str)]
            if good:
                ranks = fusion.rank(*bring_back([seen for _, seen in good], size, place)).cpu()
                for (record, seen), rank in zip(good, ranks, strict=True):
                    key = region_key(record.path, manifest.root)
                    writer.add(_row(key, stamps[record.path], seen, rank))
            made.made += len(good)
            done += len(batch)
            if report:
                report(done, len(records))
    return made


def fuse_again(
    source: str | Path,
    out: str | Path,
    *,
    fusion: Fusion | None = None,
    size: int = 256,
    zoo: Sequence[str] | None = None,
    batch_size: int = 16,
    shard: int = 256,
    report: Report | None = None,
) -> Made:
    """Fuse the native maps of a store anew, without its detectors: Tables V, VI and Figure 6 from one pass.

    Args:
        source: A store.
        out: The new store.
        fusion: How maps become one; the paper's if None.
        size: Side of the fused map.
        zoo: Names of the detectors that count; all if None.
        batch_size: Faces at a time.
        shard: Faces a file.
        report: Called with (faces done, faces in all).

    Raises:
        InputError: The source cannot be read, has no such detector, or `out` has another rule.
    """
    old, fusion, out = RegionStore(source), fusion or Fusion(), Path(out)
    if out.resolve() == old.folder.resolve():
        raise InputError(
            f"{out}: is the store that is to be fused again; give another --out", reason="exists"
        )
    names = [member["name"] for member in old.rule["zoo"]]
    wrong = [name for name in zoo or [] if name not in names]
    if wrong or zoo == []:
        raise InputError(
            f"{source}: no maps of {', '.join(wrong) or 'none'}; there are those of {', '.join(names)}",
            reason="unknown_detector",
        )
    chosen = [names.index(name) for name in zoo or names]
    members = [old.rule["zoo"][i] for i in chosen]
    digest = zoo_hash(member["weights"] for member in members)
    rule = {
        **old.rule,
        "version": VERSION,
        "size": size,
        "fusion": fusion.to_dict(),
        "zoo": members,
        "zoo_hash": digest,
    }
    made, store = _open(out, rule)
    keys = old.keys
    with _Writer(out, rule, shard) as writer:
        for start in range(0, len(keys), batch_size):
            rows = [_subset(old.read(key), chosen) for key in keys[start : start + batch_size]]
            rows = [row for row in rows if not store.has(row.key, row.stamp)]
            made.kept += min(batch_size, len(keys) - start) - len(rows)
            if rows:
                for row, rank in zip(rows, fusion.rank(*bring_back(rows, size)), strict=True):
                    writer.add(_row(row.key, row.stamp, row, rank))
            made.made += len(rows)
            if report:
                report(made.made + made.kept, len(keys))
    return made


def zoo_hash(weights: Iterable[str]) -> str:
    """Return 16 hex digits of a zoo: which detectors, in which order."""
    return hashlib.sha256("\n".join(weights).encode()).hexdigest()[:16]


def _open(out: Path, rule: dict[str, Any]) -> tuple[Made, RegionStore]:
    """Make a folder a store of this rule, or see that it is one; repair its damaged shards."""
    claim_folder(out, "regions", rule, what="maps")
    made, store = Made(out), RegionStore(out, lenient=True)
    for path, reason in store.damaged:
        rows = _readable(store, store.inside(path))
        if rows:
            write_whole(path, pack_shard(store.rule, rows))
        else:
            path.unlink()
        made.repaired.append(reason)
    return made, RegionStore(out) if made.repaired else store


def _readable(store: RegionStore, keys: Sequence[str]) -> list[FaceRegions]:
    rows = []
    for key in keys:
        try:
            rows.append(store.read(key))
        except InputError:
            continue
    return rows


def _stamp(path: str) -> str:
    state = Path(path).stat()
    return f"{state.st_size}-{state.st_mtime_ns}"


def _row(key: str, stamp: str, seen: Seen | FaceRegions, rank: Tensor) -> FaceRegions:
    return FaceRegions(key, stamp, seen.size, seen.window, rank.numpy(), seen.maps, seen.places)


def _subset(row: FaceRegions, chosen: Sequence[int]) -> FaceRegions:
    assert row.places is not None
    maps = tuple(row.maps[i] for i in chosen)
    return FaceRegions(row.key, row.stamp, row.size, row.window, row.rank, maps, row.places[list(chosen)])


class _Writer:
    """Collects rows and writes a shard whenever there are enough, or when it is left, for whatever reason."""

    def __init__(self, out: Path, rule: dict[str, Any], count: int) -> None:
        self.folder, self.rule, self.count = out / SHARDS, rule, count
        numbers = [int(path.stem) for path in self.folder.glob("*.regions") if path.stem.isdigit()]
        self.number = max(numbers, default=-1) + 1
        self.rows: list[FaceRegions] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, row: FaceRegions) -> None:
        self.rows.append(row)
        if len(self.rows) >= self.count:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            write_whole(self.folder / f"{self.number:05d}.regions", pack_shard(self.rule, self.rows))
            self.number, self.rows = self.number + 1, []
