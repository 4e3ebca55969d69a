"""DICOM files of a tree to series, branch by branch, and again only where a branch has changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medssl.errors import FormatError
from medssl.manifest.labels import NO_IMAGE
from medssl.manifest.series_labels import LABEL_OBJECT, attach_labels
from medssl.manifest.sources import Source
from medssl.pool import Engine, isolated, run_jobs

__all__ = ["SET_ASIDE", "group_branch", "series_sources"]

SET_ASIDE = "set-aside"
Rows = Mapping[tuple[str, ...], Mapping[str, Any]]


def series_sources(
    files: Sequence[Path],
    root: Path,
    *,
    old: Rows,
    marks: Mapping[str, str],
    workers: int,
    engine: Engine = "processes",
) -> tuple[list[Source], dict[str, str]]:
    """Group DICOM files to series.

    A branch is a folder where the tree first divides: usually a patient. Branches are read in parallel; a series whose
    slices lie in several is joined afterwards, and labels (SEG, RTSTRUCT) are set where the series is that they mean.

    Args:
        files: All DICOM files.
        root: Where the walk began.
        old: Rows of an earlier manifest by their files.
        marks: Branch -> mark of its files, of the earlier run.
        workers: Processes.
        engine: Where they run.

    Returns:
        The sources, sorted, and the marks for the next run.
    """
    branch_of = _branches(files)
    branches: defaultdict[str, list[Path]] = defaultdict(list)
    for path, name in branch_of.items():
        branches[name].append(Path(path))
    new_marks = {name: _mark(paths) for name, paths in branches.items()}
    same = {name for name, mark in new_marks.items() if marks.get(name) == mark}
    kept = _unchanged(branch_of, old, same - _unsettled(branch_of, old))
    sources: list[Source] = []
    labels: set[str] = set()
    for key, row in old.items():
        if any(path in branch_of for path in key) and all(branch_of.get(path) in kept for path in key):
            sources.append(_source_of_row(row, root))
            if row["label_path"] in branch_of:
                labels.add(row["label_path"])
    sources += [_label_source(Path(path), root) for path in sorted(labels)]
    jobs = {n: (paths, root) for n, (name, paths) in enumerate(branches.items()) if name not in kept}
    for number, found in run_jobs(
        group_branch, jobs, workers=workers, crashed=lambda _, why: why, engine=engine, files=lambda job: len(job[0])
    ):
        sources += _without_culprits(jobs[number][0], root, found) if isinstance(found, str) else found
    sources = attach_labels(_joined(sources, root))
    return sorted(sources, key=lambda source: (source.relative, source.paths)), new_marks


def group_branch(paths: Sequence[Path], root: Path) -> list[Source]:
    """Group files to series; damaged files and objects that are no volumes become sources with a reason.

    Labels become sources with the flag ``LABEL_OBJECT``, until their series is known.

    Args:
        paths: The files.
        root: Where the walk began.
    """
    from medssl.formats.dicom import LabelObjectError, SetAsideError, group_files

    series, errors = group_files(paths)
    sources = [
        Source(
            path=one.header.path,
            paths=one.header.paths,
            relative=_relative(one.header.path, root),
            series=_series_of(one.header.fields),
            frame_of_reference=one.header.fields.get("frame_of_reference", ""),
            part=f"{one.part}\t{one.slug}" if one.part else "",
            **_contrast(one.header.fields),
        )
        for one in series
    ]
    for error in errors:
        if isinstance(error, LabelObjectError):
            sources.append(_label_source(error.path, root))
            continue
        aside = isinstance(error, SetAsideError)
        sources.append(
            Source(
                path=error.path,
                paths=error.paths if isinstance(error, SetAsideError) else (),
                relative=_relative(error.path, root),
                flags=(SET_ASIDE,) if aside else (),
                error=error.reason,
            )
        )
    return sources


def _label_source(path: Path, root: Path) -> Source:
    why = "It is a label, and its scan was not looked for."
    return Source(path=path, relative=_relative(path, root), flags=(LABEL_OBJECT,), error=why)


def _series_of(fields: Mapping[str, str]) -> str:
    if not fields.get("series"):
        return ""
    return "/".join(fields.get(name, "") for name in ("patient", "study", "series"))


def _branches(files: Sequence[Path]) -> dict[str, str]:
    if not files:
        return {}
    common = Path(os.path.commonpath([str(path.parent) for path in files]))
    branch_of = {}
    for path in files:
        inside = path.relative_to(common).parts
        branch_of[str(path)] = str(common / inside[0]) if len(inside) > 1 else str(common)
    return branch_of


def _unchanged(branch_of: Mapping[str, str], old: Rows, same: set[str]) -> set[str]:
    """Return the branches whose rows may be kept: unchanged, and sharing no series or label with one that changed."""
    kept = set(same)
    # A label that is a DICOM file lies in a branch; one that is gone may have.
    files = [
        (*key, *([row["label_path"]] if row["label_path"] in branch_of else []), *_lost_label(row))
        for key, row in old.items()
    ]
    while True:
        lost: set[str] = set()
        for key in files:
            touched = {branch_of[path] for path in key if path in branch_of}
            if touched and (not touched <= kept or any(path not in branch_of for path in key)):
                lost |= touched & kept
        if not lost:
            return kept
        kept -= lost


def _lost_label(row: Mapping[str, Any]) -> list[str]:
    return [row["label_path"]] if row["label_path"] and not Path(row["label_path"]).exists() else []


def _unsettled(branch_of: Mapping[str, str], old: Rows) -> set[str]:
    """Return the branches with labels that had no scan, or one of several: what is new elsewhere may settle them."""
    found = set()
    for row in old.values():
        path = str(row["path"] if NO_IMAGE in row["flags"] else row["label_path"])
        if path in branch_of and (NO_IMAGE in row["flags"] or "several-labels" in row["flags"]):
            found.add(branch_of[path])
    return found


def _joined(sources: Sequence[Source], root: Path) -> list[Source]:
    """Group series that were found in several branches once more, over all of their files."""
    homes: defaultdict[str, list[Source]] = defaultdict(list)
    for source in sources:
        if source.series:
            homes[source.series].append(source)
    result = [source for source in sources if not source.series]
    for group in homes.values():
        folders = {source.path for source in group}
        if len(group) > 1 and len(folders) > 1:
            paths = [path for source in group for path in source.paths]
            try:
                result += isolated(group_branch, paths, root)
            except FormatError as error:
                result += _without_culprits(paths, root, error.reason)
        else:
            result += group
    return result


def _mark(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}\n".encode())
        except OSError as error:
            digest.update(f"{path}\0{error.errno}\n".encode())
    return digest.hexdigest()


def _source_of_row(row: Mapping[str, Any], root: Path) -> Source:
    path = Path(row["path"])
    if row["error"] is not None:
        flags = tuple(flag for flag in row["flags"] if flag == SET_ASIDE)
        paths = tuple(Path(name) for name in row["paths"]) if SET_ASIDE in flags else ()
        return Source(path=path, paths=paths, relative=_relative(path, root), flags=flags, error=row["error"])
    fields = json.loads(row["fields"] or "{}")
    return Source(
        path=path,
        paths=tuple(Path(name) for name in row["paths"]),
        relative=_relative(path, root),
        series=_series_of(fields),
        frame_of_reference=fields.get("frame_of_reference", ""),
        part=fields.get("part", ""),
        **_contrast(fields),
    )


def _contrast(fields: Mapping[str, str]) -> dict[str, Any]:
    return {"channel": fields.get("contrast", ""), "channel_rule": fields.get("contrast_rule", "")}


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _without_culprits(paths: Sequence[Path], root: Path, why: str) -> list[Source]:
    """Group files at which a process died once more, without those that it died of, which are named.

    Args:
        paths: The files.
        root: Where the walk began.
        why: What happened to the process.
    """
    jobs = {number: (path,) for number, path in enumerate(paths)}
    culprits = {
        paths[number]: reason
        for number, reason in run_jobs(_looked_at, jobs, workers=1, crashed=lambda _, reason: reason)
        if reason
    }
    sources = [
        Source(path=path, relative=_relative(path, root), error=reason) for path, reason in sorted(culprits.items())
    ]
    rest = [path for path in paths if path not in culprits]
    if not culprits:  # each alone is survived, and all together are not
        return [Source(path=paths[0], paths=tuple(paths), relative=_relative(paths[0], root), error=why)]
    try:
        return sources + (isolated(group_branch, rest, root) if rest else [])
    except FormatError as error:
        return [
            *sources,
            Source(path=rest[0], paths=tuple(rest), relative=_relative(rest[0], root), error=error.reason),
        ]


def _looked_at(path: Path) -> str:
    """Read a file's header for nothing but to see whether that is survived."""
    from medssl.formats.dicom_slices import read_slices

    with suppress(FormatError):  # grouping names it
        read_slices(path)
    return ""
