"""What a file can do to the worker that opens it, once; importable by name, as jobs must be."""

import os
import signal
import time

from unseen.prepare.work import prepare_file


def prepare_and_suffer(item, rule, out):
    """`prepare_file`, but `fatal` kills its Ray actor the first time, and `crash` its process always."""
    with (out / "opened.txt").open("a") as log:
        log.write(f"{item.video}\n")
    if item.video == "fatal" and not (out / "killed").exists():
        (out / "killed").touch()
        os.kill(os.getppid(), signal.SIGKILL)  # the actor, with all that it was doing
        time.sleep(60)
    if item.video == "crash":
        os._exit(3)
    return prepare_file(item, rule, out)
