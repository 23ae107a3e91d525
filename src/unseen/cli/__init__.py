"""`unseen`: one command, a verb a file. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from unseen import __version__
from unseen.cli import (
    audit,
    caddm,
    calibrate,
    compare,
    corrupt,
    deepfakebench,
    detect,
    evaluate,
    explain,
    export,
    forge,
    pack,
    prepare,
    regions,
    residuals,
    serve,
    sweep,
    train,
)
from unseen.cli.codes import INTERRUPTED, OK, USAGE
from unseen.types import InputError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="unseen", description="Detect deepfakes made by forgeries the detector has never seen."
    )
    parser.add_argument("--version", action="version", version=f"unseen {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb in (
        detect,
        serve,
        calibrate,
        prepare,
        residuals,
        pack,
        audit,
        forge,
        train,
        sweep,
        evaluate,
        explain,
        compare,
        corrupt,
        caddm,
        deepfakebench,
        export,
        regions,
    ):
        verb.add(verbs)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if (pair := " ".join(words[:2])) in verbs.choices:  # a verb of two words, such as `prepare residuals`
        words[:2] = [pair]
    known, rest = parser.parse_known_args(words)
    if known.verb is None:
        parser.print_help()
        return USAGE
    if rest and known.verb not in ("train", "sweep"):  # a recipe's own keys are checked against the recipe
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
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
    except OSError as error:  # what the system refuses: a folder that may not be written to, a full disk
        where = "" if error.filename is None else f"{error.filename}: "
        mend = "; expected a place that can be read and written" if where else ""
        print(f"unseen: {where}{error.strerror or error}{mend}", file=sys.stderr)
        return USAGE
