"""`unseen evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import OK
from unseen.cli.efficiency import run_efficiency
from unseen.cli.protocol import list_protocols, run_protocol
from unseen.cli.robustness import run_robustness
from unseen.cli.show import add_engine, add_verb, natural, positive
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.evaluate.calibration import Calibration
    from unseen.evaluate.scores import ScoreTable

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(verbs, "evaluate", run, "Score a manifest with a run, or measure a table of scores.")
    verb.add_argument("model", nargs="?", metavar="RUN", help="a run folder, or 'default'")
    verb.add_argument(
        "--manifest",
        type=Path,
        action="append",
        help="crops to score, from `unseen prepare`; may be repeated; with --scores: the rows it must hold",
    )
    verb.add_argument("--split", default="test", help="rows to score; 'all' for every row (default: test)")
    verb.add_argument("--frames", type=positive, help="frames a video, evenly spread (default: all)")
    verb.add_argument(
        "--scores",
        type=Path,
        help="measure this table (.parquet or .csv); with --robustness or --protocol also a folder of them",
    )
    verb.add_argument(
        "--predict",
        metavar="MODULE:FUNCTION",
        help="instead of RUN: a function of (B, H, W, 3) uint8 RGB crops that returns a score each",
    )
    verb.add_argument("--align", metavar="TEMPLATE:SIZE", help="crops for --predict, such as arcface:256")
    verb.add_argument(
        "--probability", action="store_true", help="--predict gives probabilities, not log-odds"
    )
    verb.add_argument(
        "--residuals",
        type=Path,
        metavar="DIR",
        help="of `unseen prepare residuals`: an RFFR run reads them instead of painting each face again",
    )
    numbers = verb.add_argument_group("numbers")
    numbers.add_argument("--aggregate", default="mean", help="frames to a video's score (default: mean)")
    numbers.add_argument(
        "--validation",
        type=Path,
        help="a table of validation scores that sets thresholds and calibrates (default: RUN's calibration)",
    )
    numbers.add_argument("--threshold", type=float, default=0.0, help="of ACC, in log-odds (default: 0)")
    numbers.add_argument(
        "--by", action="append", default=[], metavar="COLUMN", help="groups, such as identity"
    )
    numbers.add_argument("--resamples", type=natural, default=1000, help="draws of videos; 0: no intervals")
    numbers.add_argument("--plot", type=Path, metavar="FILE.svg", help="reliability, or robustness, as SVG")
    published = verb.add_argument_group("published tables")
    published.add_argument("--protocol", metavar="NAME", help="put the numbers beside a published table")
    published.add_argument("--row", help="the row of the table that RUN is (default: by the run's name)")
    published.add_argument("--list-protocols", action="store_true", help="print the tables and stop")
    robust = verb.add_argument_group("robustness")
    robust.add_argument("--robustness", action="store_true", help="score corrupted pictures too")
    robust.add_argument(
        "--corruptions", default="six", help="names with commas, 'six' (CADDM's) or 'all' (default: six)"
    )
    robust.add_argument("--levels", default="1,2,3,4,5", help="of 1 to 5 (default: all)")
    verb.add_argument(
        "--efficiency",
        action="store_true",
        help="multiply-adds, parameters and pictures a second; --manifest adds reading and augmenting",
    )
    verb.add_argument("--size", type=positive, help="side of the picture for --efficiency (default: RUN's)")
    verb.add_argument("--out", type=Path, help="where the scores go (default: ./scores_SPLIT.parquet)")
    verb.add_argument("--batch-size", type=positive, default=32)
    verb.add_argument("--workers", type=natural, default=2, help="processes that read crops (default: 2)")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument("--json", action="store_true", help="print the numbers as JSON")
    add_engine(verb)


def run(known: argparse.Namespace) -> int:
    """Measure, and print both levels."""
    from unseen.evaluate.summary import summary, to_json, to_markdown

    if known.list_protocols:
        return list_protocols()
    if known.residuals is not None and (known.efficiency or known.robustness or known.scores is not None):
        raise InputError(
            "--residuals is of the pictures as they are, and for scoring; leave out --robustness, "
            "--efficiency and --scores",
            reason="usage",
        )
    if known.efficiency:
        return run_efficiency(known)
    if known.robustness:
        return run_robustness(known)
    if known.protocol is not None:
        return run_protocol(known)
    scores = _scores(known)
    validation = _validation(known)
    numbers = summary(
        scores,
        aggregate=known.aggregate,
        threshold=known.threshold,
        resamples=known.resamples,
        validation=validation,
        by=known.by,
    )
    if known.plot is not None:
        _plot(known, scores, validation)
    print(to_json(numbers) if known.json else to_markdown(numbers))
    return OK


def _scores(known: argparse.Namespace) -> ScoreTable:
    """Return the table that is given, or the one that scoring makes."""
    from unseen.cli.scoring import choose_frames, read_rows, scorer
    from unseen.evaluate.scores import ScoreTable

    if known.scores is not None:
        table = ScoreTable.read(known.scores)
        if known.manifest:
            from unseen.evaluate.coverage import check_coverage

            rows = choose_frames(read_rows(known), known.frames)
            check_coverage(table, rows, ", ".join(map(str, known.manifest)))
        return table
    if not known.manifest or (known.model is None and known.predict is None):
        raise InputError("evaluate: give a RUN and --manifest, or --scores TABLE", reason="usage")
    records = choose_frames(read_rows(known), known.frames)
    score = scorer(known)
    frames = f"{known.frames} a video, evenly spread" if known.frames else "all of the manifest"
    return score(records, known.out or Path(f"scores_{known.split}.parquet"), card={"frames": frames})


def _validation(known: argparse.Namespace) -> ScoreTable | Calibration | None:
    """Return validation scores, or what the run was calibrated with, if there is either."""
    if known.validation is not None:
        from unseen.evaluate.scores import ScoreTable

        return ScoreTable.read(known.validation)
    if known.model is None or known.scores is not None:
        return None
    from unseen.checkpoint import load_run

    calibration = load_run(known.model).calibration
    return None if calibration.miss_rate is None else calibration


def _plot(known: argparse.Namespace, scores: ScoreTable, validation: ScoreTable | Calibration | None) -> None:
    from unseen.evaluate.operating import calibrated, reliability_svg
    from unseen.evaluate.scores import ScoreTable

    videos = scores.videos(known.aggregate)
    fitted = validation.videos(known.aggregate) if isinstance(validation, ScoreTable) else validation
    ways = {"as it is": videos["score"].to_numpy()} if fitted is None else calibrated(videos, fitted)
    known.plot.write_text(reliability_svg(ways, videos["label"].to_numpy().astype("int64")), encoding="utf-8")
