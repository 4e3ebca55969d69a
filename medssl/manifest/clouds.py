"""Point clouds among the files of a tree: which files they are, whose class and split they have, and their rows.

Reading clouds is no business of this package: who builds a manifest hands in a `CloudReader`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from medssl.manifest.freshness import same_bytes, stamps_of, state_of
from medssl.manifest.sources import Found, Source
from medssl.pool import Engine, run_jobs

__all__ = [
    "Arranged",
    "Claim",
    "CloudReader",
    "Placed",
    "cloud_pairs",
    "cloud_sources",
    "listed_clouds",
]

Claim = Literal["cloud", "other", "damaged"]
Pair = tuple[Source, Mapping[str, Any]]
CLASS = "class"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What the names around a cloud say of it; "" or empty where they say nothing.

    Attributes:
        group: Its class.
        split: "train", "val" or "test".
        patient: Whose it is: a patient, an object, or the scene that it was taken of.
        members: The same for each cloud of a file of several; one alone is that of all, each with its number behind.
        label: The file, or folder of files, with the classes of its points, as seen from the root.
        how: How that is read; see `Source.label_how`.
        names: Number -> name of the classes of whole clouds, where the file numbers them.
    """

    group: str = ""
    split: str = ""
    patient: str = ""
    members: tuple[str, ...] = ()
    label: str = ""
    how: str = ""
    names: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Arranged:
    """What was understood of all clouds of a tree.

    Attributes:
        placed: Path as seen from the root -> what is known of it; files that belong to another cloud are not in it.
        understood: Sentences for a person: scenes, split, labels, and what was guessed.
        findings: (severity, kind, what, what to do) of the tree as a whole, for `check`.
        parts: Number -> name of the classes of points.
        accounted: Files that are no clouds and that were read, or that a sentence counts; the others are passed over.
    """

    placed: Mapping[str, Placed] = field(default_factory=dict)
    understood: tuple[str, ...] = ()
    findings: tuple[tuple[str, str, str, str], ...] = ()
    parts: Mapping[int, str] = field(default_factory=dict)
    accounted: frozenset[str] = frozenset()

    def kept(self) -> dict[str, Any]:
        """Return what a manifest keeps of it, as JSON can hold it; empty where nothing was understood."""
        said = {
            "understood": list(self.understood),
            "findings": [list(finding) for finding in self.findings],
            "parts": {str(number): name for number, name in sorted(self.parts.items())},
        }
        return said if any(said.values()) else {}


@dataclass(frozen=True, kw_only=True)
class CloudReader:
    """What a package of point clouds does for an index.

    Attributes:
        claim: Whether a file is a cloud, judged by its name and its first bytes: "damaged" is a file of a format that
            clouds come in and that cannot be opened; it is taken for a cloud only where others lie in the tree.
        arrange: (clouds, other files, root) -> what is understood of the clouds; paths are as seen from the root.
        describe: (source, depth) -> a source and its facts for every cloud of the file; never raises.
        settings: What rows depend on besides their files; where it changes, clouds are read again.
    """

    claim: Callable[[Path], Claim]
    arrange: Callable[[Sequence[str], Sequence[str], Path | None], Arranged]
    describe: Callable[[Source, str], list[tuple[Source, dict[str, Any]]]]
    settings: Mapping[str, Any]


def cloud_sources(
    clouds: Sequence[Path], beside: Sequence[Path], root: Path, reader: CloudReader
) -> tuple[list[Source], Arranged]:
    """Return a source for every file of clouds that is not a part of another, and what was understood of all.

    Args:
        clouds: Files of clouds.
        beside: Files that are none: labels, lists, and whatever else lies there.
        root: The folder that paths are seen from.
        reader: Who reads clouds.
    """
    files = {_relative(path, root): path for path in clouds}
    others = sorted(_relative(path, root) for path in beside)
    arranged = reader.arrange(sorted(files), others, root)
    sources = [_source(name, files[name], root, said) for name, said in sorted(arranged.placed.items())]
    return sources, arranged


def listed_clouds(found: Found, reader: CloudReader | None) -> Found:
    """Say of every cloud of a CSV of what scene it is, where the CSV names no patient."""
    alone = [source.relative for source in found.sources if source.kind == "cloud" and not source.patient]
    if reader is None or not alone:
        return found
    # What all absolute paths begin with tells no scene from another, but for sequences/, which says what is below it.
    folders = [PurePosixPath(name).parts[:-1] for name in alone]
    shared = 0
    if all(PurePosixPath(name).is_absolute() for name in alone):
        shared = next((n for n, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1), 0)
        shared -= shared > 0 and folders[0][shared - 1].lower() in {"sequences", "sequence"}
    short = {name: "/".join(PurePosixPath(name).parts[shared:]) for name in alone}
    arranged = reader.arrange(sorted(short.values()), (), None)
    sources = [
        replace(source, patient=arranged.placed[short[source.relative]].patient, patient_rule="")
        if source.relative in short and short[source.relative] in arranged.placed
        else source
        for source in found.sources
    ]
    lines = tuple(line for line in arranged.understood if "scene" in line or "stay whole" in line)
    return replace(found, sources=tuple(sources), of_clouds=Arranged(understood=lines).kept())


def _source(name: str, path: Path, root: Path, said: Placed) -> Source:
    return Source(
        path=path,
        relative=name,
        kind="cloud",
        group=said.group,
        split=said.split,
        patient=said.patient,
        members=said.members,
        label_path=root / said.label if said.label else None,
        label_how=said.how,
        structures=said.names,
    )


def _relative(path: Path, root: Path) -> str:
    return PurePosixPath(path.relative_to(root)).as_posix() if path.is_relative_to(root) else path.name


def cloud_pairs(
    sources: Sequence[Source],
    reader: CloudReader,
    *,
    old: Sequence[Mapping[str, Any]],
    depth: str,
    workers: int,
    engine: Engine,
    done: Callable[[int], None],
    verify: bool = False,
) -> tuple[list[Pair], int]:
    """Describe the clouds of files, and take what an earlier manifest says of files that have not changed.

    Args:
        sources: One a file.
        reader: Who reads clouds.
        old: Rows of the earlier manifest.
        depth: "full", or "header" to make no hashes.
        workers: Processes that read.
        engine: Where they run.
        done: Called with the number of files that are done so far.
        verify: Compare the bytes of every file, whatever the file system says.

    Returns:
        A source and its facts for every cloud, and how many of them were kept.
    """
    from medssl.manifest.columns import COLUMNS  # a table library, which processes that read do without

    by_file: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in old:
        if row["kind"] == "cloud":
            by_file[row["path"]].append(row)
    pairs: dict[int, list[Pair]] = {}
    for place, source in enumerate(sources):
        rows = by_file.get(str(source.path), [])
        if rows and source.error is None and _unchanged(source, rows, depth, verify):
            pairs[place] = [_kept(source, {name: row[name] for name in COLUMNS} | _stamps(row)) for row in rows]
    reused = sum(map(len, pairs.values()))
    done(len(pairs))
    jobs = {place: (reader.describe, source, depth) for place, source in enumerate(sources) if place not in pairs}
    for place, found in run_jobs(_describe, jobs, workers=workers, crashed=_crashed, engine=engine):
        pairs[place] = found
        done(len(pairs))
    return [pair for place in sorted(pairs) for pair in pairs[place]], reused


def _describe(describe: Callable[[Source, str], list[Pair]], source: Source, depth: str) -> list[Pair]:
    return describe(source, depth)


def _crashed(job: tuple[Any, ...], why: str) -> list[Pair]:
    describe, source, depth = job
    found: list[Pair] = describe(replace(source, error=why), depth)
    return found


def _unchanged(source: Source, rows: Sequence[Mapping[str, Any]], depth: str, verify: bool) -> bool:
    if any(row["error"] is not None or (depth == "full" and row["content_hash"] is None) for row in rows):
        return False
    first = rows[0]
    label = str(source.label_path) if source.label_path else None
    said = json.loads(first["fields"] or "{}")
    if label != first["label_path"] or said.get("label_how", "") != source.label_how:
        return False
    if said.get("classes", []) != [list(pair) for pair in source.structures]:
        return False
    if len(source.members) > 1 and any(_owner(row) != source.members[row["item"]] for row in rows):
        return False
    state = state_of(first)
    if state == "changed":
        return False
    return same_bytes(first) if state == "ask" or (verify and first["file_hash"]) else True


def _stamps(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the stamps to keep: as they are now, where the row has any."""
    return {} if row["ctime_ns"] is None else stamps_of(row)


def _owner(row: Mapping[str, Any]) -> str:
    return str(json.loads(row["fields"] or "{}").get("patient", ""))


def _kept(source: Source, row: dict[str, Any]) -> Pair:
    """Return a cloud of a file as it was read, with what the folders say now: more files may have come to lie there."""
    from medssl.manifest.targets import targets_of

    said = json.loads(row["fields"] or "{}")
    own = said.get("own", {})
    patient = own.get("patient") or source.patient
    mine = replace(source, relative=said.get("relative", source.relative), patient=patient)
    group, targets = own.get("group") or source.group, targets_of(row)
    if targets.get(CLASS) == said.get("group", ""):
        targets.pop(CLASS, None)
        row["targets"] = json.dumps({**({CLASS: group} if group else {}), **targets}) if group or targets else None
    said |= {"group": group, "patient": patient}
    row["fields"] = json.dumps({name: value for name, value in said.items() if value}, sort_keys=True)
    return replace(mine, group=group), row
