"""Worker processes as their parent sees them: begun when needed, kept for the next call, ended with the parent."""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from multiprocessing import Pipe, spawn
from typing import IO, Any

from medssl.errors import ConfigError

__all__ = ["Worker", "give_back", "take_worker"]

# Workers are many, so each takes one thread.
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLOSC_NTHREADS",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
        "POLARS_MAX_THREADS",
        "RAYON_NUM_THREADS",
    ),
    "1",
)
_SMALL_BYTES = 1 << 14  # a message that certainly fits into the pipe, so that nobody waits for the other
_BEGIN = "import sys; sys.path[:] = {path!r}; from medssl.worker import main; main({descriptor})"
_idle: list[Worker] = []
_all: set[Worker] = set()
_lock = threading.Lock()


class Worker:
    """One process, and the jobs that it has in hand, in the order in which it does them."""

    def __init__(self) -> None:
        here, there = Pipe()
        self.connection = here
        self.owner = os.getpid()
        self.begun = False
        self.alone = False
        self.in_hand: deque[int] = deque()
        self.since = time.monotonic()
        self._seconds: deque[float] = deque()
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  -- for as long as the process lives
        begin = _BEGIN.format(path=list(sys.path), descriptor=there.fileno())
        try:
            self.process = subprocess.Popen(  # noqa: S603  -- this interpreter
                [spawn.get_executable(), *subprocess._args_from_interpreter_flags(), "-P", "-c", begin],  # type: ignore[attr-defined]
                stdin=subprocess.PIPE,
                stdout=self._complaints,
                stderr=self._complaints,
                env={**os.environ, **ONE_THREAD},
                pass_fds=(there.fileno(),),
            )
        except OSError as error:
            raise ConfigError(f"No process can be started to read files ({error.strerror or error}).") from error
        finally:
            there.close()
        with _lock:
            _all.add(self)

    def can_take(self, packed: bytes, ahead: int) -> bool:
        """Tell whether a job may be sent now: a long message only to one that waits for it."""
        return not self.in_hand or (len(self.in_hand) < ahead and len(packed) <= _SMALL_BYTES)

    def send(self, number: int, packed: bytes, seconds: float) -> None:
        """Hand it a job. That it has died is noticed when it is listened to."""
        if not self.in_hand:
            self.since = time.monotonic()
        self.in_hand.append(number)
        self._seconds.append(seconds)
        with suppress(OSError):
            self.connection.send_bytes(packed)

    def receive(self) -> tuple[int, str, Any] | None:
        """Return its next answer, None where it only says that it has begun.

        Raises:
            EOFError: It has died of the first job in hand.
        """
        try:
            number, how, result = pickle.loads(self.connection.recv_bytes())  # noqa: S301  -- of our own worker
        except OSError as error:  # reset, or closed in the middle of a message
            raise EOFError from error
        if not self.begun:
            self.begun = True
            return None
        self.in_hand.popleft()
        self._seconds.popleft()
        self.since = time.monotonic()
        return number, how, result

    def left_s(self) -> float | None:
        """Return how long its job may still take before this side ends it, None where there is no limit.

        The worker's own alarm comes first; this is for one that the system holds in a call it cannot be woken from.
        """
        if not self._seconds or not self._seconds[0]:
            return None
        return max(0.0, self.since + 1.2 * self._seconds[0] + 20 - time.monotonic())

    def end(self) -> int | None:
        """Kill it where it lives, and return its exit code: negative for a signal, None where the system holds it."""
        with _lock:
            _all.discard(self)
        code = self.process.poll()
        if code is None:
            with suppress(OSError, subprocess.TimeoutExpired):
                self.process.kill()
                code = self.process.wait(5)
        self.connection.close()
        if self.process.stdin:
            with suppress(OSError):
                self.process.stdin.close()
        self._complaints.close()
        return code

    def code_of_death(self) -> int | None:
        """Return the exit code of one that has gone by itself, None where it has not."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(5)
        return None

    def complaints(self) -> str:
        """Return the last line that it, or a library in it, has said."""
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


def take_worker() -> Worker:
    """Return a worker that waits for jobs: one of an earlier call where there is one, else a new one."""
    while True:
        with _lock:
            worker = _idle.pop() if _idle else None
        if worker is None:
            return Worker()
        if worker.owner == os.getpid() and worker.process.poll() is None and not worker.connection.poll():
            return worker
        worker.end()


def give_back(worker: Worker) -> None:
    """Keep a worker with nothing in hand for the next call; it ends by itself after a while."""
    with _lock:
        _idle.append(worker)


def _end_all() -> None:
    for worker in list(_all):
        if worker.owner == os.getpid():
            worker.end()


def _forget() -> None:
    """In a forked child: the workers are the parent's."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _all.clear()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
