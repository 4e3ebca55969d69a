"""The inside of a worker process: it does jobs until its parent has no more, each under limits of time and memory.

Begun as a program of its own, never by forking or by running the parent's script again; see `medssl.workers`.
Imports nothing heavy: a worker begins in a tenth of a second, and loads a reader when the first file of its kind comes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

__all__ = ["in_worker", "main", "time_limit"]

_IDLE_S = 30.0  # a worker that nobody needs gives its memory back
_STDERR_BYTES = 1 << 20
_here = False


def in_worker() -> bool:
    """Tell whether this process is a worker: what is done here is isolated already."""
    return _here


def main(descriptor: int) -> None:
    """Do jobs until the parent closes the connection.

    A job comes as (number, seconds, bytes, working folder, packed work and arguments); the answer is (number, "done",
    result), or (number, "raised", error), or (number, "memory", ""). Who hears nothing of a job any more knows that
    the process died of it. The first thing said is (-1, "begun", "").

    Args:
        descriptor: The connection to the parent, inherited.
    """
    global _here
    _here = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    if hasattr(signal, "SIGALRM"):  # a parent that ignores or blocks it hands that on
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _no_core()
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115  -- for as long as the process lives
    with contextlib.suppress(EOFError, OSError), Connection(descriptor) as parent:
        parent.send_bytes(pickle.dumps((-1, "begun", "")))
        while parent.poll(_IDLE_S):
            parent.send_bytes(_answer(parent.recv_bytes()))
            _keep_short(sys.stderr.fileno())


def _answer(message: bytes) -> bytes:
    number, seconds, memory_bytes, folder, packed = pickle.loads(message)  # noqa: S301  -- of our own parent
    try:
        if folder:
            os.chdir(folder)
        work, arguments = pickle.loads(packed)  # noqa: S301
        with time_limit(seconds), _memory_limit(memory_bytes):
            answer: tuple[int, str, object] = (number, "done", work(*arguments))
        return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        answer = (number, "memory", "")
    except Exception as error:
        answer = (number, "raised", error)
    except BaseException:  # a panic of a library in Rust, or a reader that calls exit: who knows what is left of it
        os._exit(1)
    try:
        packed = pickle.dumps(answer)
        pickle.loads(packed)  # noqa: S301  -- some errors are packed and cannot be unpacked
        return packed
    except Exception:
        return pickle.dumps((number, "raised", RuntimeError(f"{type(answer[2]).__name__}: {answer[2]}")))


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process where the block takes longer.

    By the system's alarm, whose default is to end the process: it strikes in an endless loop of C code and in a call
    that waits for a pipe, where Python's own handlers are never reached.

    Args:
        seconds: 0 is no limit.
    """
    if not seconds or not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def _memory_limit(more_bytes: int) -> Iterator[None]:
    """Allow this process so many bytes more than it has, or none of it where the system has no such limit."""
    now = _mapped_bytes()
    if not more_bytes or not now:
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = now + more_bytes
    if before[1] != resource.RLIM_INFINITY:
        ceiling = min(ceiling, before[1])
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _mapped_bytes() -> int:
    try:
        with Path("/proc/self/statm").open(encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _no_core() -> None:
    """Leave no core file in the user's folder, and be the first to go where the machine's memory runs out."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError), Path("/proc/self/oom_score_adj").open("w", encoding="ascii") as file:
        file.write("500")


def _end_with_parent() -> None:
    """End once the parent is gone, however it went: standard input is a pipe of which it holds the other end."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)  # the job in hand writes aside and renames, so nothing is left half written under its name


def _keep_short(descriptor: int) -> None:
    """Cut what libraries complain of, which goes to a file that nobody reads to its end."""
    with contextlib.suppress(OSError):
        if os.fstat(descriptor).st_size > _STDERR_BYTES:
            os.ftruncate(descriptor, 0)
