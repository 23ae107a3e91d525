"""The DeepFake Detection Challenge: the full set and its preview."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from unseen.data.layouts.listing import Count, Listing, ListRow, media, no_data
from unseen.types import InputError, Label

__all__ = ["dfdc", "dfdc_preview"]

_WHERE = (
    "DFDC and its preview are given out by Meta AI (account needed), the training parts by Kaggle as well"
)


def dfdc(root: Path) -> Listing:
    """DFDC: folders of videos, each with its `metadata.json` or `labels.csv`.

    `metadata.json` maps a file's name to `label` (REAL or FAKE; `is_fake` 0 or 1 in copies of the test set),
    `split`, and for fakes `original`, the real video of the same folder. `labels.csv` has `filename` and
    `label` (0 real, 1 fake). A folder called test, or below one, is `test`; validation likewise; all else is
    `train`. The test set as benchmarks use it has 2,500 real and 2,500 fake videos, and only that number is
    expected.

    Args:
        root: Any folder above: one part, all fifty, or the test set.

    Raises:
        InputError: No such file below, or a damaged one; named.
    """
    rows: list[ListRow] = []
    missing: list[str] = []
    lists = sorted([*root.rglob("metadata.json"), *root.rglob("labels.csv")])
    told: dict[Path, Path] = {}
    for path in lists:
        if path.parent in told:  # both lists of one folder: the first says it
            continue
        told[path.parent] = path
        entries = dict(_entries(path))
        split = _split(path.parent.relative_to(root) if path.parent != root else Path(root.name))
        files = {file.name: file for file in media(path.parent)}
        for name, (label, original) in entries.items():
            file = files.get(name)
            if file is None:
                missing.append(str(path.parent / name))
                continue
            rows.append(
                ListRow(
                    file, label, "dfdc", file.stem, "real" if label is Label.REAL else "dfdc", split,
                    source=files.get(original) if original else None,
                )
            )  # fmt: skip
    if not lists:
        raise no_data(root, "DFDC", "a metadata.json or labels.csv beside the videos", _WHERE)
    if not rows:
        raise no_data(root, "DFDC", f"the videos that {lists[0]} names", _WHERE)
    tested = [row for row in rows if row.split == "test"]
    counts = [
        Count("real", sum(row.label is Label.REAL for row in rows)),
        Count("fake", sum(row.label is Label.FAKE for row in rows)),
    ]
    if tested:
        counts += [
            Count("real in test", sum(row.label is Label.REAL for row in tested), 2500),
            Count("fake in test", sum(row.label is Label.FAKE for row in tested), 2500),
        ]
    counts.append(Count("named in lists", len(rows), len(rows) + len(missing)))
    notes = ["people are not told by names or lists: a split by identity is not possible here"]
    return Listing("dfdc", rows, counts, missing, notes)


def _split(place: Path) -> str:
    words = {part.lower() for part in place.parts}
    if any(word.startswith("test") for word in words):
        return "test"
    return "val" if any(word.startswith("val") for word in words) else "train"


def _entries(path: Path) -> Iterator[tuple[str, tuple[Label, str | None]]]:
    """Yield name, label and original of each video that a list names."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                yield row.get("filename") or "", (_label(row.get("label"), f"{path} row {number}"), None)
        return
    for name, entry in _read(path).items():
        said = entry.get("label", entry.get("is_fake"))
        yield PurePosixPath(name).name, (_label(said, f"{path}: {name}"), entry.get("original") or None)


def _label(said: Any, where: str) -> Label:
    known = {"real": Label.REAL, "0": Label.REAL, "fake": Label.FAKE, "1": Label.FAKE}
    try:
        return known[str(said).lower()]
    except KeyError:
        raise InputError(
            f"{where}: label {said!r}; expected REAL or FAKE, 0 or 1", reason="bad_label"
        ) from None


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable JSON ({error}); download it again", reason="unreadable"
        ) from error
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise InputError(f"{path}: expected a mapping of file names to their facts", reason="layout")
    return entries


def dfdc_preview(root: Path) -> Listing:
    """DFDC preview (DFDCP): 1,131 real videos and 4,119 fakes of two methods, with `dataset.json`.

    `dataset.json` maps a path below the root, such as `method_A/643618/643618_A/643618_A_A_1224068_0.mp4` or
    `original_videos/643618/643618_A.mp4`, to `label`, `set` (train or test), `target_id` (who is in the
    picture), `swapped_id` (whose face was put in) and `augmentations`. How deep the folders go differs
    between copies, so a file that is not at its path is looked for by its name inside its first folder. A
    fake's source is the original with the longest stem that begins its own name.

    Args:
        root: The folder of `dataset.json`.
    """
    path = root / "dataset.json"
    if not path.is_file():
        raise no_data(root, "the DFDC preview", "dataset.json beside original_videos and method_A", _WHERE)
    by_name: dict[tuple[str, str], Path] = {}
    for file in media(root):
        by_name[file.relative_to(root).parts[0], file.name] = file
    rows: list[ListRow] = []
    missing: list[str] = []
    originals = {file.stem: file for (place, _), file in by_name.items() if place == "original_videos"}
    for name, entry in _read(path).items():
        parts = PurePosixPath(name.replace("\\", "/")).parts
        found = by_name.get((parts[0], parts[-1]))
        if found is None:
            missing.append(name)
            continue
        label = _label(entry.get("label"), f"{path}: {name}")
        swapped = entry.get("swapped_id")
        stem, source = found.stem, None
        if label is Label.FAKE:
            starts = [s for s in originals if stem.startswith(f"{s}_")]
            source = originals[max(starts, key=len)] if starts else None
        rows.append(
            ListRow(
                found, label, "dfdc-preview", f"{parts[0]}/{stem}",
                "real" if label is Label.REAL else parts[0], _set(entry.get("set"), name),
                identity=f"dfdc-preview/{entry['target_id']}" if entry.get("target_id") else None,
                donor=f"dfdc-preview/{swapped}" if swapped and label is Label.FAKE else None,
                source=source,
            )
        )  # fmt: skip
    if not rows:
        raise no_data(root, "the DFDC preview", f"the videos that {path} names", _WHERE)
    counts = [
        Count("real", sum(row.label is Label.REAL for row in rows), 1131),
        Count("fake", sum(row.label is Label.FAKE for row in rows), 4119),
        Count("real in test", sum(r.label is Label.REAL and r.split == "test" for r in rows), 276),
        Count("fake in test", sum(r.label is Label.FAKE and r.split == "test" for r in rows), 501),
    ]
    notes = ["no validation split: take some of `train`, by `Manifest.split`, and never the test set"]
    return Listing("dfdc-preview", rows, counts, missing, notes)


def _set(said: Any, name: str) -> str:
    known = {"train": "train", "test": "test", "val": "val", "validation": "val"}
    try:
        return known[str(said).lower()]
    except KeyError:
        raise InputError(
            f"dataset.json: {name}: set {said!r}; expected train or test", reason="layout"
        ) from None
