"""Filling a store: scan by scan, in one process or several, resumable, one bad scan never stopping the rest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import CacheError, MedSSLError
from medssl.store.index import SCANS, Record, write_index
from medssl.store.plan import Plan, stored_record
from medssl.store.prepare import Job, prepare

__all__ = ["Report", "build", "superseded"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS")
_OWN_SUFFIXES = (".b2nd", ".json", ".npz", ".part")
_ABANDONED_AFTER_S = 3600.0
_KILLED = "The process that stored it was ended by the system, most often for want of memory. Use fewer workers."


@dataclass(frozen=True, kw_only=True)
class Report:
    """What filling a store came to.

    Attributes:
        listed: Scans in ``store.json`` now.
        written: Scans stored by this call.
        failed: Scans that could not be stored, id -> reason; the manifest's unreadable ones included.
        flags: What was noticed and mended, id -> flags.
        waiting: Scans that are left to other shards.
        index: ``store.json``.
    """

    listed: int
    written: int
    failed: dict[str, str]
    flags: dict[str, tuple[str, ...]]
    waiting: int
    index: Path


def build(
    folder: Path,
    plan: Plan,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Bring a store to what the plan says, doing only what is not there yet.

    Args:
        folder: The store; made if absent.
        plan: What it shall hold.
        workers: Processes; 1 works in this one.
        shard: (index from 0, count): this call stores every count-th of the missing scans and lists all there are.
        progress: Called with a scan's id each time one is done.

    Raises:
        CacheError: The folder cannot be written to.
    """
    try:
        (folder / SCANS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{folder}: cannot make the store ({error.strerror}). Choose another folder.") from error
    mine = plan.jobs[shard[0] :: shard[1]]
    todo = [job for job in mine if stored_record(folder, job) is None]
    failed: dict[str, str] = {}
    written = 0
    runs = _in_turn(folder, todo) if workers <= 1 or len(todo) <= 1 else _in_parallel(folder, todo, workers)
    for job, reason in runs:
        if reason is None:
            written += 1
        else:
            failed[job.id] = reason
        if progress is not None:
            progress(job.id)
    return _list(folder, plan, failed, written)


def superseded(folder: Path, plan: Plan) -> list[Path]:
    """Return files of the store that belong to no scan of the plan.

    They are of other settings, of sources that changed or left the manifest, or were being written when a process died.
    """
    wanted: set[str] = set()
    for job in plan.jobs:
        record = stored_record(folder, job)
        if record is not None:
            names = [Path(file).name for file in record.checksums]
            wanted |= {*names, names[0].removesuffix(".b2nd") + ".json"}
    long_ago = time.time() - _ABANDONED_AFTER_S
    found = []
    for path in sorted((folder / SCANS).glob("*")) + sorted((folder / SCANS).glob(".*.part")):
        in_hand = path.suffix == ".part" and path.stat().st_mtime > long_ago  # another shard may be writing it
        if path.suffix in _OWN_SUFFIXES and path.name not in wanted and not in_hand:
            found.append(path)
    return sorted(set(found))


def _list(folder: Path, plan: Plan, failed: dict[str, str], written: int) -> Report:
    records: list[Record] = []
    waiting = 0
    for job in plan.jobs:
        record = stored_record(folder, job)
        if record is not None:
            records.append(record)
        elif job.id not in failed:
            waiting += 1
    found = {number for record in records for number in record.class_voxels if number >= 0}
    classes = {n: plan.classes.get(n, "background" if n == 0 else f"structure {n}") for n in found | set(plan.classes)}
    everything = {**plan.unreadable, **failed}
    index = write_index(
        folder,
        [record.entry for record in records],
        settings=plan.described(),
        classes=classes if found else {},
        failed=everything,
    )
    return Report(
        listed=len(records),
        written=written,
        failed=everything,
        flags={record.entry.id: record.flags for record in records if record.flags},
        waiting=waiting,
        index=index,
    )


def _store_one(folder: Path, job: Job) -> str | None:
    """Store a scan and return why it failed, or None. Runs in a worker process."""
    try:
        prepare(folder, job)
    except OSError as error:
        if error.errno is not None and error.errno in (28, 122):  # the disk, or the quota, is full: for every scan
            raise CacheError(f"{folder}: the disk is full. Free space and run the same command again.") from error
        return f"{type(error).__name__}: {error}"
    except MedSSLError as error:
        return str(error)
    except MemoryError:
        return "There was not enough memory to read and resample it."
    except Exception as error:  # a library's surprise at one file is that file's fault, not the folder's
        return f"{job.path}: {type(error).__name__}: {error}"
    return None


def _in_turn(folder: Path, jobs: Sequence[Job]) -> Iterator[tuple[Job, str | None]]:
    for job in jobs:
        yield job, _store_one(folder, job)


def _in_parallel(folder: Path, jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, str | None]]:
    """Store scans in worker processes. When a process dies, the scans that were in hand are tried again one by one."""
    suspects: list[Job] = []
    for job, reason in _pooled(folder, jobs, workers):
        if reason is _KILLED:
            suspects.append(job)
        else:
            yield job, reason
    for job in suspects:
        yield from _pooled(folder, [job], 1)


def _pooled(folder: Path, jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, str | None]]:
    # Spawned, not forked: a fork of a process with threads (torch, BLAS) may hang, and Windows has no other way.
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker
    )
    waiting = iter(jobs)
    running: dict[Future[str | None], Job] = {}
    broken = False
    try:
        while True:
            while not broken and len(running) < 2 * workers and (job := next(waiting, None)) is not None:
                try:
                    running[pool.submit(_store_one, folder, job)] = job
                except BrokenProcessPool:
                    broken = True
                    yield job, _KILLED
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                try:
                    yield job, future.result()
                except BrokenProcessPool:
                    broken = True
                    yield job, _KILLED
        for job in waiting:
            yield job, _KILLED
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, which lets the scans in hand finish
    for name in _THREAD_VARIABLES:
        os.environ[name] = "1"
