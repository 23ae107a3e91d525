"""`unseen compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, positive

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(
        verbs,
        "compare",
        run,
        "Put tables of scores of the same videos side by side, and test whether the first one differs.",
        "unseen compare realid.parquet baseline.parquet anybody.csv",
    )
    verb.add_argument("tables", type=Path, nargs="+", metavar="SCORES", help="two or more; .parquet or .csv")
    verb.add_argument("--aggregate", default="mean", help="how frames become a video's score (default: mean)")
    verb.add_argument(
        "--unlike",
        action="store_true",
        help="compare the videos they share although their cards differ; flagged",
    )
    verb.add_argument("--resamples", type=positive, default=2000, help="draws of videos (default: 2000)")
    verb.add_argument("--json", action="store_true", help="print the numbers as JSON")


def run(known: argparse.Namespace) -> int:
    """Compare, and print numbers, tests and cards."""
    from unseen.evaluate.comparison import compare_tables, to_json, to_markdown
    from unseen.evaluate.scores import ScoreTable

    tables: dict[str, ScoreTable] = {}
    for path in known.tables:
        # The shortest name that is not taken.
        name = next(n for n in (path.stem, path.name, str(path), f"{path} again") if n not in tables)
        tables[name] = ScoreTable.read(path)
    found = compare_tables(tables, aggregate=known.aggregate, unlike=known.unlike, resamples=known.resamples)
    print(to_json(found) if known.json else to_markdown(found))
    return OK
