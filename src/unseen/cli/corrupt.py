"""`unseen corrupt`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import FAILED, OK
from unseen.cli.show import add_verb, natural, watch
from unseen.types import InputError

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "corrupt",
        run,
        "Write corrupted copies of clips, to be prepared and evaluated like the clips themselves.",
        "unseen corrupt clips/*.mp4 --corruption h264 --level 3 --out clips_h264_3",
    )
    verb.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    verb.add_argument("--corruption", required=True, help="such as h264, reshare, blur (docs/robustness.md)")
    verb.add_argument("--level", type=int, required=True, help="1 (mild) to 5 (severe)")
    verb.add_argument("--out", type=Path, required=True, help="folder of the copies, NAME.mp4 each")
    verb.add_argument("--seed", type=natural, default=0)


def run(known: argparse.Namespace) -> int:
    """Corrupt clip after clip; one that cannot be read is named and passed over."""
    import sys

    from unseen.evaluate.clips import corrupt_clip
    from unseen.evaluate.corruptions import check_corruption

    check_corruption(known.corruption, known.level)
    names = [clip.stem for clip in known.clips]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"corrupt: two clips are called {twice[0]}; corrupt them into two folders", reason="usage"
        )
    known.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with watch("corrupting", "frames") as report:
        for clip in known.clips:
            try:
                corrupt_clip(
                    clip,
                    known.out / f"{clip.stem}.mp4",
                    known.corruption,
                    known.level,
                    seed=known.seed,
                    report=report,
                )
            except InputError as error:
                failed += 1
                print(f"unseen: {error}", file=sys.stderr)
    print(f"{len(names) - failed} of {len(names)} clips in {known.out}")
    return FAILED if failed else OK
