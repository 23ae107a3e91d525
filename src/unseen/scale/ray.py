"""Jobs on a Ray cluster: the same calls, results and failures as the worker processes of one machine.

Jobs stream through an actor pool of Ray Data, which hands an actor two small blocks of jobs at a time and
waits while results are not fetched. Each actor holds one worker process of `unseen.prepare.pool`, and that
process the finder or the network that its function has loaded: a file that kills or hangs it costs that file
alone, and is recorded in the same words. A block whose actor or machine is lost is given to another one; its
jobs are done again, and what they write they write whole under the same names. So every job has one result.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from unseen.prepare import pool
from unseen.types import InputError

__all__ = ["work_off"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_TRIES = 4  # of a block whose actors die
_SHARE, _MOST = 24, 64  # blocks for each actor, if they would not hold more jobs than `_MOST`
_STORE = 128 << 20  # bytes of a local cluster's object store: jobs and rows are small


def work_off(
    function: Callable[..., _Result],
    jobs: Sequence[_Job],
    *more: Any,
    lost: Callable[[_Job, str, str], _Result],
    workers: int | None = None,
    seconds: float = 600.0,
    address: str | None = None,
    gpus: float = 0.0,
) -> Iterator[tuple[_Job, _Result]]:
    """Call `function(job, *more)` for every job on a cluster; yield each result as it comes, in any order.

    Args:
        function: Importable by name on every machine, like everything that is passed to it.
        jobs: One call each. Paths in them and in `more` must lead to the same files on every machine.
        *more: Further arguments of every call.
        lost: Makes the result of a job that has none, from the job, a reason (`timeout` or `crashed`) and a
            sentence.
        workers: Actors, of one processor each; default: one for each of the cluster's.
        seconds: A job that takes longer is given up and its process replaced.
        address: Of a running cluster (`auto`, `ray://HOST:10001`); None uses the one that this process is
            connected to, or starts one on this machine.
        gpus: Part of a GPU that each actor takes.

    Raises:
        InputError: Ray is not installed (`missing_extra`), or the cluster cannot be reached (`cluster`).
    """
    ray = _ray()
    if not jobs:
        return
    with _connected(ray, address, workers), _quiet(ray):
        count = max(1, min(workers or int(ray.cluster_resources().get("CPU", 1)), len(jobs)))
        # Handing over a block takes 15 ms of processor, so it should hold more than one photograph. What a
        # lost machine costs, and how long one actor works alone at the end, grows with it.
        each = max(1, min(_MOST, len(jobs) // (_SHARE * count)))
        rows = [{"number": i, "job": pickle.dumps(job)} for i, job in enumerate(jobs)]
        blocks = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // each))
        with warnings.catch_warnings():
            # Nothing else bounds how often a block is tried again; gone in Ray 2.64 (pyproject.toml).
            warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
            results = blocks.map_batches(
                _Actor,
                batch_size=None,  # a block
                batch_format="pyarrow",
                fn_constructor_args=(function, more, lost, seconds),
                compute=ray.data.ActorPoolStrategy(
                    min_size=1, max_size=count, initial_size=count, max_tasks_in_flight_per_actor=2
                ),
                num_cpus=1,
                num_gpus=gpus or None,
                ray_remote_args_fn=_limits,
            )
        waiting = dict(enumerate(jobs))
        for row in results.iter_rows():
            result = pickle.loads(row["result"])
            if isinstance(result, _Failed):
                raise result.error
            if row["number"] in waiting:
                yield waiting.pop(row["number"]), result
    for job in waiting.values():
        yield job, lost(job, "crashed", f"its Ray worker was lost {_TRIES + 1} times")


def _limits() -> dict[str, Any]:
    return {"max_task_retries": _TRIES}


class _Failed:
    """An error in the function, which is ours and no file's: it ends the run, as it does on one machine."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Actor:
    """Holds one worker process, started by the first job."""

    def __init__(
        self, function: Callable[..., Any], more: Sequence[Any], lost: Callable[..., Any], seconds: float
    ) -> None:
        self.function, self.more, self.lost, self.seconds = function, more, lost, seconds
        # A new process would run the script of Ray's own worker first, for nothing.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self.entered = pool.open_pool(1, 1)
        self.pool = self.entered.__enter__()

    def __call__(self, block: Any) -> Any:
        """Work off a block; its process has the next job while a result is being packed."""
        import pyarrow

        jobs = [(n, pickle.loads(job)) for n, job in zip(*block.to_pydict().values(), strict=True)]
        numbers: list[int] = []
        results: list[bytes] = []
        try:
            done = pool.work_off(
                _call, jobs, self.function, self.more, lost=self._lost, seconds=self.seconds, pool=self.pool
            )
            for (number, _), result in done:
                numbers.append(number)
                results.append(pickle.dumps(result))
        except Exception as error:
            numbers.append(jobs[0][0])
            results.append(pickle.dumps(_Failed(error)))
        return pyarrow.table({"number": numbers, "result": results})

    def _lost(self, job: tuple[int, Any], reason: str, note: str) -> Any:
        return self.lost(job[1], reason, note)


def _call(job: tuple[int, Any], function: Callable[..., Any], more: Sequence[Any]) -> Any:
    return function(job[1], *more)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"--engine ray needs Ray ({error}): pip install 'unseen[scale]'", reason="missing_extra"
        ) from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """Use the cluster that is there; one that is started here is stopped here."""
    if ray.is_initialized():
        yield
        return
    # Its core calls an error what would be one if we let go of the actors' arguments. What fails for us is an
    # exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    told = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            ray.init(
                address="local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE, **told
            )
        else:
            ray.init(address=address, **told)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"no Ray cluster at {address or 'this machine'} ({' '.join(str(error).split())[:200]}); start "
            "one with `ray start --head`, or leave --address out",
            reason="cluster",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Keep Ray Data's progress to itself, and let it go on without blocks that were lost for good."""
    context = ray.data.DataContext.get_current()
    names = ("enable_progress_bars", "print_on_execution_start", "max_errored_blocks")
    before = {name: getattr(context, name) for name in names}
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
