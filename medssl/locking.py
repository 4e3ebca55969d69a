"""One writer for an output: a run, a store or a manifest is held while it is written, and a second process is told."""

from __future__ import annotations

import functools
import inspect
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from filelock import FileLock, Timeout

from medssl.errors import BusyError, DiskError
from medssl.writing import folder_for

__all__ = ["LOCK", "held", "holds", "is_first_process", "part_of"]

LOCK = ".medssl.lock"
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def held(output: Path, doing: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold an output while it is written.

    The lock is the operating system's, on a hidden file beside the output: it ends with the process that holds it,
    however that process ends, so nothing is left to be cleared away by hand. The file says who holds it.

    Args:
        output: The file or folder that is to be written; it need not be there.
        doing: What holds it, in words, such as "medssl pretrain".
        wait_s: How long to wait for another process to end.

    Raises:
        BusyError: Another process writes it still; the message says which, where and since when.
        ConfigError: A file is on the way to it.
        DiskError: The folder cannot be written to.
    """
    output = Path(output).absolute()
    if not output.parent.is_dir():
        folder_for(output.parent)
    made = [folder for folder in output.parents if not folder.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        file = _lock_file(output)
        lock = FileLock(file, timeout=wait_s)
        lock.acquire()
    except Timeout as error:
        _try_to_write(file, output)
        raise BusyError(f"{output}: {_holder(file)} Wait until it has ended, or choose another --out.") from error
    except OSError as error:
        raise DiskError.of(output, error) from error
    try:
        with suppress(OSError):
            about = {"host": socket.gethostname(), "pid": os.getpid(), "doing": doing, "since": _now()}
            file.write_text(json.dumps(about) + "\n", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            file.unlink()  # while it is held: whoever waits sees that the name is gone, and makes it anew
        lock.release()
        with suppress(OSError):  # a verb that refused its settings leaves no folder behind; one with a file in it stays
            for folder in made:
                folder.rmdir()


def holds(
    doing: str, output: Callable[[Mapping[str, Any]], Path | None]
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Let a verb hold its output for as long as it runs. Of several ranks of a run the first one holds it.

    Args:
        doing: See `held`.
        output: From the verb's arguments by name to its output; None where nothing is written.
    """

    def around(verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(verb)
        def holding(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            bound = inspect.signature(verb).bind(*args, **kwargs)
            bound.apply_defaults()
            written = output(bound.arguments)
            if written is None or bound.arguments.get("dry_run") or not is_first_process():
                return verb(*args, **kwargs)
            with held(written, doing):
                return verb(*args, **kwargs)

        return holding

    return around


def part_of(output: str | Path, overrides: Sequence[str] = (), shard: str | None = None) -> Path:
    """Return what a verb that may do one part of several holds: the output, or its own part of it.

    Example:
        >>> part_of("stores/ct", ["shard=2/8"]).name, part_of("stores/ct").name
        ('ct.part-2-of-8', 'ct')
    """
    said = [word.partition("=")[2] for word in overrides if word.startswith("shard=")]
    part = (said[-1] if said else shard) or "1/1"
    whole = Path(output)
    return whole if part == "1/1" else whole.with_name(f"{whole.name}.part-{part.replace('/', '-of-')}")


def is_first_process() -> bool:
    """Tell whether this process is the first of its run, by what torchrun, SLURM and Fabric say in the environment."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    ranks = [os.environ.get(name, "0") for name in ("SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")]
    return all(rank in {"0", ""} for rank in ranks)


def _lock_file(output: Path) -> Path:
    """Return a hidden file beside the output, or in it where the folder above is not ours to write to."""
    if output.is_dir() and not os.access(output.parent, os.W_OK):
        return output / LOCK
    return output.with_name(f".{output.name}.lock")


def _try_to_write(file: Path, output: Path) -> None:
    """See that a lock that was not had is held by someone, and not in a place where no file can be made.

    Raises:
        DiskError: Nothing can be written there: on file systems such as /proc that looks like a lock that is held.
    """
    if file.exists():
        return
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o644))
    except OSError as error:
        raise DiskError.of(output, error) from error


def _holder(file: Path) -> str:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        return f"{about['doing']} is writing it (process {about['pid']} on {about['host']}, since {about['since']})."
    except (OSError, ValueError, KeyError, TypeError):
        return "another process is writing it."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
