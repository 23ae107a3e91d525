"""`unseen`: one command, a verb for each step. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen import __version__
from unseen.types import InputError, Label

if TYPE_CHECKING:
    from rich.progress import Progress

    from unseen.detect.verdict import Verdict

__all__ = ["main"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_DETECT_CODES = """exit codes:
  0  every file was inspected, whatever the verdict (with --fail-on-fake: and none is fake)
  1  at least one file could not be inspected (its verdict is "error")
  2  wrong usage, or a run that cannot be loaded
  3  with --fail-on-fake: at least one file is fake
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    parser = _parser()
    known, rest = parser.parse_known_args(arguments)
    if rest and known.verb != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if known.verb is None:
        parser.print_help()
        return USAGE
    known.overrides = rest
    try:
        return int(known.run(known))
    except InputError as error:
        print(f"unseen: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("unseen: interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `unseen ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unseen", description="Detect deepfakes made by forgeries the detector has never seen."
    )
    parser.add_argument("--version", action="version", version=f"unseen {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    _add_detect(verbs)
    _add_prepare(verbs)
    _add_train(verbs)
    _add_evaluate(verbs)
    return parser


def _verb(verbs: Any, name: str, run: Any, text: str, **more: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter, **more
    )
    verb.set_defaults(run=run)
    return verb


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


# --- detect -----------------------------------------------------------------------------------------------


def _add_detect(verbs: Any) -> None:
    verb = _verb(
        verbs, "detect", _detect, "Give a verdict with evidence on pictures and videos.", epilog=_DETECT_CODES
    )
    verb.add_argument("files", nargs="+", metavar="FILE", help="a picture, a video, a folder or a glob")
    verb.add_argument(
        "--run", default="default", dest="model", help="a run folder (default: the embedded model)"
    )
    verb.add_argument("--frames", type=_positive, default=32, help="frames a video (default: 32)")
    verb.add_argument("--report", type=Path, metavar="HTML", help="write a self-contained report")
    verb.add_argument("--json", action="store_true", help="print one JSON list, an object a file")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument(
        "--engine", default="auto", choices=["auto", "onnx", "torch"], help="what runs the network"
    )
    verb.add_argument("--fail-on-fake", action="store_true", help="exit with 3 if a file is fake")


def _detect(known: argparse.Namespace) -> int:
    from unseen.detect.inspector import Inspector
    from unseen.detect.report import write_report

    if known.report is not None and not known.report.resolve().parent.is_dir():
        raise InputError(f"{known.report}: its folder does not exist; make it first", reason="missing")
    inspector = Inspector(known.model, frames=known.frames, device=known.device, engine=known.engine)
    files = [file for given in known.files for file in _media_files(given)]
    verdicts: list[Verdict] = []
    with _progress() as progress:
        task = progress.add_task("inspecting", total=len(files), rate="")
        for file in files:
            verdicts.append(inspector.inspect(file))
            progress.advance(task)
    if known.report is not None:
        write_report(verdicts, known.report)
    if known.json:
        print(json.dumps([verdict.to_dict() for verdict in verdicts], indent=2, allow_nan=False))
    else:
        _print_verdicts(verdicts, known.report)
    if any(verdict.verdict == "error" for verdict in verdicts):
        return FAILED
    return 3 if known.fail_on_fake and any(verdict.verdict == "fake" for verdict in verdicts) else OK


def _media_files(given: str) -> list[Path]:
    """Folders and globs become their files; anything else is a file, so that a bad name gets its verdict."""
    from unseen.prepare.inputs import list_inputs

    path = Path(given)
    if path.is_dir() or (not path.exists() and any(mark in given for mark in "*?[")):
        return [item.path for item in list_inputs([given])]
    return [path]


def _print_verdicts(verdicts: list[Verdict], report: Path | None) -> None:
    from rich.console import Console
    from rich.text import Text

    colour = {"fake": "bold red", "real": "bold green", "inconclusive": "bold yellow"}
    out = Console(highlight=False, soft_wrap=True)
    for verdict in verdicts:
        line = Text(f"{verdict.file}: ")
        line.append(verdict.headline, style=colour.get(verdict.verdict, "bold"))
        if verdict.probability is not None and verdict.threshold is not None:
            line.append(
                f" (probability of fake {verdict.probability:.2f}, threshold {verdict.threshold:.2f})"
            )
        out.print(line)
        out.print(Text(f"  {verdict.explanation}"))
        if len(verdict.people) > 1:
            for person in verdict.people:
                said = "not judged" if person.probability is None else f"{person.probability:.2f}"
                out.print(
                    Text(f"  person {person.id}: {person.verdict}, {said}, {len(person.scored)} frames")
                )
        for warning in verdict.warnings:
            out.print(Text(f"  note: {warning}", style="dim"))
    if report is not None:
        out.print(Text(f"Report: {report}"))
    out.print(Text("A verdict is evidence, not proof.", style="dim"))


# --- prepare ----------------------------------------------------------------------------------------------


def _add_prepare(verbs: Any) -> None:
    verb = _verb(
        verbs, "prepare", _prepare, "Crop the faces of pictures and videos into a folder with a manifest."
    )
    verb.add_argument("inputs", nargs="+", metavar="INPUT", help="files, folders, globs, or .csv lists")
    verb.add_argument("--out", type=Path, required=True, help="folder for crops and manifest.parquet")
    verb.add_argument("--label", choices=["real", "fake"], help="of every input that no list labels")
    verb.add_argument("--dataset", help="name of the data set (default: the folder's)")
    verb.add_argument("--method", help="who forged the fakes")
    verb.add_argument("--split", help="train, val or test, for every input that no list gives one")
    verb.add_argument("--frames", type=_positive, default=32, help="frames a video (default: 32)")
    verb.add_argument("--people", choices=["largest", "all"], default="largest", help="whom to keep")
    verb.add_argument(
        "--margin", type=float, default=0.6, help="around the face, in face sizes (default: 0.6)"
    )
    verb.add_argument("--max-side", type=_positive, default=640, help="of a crop, pixels (default: 640)")
    verb.add_argument("--min-size", type=_positive, default=40, help="of a face, pixels (default: 40)")
    verb.add_argument("--format", choices=["jpg", "png"], default="jpg", help="of the crops (default: jpg)")
    verb.add_argument("--finder", choices=["default", "dlib", "mtcnn"], default="default")
    verb.add_argument("--workers", type=_positive, help="processes (default: one a core)")
    verb.add_argument(
        "--seconds-per-file", type=float, default=600.0, help="then it is dropped (default: 600)"
    )


def _prepare(known: argparse.Namespace) -> int:
    import time

    from unseen.prepare.inputs import list_inputs
    from unseen.prepare.run import prepare
    from unseen.prepare.work import CropRule

    items = list_inputs(
        known.inputs,
        label=Label[known.label.upper()] if known.label else None,
        dataset=known.dataset,
        method=known.method,
        split=known.split,
    )
    names = ("frames", "people", "margin", "max_side", "min_size", "format", "finder")
    rule = CropRule(**{name: getattr(known, name) for name in names})
    with _progress() as progress:
        task = progress.add_task("preparing", total=len(items), rate="")
        start, before = time.monotonic(), -1

        def report(done: int, total: int) -> None:
            nonlocal before
            before = done if before < 0 else before
            rate = (done - before) / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, rate=f"{rate:.1f} files/s")

        made = prepare(
            items,
            known.out,
            rule=rule,
            workers=known.workers,
            seconds_per_file=known.seconds_per_file,
            report=report,
        )
    print(f"Manifest: {made.manifest}")
    _table(
        ("what", "rows"),
        [("kept", made.kept), *((f"dropped: {reason}", n) for reason, n in made.dropped.items())],
    )
    print(f"{made.files} files looked at, {made.skipped} done before")
    return OK


# --- train ------------------------------------------------------------------------------------------------


def _add_train(verbs: Any) -> None:
    verb = _verb(
        verbs,
        "train",
        _train,
        "Train a detector by a recipe and leave a run folder.",
        epilog="any value can be overridden: unseen train RECIPE --out RUN --data.manifest faces.parquet",
    )
    verb.add_argument("recipe", type=Path, metavar="RECIPE", help="a YAML file, see recipes/")
    verb.add_argument("--out", type=Path, required=True, help="the run folder")
    verb.add_argument("--resume", action="store_true", help="go on from RUN/last.ckpt")


def _train(known: argparse.Namespace) -> int:
    from unseen.recipe import read_recipe
    from unseen.train.fit import train

    recipe = read_recipe(known.recipe, known.overrides)
    folder = train(recipe, known.out, resume=known.resume)
    print(f"Run: {folder}\nNext: unseen evaluate {folder} --manifest MANIFEST")
    return OK


# --- evaluate ---------------------------------------------------------------------------------------------


def _add_evaluate(verbs: Any) -> None:
    verb = _verb(verbs, "evaluate", _evaluate, "Score a manifest with a run, or measure a table of scores.")
    verb.add_argument("model", nargs="?", metavar="RUN", help="a run folder, or 'default'")
    verb.add_argument("--manifest", type=Path, help="crops to score, from `unseen prepare`")
    verb.add_argument("--split", default="test", help="rows to score; 'all' for every row (default: test)")
    verb.add_argument("--scores", type=Path, help="measure this table (.parquet or .csv) instead of scoring")
    verb.add_argument("--out", type=Path, help="where the scores go (default: ./scores_SPLIT.parquet)")
    verb.add_argument("--batch-size", type=_positive, default=32)
    verb.add_argument("--workers", type=int, default=2, help="processes that read crops (default: 2)")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument("--json", action="store_true", help="print the numbers as JSON")


def _evaluate(known: argparse.Namespace) -> int:
    from unseen.evaluate.scores import ScoreTable

    if known.scores is not None:
        table = ScoreTable.read(known.scores)
    elif known.model is not None and known.manifest is not None:
        table = _score(known)
    else:
        raise InputError("evaluate: give a RUN and --manifest, or --scores TABLE", reason="usage")
    from unseen.evaluate.summary import summary, to_json, to_markdown

    numbers = summary(table)
    print(to_json(numbers) if known.json else to_markdown(numbers))
    return OK


def _score(known: argparse.Namespace) -> Any:
    from unseen.checkpoint import load_run
    from unseen.data.manifest import Manifest
    from unseen.evaluate.run import score_records

    run = load_run(known.model)
    manifest = Manifest.read(known.manifest)
    if known.split != "all":
        manifest = manifest.where(split=known.split)
    records = manifest.records()
    if not records:
        raise InputError(
            f"{known.manifest}: no rows of split '{known.split}'; name another with --split, or --split all",
            reason="empty",
        )
    out = known.out or Path(f"scores_{known.split}.parquet")
    card = {"run": run.name, "weights": run.digest, "manifest": known.manifest.name, "split": known.split}
    with _progress() as progress:
        task = progress.add_task("scoring", total=len(records), rate="")
        return score_records(
            run.detector,
            records,
            run.transforms,
            out=out,
            batch_size=known.batch_size,
            workers=known.workers,
            device=known.device,
            card=card,
            report=lambda done, rate: progress.update(task, completed=done, rate=f"{rate:.0f} images/s"),
        )


# --- shared -----------------------------------------------------------------------------------------------


def _table(columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; expected a number above zero")
    return value
