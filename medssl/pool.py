"""Jobs in processes, where a job may take its process down with it and must not take the others."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal, TypeVar

from medssl.errors import ConfigError, FormatError, did_you_mean
from medssl.extras import library
from medssl.refusing import NO_MEMORY
from medssl.worker import in_worker, time_limit
from medssl.workers import ONE_THREAD, Worker, give_back, take_worker

__all__ = ["FILE_MEMORY", "FILE_SECONDS", "Engine", "Limits", "default_workers", "file_limits", "isolated", "run_jobs"]

Engine = Literal["processes", "ray"]
Job = tuple[Any, ...]
T = TypeVar("T")
FILE_SECONDS = (
    "Seconds that a file may take before its worker is stopped, it is named and the rest goes on; a scan of many files "
    "has as many for each hundred. 0 sets no limit."
)
FILE_MEMORY = (
    "Memory in GB that reading a file may take, beyond it the file is named and the rest goes on; 0 takes half of the "
    "machine's. 1 is the least."
)
_AHEAD, _AHEAD_S = (
    8,
    0.2,
)  # jobs a worker has in hand: enough that small ones wait for nobody, few where each takes long
_MOST_WORKERS = 8
_FILES = 100  # files of a scan that one limit of time is for
_TICK_S = 1.0
_STOPPED_S = 5.0
_LEAST_MEMORY = 1 << 30  # which loading a reader may take


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one file may cost.

    Attributes:
        seconds: Of time on the clock, for each hundred files of a scan; 0 for no limit.
        memory_gb: Beyond what the worker has anyway; 0 for half of the machine's.
    """

    seconds: float = 300.0
    memory_gb: float = 0.0

    @property
    def memory_bytes(self) -> int:
        """The limit of memory; the same for any number of workers, so that they find the same files too large."""
        if self.memory_gb:
            return max(_LEAST_MEMORY, int(self.memory_gb * 1e9))
        return max(_LEAST_MEMORY, _memory_of_machine() // 2)


_limits = Limits()


@contextmanager
def file_limits(*, seconds: float, memory_gb: float) -> Iterator[None]:
    """Set what one file may cost in the block, in all threads."""
    global _limits
    before, _limits = _limits, Limits(seconds=seconds, memory_gb=memory_gb)
    try:
        yield
    finally:
        _limits = before


def default_workers() -> int:
    """Return one process for each processor that this process may use, 8 at most."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_WORKERS, usable))


def isolated(work: Callable[..., T], *arguments: Any) -> T:
    """Do one thing with a file in a worker process, under the limits of `file_limits`.

    Args:
        work: A function of a module.
        arguments: Its arguments; the first is the file, or a list of files.

    Raises:
        FormatError: The process died of the file, or it took too long or too much memory.
        Exception: Whatever ``work`` raises.
    """
    first = arguments[0]
    files = list(first) if isinstance(first, list | tuple) else [first]
    ((_, result),) = run_jobs(
        work, {0: arguments}, workers=1, crashed=lambda _, why: _Lost(why), files=lambda _: len(files)
    )
    if isinstance(result, _Lost):
        raise FormatError(Path(files[0]) if files else Path(), result.why)
    found: T = result
    return found


@dataclass(frozen=True)
class _Lost:
    why: str


def run_jobs(
    work: Callable[..., Any],
    jobs: Mapping[int, Job],
    *,
    workers: int,
    crashed: Callable[[Job, str], Any],
    engine: Engine = "processes",
    files: Callable[[Job], int] = lambda _: 1,
) -> Iterator[tuple[int, Any]]:
    """Do the jobs in processes of their own and yield (number, result) as they end.

    A process that dies (a crash of a decoder, an endless loop, no memory) costs the job that it was at alone. That job
    is tried once more in a fresh process while no other runs, for it may have died of its neighbours' hunger for memory
    or of what an earlier file had left; one that took too long is not. Where the caller stops early (an error, Ctrl-C),
    the workers are ended; where this process is killed, its workers end with it. Inside of a worker, jobs are done
    there.

    Args:
        work: A function of a module, called as ``work(*job)``.
        jobs: Number -> arguments.
        workers: How many jobs run at a time; at least one process is started. With Ray, 0 takes the cluster's
            processors.
        crashed: What to yield for a job that killed its process, called with the job and why, in a sentence.
        engine: "processes" of this machine; or "ray", the cluster that ``RAY_ADDRESS`` names or a local one. Machines
            of a cluster need medssl, and the files under the same paths.
        files: How many files a job reads, which the limit of time depends on.

    Raises:
        ConfigError: There is no such engine, or no process can begin.
        MissingDependencyError: Ray is asked for and not installed.
        Exception: Whatever ``work`` raises.
    """
    if engine not in ("processes", "ray"):
        raise ConfigError(f"engine: there is no {engine!r}. {did_you_mean(engine, ('processes', 'ray'))}")
    if in_worker() or (engine == "processes" and os.name == "nt"):
        for number, job in jobs.items():
            yield number, work(*job)
    elif engine == "ray":
        yield from _in_ray(work, jobs, workers, crashed, files)
    else:
        _refuse_main(work)
        yield from _Pool(work, jobs, max(1, workers), crashed, files).results()


class _Pool:
    """One call's jobs, and the workers that do them."""

    def __init__(
        self,
        work: Callable[..., Any],
        jobs: Mapping[int, Job],
        workers: int,
        crashed: Callable[[Job, str], Any],
        files: Callable[[Job], int],
    ) -> None:
        self.work, self.jobs, self.crashed, self.files = work, jobs, crashed, files
        self.most = min(workers, len(jobs))
        self.limits = _limits
        self.memory_bytes = _limits.memory_bytes
        self.folder = _working_folder()
        self.waiting = deque(jobs)
        self.suspects: deque[int] = deque()
        self.tried: set[int] = set()
        self.busy: list[Worker] = []
        self.next: tuple[int, bytes] | None = None
        self.begin, self.done = time.monotonic(), 0

    def results(self) -> Iterator[tuple[int, Any]]:
        try:
            while self.waiting or self.suspects or self.busy:
                self._hand_out()
                ready, stopped = self._listen()
                for worker in list(self.busy):
                    if worker.connection in ready:
                        yield from self._heard(worker, stopped)
                    elif worker.left_s() == 0:
                        worker.end()
                        yield from self._died(worker, -_signal("SIGALRM"), stopped)
                    if worker in self.busy and not worker.in_hand and (worker.alone or not self.waiting):
                        self.busy.remove(worker)
                        give_back(worker)
        finally:
            for worker in self.busy:  # stopped early: by an error, Ctrl-C, or a caller that wants no more
                worker.end()

    def _hand_out(self) -> None:
        if self.suspects:
            if not any(worker.in_hand for worker in self.busy):
                while self.busy:
                    give_back(self.busy.pop())
                worker = Worker()
                worker.alone = True
                self.busy.append(worker)
                number = self.suspects.popleft()
                worker.send(number, self._packed(number), self._seconds(number))
            return
        if any(worker.alone for worker in self.busy):
            return
        while self.waiting:
            packed = self._packed(self.waiting[0])
            worker = min(self.busy, key=lambda one: len(one.in_hand), default=None)  # type: ignore[arg-type,assignment]
            if len(self.busy) < self.most and (worker is None or worker.in_hand):
                worker = take_worker()
                self.busy.append(worker)
            if not worker.can_take(packed, self._ahead()):
                return
            number = self.waiting.popleft()
            worker.send(number, packed, self._seconds(number))

    def _ahead(self) -> int:
        """Return how many jobs a worker may have in hand: what it does in a moment."""
        mean = (time.monotonic() - self.begin) * len(self.busy) / self.done if self.done else _AHEAD_S
        return min(_AHEAD, 1 + int(_AHEAD_S / max(mean, 1e-6)))

    def _packed(self, number: int) -> bytes:
        if self.next is None or self.next[0] != number:
            inner = pickle.dumps((self.work, self.jobs[number]), protocol=pickle.HIGHEST_PROTOCOL)
            self.next = number, pickle.dumps((number, self._seconds(number), self.memory_bytes, self.folder, inner))
        return self.next[1]

    def _seconds(self, number: int) -> float:
        return self.limits.seconds * max(1.0, self.files(self.jobs[number]) / _FILES)

    def _listen(self) -> tuple[list[Any], bool]:
        """Return the connections with news, and whether this process stood still meanwhile (Ctrl-Z, and fg)."""
        begin = time.monotonic()
        ready = wait([worker.connection for worker in self.busy], _TICK_S)
        return ready, time.monotonic() - begin > _TICK_S + _STOPPED_S

    def _heard(self, worker: Worker, stopped: bool) -> Iterator[tuple[int, Any]]:
        try:
            answer = worker.receive()
        except EOFError:
            code = worker.code_of_death()
            if not worker.begun:
                raise ConfigError(
                    f"A process was started to read files, and did not begin: {worker.complaints()} (exit code {code})."
                ) from None
            yield from self._died(worker, code, stopped)
            return
        if answer is None:
            return
        number, how, result = answer
        self.done += 1
        if how == "raised":
            raise result
        yield number, self.crashed(self.jobs[number], NO_MEMORY) if how == "memory" else result

    def _died(self, worker: Worker, code: int | None, stopped: bool) -> Iterator[tuple[int, Any]]:
        """Put the jobs of a dead worker back, and find who it was."""
        self.busy.remove(worker)
        worker.end()
        if not worker.in_hand:
            return
        culprit = worker.in_hand.popleft()
        self.waiting.extendleft(reversed(worker.in_hand))
        late = code == -_signal("SIGALRM")
        if culprit in self.tried or (late and not stopped):
            yield culprit, self.crashed(self.jobs[culprit], self._why(code, self._seconds(culprit)))
        else:
            self.tried.add(culprit)
            self.suspects.append(culprit)

    def _why(self, code: int | None, seconds: float) -> str:
        if code == -_signal("SIGALRM"):
            return (
                f"Reading it took longer than {seconds:g} s and was stopped: the file is damaged, or its disk is slow. "
                "Allow more with file_seconds."
            )
        name = ""
        if code is not None and code < 0:
            try:
                name = f" ({signal.Signals(-code).name})"
            except ValueError:
                name = f" (signal {-code})"
        return (
            f"The process that read it died{name}: the file is damaged in a way the reader does not survive, or memory "
            "ran out."
        )


def _signal(name: str) -> int:
    return int(getattr(signal, name, 0)) or 1 << 16


def _refuse_main(work: Callable[..., Any]) -> None:
    inner = getattr(work, "func", work)
    if getattr(inner, "__module__", "") == "__main__":
        raise ConfigError(
            f"{getattr(inner, '__name__', inner)}: a worker process cannot import what a script itself defines. Put "
            "the function into a module, and import it."
        )


def _memory_of_machine() -> int:
    """Return the bytes of memory that this machine has, or this container may use; 0 where nobody says it."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            whole = min(whole, int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return whole


def _in_ray(
    work: Callable[..., Any],
    jobs: Mapping[int, Job],
    workers: int,
    crashed: Callable[[Job, str], Any],
    files: Callable[[Job], int],
) -> Iterator[tuple[int, Any]]:
    """Do the jobs on a cluster. Each has a worker of its own, so one that dies takes no other with it.

    It may have died of its neighbours' hunger for memory all the same, so it is tried once more by itself at the end.
    """
    ray = _connected_ray()
    died = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
    # Ray's own second tries are off: it would send a scan that kills its reader around the cluster.
    task = ray.remote(num_cpus=1, max_retries=0, runtime_env={"env_vars": ONE_THREAD})(_timed)
    at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    limit = _limits.seconds
    waiting, suspects = deque(jobs), deque[int]()
    in_hand: dict[Any, int] = {}
    tried: set[int] = set()
    try:
        while waiting or suspects or in_hand:
            if not waiting and not in_hand:
                waiting.append(suspects.popleft())
            while waiting and len(in_hand) < at_once:
                number = waiting.popleft()
                seconds = limit * max(1.0, files(jobs[number]) / _FILES)
                in_hand[task.remote(work, jobs[number], seconds)] = number
            done, _ = ray.wait(list(in_hand), num_returns=1)
            for reference in done:
                number = in_hand.pop(reference)
                try:
                    result = ray.get(reference)
                except died:
                    if number not in tried:
                        tried.add(number)
                        suspects.append(number)
                        continue
                    result = crashed(
                        jobs[number],
                        "The process that read it died twice: the file is damaged in a way the reader does not "
                        f"survive, it took longer than {limit:g} s, or memory ran out.",
                    )
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                yield number, result
    finally:
        if in_hand:
            ray.wait(list(in_hand), num_returns=len(in_hand))


def _timed(work: Callable[..., Any], job: Job, seconds: float) -> Any:
    with time_limit(seconds):
        return work(*job)


def _connected_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # hospitals' machines report to nobody unasked
    ray: Any = library("ray", purpose="for engine=ray")
    if not ray.is_initialized():
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    return ray


def _working_folder() -> str:
    """Return where relative paths begin: a worker of an earlier call may have begun elsewhere. "" where it is gone."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""
