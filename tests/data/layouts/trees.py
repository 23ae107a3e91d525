"""Trees of empty files in the shapes of public data sets; layouts look at names only."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


def faceforensics(root: Path, *, compression: str = "c23", lists: bool = True) -> Path:
    """Six real videos in three pairs, five manipulations of each direction."""
    pairs = [("000", "003"), ("033", "097"), ("071", "054")]
    real = [stem for pair in pairs for stem in pair]
    both = [f"{a}_{b}" for a, b in pairs] + [f"{b}_{a}" for a, b in pairs]
    touch(root, (f"original_sequences/youtube/{compression}/videos/{stem}.mp4" for stem in real))
    for method in METHODS:
        touch(root, (f"manipulated_sequences/{method}/{compression}/videos/{stem}.mp4" for stem in both))
    if lists:
        for name, pair in zip(("train", "val", "test"), pairs, strict=True):
            (root / f"{name}.json").write_text(json.dumps([list(pair)]))
    return root


def celeb(root: Path) -> Path:
    touch(root, ["Celeb-real/id0_0000.mp4", "Celeb-real/id1_0007.mp4", "YouTube-real/00170.mp4"])
    touch(root, ["YouTube-real/00171.mp4", "Celeb-synthesis/id1_id0_0007.mp4"])
    touch(root, ["Celeb-synthesis/id0_id1_0000.mp4"])
    lines = ["1 YouTube-real/00170.mp4", "1 Celeb-real/id1_0007.mp4", "0 Celeb-synthesis/id1_id0_0007.mp4"]
    (root / "List_of_testing_videos.txt").write_text("\n".join(lines) + "\n")
    return root
