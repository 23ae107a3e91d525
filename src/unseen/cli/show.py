"""What the verbs share: how they are declared, and progress and tables for a terminal."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from unseen.types import InputError

__all__ = ["add_engine", "add_verb", "engine_of", "natural", "positive", "seconds", "table", "watch"]


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str = ""
) -> Any:
    """Add a verb whose handler takes the parsed words and returns the exit code."""
    verb = verbs.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verb.set_defaults(run=run)
    return verb


def positive(text: str) -> int:
    """Read a whole number above zero."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}; expected a whole number above zero")
    return int(text)


def natural(text: str) -> int:
    """Read a whole number from zero on, such as a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}; expected a whole number, 0 or more")
    return int(text)


def seconds(text: str) -> float:
    """Read a time above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}; expected seconds above zero")
    return value


@contextmanager
def watch(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with rate and time left on the terminal; gives a function of (done, in all).

    Args:
        what: Such as `preparing`.
        unit: What is counted, such as `files`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    start, first = time.monotonic(), -1
    console = Console(stderr=True)
    # Where nobody watches, rich would leave an empty line among the errors.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None, rate="")

        def report(done: int, total: int) -> None:
            nonlocal first
            first = done if first < 0 else first  # what an earlier run did says nothing about this one's rate
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=done, total=total, rate=f"{rate:.1f} {unit}/s")

        yield report


def table(columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(*columns)
    for row in rows:
        shown.add_row(*map(str, row))
    Console().print(shown)


def add_engine(verb: Any) -> None:
    """Declare where worker processes run."""
    verb.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="worker processes here, or a Ray cluster"
    )
    verb.add_argument("--address", help="of a Ray cluster: auto, ray://HOST:10001 (default: one here)")


def engine_of(known: argparse.Namespace) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """Return the `work_off` of the engine that the command line names.

    Raises:
        InputError: --address without --engine ray.
    """
    if known.engine == "ray":
        from unseen.scale.ray import work_off

        return partial(work_off, address=known.address)
    if known.address is not None:
        raise InputError("--address goes with --engine ray", reason="usage")
    from unseen.prepare.pool import work_off as here

    return here
