"""The files of `inspect_folder` inspected on a Ray cluster; journal and table stay where they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from unseen.detect import batch
from unseen.detect.batch import Settings

__all__ = ["on_cluster"]

Job = tuple[str, int]
_There = tuple[str, int, str]  # and the folder from which a relative name leads to the file


def on_cluster(
    *, address: str | None = None, actors: int | None = None
) -> Callable[[Iterable[Job], Settings], Iterator[tuple[Job, dict[str, Any]]]]:
    """Return what inspects files on a cluster, for `inspect_folder`.

    Args:
        address: Of a running cluster; None starts one on this machine.
        actors: Of one processor each; default: one for each of the cluster's.
    """

    def work(jobs: Iterable[Job], settings: Settings) -> Iterator[tuple[Job, dict[str, Any]]]:
        from unseen.scale.ray import work_off

        here = str(Path.cwd())
        there = [(path, stamp, here) for path, stamp in jobs]
        more: dict[str, Any] = {"workers": actors, "seconds": settings.seconds, "address": address}
        for (path, stamp, _), row in work_off(inspect_there, there, settings, lost=lost_there, **more):
            yield (path, stamp), row

    return work


def inspect_there(job: _There, settings: Settings) -> dict[str, Any]:
    """Inspect one file in a worker of the cluster."""
    path, _, folder = job
    os.chdir(folder)  # names are kept as they were given
    return batch.inspect_one(path, settings)


def lost_there(job: _There, reason: str, note: str) -> dict[str, Any]:
    """Return the row of a file that crashed or outlasted its worker."""
    return batch.lost_row(job[0], reason, note)
