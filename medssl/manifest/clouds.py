"""Point clouds among the files of a tree: which files they are, whose class and split they have, and their rows.

Reading clouds is no business of this package: who builds a manifest hands in a `CloudReader`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medssl.manifest.freshness import same_bytes, stamps_of, state_of
from medssl.manifest.schema import COLUMNS
from medssl.manifest.sources import Source
from medssl.pool import Engine, run_jobs

__all__ = ["CRASHED", "Claim", "CloudReader", "Placed", "cloud_pairs", "cloud_sources"]

Claim = Literal["cloud", "other", "damaged"]
CRASHED = "The process that read it died: the file is damaged in a way the reader does not survive, or memory ran out."
Pair = tuple[Source, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What the folders say of a cloud; "" where they say nothing.

    Attributes:
        group: Its class.
        split: "train", "val" or "test".
        patient: Whose it is.
    """

    group: str = ""
    split: str = ""
    patient: str = ""


@dataclass(frozen=True, kw_only=True)
class CloudReader:
    """What a package of point clouds does for an index.

    Attributes:
        claim: Whether a file is a cloud, judged by its name and its first bytes: "damaged" is a file of a format that
            clouds come in and that cannot be opened; it is taken for a cloud only where others lie in the tree.
        arrange: (paths as seen from the root) -> path -> what its folders say.
        describe: (source, depth) -> a source and its facts for every cloud of the file; never raises.
        settings: What rows depend on besides their files; where it changes, clouds are read again.
    """

    claim: Callable[[Path], Claim]
    arrange: Callable[[Sequence[str]], Mapping[str, Placed]]
    describe: Callable[[Source, str], list[tuple[Source, dict[str, Any]]]]
    settings: Mapping[str, Any]


def cloud_sources(files: Mapping[str, Path], reader: CloudReader) -> list[Source]:
    """Return a source for every file of clouds.

    Args:
        files: Path as seen from the root -> file.
        reader: Who reads clouds.
    """
    placed = reader.arrange(sorted(files))
    sources = []
    for name, path in sorted(files.items()):
        said = placed[name]
        sources.append(
            Source(path=path, relative=name, kind="cloud", group=said.group, split=said.split, patient=said.patient)
        )
    return sources


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
    by_file: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in old:
        if row["kind"] == "cloud":
            by_file[row["path"]].append(row)
    pairs: dict[int, list[Pair]] = {}
    for place, source in enumerate(sources):
        rows = by_file.get(str(source.path), [])
        if rows and source.error is None and _unchanged(rows, depth, verify):
            kept = [{name: row[name] for name in COLUMNS} | _stamps(row) for row in rows]
            pairs[place] = [(_source_of(source, row), row) for row in kept]
    reused = sum(map(len, pairs.values()))
    done(len(pairs))
    jobs = {place: (reader.describe, source, depth) for place, source in enumerate(sources) if place not in pairs}
    for place, found in run_jobs(_describe, jobs, workers=workers, crashed=_crashed, engine=engine):
        pairs[place] = found
        done(len(pairs))
    return [pair for place in sorted(pairs) for pair in pairs[place]], reused


def _describe(describe: Callable[[Source, str], list[Pair]], source: Source, depth: str) -> list[Pair]:
    return describe(source, depth)


def _crashed(job: tuple[Any, ...]) -> list[Pair]:
    describe, source, depth = job
    found: list[Pair] = describe(replace(source, error=CRASHED), depth)
    return found


def _unchanged(rows: Sequence[Mapping[str, Any]], depth: str, verify: bool) -> bool:
    if any(row["error"] is not None or (depth == "full" and row["content_hash"] is None) for row in rows):
        return False
    state = state_of(rows[0])
    if state == "changed":
        return False
    return same_bytes(rows[0]) if state == "ask" or (verify and rows[0]["file_hash"]) else True


def _stamps(row: Mapping[str, Any]) -> dict[str, int]:
    """Return the stamps to keep: as they are now, where the row has any."""
    return {} if row["ctime_ns"] is None else stamps_of(row)


def _source_of(source: Source, row: Mapping[str, Any]) -> Source:
    """Return the source of one cloud of a file, as the reader made it when the file was read."""
    import json

    said = json.loads(row["fields"] or "{}")
    return replace(source, relative=said.get("relative", source.relative))
