"""`unseen serve`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from unseen.cli.codes import OK
from unseen.cli.show import add_verb, positive
from unseen.types import InputError

__all__ = ["add"]

_NOTES = """the token:
  --token-file FILE or the environment variable UNSEEN_TOKEN keep it out of the list of processes, where
  --token shows it.
  Without one, only this machine is served, and --host takes only a loopback address.

It makes no outgoing connections. See docs/serve.md and docs/security.md.
"""


def add(verbs: Any) -> None:
    """Declare the verb."""
    verb = add_verb(verbs, "serve", run, "Give verdicts over HTTP: a web page and an API.", _NOTES)
    add = verb.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    add("--port", type=int, default=8080, help="0 takes a free one (default: 8080)")
    add("--token", help="what clients must send as `Authorization: Bearer TOKEN`")
    add("--token-file", type=Path, metavar="FILE", help="a file whose first line is the token")
    add("--run", default="default", dest="model", help="a run folder (default: the embedded model)")
    add("--engine", default="auto", choices=["auto", "onnx", "torch"], help="what runs the network")
    add("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    add("--frames", type=positive, default=32, help="frames a video (default: 32)")
    add(
        "--workers",
        type=positive,
        help="processes that examine files (default: half of the cores, 4 at most)",
    )
    add("--queue", type=positive, default=64, help="files that may wait (default: 64)")
    add("--max-megabytes", type=float, default=256, metavar="MB", help="of one file (default: 256)")
    add("--max-megapixels", type=float, default=50, metavar="MP", help="of one frame (default: 50)")
    add("--max-seconds", type=float, default=600, metavar="S", help="of a video (default: 600)")
    add("--time-limit", type=float, default=120, metavar="S", help="of one examination (default: 120)")
    add(
        "--memory",
        type=float,
        default=4096,
        metavar="MB",
        help="of one worker beside its model; 0: no limit (default: 4096)",
    )
    add(
        "--rate",
        type=int,
        default=120,
        metavar="N",
        help="files a minute from one client; 0: no limit (default: 120)",
    )
    add("--keep-minutes", type=float, default=60, metavar="MIN", help="that a result stays (default: 60)")
    add("--keep-megabytes", type=float, default=512, metavar="MB", help="of all results (default: 512)")
    add(
        "--spool-megabytes",
        type=float,
        default=4096,
        metavar="MB",
        help="of all waiting files (default: 4096)",
    )
    add(
        "--folder",
        metavar="DIR",
        help="where waiting files lie, in a new private folder (default: the system's)",
    )
    add("--behind-proxy", metavar="ADDRESS", help="of a reverse proxy whose X-Forwarded-For is believed")
    add(
        "--allow-name",
        action="append",
        default=[],
        metavar="HOST",
        help="a further name of a server without token",
    )


def run(known: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from unseen.serve.run import serve
    from unseen.serve.settings import MEGABYTE, Settings, default_workers

    serve(
        Settings(
            host=known.host,
            port=known.port,
            token=token_of(known),
            run=known.model,
            engine=known.engine,
            device=known.device,
            frames=known.frames,
            workers=known.workers or default_workers(),
            queue=known.queue,
            max_bytes=round(known.max_megabytes * MEGABYTE),
            max_pixels=round(known.max_megapixels * MEGABYTE),
            max_duration=known.max_seconds,
            time_limit=known.time_limit,
            memory=round(known.memory * MEGABYTE),
            rate=known.rate,
            keep=60 * known.keep_minutes,
            keep_bytes=round(known.keep_megabytes * MEGABYTE),
            spool_bytes=round(known.spool_megabytes * MEGABYTE),
            folder=known.folder,
            proxy=known.behind_proxy,
            names=tuple(known.allow_name),
        ),
        say=lambda text: print(text, flush=True),
    )
    return OK


def token_of(known: argparse.Namespace) -> str | None:
    """The token from wherever it was given.

    Raises:
        InputError: It was given twice, is empty, or its file cannot be read.
    """
    given = {
        "--token": known.token,
        "--token-file": None if known.token_file is None else _first_line(known.token_file),
        # An empty variable is how a container says that there is none.
        "UNSEEN_TOKEN": os.environ.pop("UNSEEN_TOKEN", None) or None,
    }
    found = {name: token for name, token in given.items() if token is not None}
    if len(found) > 1:
        raise InputError(f"the token was given twice, by {' and '.join(found)}; give it once", reason="token")
    for name, token in found.items():
        if not token:
            raise InputError(f"{name}: the token is empty", reason="token")
        return str(token)
    return None


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path}: cannot be read ({error})", reason="token") from error
    return lines[0].strip() if lines else ""
