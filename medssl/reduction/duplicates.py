"""Copies in a folder of scans, from reading to the list of what could be left out. Nothing is deleted.

Names and results are those that `imagededup` has made known: ``find_duplicates`` and ``find_duplicates_to_remove``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import MedSSLError
from medssl.formats.scan import Scan
from medssl.reduction.candidates import RADIUS, Candidate, candidates, search_recall
from medssl.reduction.fingerprint import Target, read_target, targets_of
from medssl.reduction.groups import Groups, lead
from medssl.reduction.index import Index, make_fingerprints, read_index
from medssl.reduction.neighbours import Pairs
from medssl.reduction.verify import Verdict, verify
from medssl.writing import written_aside

__all__ = ["Found", "Match", "find_copies", "find_duplicates", "find_duplicates_to_remove", "groups_of", "write_pairs"]

_SCANS_IN_MEMORY = 4


@dataclass(frozen=True, kw_only=True)
class Match:
    """A candidate pair that was looked at.

    Attributes:
        first: Id.
        second: Id.
        candidate: What proposed it.
        verdict: What looking came to.
    """

    first: str
    second: str
    candidate: Candidate
    verdict: Verdict


@dataclass(frozen=True)
class Found:
    """What a search for copies came to.

    Attributes:
        matches: Every pair that was looked at, sorted by ids; different ones included.
        groups: Who stands for whom: copies only, and of these the scan with the most voxels.
        failures: id -> why it could not be looked at.
        recall: Share of planted pairs that the search for near hashes found; 1 where it was exact.
    """

    matches: tuple[Match, ...]
    groups: Groups
    failures: dict[str, str]
    recall: float


def find_copies(
    index: Index,
    targets: dict[str, Target],
    *,
    radius: int = RADIUS,
    turned: bool = True,
    patients: dict[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Look at every candidate pair of an index.

    Args:
        index: Fingerprints.
        targets: id -> where its scan lies.
        radius: Differing bits of 511 up to which hashes propose a pair.
        turned: Propose flipped, swapped and negated copies as well.
        patients: id -> patient; scans of one patient are told as such where they are no copies.
        progress: Called with (pairs done, pairs in all).
    """
    proposed = candidates(index, radius=radius, turned=turned)
    owner = patients or {}
    failures = {one.id: one.reason for one in index.failures}
    cache: dict[str, Scan] = {}
    matches = []
    for done, one in enumerate(proposed, 1):
        first, second = index.fingerprints[one.first], index.fingerprints[one.second]
        same_patient = first.id in owner and owner[first.id] == owner.get(second.id)
        scans = None
        if first.file_hash != second.file_hash and first.content_hash != second.content_hash:
            scans = _both(targets[first.id], targets[second.id], cache, failures)
        verdict = verify(first, second, scans, variant=one.variant, same_patient=same_patient)
        matches.append(Match(first=first.id, second=second.id, candidate=one, verdict=verdict))
        if progress:
            progress(done, len(proposed))
    matches.sort(key=lambda match: (match.first, match.second))
    return Found(tuple(matches), groups_of(index, matches), failures, search_recall(index, radius=radius))


def groups_of(index: Index, matches: list[Match]) -> Groups:
    """Return who stands for whom among copies; 1 - score is the distance, and more voxels go before fewer."""
    place = {name: number for number, name in enumerate(index.ids)}
    copies = [match for match in matches if match.verdict.level.is_copy]
    first = np.array([place[match.first] for match in copies], dtype=np.int64)
    second = np.array([place[match.second] for match in copies], dtype=np.int64)
    distance = np.array([1.0 - match.verdict.agreement.score for match in copies], dtype=np.float64)
    worth = [float(np.prod(one.shape)) for one in index.fingerprints]
    return lead(index.ids, Pairs(first, second, distance), worth=worth)


def find_duplicates(
    scans: str | Path,
    *,
    work_dir: str | Path,
    max_distance_threshold: int = RADIUS,
    scores: bool = False,
    outfile: str | Path | None = None,
    workers: int = 1,
    turned: bool = True,
) -> dict[str, list[Any]]:
    """Return for every scan of a folder the scans that are copies of it: of its file, its array or its image.

    Args:
        scans: A folder, or a CSV that lists scans.
        work_dir: Where fingerprints are kept; a second call reads only what changed.
        max_distance_threshold: Differing bits of 511 up to which a pair is looked at. What is looked at and turns out
            to be another image is not in the result, unlike in `imagededup`.
        scores: Give (id, score) with the correlation of the detail, 1 for equal arrays, in place of ids.
        outfile: A JSON file for the result.
        workers: Processes that read.
        turned: Look for flipped, swapped and negated copies as well.

    Returns:
        id -> ids, or (id, score); [] where there is none. Scans that cannot be read are left out.

    Raises:
        ManifestError: There is no such folder.
        CacheError: ``work_dir`` cannot be written to.
    """
    found = _searched(scans, Path(work_dir), max_distance_threshold, workers, turned)
    result: dict[str, list[Any]] = {name: [] for name in found.groups.ids}
    for match in found.matches:
        if match.verdict.level.is_copy:
            score = round(match.verdict.agreement.score, 4)
            result[match.first].append((match.second, score) if scores else match.second)
            result[match.second].append((match.first, score) if scores else match.first)
    result = {name: sorted(copies) for name, copies in sorted(result.items())}
    _write_json(result, outfile)
    return result


def find_duplicates_to_remove(
    scans: str | Path,
    *,
    work_dir: str | Path,
    max_distance_threshold: int = RADIUS,
    outfile: str | Path | None = None,
    workers: int = 1,
    turned: bool = True,
) -> list[str]:
    """Return the ids that could be left out: each is a copy of a scan that is kept, the one with the most voxels.

    Arguments are those of `find_duplicates`.
    """
    found = _searched(scans, Path(work_dir), max_distance_threshold, workers, turned)
    result = sorted(found.groups.removed)
    _write_json(result, outfile)
    return result


def write_pairs(found: Found, path: str | Path) -> None:
    """Write every pair that was looked at as CSV, ``from,to,distance,level,score,how,variant``.

    ``distance`` is that of the hashes, 0 to 1.
    """
    with written_aside(Path(path)) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["from", "to", "distance", "level", "score", "how", "variant"])
        for one in found.matches:
            seen, variant = one.verdict.agreement, one.verdict.variant.name()
            numbers = f"{one.candidate.distance:.4f}", one.verdict.level.value, f"{seen.score:.4f}"
            rows.writerow([one.first, one.second, *numbers, one.candidate.how, variant])


def _searched(scans: str | Path, work_dir: Path, radius: int, workers: int, turned: bool) -> Found:
    from medssl.manifest.build import build_manifest

    manifest, _ = build_manifest(Path(scans), depth="header", workers=workers)
    rows = list(manifest.rows())
    targets = targets_of(rows)
    make_fingerprints(targets, work_dir, workers=workers)
    index = read_index(work_dir)
    by_id = {target.id: target for target in targets}
    # A scan without a patient's name stands under its own id, and so is nobody else's.
    return find_copies(index, by_id, radius=radius, turned=turned, patients={row["id"]: row["patient"] for row in rows})


def _both(first: Target, second: Target, cache: dict[str, Scan], failures: dict[str, str]) -> tuple[Scan, Scan] | None:
    """Read both scans, or take them from the few that are in memory; None where one has gone bad since its pass."""
    scans = []
    for target in (first, second):
        if target.id not in cache:
            try:
                scan = read_target(target)
            except (MedSSLError, OSError) as error:
                failures[target.id] = str(error)
                return None
            if len(cache) >= _SCANS_IN_MEMORY:
                oldest = next(name for name in cache if name != first.id)
                del cache[oldest]
            cache[target.id] = scan
        scans.append(cache[target.id])
    return scans[0], scans[1]


def _write_json(result: Any, outfile: str | Path | None) -> None:
    if outfile is not None:
        with written_aside(Path(outfile)) as aside:
            aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
