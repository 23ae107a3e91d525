"""Worker processes that lose one job, and not the run, when a job kills or hangs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from unseen.types import InputError

if TYPE_CHECKING:
    from pebble import ProcessPool

__all__ = ["open_pool", "settle", "work_off"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@contextmanager
def open_pool(jobs: int, workers: int | None = None) -> Iterator[ProcessPool]:
    """Give worker processes, started when first used, that serve several calls of `work_off`.

    Args:
        jobs: The most that there will be at a time.
        workers: Processes; default: one a core.
    """
    import multiprocessing

    # pebble, not concurrent.futures: a worker that a hostile file kills or hangs costs that file alone.
    from pebble import ProcessPool

    count = max(1, min(workers or os.cpu_count() or 1, jobs))
    with ProcessPool(count, context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            pool.stop()  # type: ignore[no-untyped-call]
            raise


def work_off(
    function: Callable[..., _Result],
    jobs: Sequence[_Job],
    *more: Any,
    lost: Callable[[_Job, str, str], _Result],
    workers: int | None = None,
    seconds: float = 600.0,
    pool: ProcessPool | None = None,
) -> Iterator[tuple[_Job, _Result]]:
    """Call `function(job, *more)` for every job in worker processes; yield each result as it comes.

    Args:
        function: Importable by name, like everything that is passed to it.
        jobs: One call each.
        *more: Further arguments of every call.
        lost: Makes the result of a job that has none, from the job, a reason (`timeout` or `crashed`) and a
            sentence.
        workers: Processes; default: one a core.
        seconds: A job that takes longer is given up and its worker replaced.
        pool: From `open_pool`, instead of processes of its own.

    Raises:
        InputError: The workers cannot start (`workers`).
    """
    if not jobs:
        return
    with open_pool(len(jobs), workers) if pool is None else nullcontext(pool) as pool:
        waiting: dict[Any, _Job] = {
            pool.schedule(function, args=(job, *more), timeout=seconds): job for job in jobs
        }
        for future in as_completed(waiting):
            job = waiting[future]
            result = settle(
                future,
                late=partial(lost, job, "timeout", f"more than {seconds:g} s; see --seconds-per-file"),
                crashed=partial(lost, job, "crashed"),
            )
            yield job, result


def settle(
    future: Future[_Result], *, late: Callable[[], _Result], crashed: Callable[[str], _Result]
) -> _Result:
    """Return what a finished call of a pool gave, or what stands for a call that gave nothing.

    Args:
        future: Of `ProcessPool.schedule`.
        late: Makes the result of a call that took too long.
        crashed: Makes the result of a call whose worker ended, from a sentence that says how.

    Raises:
        InputError: The workers cannot start (`workers`).
    """
    from pebble import ProcessExpired

    try:
        return future.result()
    except TimeoutError:
        return late()
    except BrokenProcessPool as error:
        raise InputError(
            "worker processes cannot start; in a script, call this from a function below "
            "`if __name__ == '__main__':`, since workers import the script again",
            reason="workers",
        ) from error
    except ProcessExpired as error:
        return crashed(f"its worker ended with exit code {error.exitcode}")
