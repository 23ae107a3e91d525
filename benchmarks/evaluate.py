"""130,000 scored faces: writing the table, and every metric at both levels; beside scikit-learn in loops.

    python benchmarks/evaluate.py [ROWS]

Both sides read the same Parquet file and give the same numbers at frame and video level and per method; ours
are more (data sets, TPR at four FPRs, ECE), and the file is checked for what no number can be trusted on. The
other side is what a careful script does: rows as Python objects, a dictionary of videos, scikit-learn.

Then everything that `unseen evaluate --scores` prints: 1,000 draws of videos for intervals of every metric at
both levels and of every method, thresholds and calibrations from validation. The bounds are 10 s and 1 GB.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

METHODS = ("deepfakes", "face2face", "faceswap", "faceshifter", "neuraltextures")


def write(path: Path, rows: int) -> None:
    """Write scores of videos of 32 frames: one real for five forgeries, one row in 500 unreadable."""
    from unseen.evaluate.scores import ScoreWriter
    from unseen.types import FaceRecord

    rng = np.random.default_rng(0)
    with ScoreWriter(path) as writer:
        for i in range(rows):
            video, frame = divmod(i, 32)
            kind = video % 6
            method = METHODS[kind - 1] if kind else "real"
            if frame == 0:
                level = rng.normal(1.5 if kind else -0.5)
            name = f"{method}/{video:05d}"
            record = FaceRecord(
                f"/data/{name}/{frame:03d}.jpg", int(kind > 0), "ffpp", name, frame, frame / 3, method,
                "test", str(video),
            )  # fmt: skip
            writer.add(record, None if i % 500 == 7 else float(level + rng.normal(0, 0.5)))


def ours(path: Path) -> dict[str, Any]:
    """What `unseen evaluate --scores --resamples 0` prints."""
    from unseen.evaluate.scores import ScoreTable
    from unseen.evaluate.summary import summary

    return summary(ScoreTable.read(path))


def whole(path: Path) -> dict[str, Any]:
    """What `unseen evaluate --scores FILE --validation FILE` prints, intervals included."""
    from unseen.evaluate.scores import ScoreTable
    from unseen.evaluate.summary import summary

    table = ScoreTable.read(path)
    return summary(table, resamples=1000, validation=table)


def plain(path: Path) -> dict[str, Any]:
    """The frame and video numbers with Python loops and scikit-learn."""
    import pyarrow.parquet as pq
    from sklearn import metrics as sk

    rows = [r for r in pq.read_table(path).to_pylist() if r["score"] is not None]

    def measured(pairs: list[tuple[float, int]]) -> dict[str, float]:
        score, label = (np.array(column) for column in zip(*pairs, strict=True))
        fpr, tpr, _ = sk.roc_curve(label, score, drop_intermediate=False)
        best = np.argmin(np.abs(1 - tpr - fpr))
        return {
            "auc": sk.roc_auc_score(label, score),
            "average_precision": sk.average_precision_score(label, score),
            "accuracy": sk.accuracy_score(label, score > 0),
            "eer": (fpr[best] + 1 - tpr[best]) / 2,
            "balanced_accuracy": sk.balanced_accuracy_score(label, score > 0),
            "brier": sk.brier_score_loss(label, 1 / (1 + np.exp(-score))),
        }

    videos: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        videos[row["dataset"], row["video"]].append(row)
    levels = {
        "frame": [(r["score"], r["label"], r["method"]) for r in rows],
        "video": [
            (float(np.mean([r["score"] for r in v])), v[0]["label"], v[0]["method"]) for v in videos.values()
        ],
    }
    return {
        level: {
            **measured([(s, y) for s, y, _ in items]),
            "per_method": {m: measured([(s, y) for s, y, k in items if y == 0 or k == m]) for m in METHODS},
        }
        for level, items in levels.items()
    }


def timed(work: str, path: Path) -> tuple[float, float, Any]:
    """Run one side in a process of its own; return seconds, its peak memory in MB, and what it found."""
    import subprocess

    out = subprocess.run(
        [sys.executable, __file__, "--side", work, str(path)], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(out.splitlines()[-1])
    return found["seconds"], found["megabytes"], found["numbers"]


def side(work: str, path: Path) -> None:
    """Run one side here and print its cost; imports are loaded before the clock starts."""
    import polars  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    from sklearn import metrics  # noqa: F401

    import unseen.evaluate.summary  # noqa: F401

    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    if work.startswith("write"):
        numbers: Any = None
        write(path, int(work.split(":")[1]))
    else:
        numbers = {"ours": ours, "plain": plain, "whole": whole}[work](path)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "megabytes": [idle, peak], "numbers": numbers}))


def main() -> None:
    """Print one line a step, then the ratios."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 130_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        few = timed("write:1000", path)
        many = timed(f"write:{rows}", path)
        print(f"write 1,000 rows: peak {few[1][1]:.0f} MB (imports alone {few[1][0]:.0f} MB)")
        size = path.stat().st_size / 1e6
        print(f"write {rows:,} rows: {many[0]:.2f} s, peak {many[1][1]:.0f} MB, {size:.1f} MB on disk")
        results = {work: timed(work, path) for work in ("ours", "plain")}
        for work, (seconds, (idle, peak), _) in results.items():
            print(f"{work}: {seconds:.2f} s, peak {peak:.0f} MB (imports alone {idle:.0f} MB)")
        a, b = results["ours"], results["plain"]
        for level in ("frame", "video"):
            for key, value in b[2][level].items():
                if key != "per_method":
                    assert abs(a[2][level][key] - value) < 1e-9, (level, key)
            for method, values in b[2][level]["per_method"].items():
                for key, value in values.items():
                    assert abs(a[2][level]["per_method"][method][key] - value) < 1e-9, (level, method, key)
        grown = [r[1][1] - r[1][0] for r in (a, b)]
        less = grown[1] / max(grown[0], 1)
        print(f"same numbers; {b[0] / a[0]:.1f} times faster, {less:.1f} times less memory on top of imports")
        seconds, (_, peak), found = timed("whole", path)
        low, high = found["video"]["intervals"]["auc"]
        print(f"with 1,000 draws of videos, thresholds and calibration: {seconds:.2f} s, peak {peak:.0f} MB")
        print(f"video AUC {found['video']['auc']:.4f} [{low:.4f}, {high:.4f}]")
        assert peak < 1000, "more than 1 GB"
        assert seconds < 10, "more than 10 s"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
