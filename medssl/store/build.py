"""Filling a store: scan by scan, in one process or several, resumable, one bad scan never stopping the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medssl.errors import CacheError, DiskError, MedSSLError, UnfitError
from medssl.failure_notes import NOT_HERE, forget_failure, note_failure, note_name, noted_failure
from medssl.locking import held
from medssl.manifest.label_doubts import stray_values
from medssl.pool import Engine, run_jobs
from medssl.store.blocks import PART
from medssl.store.index import INDEX, SCANS, Index, Record, read_index, stem_of, write_index, write_record
from medssl.store.plan import Plan, held_record, names_in, stored_record, up_to_date
from medssl.store.prepare import Job, prepare
from medssl.store.prepare_case import prepare_case
from medssl.store.read import Store
from medssl.store.rows import Packed, line_of, statistics_rows

__all__ = ["Report", "build", "superseded"]

_OWN_SUFFIXES = (".b2nd", ".json", ".npz", PART)
_ABANDONED_AFTER_S = 3600.0
_LISTING_S = 3600.0  # a listing of a million scans takes minutes


@dataclass(frozen=True, kw_only=True)
class Report:
    """What filling a store came to.

    Attributes:
        listed: Scans in ``store.json`` now.
        written: Scans stored by this call.
        failed: Scans that could not be stored, id -> reason; those of other shards and the manifest's unreadable ones
            included.
        flags: What was noticed and mended, id -> flags.
        refused_labels: Scans that are stored without the label that they have, id -> "kind: reason".
        waiting: Scans that are left to other shards.
        index: ``store.json``.
        read: Its contents, where a shard found that nothing was to do; ``flags`` are then those of its own scans.
    """

    listed: int
    written: int
    failed: dict[str, str]
    flags: dict[str, tuple[str, ...]]
    waiting: int
    index: Path
    refused_labels: dict[str, str] = field(default_factory=dict)
    read: Index | None = None


def build(
    folder: Path,
    plan: Plan,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Bring a store to what the plan says, doing only what is not there yet.

    Args:
        folder: The store; made if absent.
        plan: What it shall hold.
        workers: Processes that store scans.
        engine: Where they run, see `medssl.pool.run_jobs`.
        shard: (index from 0, count): this call stores every count-th of the missing scans and lists all there are.
        progress: Called with a scan's id each time one is done.

    Raises:
        CacheError: The folder cannot be written to, or the disk is full.
        MissingDependencyError: Ray is asked for and not installed.
    """
    try:
        (folder / SCANS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{folder}: cannot make the store ({error.strerror}). Choose another folder.") from error
    todo = plan.missing(folder, shard)
    if not todo and shard[1] > 1 and (listed := _listed_already(folder, plan, shard)) is not None:
        return listed
    failed: dict[str, str] = {}
    written = 0
    clean = plan.nameless()
    for job, reason in _in_parallel(folder, todo, workers, engine):
        stem = stem_of(job.id, job.key)
        if reason is None and stored_record(folder, job) is None:
            failed[job.id] = NOT_HERE
        elif reason is None:
            written += 1
            forget_failure(folder / SCANS, stem)
        else:
            failed[job.id] = reason
            note_failure(folder / SCANS, stem, clean.text(reason))
        if progress is not None:
            progress(job.id)
    # Of two shards that end at once the one that writes last has read last, so what the other stored is listed too.
    with held(folder / INDEX, "medssl cache", wait_s=_LISTING_S):
        return _list(folder, plan, failed, written)


def _listed_already(folder: Path, plan: Plan, shard: tuple[int, int]) -> Report | None:
    """Return what there is to say where a shard's scans are all listed as they are, without a look at the others'.

    None where the listing has to be made again: it lacks one of them, tells otherwise of one, is of other settings or
    of another manifest.
    """
    try:
        index = read_index(folder)
    except CacheError:
        return None
    of_plan = {job.id: stem_of(job.id, job.key) for job in plan.jobs}
    store = Store(folder, index)
    ids = store.field("id")
    if any(of_plan.get(scan) != stem for scan, stem in zip(ids, store.field("stem"), strict=True)):
        return None
    told = json.loads(json.dumps(plan.described()))
    same = (index.settings, index.ignored, index.regions, index.manifest) == (
        told, plan.ignored, plan.regions, plan.pointer(folder),
    )  # fmt: skip
    unreadable = plan.nameless().value(plan.unreadable)
    if not same or any(index.failed.get(scan) != reason for scan, reason in unreadable.items()):
        return None
    if index.classes and any(index.classes.get(number) != name for number, name in plan.classes.items()):
        return None
    for scan in index.failed.keys() - unreadable.keys():  # mended since, or of earlier settings
        if scan not in of_plan or noted_failure(folder / SCANS, of_plan[scan]) is None:
            return None
    listed = {scan: place for place, scan in enumerate(ids)}
    flags: dict[str, tuple[str, ...]] = {}
    for job in plan.jobs[shard[0] :: shard[1]]:
        held_one = held_record(folder, job)
        place = listed.get(job.id)
        if held_one is None or place is None or up_to_date(held_one, job).entry != index.entries[place]:
            return None
        if held_one.flags:
            flags[job.id] = up_to_date(held_one, job).flags
    failed = {scan: reason for scan, reason in index.failed.items() if scan not in listed}
    return Report(
        listed=len(listed),
        written=0,
        failed=failed,
        flags=flags,
        waiting=len(of_plan.keys() - listed.keys() - failed.keys()),
        index=folder / INDEX,
        refused_labels=index.refused_labels,
        read=index,
    )


def superseded(folder: Path, plan: Plan) -> list[Path]:
    """Return files of the store that belong to no scan of the plan.

    They are of other settings, of sources that changed or left the manifest, or were being written when a process died.
    """
    wanted: set[str] = set()
    there = names_in(folder)
    for job in plan.jobs:
        record = held_record(folder, job, there)
        if record is not None:
            wanted |= {*(Path(file).name for file in record.checksums), f"{record.entry.stem}.json"}
        else:
            wanted.add(note_name(stem_of(job.id, job.key)))
    long_ago = time.time() - _ABANDONED_AFTER_S
    found = []
    for path in sorted((folder / SCANS).glob("*")) + sorted((folder / SCANS).glob(f".*{PART}")):
        in_hand = path.suffix == PART and _written_since(path, long_ago)
        if path.suffix in _OWN_SUFFIXES and path.name not in wanted and not in_hand:
            found.append(path)
    return sorted(set(found))


def _written_since(path: Path, then: float) -> bool:
    """Tell whether another shard may be writing a file, or has just given it its name."""
    try:
        return path.stat().st_mtime > then
    except FileNotFoundError:
        return True


def _list(folder: Path, plan: Plan, failed: dict[str, str], written: int) -> Report:
    records: list[Record] = []
    statistics: dict[str, str] = {}
    everything = dict(plan.unreadable)
    waiting = 0
    there = names_in(folder)
    for job in plan.jobs:
        written_one = held_record(folder, job, there)
        stem = stem_of(job.id, job.key)
        if written_one is not None:
            record = up_to_date(written_one, job)
            _forget_paths(folder, job, written_one, record)
            if record.statistics:
                statistics[record.entry.id] = line_of(statistics_rows(record.statistics))
            records.append(replace(record, statistics=(), checksums={}))  # they are most of a record's memory
        elif job.id in failed:
            everything[job.id] = failed[job.id]
        elif note_name(stem) in there and (reason := noted_failure(folder / SCANS, stem)) is not None:
            everything[job.id] = reason
        else:
            waiting += 1
    records = _without_strays(records, plan)
    found = {number for record in records for number in record.class_voxels if number >= 0}
    classes = {n: plan.classes.get(n, "background" if n == 0 else f"structure {n}") for n in found | set(plan.classes)}
    refused = {record.entry.id: record.label_refused for record in records if record.label_refused}
    clean = plan.nameless()
    index = write_index(
        folder,
        [record.entry for record in records],
        settings=plan.described(),
        classes=classes if found else {},
        failed=clean.value(everything),
        ignored=plan.ignored,
        regions=plan.regions,
        refused_labels=clean.value(refused),
        manifest=plan.pointer(folder),
        statistics=Packed(statistics),
    )
    return Report(
        listed=len(records),
        written=written,
        failed=everything,
        flags={record.entry.id: record.flags for record in records if record.flags},
        waiting=waiting,
        index=index,
        refused_labels=refused,
    )


def _forget_paths(folder: Path, job: Job, before: Record, record: Record) -> None:
    """Write a record anew that still names files, as those of earlier releases do."""
    if job.settings.privacy != "paths" and (before.entry.source_path or before.entry.label_path):
        write_record(folder, stem_of(job.id, job.key), record)


def _without_strays(records: list[Record], plan: Plan) -> list[Record]:
    """Leave labels with stray values out of the listing, where the manifest had not seen those values."""
    labels = {record.entry.id: record.class_voxels for record in records if record.class_voxels}
    strays = stray_values(labels, plan.classes)
    unknown = {job.id for job in plan.jobs if not job.label_counted}
    holders = {scan: value for value, scans in strays.items() for scan in scans if scan in unknown}
    listed = []
    for record in records:
        value = holders.get(record.entry.id)
        if value is not None:
            reason = (
                f"label-stray: {record.entry.label_path or record.entry.id}: The label holds the stray value "
                f"{value} in {record.class_voxels[value]} voxels. Index with depth=full to see it before it is stored."
            )
            bare = replace(record.entry, label_file=None, label_path=None)
            record = replace(record, entry=bare, class_voxels={}, label_refused=reason)
        listed.append(record)
    return listed


def _store_one(folder: Path, job: Job) -> str | None:
    """Store a scan and return why it failed, or None. Runs in a worker process."""
    try:
        (prepare_case if job.channels else prepare)(folder, job)
    except DiskError:
        raise  # no fault of the scan: it would befall every other as well
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    except UnfitError as error:
        return f"{error.kind}: {error}"
    except MedSSLError as error:
        return str(error)
    except MemoryError:
        return "There was not enough memory to read and resample it."
    except Exception as error:  # what a library raises over one file is that file's fault, not the folder's
        return f"{job.path}: {type(error).__name__}: {error}"
    return None


def _in_parallel(
    folder: Path, jobs: Sequence[Job], workers: int, engine: Engine = "processes"
) -> Iterator[tuple[Job, str | None]]:
    """Store scans and yield each with the reason why it failed, or None."""
    # Worker processes may have another working directory.
    numbered = {number: (folder.absolute(), job) for number, job in enumerate(jobs)}
    for number, reason in run_jobs(
        _store_one, numbered, workers=workers, crashed=lambda _, why: why, engine=engine, files=_count
    ):
        yield jobs[number], reason


def _count(job: tuple[Path, Job]) -> int:
    return len(job[1].paths)
