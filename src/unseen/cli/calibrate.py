"""`unseen calibrate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, positive, watch
from unseen.types import InputError

__all__ = ["add"]

_MORE = """The run is copied with a new calibration.json; the former one is kept beside it. People count, not
frames: a false-alarm rate of 1 in 100 takes 99 real people, each named by the manifest's column `identity`.

  unseen prepare my_people/ --label real --out crops
  unseen calibrate default crops/manifest.parquet --out runs/mine
  unseen detect file.jpg --run runs/mine
"""


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "calibrate",
        run,
        "Set a run's thresholds on your own real people (and forgeries, if any).",
        _MORE,
    )
    verb.add_argument("model", metavar="RUN", help="a run folder, or 'default'")
    verb.add_argument(
        "manifest", type=Path, metavar="MANIFEST", help="crops with labels, from `unseen prepare`"
    )
    verb.add_argument("--out", type=Path, help="the new run folder (default: ./NAME-calibrated)")
    verb.add_argument("--false-alarms", type=float, default=0.01, help="rate to decide by (default: 0.01)")
    verb.add_argument("--split", default="all", help="rows of one split only (default: all)")
    verb.add_argument("--frames", type=positive, help="frames a video, evenly spread (default: all)")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument("--engine", default="auto", choices=["auto", "onnx", "torch"])
    verb.add_argument("--json", action="store_true", help="print what came of it as JSON")


def run(known: argparse.Namespace) -> int:
    """Calibrate anew and say what changed."""
    from unseen.cli.scoring import choose_frames, read_rows
    from unseen.detect.recalibrate import recalibrate_run

    name = "default" if known.model == "default" else Path(known.model).resolve().name
    out = known.out or Path(f"{name}-calibrated")
    if out.exists():
        raise InputError(
            f"{out}: exists already; give another --out, nothing is overwritten", reason="exists"
        )
    path = known.manifest
    known.manifest = [path]
    records = choose_frames(read_rows(known), known.frames)
    made = path.name if known.split == "all" else f"split '{known.split}' of {path.name}"
    with watch("scoring", "crops") as report:
        found = recalibrate_run(
            known.model,
            records,
            out,
            rate=known.false_alarms,
            made_from=made,
            kind=known.engine,
            device=known.device,
            report=report,
        )
    old, new = found.old, found.new
    facts = {
        "run": str(found.folder),
        "real_people": new.n_real_people,
        "real_videos": new.n_real,
        "fake_people": new.n_fake_people,
        "false_alarms": float(new.default),
        "threshold": new.probability(new.threshold()),
        "threshold_before": old.probability(old.threshold()),
        "called_fake_before": found.alarms_before,
        "dropped": found.dropped,
        "notes": list(new.notes),
    }
    if known.json:
        print(json.dumps(facts, indent=2))
        return OK
    print(
        f"Run: {found.folder}\n"
        f"By {new.n_real_people} real people ({new.n_real} videos or pictures): fake from a probability of "
        f"{facts['threshold']:.3f}, which at most {100 * float(new.default):g} % of such people reach.\n"
        f"The former threshold, {facts['threshold_before']:.3f}, calls {100 * found.alarms_before:.1f} % of "
        "these people fake."
    )
    for reason, count in found.dropped.items():
        print(f"Left out: {count} crops ({reason})")
    for note in new.notes:
        print(f"Note: {note}")
    print(f"Next: unseen detect FILE --run {found.folder}")
    return OK
