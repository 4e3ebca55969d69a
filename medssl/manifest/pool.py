"""Jobs in processes, where a job may take its process down with it and must not take the others."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

__all__ = ["default_workers", "run_jobs"]

Job = tuple[Any, ...]
_AHEAD = 4  # jobs a worker that wait in the pool: enough to keep it busy, few enough to lose little


def default_workers() -> int:
    """Return one process for each processor that this process may use, 8 at most."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, usable))


def run_jobs(
    work: Callable[..., Any], jobs: Mapping[int, Job], *, workers: int, crashed: Callable[[Job], Any]
) -> Iterator[tuple[int, Any]]:
    """Do the jobs and yield (number, result) as they end.

    Args:
        work: A function of a module, called as ``work(*job)``.
        jobs: Number -> arguments.
        workers: Processes; 1 does everything in this one.
        crashed: What to yield for a job that killed its process.

    Raises:
        Exception: Whatever ``work`` raises.
    """
    if workers <= 1 or len(jobs) <= 1:
        for number, job in jobs.items():
            yield number, work(*job)
        return
    left = dict(jobs)
    try:
        for number, result in _pooled(work, jobs, min(workers, len(jobs))):
            del left[number]
            yield number, result
    except BrokenProcessPool:
        # One job killed a worker and broke the pool. Those left go on one by one, so that only the culprit is lost.
        for number, job in left.items():
            try:
                yield from _pooled(work, {number: job}, 1)
            except BrokenProcessPool:
                yield number, crashed(job)


def _pooled(work: Callable[..., Any], jobs: Mapping[int, Job], workers: int) -> Iterator[tuple[int, Any]]:
    # Spawned, not forked: readers and polars start threads, and a fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: dict[Future[Any], int] = {}
        queue = iter(jobs.items())
        while True:
            while len(waiting) < _AHEAD * workers and (item := next(queue, None)) is not None:
                waiting[pool.submit(work, *item[1])] = item[0]
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
