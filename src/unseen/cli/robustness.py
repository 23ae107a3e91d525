"""`unseen evaluate --robustness`: clean and corrupted pictures, one table and one plot."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from unseen.cli.codes import OK
from unseen.types import FaceRecord, InputError

if TYPE_CHECKING:
    from unseen.cli.scoring import Scorer
    from unseen.evaluate.scores import ScoreTable

__all__ = ["read_folder", "run_robustness", "score_corrupted"]


def run_robustness(known: argparse.Namespace) -> int:
    """Score what is not scored yet, and print AUC by corruption and level."""
    from unseen.evaluate.card import card_lines, facts
    from unseen.evaluate.robustness import measure_robustness, to_markdown, to_svg

    if known.scores is not None:
        folder, tables = known.scores, read_folder(known.scores)
    elif known.manifest and (known.model is not None or known.predict is not None):
        folder = known.out or Path(f"robustness_{known.split}")
        tables = score_corrupted(known, folder)
    else:
        raise InputError(
            "evaluate --robustness: give a RUN and --manifest, or --scores FOLDER of score tables",
            reason="usage",
        )
    if known.protocol is not None:
        from unseen.cli.protocol import print_protocol

        return print_protocol(known, tables)
    found = measure_robustness(tables, aggregate=known.aggregate, resamples=max(2, known.resamples))
    clean = next(table for table in tables if not table.card.get("corruption"))
    card = {**facts(clean), "aggregation": known.aggregate, "corruption": "as the table says"}
    text = to_markdown(found) + "\n" + "\n".join(card_lines(card)) + "\n"
    plot = known.plot or folder / "robustness.svg"
    plot.write_text(to_svg(found), encoding="utf-8")
    (folder / "robustness.md").write_text(text, encoding="utf-8")
    numbers = json.dumps({**found.to_dict(), "card": card}, indent=2, allow_nan=False)
    (folder / "robustness.json").write_text(numbers + "\n", encoding="utf-8")
    print(numbers if known.json else f"{text}\nTables and {plot.name}: {plot.parent}")
    return OK


def read_folder(folder: Path) -> list[ScoreTable]:
    """Return every score table of a folder, by name.

    Raises:
        InputError: It is no folder, or holds none.
    """
    from unseen.evaluate.scores import ScoreTable

    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else [folder]
    if not files:
        raise InputError(f"{folder}: no score tables (*.parquet) in it", reason="empty")
    return [ScoreTable.read(file) for file in files]


def score_corrupted(known: argparse.Namespace, folder: Path) -> list[ScoreTable]:
    """Score the rows clean and under every corruption and level; tables that are there already are kept."""
    from unseen.cli.scoring import choose_frames, read_rows, scorer
    from unseen.evaluate.corruptions import Corrupt, check_corruption

    wanted = [
        ("", 0),
        *((name, level) for name in _names(known.corruptions) for level in _levels(known.levels)),
    ]
    for name, level in wanted[1:]:
        check_corruption(name, level)
    records = choose_frames(read_rows(known), known.frames)
    score = scorer(known)
    frames = f"{known.frames} a video, evenly spread" if known.frames else "all of the manifest"
    tables = []
    for name, level in wanted:
        path = folder / (f"{name}_{level}.parquet" if name else "clean.parquet")
        table = _kept(path, score, records, frames)
        if table is None:
            card = {"frames": frames, **({"corruption": name, "severity": level} if name else {})}
            before = [Corrupt(name, level)] if name else []
            table = score(records, path, before=before, card=card, what=path.stem)
        tables.append(table)
    return tables


def _kept(path: Path, score: Scorer, records: list[FaceRecord], frames: str) -> ScoreTable | None:
    """Return a table that an earlier call made of the same rows with the same weights.

    Raises:
        InputError: There is one of other rows or weights.
    """
    from unseen.evaluate.run import fingerprint
    from unseen.evaluate.scores import ScoreTable

    if not path.is_file():
        return None
    table = ScoreTable.read(path)
    asked = {"weights": score.card["weights"], "rows_hash": fingerprint(records), "frames": frames}
    other = [key for key, value in asked.items() if table.card.get(key) != value]
    if other:
        raise InputError(
            f"{path}: is of another {' and '.join(other)}; give another --out, or remove it", reason="exists"
        )
    return table


def _names(text: str) -> list[str]:
    from unseen.evaluate.corruptions import NAMES, SIX

    groups = {"six": SIX, "all": NAMES}
    return list(dict.fromkeys(n for word in text.split(",") for n in groups.get(word, (word.strip(),))))


def _levels(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"--levels {text}: expected numbers such as 1,3,5", reason="usage") from None
