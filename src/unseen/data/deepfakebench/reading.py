"""DeepfakeBench's JSON and its trees of frames, landmarks and masks, to a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unseen.data.columns import SCHEMA
from unseen.data.deepfakebench.naming import label_of, place_of, slashes, who
from unseen.data.manifest import Manifest
from unseen.data.names import method_name, set_name
from unseen.types import LANDMARKS, InputError, Label

__all__ = ["Imported", "read_json", "read_tree", "to_manifest"]

Row = dict[str, Any]
_ORDER = ("test", "val", "train")  # who keeps a crop that several splits name: never train on the test


@dataclass(frozen=True)
class Imported:
    """What was read.

    Args:
        manifest: A row a crop; one whose file is gone has status `dropped`, reason `missing`.
        missing: How many files are gone.
        notes: What is unusual in the source, a sentence each.
    """

    manifest: Manifest
    missing: int = 0
    notes: list[str] = field(default_factory=list)


def read_json(
    path: Path | str, *, root: Path | str | None = None, labels: Mapping[str, int] | None = None
) -> Imported:
    """Read one of its JSON files.

    Its paths are relative to somewhere, in either slash; they are looked for as they are, then below `root`
    with ever more of their first folders left out, as `datasets/rgb/FaceForensics++/...` is found below a
    root that is `FaceForensics++` itself. Landmarks and masks are those beside the frames. A crop that
    several splits name, which is how validation, test and train of several sets overlap in these files, is
    kept in the first of test, val, train that names it, and the overlap is a note.

    Args:
        path: Such as `FaceForensics++.json`.
        root: Where the crops are; default: the folder of the file.
        labels: What label names mean that say neither real nor fake, 0 or 1.

    Raises:
        InputError: It is not such a file, a label cannot be read, or none of its crops is there.
    """
    path = Path(path)
    places = [Path(root)] if root is not None else [path.parent, Path()]
    finder = _Finder(places)
    rows: dict[str, Row] = {}
    seen: dict[str, set[str]] = {}
    notes: list[str] = []
    for entry in _entries(_load(path), str(path), notes):
        label = (
            Label(labels[entry.label])
            if labels and entry.label in labels
            else label_of(entry.label, str(path))
        )
        dataset = _dataset(entry)
        method = "real" if label is Label.REAL else _method(entry.label, dataset)
        prefix = entry.label
        if entry.label.startswith("FF-"):
            prefix = "original" if label is Label.REAL else method
        video = f"{prefix}/{entry.video}"
        identity, donor = who(dataset, entry.video)
        for text in sorted(entry.frames, key=_number):
            clean = slashes(text)
            found = finder(clean)
            key = str(found or clean)
            seen.setdefault(key, set()).add(entry.split)
            if key in rows and _ORDER.index(rows[key]["split"]) <= _ORDER.index(entry.split):
                continue
            rows[key] = {
                "path": key, "label": int(label), "dataset": dataset, "video": video, "frame": _number(clean),
                "method": method, "split": entry.split, "identity": identity, "donor": donor,
                "status": "kept" if found else "dropped", "reason": None if found else "missing",
            }  # fmt: skip
    if not rows:
        raise InputError(f"{path}: names no frames at all; it was written of an empty folder", reason="empty")
    overlaps = Counter("+".join(sorted(splits)) for splits in seen.values() if len(splits) > 1)
    for splits, number in overlaps.items():
        notes.append(
            f"{number:,} crops are named by the splits {splits}: they count as "
            f"{next(s for s in _ORDER if s in splits.split('+'))}"
        )
    if not any(row["status"] == "kept" for row in rows.values()):
        first = next(iter(rows))
        raise InputError(
            f"{path}: none of its {len(rows):,} crops is there, such as {first}; give --root FOLDER, any "
            f"folder above or inside that path (looked below {', '.join(str(p.absolute()) for p in places)})",
            reason="missing",
        )
    return to_manifest(list(rows.values()), notes)


def read_tree(root: Path | str) -> Imported:
    """Read crops without any JSON: `.../frames/VIDEO/NNN.png`, `landmarks` and `masks` beside.

    Data set, label and method are inferred from the folders (see `naming.place_of`), splits are left empty.

    Raises:
        InputError: There are no such pictures.
    """
    root = Path(root).absolute()
    rows = []
    odd = []
    for path in sorted(root.rglob("*.png")):
        if path.parent.parent.name != "frames":
            continue
        try:
            place = place_of(path.as_posix(), root.as_posix())
        except InputError:
            odd.append(str(path))
            continue
        identity, donor = who(place.dataset, place.video)
        rows.append(
            {
                "path": str(path), "label": None if place.label is None else int(place.label),
                "dataset": place.dataset, "video": place.video, "frame": place.frame, "method": place.method,
                "split": None, "identity": identity, "donor": donor, "status": "kept", "reason": None,
            }
        )  # fmt: skip
    if not rows:
        raise InputError(
            f"{root}: no pictures at .../frames/VIDEO/NNN.png; expected crops as DeepfakeBench writes them",
            reason="layout",
        )
    notes = ["no JSON, so no splits: set them with `Manifest.split`, or read the JSON"]
    unlabelled = sum(row["label"] is None for row in rows)
    if unlabelled:
        notes.append(f"{unlabelled:,} crops lie in folders that say neither real nor fake: no label")
    if odd:
        notes.append(f"{len(odd):,} pictures are not named by frame numbers, such as {odd[0]}: left out")
    return to_manifest(rows, notes)


def to_manifest(rows: list[Row], notes: list[str]) -> Imported:
    """Add landmarks and masks from beside the frames, and make the table."""
    broken: list[str] = []
    for row in rows:
        crop = Path(row["path"])
        row["landmarks"], row["mask"] = None, None
        if row["status"] != "kept":
            continue
        group, inside = crop.parents[2], Path(crop.parent.name) / crop.stem
        try:
            row["landmarks"] = _landmarks(group / "landmarks" / inside.with_name(crop.stem + ".npy"))
        except InputError as error:
            broken.append(str(error))
        mask = group / "masks" / crop.parent.name / f"{crop.stem}.png"
        row["mask"] = str(mask) if mask.is_file() else None
    if broken:
        notes.append(f"{len(broken):,} landmark files cannot be used, such as {broken[0]}")
    without = sum(row["landmarks"] is None and row["status"] == "kept" for row in rows)
    if without:
        notes.append(f"{without:,} crops have no landmarks: recipes with AlignFace need them")
    missing = sum(row["status"] != "kept" for row in rows)
    text = {name: pl.String() for name in ("donor", "status", "reason", "mask")}
    schema = {name: SCHEMA[name] for name in SCHEMA if name not in ("time", "source", "box")} | text
    rows.sort(key=lambda row: (row["dataset"], row["video"], row["frame"]))
    frame = pl.DataFrame({name: [row[name] for row in rows] for name in schema}, schema=schema)
    return Imported(Manifest(frame, Path("/"), name="DeepfakeBench"), missing, notes)


def _landmarks(path: Path) -> list[float] | None:
    if not path.is_file():
        return None
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}", reason="unreadable") from error
    if points.shape != (LANDMARKS, 2):
        raise InputError(f"{path}: shape {points.shape}; expected ({LANDMARKS}, 2)", reason="bad_landmarks")
    flat: list[float] = points.astype(np.float32).ravel().tolist()
    return flat


class _Finder:
    """Finds files below a root, with as many of their first folders left out as it takes."""

    def __init__(self, roots: list[Path]) -> None:
        self._roots = [root.absolute() for root in roots]
        self._worked: list[tuple[Path, int]] = []

    def __call__(self, path: str) -> Path | None:
        if Path(path).is_absolute() and Path(path).is_file():
            return Path(path)
        parts = Path(path.lstrip("/")).parts
        ways = [(root, drop) for drop in range(len(parts)) for root in self._roots]
        for root, drop in [*self._worked, *(way for way in ways if not self._worked)]:
            found = root.joinpath(*parts[drop:])
            if found.is_file():
                if (root, drop) not in self._worked:
                    self._worked.insert(0, (root, drop))
                return found
        return None


@dataclass(frozen=True)
class _Entry:
    top: str
    label: str
    split: str
    compression: str | None
    video: str
    frames: list[str]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", reason="missing") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error})", reason="unreadable") from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise InputError(
            f"{path}: expected {{DATASET: {{LABEL: {{SPLIT: {{VIDEO: ...}}}}}}}}, as its rearrange.py writes",
            reason="layout",
        )
    return content


def _entries(content: dict[str, Any], where: str, notes: list[str]) -> Iterator[_Entry]:
    for top, by_label in content.items():
        for label, by_split in by_label.items():
            for split, videos in by_split.items():
                if split not in _ORDER:
                    raise InputError(
                        f"{where}: {top}/{label}: split {split!r}; expected train, val, test", reason="layout"
                    )
                if "frames" in videos and "label" in videos and isinstance(videos["frames"], list):
                    # DFDC's `val` is written over again and again until it is one record without a name.
                    notes.append(f"{top}/{label}/{split} is a single record without a video's name: left out")
                    continue
                for name, entry in videos.items():
                    if "frames" in entry:
                        yield _Entry(top, label, split, None, name, entry["frames"])
                        continue
                    for video, inner in entry.items():
                        if "frames" not in inner:
                            raise InputError(f"{where}: {top}/{label}/{split}/{name}/{video} has no frames")
                        yield _Entry(top, label, split, name, video, inner["frames"])


def _dataset(entry: _Entry) -> str:
    ours = "ff++" if entry.top.startswith("FF-") else set_name(entry.top) or entry.top
    return f"{ours}_{entry.compression}" if entry.compression else ours


def _method(label: str, dataset: str) -> str:
    ours = method_name(label)
    if ours != label:
        return ours
    if label.startswith("DFDCP_Fake"):
        return f"method_{label[-1]}"
    return set_name(dataset) or dataset


def _number(path: str) -> int:
    stem = Path(path.replace("\\", "/")).stem
    digits = "".join(c if c.isdigit() else " " for c in stem).split()
    return int(digits[-1]) if digits else 0
