"""Making a manifest of a folder: found, read in parallel, and read again only where something changed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.manifest.assemble import assemble, give_splits
from medssl.manifest.describe import describe, size_and_time
from medssl.manifest.patients import compiled_pattern
from medssl.manifest.schema import COLUMNS, Manifest, manifest_of_rows
from medssl.manifest.sources import Source
from medssl.manifest.walk import dicom_sources, find_scans

__all__ = ["Counts", "build_manifest"]

Progress = Callable[[int, int], None]
_CRASHED = "The process that read it died: the file is damaged in a way the reader does not survive, or memory ran out."


@dataclass(frozen=True)
class Counts:
    """What a run did.

    Attributes:
        read: Scans that were read.
        reused: Scans whose files had not changed.
        gone: Scans of the earlier manifest that are no longer there.
    """

    read: int
    reused: int
    gone: int


def build_manifest(
    scans: Path,
    *,
    previous: Manifest | None = None,
    depth: str = "full",
    workers: int = 1,
    modality: str = "",
    patient_pattern: str = "",
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Manifest, Counts]:
    """Describe every scan of a folder.

    Args:
        scans: A folder, one scan, or a CSV that lists scans.
        previous: What an earlier run found. Rows whose files have the same size and time of change are kept; scans
            that could not be read are tried again.
        depth: "full", or "header" to read no voxels.
        workers: Processes that read; 1 reads in this one.
        modality: What all scans are, where the user knows better.
        patient_pattern: Regular expression that finds the patient's key in a path.
        val: Share of patients for validation.
        test: Share of patients for testing.
        seed: Seed of the split.
        progress: Called with (scans done, scans in all).

    Raises:
        ConfigError: The pattern is no regular expression, or the shares leave nothing to train on.
        ManifestError: There is no such folder, or the CSV lists no paths.
    """
    pattern = compiled_pattern(patient_pattern)
    scans = Path(scans).absolute()
    found, tree = find_scans(scans)
    old = {tuple(row["paths"]): row for row in previous.rows()} if previous else {}
    marks = previous.settings.get("dicom", {}) if previous else {}
    series, marks = _series(tree.dicom, tree.root, old, marks, workers)
    sources = [*found.sources, *series]
    kept: dict[int, Mapping[str, Any]] = {}
    for place, source in enumerate(sources):
        row = old.get(tuple(str(p) for p in source.paths or (source.path,)))
        if row is not None and _unchanged(source, row, depth):
            kept[place] = {name: row[name] for name in COLUMNS}
    fresh = [place for place in range(len(sources)) if place not in kept]
    facts: dict[int, Mapping[str, Any]] = dict(kept)
    if progress:
        progress(len(kept), len(sources))
    for place, row in _map(describe, {place: (sources[place], depth) for place in fresh}, workers, _crashed):
        facts[place] = row
        if progress:
            progress(len(facts), len(sources))
    rows = assemble([(source, facts[i]) for i, source in enumerate(sources)], modality=modality, pattern=pattern)
    split = {"val": val, "test": test, "seed": seed}
    known: dict[str, str] = {}
    if previous and previous.settings.get("split") == split:
        known = {row["patient"]: row["split"] for row in previous.rows() if row["split"]}
    give_splits(rows, val=val, test=test, seed=seed, known=known)
    manifest = manifest_of_rows(
        rows,
        classes=found.classes,
        notes=found.notes,
        root=str(tree.root),
        settings={"split": split, "depth": depth, "layout": found.layout, "dicom": marks},
    )
    present = {tuple(row["paths"]) for row in manifest.rows()}
    return manifest, Counts(read=len(fresh), reused=len(kept), gone=len(set(old) - present))


def _unchanged(source: Source, row: Mapping[str, Any], depth: str) -> bool:
    if row["error"] is not None or source.error is not None or (depth == "full" and row["content_hash"] is None):
        return False
    label = str(source.label_path) if source.label_path else None
    if label != row["label_path"]:
        return False
    try:
        same = size_and_time(source.paths or (source.path,)) == (row["size_bytes"], row["mtime_ns"])
        if source.label_path:
            same &= size_and_time([source.label_path]) == (row["label_size_bytes"], row["label_mtime_ns"])
    except OSError:
        return False
    return same


def _series(
    files: Sequence[Path],
    root: Path,
    old: Mapping[tuple[str, ...], Mapping[str, Any]],
    marks: Mapping[str, str],
    workers: int,
) -> tuple[list[Source], dict[str, str]]:
    """Group DICOM files to series, one branch of the tree after the other; branches that did not change are kept.

    Returns:
        The sources, and for each branch a mark of its files that the next run compares.
    """
    branches: defaultdict[str, list[Path]] = defaultdict(list)
    common = Path(os.path.commonpath([str(path.parent) for path in files])) if files else root
    for path in files:
        inside = path.relative_to(common).parts
        branches[str(common / inside[0]) if len(inside) > 1 else str(common)].append(path)
    new_marks = {name: _mark(paths) for name, paths in branches.items()}
    sources: list[Source] = []
    todo: dict[int, tuple[Sequence[Path], Path]] = {}
    for place, (name, paths) in enumerate(branches.items()):
        if marks.get(name) != new_marks[name]:
            todo[place] = (paths, root)
            continue
        inside_branch = {str(path) for path in paths}
        sources += [_source_of(row, root) for key, row in old.items() if inside_branch.issuperset(key)]
    for _, found in _map(dicom_sources, todo, workers, _crashed_branch):
        sources += found
    return _rejoined(sources, root), new_marks


def _rejoined(sources: list[Source], root: Path) -> list[Source]:
    """Return the sources as they are: branches are whole patients, studies or series by every usual export."""
    return sorted(sources, key=lambda source: (source.relative, source.paths))


def _mark(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError as error:
            digest.update(f"{path}\0{error.errno}\n".encode())
    return digest.hexdigest()


def _source_of(row: Mapping[str, Any], root: Path) -> Source:
    path = Path(row["path"])
    relative = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    if row["error"] is not None:
        flags = tuple(flag for flag in row["flags"] if flag == "set-aside")
        return Source(path=path, relative=relative, flags=flags, error=row["error"])
    return Source(path=path, paths=tuple(Path(p) for p in row["paths"]), relative=relative)


def _crashed(job: tuple[Any, ...]) -> dict[str, Any]:
    from dataclasses import replace

    return describe(replace(job[0], error=_CRASHED))


def _crashed_branch(job: tuple[Any, ...]) -> list[Source]:
    paths, root = job
    first = paths[0]
    return [Source(path=first, relative=first.relative_to(root).as_posix(), error=_CRASHED)]


def _map(
    work: Callable[..., Any],
    jobs: Mapping[int, tuple[Any, ...]],
    workers: int,
    crashed: Callable[[tuple[Any, ...]], Any],
) -> Iterator[tuple[int, Any]]:
    """Do the jobs and yield (number, result) as they end; a job that kills its process yields ``crashed(job)``."""
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
        # One file killed a worker and took the pool along. Those left go on alone, so that only the culprit is lost.
        for number, job in left.items():
            try:
                yield from _pooled(work, {number: job}, 1)
            except BrokenProcessPool:
                yield number, crashed(job)


def _pooled(work: Callable[..., Any], jobs: Mapping[int, tuple[Any, ...]], workers: int) -> Iterator[tuple[int, Any]]:
    # Spawned, not forked: readers start threads, and a fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: dict[Future[Any], int] = {}
        queue = iter(jobs.items())
        while True:
            # A few jobs ahead, not all: a broken pool then loses little, and the queue stays small.
            while len(waiting) < 4 * workers and (item := next(queue, None)) is not None:
                waiting[pool.submit(work, *item[1])] = item[0]
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
