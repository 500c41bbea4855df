"""Spread jobs over processes that end with their parent."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Generic, TypeVar

from stages.common.runtime import progress

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class Work(Generic[JobT, ResultT]):
    """What a worker does with each job, and what it needs for all of them.

    Args:
        function: (job, shared) -> result, at the top level of a module.
        shared: sent once to each worker: too large to send with every job.
    """

    def __init__(self, function: Callable[[JobT, Any], ResultT], shared: Any) -> None:
        self.function = function
        self.shared = shared


class _Worker:
    """The work that this process was started for."""

    work: Work[Any, Any]


def run_jobs(
    work: Work[JobT, ResultT],
    jobs: Sequence[JobT],
    *,
    workers: int | None,
    desc: str,
) -> Generator[ResultT, None, None]:
    """Yield the result of each job, in order.

    Args:
        work: what is done.
        jobs: what it is done with.
        workers: processes; None takes OMP_NUM_THREADS, this stage's share of the
            cores, or one per core. It changes no result.
        desc: what the progress line says.
    """
    count = max(1, min(workers or _share_of_cores(), len(jobs)))
    with ProcessPoolExecutor(
        count, initializer=_start_worker, initargs=(work,)
    ) as pool:
        results = pool.map(_run_job, jobs)
        try:
            yield from progress(results, total=len(jobs), desc=desc)
        finally:
            # Whoever stops at the first error does not wait for all the others.
            pool.shutdown(cancel_futures=True)


def _share_of_cores() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker(work: Work[Any, Any]) -> None:
    _Worker.work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent takes its workers along, or they would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_job(job: Any) -> Any:
    return _Worker.work.function(job, _Worker.work.shared)
