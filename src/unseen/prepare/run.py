"""Many files at once: worker processes, a journal that survives a kill, and the manifest at the end."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.data.places import name_of, state_of
from unseen.media.faces import face_finder
from unseen.prepare.inputs import InputFile
from unseen.prepare.journal import Journal, Row, claim_folder
from unseen.prepare.pool import work_off
from unseen.prepare.work import CropRule, dropped, prepare_file

if TYPE_CHECKING:
    from unseen.data.manifest import Manifest

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What a folder of crops holds after one call.

    Args:
        manifest: Path of the manifest.
        kept: Crops in it, those of earlier calls included.
        dropped: Rows without a crop, by reason.
        files: Files looked at in this call; `skipped` were done by an earlier one.
    """

    manifest: Path
    kept: int
    dropped: dict[str, int]
    files: int
    skipped: int


def prepare(
    items: Sequence[InputFile],
    out: str | Path,
    *,
    rule: CropRule | None = None,
    workers: int | None = None,
    seconds_per_file: float = 600.0,
    engine: Callable[..., Iterator[tuple[InputFile, list[Row]]]] = work_off,
    report: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Crop the faces of every file into `out` and write `out/manifest.parquet`.

    Killed at any moment and called again, it goes on where it was and ends with the same bytes, for any
    number of workers; called again with other files, it adds them.

    Args:
        items: From `list_inputs`.
        out: The folder; one rule of cropping a folder.
        rule: How to crop; default: `CropRule()`.
        workers: Processes; default: one a core.
        seconds_per_file: A file that takes longer is dropped as `timeout` and its worker replaced.
        engine: Where workers run: `work_off` of `unseen.prepare.pool`, here, or of `unseen.scale.ray`.
        report: Called with (files done, files in all) after each file.

    Raises:
        InputError: `out` holds crops made by another rule (`other_rule`), or is a file; the finder is not
            installed (`missing_extra`).
    """
    out = Path(out)
    rule = rule or CropRule()
    if rule.finder != CropRule.finder:
        face_finder(rule.finder)  # what is not installed is said once here, not of each file
    claim_folder(out, "prepare", rule.to_dict())
    with Journal(out / "journal.jsonl") as journal:
        todo = [item for item in items if not journal.has(name_of(item.path), _stamp(item))]
        finished = len(items) - len(todo)
        if report:
            report(finished, len(items))
        # Absolute, since the workers of a cluster start elsewhere.
        work = engine(
            prepare_file, todo, rule, out.absolute(), lost=_lost, workers=workers, seconds=seconds_per_file
        )
        for item, rows in work:
            journal.add(name_of(item.path), _stamp(item), rows)
            finished += 1
            if report:
                report(finished, len(items))
    rows = journal.rows()
    path = out / "manifest.parquet"
    _manifest(rows, out).write(path)
    reasons = Counter(row["reason"] for row in rows if row["status"] == "dropped")
    return Prepared(
        path, len(rows) - reasons.total(), dict(sorted(reasons.items())), len(todo), len(items) - len(todo)
    )


def _lost(item: InputFile, reason: str, note: str) -> list[Row]:
    return [dropped(item, reason, note=note)]


def _stamp(item: InputFile) -> str:
    size, changed = state_of(item.path)
    said: list[object] = [
        item.dataset,
        item.video,
        item.label,
        item.method,
        item.split,
        item.identity,
        name_of(item.source) if item.source else "",
    ]
    if item.donor is not None or item.frame is not None:  # so that folders of earlier versions stay done
        said += [item.donor, item.frame]
    return json.dumps([size, changed, *said])


def _manifest(rows: list[Row], out: Path) -> Manifest:
    import polars

    from unseen.data.manifest import Manifest

    text, number, real = polars.String, polars.Int64, polars.Float64
    floats = polars.List(polars.Float32)
    schema: dict[str, Any] = {"path": text, "label": polars.Int8, "dataset": text, "video": text}
    schema |= {"frame": number, "time": real, "method": text, "split": text, "identity": text, "source": text}
    schema |= {"landmarks": floats, "box": floats, "donor": text}
    schema |= {"status": text, "reason": text, "note": text}
    schema |= {"person": number, "face_score": real, "face_size": real, "blur": real}
    schema |= {
        "origin_x": real,
        "origin_y": real,
        "scale": real,
        "frame_width": number,
        "frame_height": number,
    }
    schema |= {"file": text, "sha256": text}
    crops = {(row["file"], row["frame"]): row["path"] for row in rows if row["status"] == "kept"}
    plain = [
        row
        | {
            "path": row.get("path", ""),
            "source": crops.get((row["source"], row["frame"])),
            "landmarks": _unpack(row.get("landmarks")),
            "box": _unpack(row.get("box")),
        }
        for row in sorted(rows, key=lambda r: (r["dataset"], r["video"], r["frame"], r.get("person", -1)))
    ]
    columns = {name: [row.get(name) for row in plain] for name in schema}
    return Manifest(polars.DataFrame(columns, schema=schema), out)


def _unpack(text: str | None) -> list[float] | None:
    import numpy as np

    return None if text is None else np.frombuffer(base64.b64decode(text), "<f4").tolist()
