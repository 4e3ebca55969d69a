"""Jobs in processes, where a job may take its process down with it and must not take the others."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from typing import Any, Literal

from medssl.errors import ConfigError, MissingDependencyError, did_you_mean

__all__ = ["Engine", "default_workers", "run_jobs"]

Engine = Literal["processes", "ray"]
Job = tuple[Any, ...]
_AHEAD = 2  # jobs a worker that are in hand: enough to keep it busy, few enough to be tried again one by one
_MOST_WORKERS = 8
# Workers are many, so each takes one thread. This module imports no numpy, so that they are set before BLAS is loaded.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLOSC_NTHREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
        "POLARS_MAX_THREADS",
    ),
    "1",
)
_DIED = object()  # stands for the result of a job whose process died


def default_workers() -> int:
    """Return one process for each processor that this process may use, 8 at most."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, usable))


def run_jobs(
    work: Callable[..., Any],
    jobs: Mapping[int, Job],
    *,
    workers: int,
    crashed: Callable[[Job], Any],
    engine: Engine = "processes",
) -> Iterator[tuple[int, Any]]:
    """Do the jobs and yield (number, result) as they end.

    When a process dies, the jobs that were in hand are tried again one by one, so that only the culprit is lost, and
    the others go on as before. Where the caller stops early (an error, Ctrl-C), jobs in hand end and no other begins;
    where this process is killed, its workers end with it.

    Args:
        work: A function of a module, called as ``work(*job)``.
        jobs: Number -> arguments.
        workers: How many jobs run at a time. With processes, 1 does everything in this one; with Ray, 0 takes the
            cluster's processors.
        crashed: What to yield for a job that killed its process.
        engine: "processes" of this machine; or "ray", the cluster that ``RAY_ADDRESS`` names or a local one. Machines
            of a cluster need medssl, and the files under the same paths.

    Raises:
        ConfigError: There is no such engine, or no process can begin.
        MissingDependencyError: Ray is asked for and not installed.
        Exception: Whatever ``work`` raises.
    """
    engines = {"processes": _in_processes, "ray": _in_ray}
    if engine not in engines:
        raise ConfigError(f"engine: there is no {engine!r}. {did_you_mean(engine, engines)}")
    if engine == "processes" and (workers <= 1 or len(jobs) <= 1):
        for number, job in jobs.items():
            yield number, work(*job)
        return
    attempt = engines[engine]
    waiting = deque(jobs)
    while waiting:
        suspects: deque[int] = deque()
        for number, result in attempt(work, jobs, waiting, min(workers, len(waiting)), _AHEAD):
            if result is _DIED:
                suspects.append(number)
            else:
                yield number, result
        while suspects:
            for number, result in attempt(work, jobs, suspects, 1, 1):
                yield number, crashed(jobs[number]) if result is _DIED else result


def _in_processes(
    work: Callable[..., Any], jobs: Mapping[int, Job], waiting: deque[int], workers: int, ahead: int
) -> Iterator[tuple[int, Any]]:
    """Do the jobs that wait until none is left, or until a process died: then all that were in hand are suspects."""
    # Spawned, not forked: readers, BLAS and polars start threads, and a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(begun,))
    in_hand: dict[Future[Any], int] = {}
    broken = False
    try:
        while True:
            while waiting and not broken and len(in_hand) < ahead * workers:
                try:
                    in_hand[pool.submit(work, *jobs[waiting[0]])] = waiting[0]
                except BrokenProcessPool:
                    broken = True
                else:
                    waiting.popleft()
            if not in_hand:
                return
            for future in wait(in_hand, return_when=FIRST_COMPLETED).done:
                number = in_hand.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    if not begun.is_set():  # then it is no job that killed it
                        raise ConfigError(
                            "Processes were started to share the work, and none of them began. A script that calls "
                            "medssl is run again by each of them: put what it does under `if __name__ == "
                            "'__main__':`. Or do without processes: workers=1."
                        ) from error
                    broken, result = True, _DIED
                yield number, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker(begun: Event) -> None:
    begun.set()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which lets the jobs in hand finish
    os.environ.update(_ONE_THREAD)


def _end_with_parent() -> None:
    """End this process once its parent is gone, which a SIGTERM or SIGKILL of the parent alone would not do."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # waits for a pipe of the parent's to close, whatever closes it
        os._exit(1)  # the job in hand writes aside and renames, so nothing is left half written under its name


def _in_ray(
    work: Callable[..., Any], jobs: Mapping[int, Job], waiting: deque[int], workers: int, ahead: int
) -> Iterator[tuple[int, Any]]:
    """Do the jobs that wait. Each has a worker of its own, so one that dies takes no other with it.

    It may have died of its neighbours' hunger for memory all the same, and so is a suspect like any other. ``ahead`` is
    not used: the cluster takes no job sooner than it can begin it.
    """
    ray = _connected_ray()
    died = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    # Ray's own second tries are off: it would send a scan that kills its reader around the cluster.
    task = ray.remote(num_cpus=1, max_retries=0, runtime_env={"env_vars": _ONE_THREAD})(work)
    at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    in_hand: dict[Any, int] = {}
    try:
        while waiting or in_hand:
            while waiting and len(in_hand) < at_once:
                number = waiting.popleft()
                in_hand[task.remote(*jobs[number])] = number
            done, _ = ray.wait(list(in_hand), num_returns=1)
            for reference in done:
                number = in_hand.pop(reference)
                try:
                    result = ray.get(reference)
                except died:
                    result = _DIED
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                yield number, result
    finally:
        if in_hand:
            ray.wait(list(in_hand), num_returns=len(in_hand))


def _connected_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # hospitals' machines report to nobody unasked
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "engine=ray needs Ray, which is not installed. Install it with: pip install 'medssl[ray]'"
        ) from error
    if not ray.is_initialized():
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    return ray
