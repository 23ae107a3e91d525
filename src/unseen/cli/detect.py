"""`unseen detect`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unseen.cli.codes import FAILED, FAKE, OK
from unseen.cli.show import add_verb, positive, seconds, watch
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.detect.engine import Kind
    from unseen.detect.verdict import Verdict

__all__ = ["add"]

_CODES = """exit codes:
  0  every file was inspected, whatever the verdict (with --fail-on-fake: and none is fake)
  1  at least one file could not be inspected (its verdict is "error")
  2  wrong usage, or a run that cannot be loaded
  3  with --fail-on-fake: at least one file is fake
"""
_COLOURS = {"fake": "bold red", "real": "bold green", "inconclusive": "bold yellow"}


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(verbs, "detect", run, "Give a verdict with evidence on pictures and videos.", _CODES)
    verb.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a picture, a video, a folder, a glob, an address or a .csv list",
    )
    verb.add_argument(
        "--run", default="default", dest="model", help="a run folder (default: the embedded model)"
    )
    verb.add_argument("--frames", type=positive, default=32, help="frames a video (default: 32)")
    verb.add_argument(
        "--report", type=Path, metavar="FILE", help="write a self-contained report: .html, or .json"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON list, an object a file")
    verb.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    verb.add_argument(
        "--engine",
        default="auto",
        choices=["auto", "onnx", "torch", "ray"],
        help="what runs the network; ray: with --out, on a cluster",
    )
    verb.add_argument("--fail-on-fake", action="store_true", help="exit with 3 if a file is fake")
    many = verb.add_argument_group("many files")
    many.add_argument(
        "--out",
        type=Path,
        metavar="TABLE",
        help="a row a file, as .parquet, .csv or .jsonl, instead of words",
    )
    many.add_argument("--jobs", type=positive, help="worker processes (default: one a core)")
    many.add_argument("--address", help="of a Ray cluster: auto, ray://HOST:10001 (default: one here)")
    many.add_argument("--resume", action="store_true", help="go on with the table of an earlier call")
    many.add_argument(
        "--seconds-per-file", type=seconds, default=120.0, help="a file that takes longer is given up (120)"
    )


def run(known: argparse.Namespace) -> int:
    """Inspect the files and say what was found."""
    from unseen.detect.inspector import Inspector
    from unseen.detect.report import write_report

    if known.out is not None:
        return run_batch(known)
    if known.jobs is not None or known.resume or known.engine == "ray":
        raise InputError("--jobs, --resume and --engine ray belong to --out TABLE; give one", reason="usage")
    if known.report is not None:
        _check_report(known.report)
    inspector = Inspector(known.model, frames=known.frames, device=known.device, engine=known.engine)
    files = [file for given in known.files for file in _media_files(given)]
    verdicts: list[Verdict] = []
    with watch("inspecting", "files") as report:
        report(0, len(files))
        for file, trouble in files:
            verdict = inspector.inspect(file)
            verdict.message = trouble or verdict.message
            verdicts.append(verdict)
            report(len(verdicts), len(files))
    if all(verdict.verdict == "error" for verdict in verdicts):
        inspector.load()  # nothing got as far as the network: a run that cannot be loaded must still be said
    if known.report is not None:
        write_report(verdicts, known.report)
    if known.json:
        print(json.dumps([verdict.to_dict() for verdict in verdicts], indent=2, allow_nan=False))
    else:
        _say(verdicts, known.report)
    if any(verdict.verdict == "error" for verdict in verdicts):
        return FAILED
    return FAKE if known.fail_on_fake and any(verdict.verdict == "fake" for verdict in verdicts) else OK


def run_batch(known: argparse.Namespace) -> int:
    """Inspect many files in processes, a row each."""
    from unseen.detect.batch import Settings, inspect_folder
    from unseen.detect.cluster import on_cluster
    from unseen.detect.inputs import cores

    if known.json or known.report is not None:
        raise InputError("--out writes a table; give --json or --report in a call without it", reason="usage")
    jobs = known.jobs or cores()
    there = known.engine == "ray"
    if known.address is not None and not there:
        raise InputError("--address goes with --engine ray", reason="usage")
    engine: Kind = "auto" if there else known.engine
    settings = Settings(known.model, known.frames, engine, known.device, known.seconds_per_file, jobs)
    work = on_cluster(address=known.address, actors=known.jobs) if there else None
    with watch("inspecting", "files") as report:
        summary = inspect_folder(
            known.files, known.out, settings, resume=known.resume, work=work, report=report
        )
    print(f"{known.out}: {summary.files} files, {summary.fresh} inspected now")
    for verdict, count in summary.verdicts.most_common():
        print(f"  {verdict}: {count}")
    for reason, count in summary.reasons.most_common():
        print(f"    {reason}: {count}")
    if summary.verdicts["error"]:
        return FAILED
    return FAKE if known.fail_on_fake and summary.verdicts["fake"] else OK


def _check_report(path: Path) -> None:
    """Refuse a report that could not be written now, and not after an hour of inspecting."""
    if path.suffix.lower() not in ("", ".html", ".htm", ".json"):
        raise InputError(f"{path}: a report ends in .html or .json", reason="format")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it, such as report.html", reason="not_a_file")
    if not path.resolve().parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; make it first", reason="missing")


def _media_files(given: str) -> list[tuple[Path, str]]:
    """Return the files that a word stands for.

    A folder or glob without a file is an error of its own, told beside its name, and stops no other.
    """
    from unseen.detect.batch import list_media

    try:
        return [(file, "") for file in list_media([given])]
    except InputError as error:
        return [(Path(given), str(error))]


def _say(verdicts: list[Verdict], report: Path | None) -> None:
    from rich.console import Console
    from rich.text import Text

    out = Console(highlight=False, soft_wrap=True)
    for verdict in verdicts:
        line = Text(f"{verdict.file}: ")
        line.append(verdict.headline, style=_COLOURS.get(verdict.verdict, "bold"))
        if verdict.probability is not None and verdict.threshold is not None:
            line.append(
                f" (probability of fake {verdict.probability:.2f}, threshold {verdict.threshold:.2f})"
            )
        out.print(line)
        out.print(Text(f"  {verdict.explanation}"))
        if len(verdict.people) > 1:
            for person in verdict.people:
                said = "not judged" if person.probability is None else f"{person.probability:.2f}"
                frames = "1 frame" if len(person.scored) == 1 else f"{len(person.scored)} frames"
                out.print(Text(f"  person {person.id}: {person.verdict}, {said}, {frames}"))
        for warning in verdict.warnings:
            out.print(Text(f"  note: {warning}", style="dim"))
    if report is not None:
        out.print(Text(f"Report: {report}"))
    out.print(Text("A verdict is evidence, not proof.", style="dim"))
