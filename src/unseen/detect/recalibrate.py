"""A run folder for somebody's own people: the same network, thresholds that hold for their cameras.

The new folder is a copy with another `calibration.json`; the former one lies beside it, and `run.json` says
what was done.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import unseen
from unseen.detect.engine import DEFAULT_RUN, Engine, Kind, checked, load_engine
from unseen.detect.seeing import Sight
from unseen.detect.verdict import Sighting
from unseen.evaluate.calibration import Calibration
from unseen.evaluate.recalibration import check_people, recalibrated
from unseen.evaluate.scope import Scope
from unseen.evaluate.selection import trained_on
from unseen.media.quality import Quality, quality_of
from unseen.run_files import LIST, digest
from unseen.types import FaceRecord, InputError, Label

__all__ = ["Recalibration", "recalibrate_run"]

FILE = "calibration.json"
BATCH = 16
Report = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Recalibration:
    """What came of it.

    Attributes:
        folder: The new run folder.
        old: The calibration that the run had.
        new: The one it has now.
        alarms_before: Share of the given real people that the old one calls fake.
        dropped: Rows that could not be scored, by reason.
    """

    folder: Path
    old: Calibration
    new: Calibration
    alarms_before: float
    dropped: dict[str, int]


def recalibrate_run(
    run: str | Path,
    records: Sequence[FaceRecord],
    out: Path,
    *,
    rate: float = 0.01,
    made_from: str = "own people",
    kind: Kind = "auto",
    device: str = "auto",
    report: Report | None = None,
) -> Recalibration:
    """Score people and write a copy of a run that is calibrated on them.

    Args:
        run: `default` or a run folder.
        records: Crops of real people, and of forgeries if there are any.
        out: The new folder; must not exist.
        rate: False-alarm rate to decide by.
        made_from: For people to read.
        kind: What runs the network.
        device: Where torch works.
        report: Called with rows done and rows in all.

    Raises:
        InputError: `out` exists, no or too few real people, rows that trained the run, rows without a label,
            or the run cannot be loaded.
    """
    folder = DEFAULT_RUN if str(run) == "default" else Path(run)
    if folder.suffix == ".onnx":
        raise InputError(
            f"{folder}: an exported file; calibrate the run folder and export that", reason="kind"
        )
    if out.exists():
        raise InputError(
            f"{out}: exists already; give another --out, nothing is overwritten", reason="exists"
        )
    facts = checked(folder)
    check_rows(records, facts, made_from)
    check_people(len({_person(r) or _video(r) for r in records if r.label == Label.REAL}), rate, made_from)
    engine = load_engine(run, kind=kind, device=device)
    kept, scores, qualities, dropped = [], [], [], Counter[str]()
    for record, score, quality in score_records(engine, records, dropped):
        kept.append(record)
        scores.append(score)
        qualities.append(quality)
        if report is not None:
            report(len(kept) + dropped.total(), len(records))
    if not kept:
        raise InputError(f"{made_from}: none of {len(records)} crops could be scored ({dict(dropped)})")
    score_array = np.array(scores, np.float64)
    label = np.array([int(record.label or 0) for record in kept], np.int64)
    scope = Scope.fit(
        (_person(record) or _video(record), quality)
        for record, quality in zip(kept, qualities, strict=True)
        if record.label == Label.REAL and quality is not None
    )
    old = engine.calibration
    new = recalibrated(
        old,
        score_array,
        label,
        [_person(record) for record in kept],
        [_video(record) for record in kept],
        rate=rate,
        made_from=made_from,
        scope=scope,
    )
    above = np.array(new.real_scores) >= old.threshold()
    alarms = float(np.average(above, weights=new.real_weights))
    write_copy(folder, out, new, facts, {"alarms_before": round(alarms, 4), "dropped": dict(dropped)})
    return Recalibration(out, old, new, alarms, dict(dropped))


def check_rows(records: Sequence[FaceRecord], facts: Any, made_from: str) -> None:
    """See that every row has a label and that none trained the run."""
    nameless = sum(record.label is None for record in records)
    if nameless:
        raise InputError(
            f"{made_from}: {nameless} of {len(records)} rows have no label; say what they are: "
            "unseen prepare FOLDER --label real",
            reason="label",
        )
    known = trained_on(facts.get("data", {}), records)
    if known:
        raise InputError(
            f"{made_from}: {known} of its videos trained this run, which scores them as it learned to; a "
            "rate promised by them would not hold for strangers. Leave them out, say with --split val",
            reason="trained",
        )


def score_records(
    engine: Engine, records: Sequence[FaceRecord], dropped: Counter[str]
) -> Iterator[tuple[FaceRecord, float, Quality | None]]:
    """Yield each crop's score and measures, by the path that `detect` takes; count what has none."""
    batch: list[tuple[FaceRecord, Any, Quality | None]] = []

    def flush() -> Iterator[tuple[FaceRecord, float, Quality | None]]:
        if batch:
            scores = engine.score(np.stack([image for _, image, _ in batch])).tolist()
            for (record, _, quality), score in zip(batch, scores, strict=True):
                if np.isfinite(score):
                    yield record, score, quality
                else:
                    dropped["not_finite"] += 1
            batch.clear()

    for record in records:
        try:
            if record.landmarks is None:
                raise InputError(f"{record.path}: no landmarks", reason="no_landmarks")
            landmarks = np.asarray(record.landmarks, np.float32)
            sighting = Sighting(record.frame or 0, record.time or 0.0, (0.0, 0.0, 0.0, 0.0))
            sight = Sight(sighting, Path(record.path).read_bytes(), landmarks, np.eye(2, 3))
            picture = sight.image()
            batch.append((record, engine.input_of(sight)[0], quality_of(picture, landmarks)))
        except InputError as error:
            dropped[error.reason or "unusable"] += 1
        except (OSError, AssertionError, ValueError):
            dropped["unreadable"] += 1
        if len(batch) == BATCH:
            yield from flush()
    yield from flush()


def write_copy(folder: Path, out: Path, new: Calibration, facts: Any, told: dict[str, Any]) -> None:
    """Copy a run folder with another calibration; it appears whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    names = [Path(name).name for name in facts["files"]]
    for name in names:
        shutil.copyfile(folder / name, partial / name)
    number = 1 + sum(name.startswith("calibration_before_") for name in names)
    kept = f"calibration_before_{number}.json"
    (partial / FILE).rename(partial / kept)
    new.to_json(partial / FILE)
    card = partial / "card.md"
    card.write_text(card.read_text("utf-8").rstrip() + _paragraph(new, kept), encoding="utf-8")
    again = {
        **facts,
        "files": {name: digest(partial / name) for name in [*names, kept]},
        "recalibrated": [
            *facts.get("recalibrated", []),
            {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "unseen": unseen.__version__,
                "made_from": new.made_from,
                "real_people": new.n_real_people,
                "fake_people": new.n_fake_people,
                "former": kept,
                **told,
            },
        ],
    }
    (partial / LIST).write_text(json.dumps(again, indent=2) + "\n", encoding="utf-8")
    partial.rename(out)


def _paragraph(new: Calibration, kept: str) -> str:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"\n\n## Calibrated anew on {day}\n\nOn {new.made_from}: {new.n_real_people} real people in "
        f"{new.n_real} videos or pictures. {new.threshold_rule[0].upper()}{new.threshold_rule[1:]}.\n"
        f"Thresholds above this paragraph are those of the former calibration, kept in `{kept}`.\n"
    )


def _person(record: FaceRecord) -> str | None:
    return f"{record.dataset}/{record.identity}" if record.identity else None


def _video(record: FaceRecord) -> str:
    return f"{record.dataset}/{record.video or record.path}"
