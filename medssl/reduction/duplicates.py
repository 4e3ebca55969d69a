"""Copies in a folder of scans, from reading to the list of what could be left out. Nothing is deleted.

Names and results are those that `imagededup` has made known: ``find_duplicates`` and ``find_duplicates_to_remove``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medssl.pool import Engine
from medssl.reduction.candidates import RADIUS, Candidate, propose, search_recall
from medssl.reduction.compare_pairs import JOURNAL, Pair, compare_pairs
from medssl.reduction.fingerprint import Target, targets_of
from medssl.reduction.groups import Groups, lead
from medssl.reduction.hashes import BITS, Variant, distance
from medssl.reduction.index import Index, make_fingerprints, read_index
from medssl.reduction.neighbours import Pairs, joined
from medssl.reduction.point_votes import MANY_ALIKE
from medssl.reduction.verify import SAME_VALUES, Level, Verdict, verify
from medssl.reduction.worth import keep_priority
from medssl.spreadsheet import csv_text
from medssl.writing import atomic_write

__all__ = [
    "Found",
    "Match",
    "find_copies",
    "find_duplicates",
    "find_duplicates_to_remove",
    "groups_of",
    "kernels_of",
    "pairs_of",
    "together",
    "write_pairs",
]


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
        unlike: Pairs that fingerprints proposed and that were not looked at, for no points of theirs agree.
        crowded: Pairs that may be copies and were not looked at, because both scans have likelier pairs enough.
    """

    matches: tuple[Match, ...]
    groups: Groups
    failures: dict[str, str]
    recall: float
    unlike: int = 0
    crowded: int = 0


def together(first: Found, second: Found) -> Found:
    """Return two searches, over different scans, as one."""
    count = len(first.groups.ids)
    groups = Groups(
        first.groups.ids + second.groups.ids,
        np.concatenate([first.groups.leader, second.groups.leader + count]),
        np.concatenate([first.groups.distance, second.groups.distance]),
    )
    matches = sorted((*first.matches, *second.matches), key=lambda match: (match.first, match.second))
    recall = min(first.recall, second.recall)
    unlike, crowded = first.unlike + second.unlike, first.crowded + second.crowded
    return Found(tuple(matches), groups, first.failures | second.failures, recall, unlike, crowded)


def find_copies(
    index: Index,
    targets: Mapping[str, Target],
    *,
    radius: int = RADIUS,
    turned: bool = True,
    patients: Mapping[str, str] | None = None,
    channels: Mapping[str, str] | None = None,
    kernels: Mapping[str, str] | None = None,
    worth: Mapping[str, float] | None = None,
    journal: Path | None = None,
    workers: int = 1,
    engine: Engine = "processes",
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Look at every candidate pair of an index, and at each copy of copies of a scan beside the best of them.

    Args:
        index: Fingerprints.
        targets: id -> where its scan lies.
        radius: Differing bits of 511 up to which hashes propose a pair.
        turned: Propose flipped, swapped and negated copies as well.
        patients: id -> patient; scans of one patient are told as such where they are no copies.
        channels: id -> contrast. Two contrasts of one patient agree as copies do and are none, unless their voxels are
            equal: they are told as scans of the same patient, whichever policy there is for related ones.
        kernels: id -> convolution kernel, where its header says it. Two kernels of one acquisition agree as a blurred
            copy does and are none, whoever the manifest takes them to be of: they are told as related.
        worth: id -> what it is worth keeping for; by default its voxels.
        journal: File of verdicts, so that a killed run looks at no pair twice.
        workers: Processes that look.
        engine: Where they run, see `medssl.pool.run_jobs`.
        progress: Called with (pairs done, pairs in all).
    """
    proposals = propose(index, radius=radius, turned=turned, worth=None if worth is None else _values(index, worth))
    proposed = proposals.pairs
    pairs = pairs_of(index, proposed, targets, patients)

    def told(pair: Pair, verdict: Verdict) -> Verdict:
        return _of_kernels(pair, _of_channels(pair, verdict, channels), kernels)

    matches, unread = _looked_at(pairs, proposed, told, journal, workers, engine, progress)
    while more := _copies_of_copies(index, matches, _values(index, worth), radius, turned):
        pairs = pairs_of(index, more, targets, patients)
        after = _after(len(matches), progress)
        new, failed = _looked_at(pairs, more, told, journal, workers, engine, after)
        matches, unread = matches + new, unread | failed
    matches += _equal_to_best(index, _values(index, worth), {(one.first, one.second) for one in matches})
    matches.sort(key=lambda match: (match.first, match.second))
    failures = {one.id: one.reason for one in index.failures} | unread
    groups = groups_of(index, matches, worth=worth)
    recall = search_recall(index, radius=radius)
    return Found(tuple(matches), groups, failures, recall, proposals.unlike, proposals.crowded)


def _looked_at(
    pairs: Sequence[Pair],
    proposed: Sequence[Candidate],
    told: Callable[[Pair, Verdict], Verdict],
    journal: Path | None,
    workers: int,
    engine: Engine,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Match], dict[str, str]]:
    verdicts, unread = compare_pairs(pairs, journal=journal, workers=workers, engine=engine, progress=progress)
    return [
        Match(first=pair.first.id, second=pair.second.id, candidate=one, verdict=told(pair, verdict))
        for pair, one, verdict in zip(pairs, proposed, verdicts, strict=True)
    ], unread


def _copies_of_copies(
    index: Index, matches: Sequence[Match], worth: Sequence[float], radius: int, turned: bool
) -> list[Candidate]:
    """Return pairs that have not met: of each scan with the best of its copies' copies, and of those of large crowds.

    Points that very many scans share tell nothing (see `point_votes`), so not all copies of such a scan are proposed
    with the best one, and a few may be with each other alone. The best ones are few, and their points tell again. How
    two copies of copies lie to each other follows from how each lies to those between them.
    """
    place = {name: number for number, name in enumerate(index.ids)}
    met = {(place[one.first], place[one.second]) for one in matches}
    copies = [(place[m.first], place[m.second], m.verdict.variant) for m in matches if m.verdict.level.is_copy]
    ends = [(first, second) for first, second, _ in copies]
    turns: dict[int, dict[int, Variant]] = {}  # scan -> its copies, and how these are turned to lie on it
    for first, second, variant in copies:
        turns.setdefault(first, {})[second] = variant
        turns.setdefault(second, {})[first] = variant.undone
    clusters: dict[int, list[int]] = {}
    for number, group in enumerate(joined(np.array(ends, dtype=np.int64).reshape(-1, 2).T, len(index)).tolist()):
        clusters.setdefault(group, []).append(number)
    codes = index.codes()
    found, leading = list[Candidate](), list[int]()
    for members in clusters.values():
        best = max(members, key=lambda number: (worth[number], -number))
        if len(members) > 1:
            leading.append(best)
        for number, turn in _turned_onto(best, turns).items():
            low, high = sorted((best, number))
            if number != best and (low, high) not in met:
                apart = distance(codes[low], codes[high]) / BITS
                variant = turn if low == best else turn.undone
                found.append(Candidate(first=low, second=high, distance=apart, how="copies of copies", variant=variant))
    if max(map(len, clusters.values()), default=0) >= MANY_ALIKE:
        leading.sort()
        among = Index(tuple(index.fingerprints[number] for number in leading))
        for one in propose(among, radius=radius, turned=turned, worth=[worth[number] for number in leading]).pairs:
            low, high = leading[one.first], leading[one.second]
            if (low, high) not in met:
                found.append(replace(one, first=low, second=high))
    return found


def _turned_onto(best: int, turns: Mapping[int, Mapping[int, Variant]]) -> dict[int, Variant]:
    """Return how each scan that is a copy of copies of the best one is turned to lie on it; itself among them."""
    found, waiting = {best: Variant()}, [best]
    for here in waiting:
        for other, turn in sorted(turns.get(here, {}).items()):
            if other not in found:
                found[other] = found[here].after(turn)
                waiting.append(other)
    return found


def _after(count: int, progress: Callable[[int, int], None] | None) -> Callable[[int, int], None] | None:
    """Return what is called with counts of pairs where so many were looked at before."""
    if progress is None:
        return None
    return lambda done, total: progress(count + done, count + total)


def pairs_of(
    index: Index,
    proposed: Sequence[Candidate],
    targets: Mapping[str, Target],
    patients: Mapping[str, str] | None = None,
) -> list[Pair]:
    """Return what is to be looked at of proposed pairs; arguments are those of `find_copies`."""
    owner = patients or {}
    pairs = []
    for one in proposed:
        first, second = index.fingerprints[one.first], index.fingerprints[one.second]
        pairs.append(
            Pair(
                first=first,
                second=second,
                targets=(targets[first.id], targets[second.id]),
                variant=one.variant,
                same_patient=first.id in owner and owner[first.id] == owner.get(second.id),
            )
        )
    return pairs


def _of_channels(pair: Pair, verdict: Verdict, channels: Mapping[str, str] | None) -> Verdict:
    # T1w and T1 are one contrast under two names.
    one, two = ((channels or {}).get(name, "").casefold().rstrip("w") for name in (pair.first.id, pair.second.id))
    if pair.same_patient and one and two and one != two and verdict.level in (Level.SAME_IMAGE, Level.RELATED):
        return replace(verdict, level=Level.SAME_PATIENT)
    return verdict


def _of_kernels(pair: Pair, verdict: Verdict, kernels: Mapping[str, str] | None) -> Verdict:
    one, two = ((kernels or {}).get(name, "").casefold() for name in (pair.first.id, pair.second.id))
    export = (verdict.agreement.function or 0.0) >= SAME_VALUES
    if one and two and one != two and verdict.level is Level.SAME_IMAGE and not export:
        return replace(verdict, level=Level.RELATED)
    return verdict


def kernels_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return id -> convolution kernel of a manifest's rows, "" where the header says none."""
    return {row["id"]: json.loads(row.get("fields") or "{}").get("ConvolutionKernel", "") for row in rows}


def groups_of(index: Index, matches: Sequence[Match], *, worth: Mapping[str, float] | None = None) -> Groups:
    """Return who stands for whom among copies; 1 - score is the distance.

    Args:
        index: Fingerprints.
        matches: Pairs that were looked at.
        worth: id -> what it is worth keeping for; by default its voxels, so that more go before fewer.
    """
    place = {name: number for number, name in enumerate(index.ids)}
    copies = [match for match in matches if match.verdict.level.is_copy]
    first = np.array([place[match.first] for match in copies], dtype=np.int64)
    second = np.array([place[match.second] for match in copies], dtype=np.int64)
    distance = np.array([1.0 - match.verdict.agreement.score for match in copies], dtype=np.float64)
    return lead(index.ids, Pairs(first, second, distance), worth=_values(index, worth))


def _values(index: Index, worth: Mapping[str, float] | None) -> list[float]:
    return [float(np.prod(one.shape)) if worth is None else worth[one.id] for one in index.fingerprints]


def _equal_to_best(index: Index, worth: Sequence[float], known: set[tuple[str, str]]) -> Iterator[Match]:
    """Yield a match of each scan with the one worth most among those with equal files or arrays.

    `candidates` proposes each with the first only, which need not be the one that is kept.
    """
    for how in ("file", "array"):
        clusters: dict[str, list[int]] = {}
        for number, one in enumerate(index.fingerprints):
            clusters.setdefault(one.file_hash if how == "file" else one.content_hash, []).append(number)
        for members in clusters.values():
            best = max(members, key=lambda number: (worth[number], -number))
            for number in members:
                low, high = sorted((best, number))
                one, two = index.fingerprints[low], index.fingerprints[high]
                if low == high or (one.id, two.id) in known:
                    continue
                known.add((one.id, two.id))
                proposed = Candidate(first=low, second=high, distance=0.0, how=how)
                yield Match(first=one.id, second=two.id, candidate=proposed, verdict=verify(one, two))


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
    """Return the ids that could be left out: each is a copy of a better scan; see `worth`.

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
    rows = []
    for one in found.matches:
        seen, variant = one.verdict.agreement, one.verdict.variant.name()
        numbers = f"{one.candidate.distance:.4f}", one.verdict.level.value, f"{seen.score:.4f}"
        rows.append([one.first, one.second, *numbers, one.candidate.how, variant])
    text = csv_text(["from", "to", "distance", "level", "score", "how", "variant"], rows)
    with atomic_write(Path(path)) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def _searched(scans: str | Path, work_dir: Path, radius: int, workers: int, turned: bool) -> Found:
    from medssl.manifest.build import build_manifest

    manifest, _ = build_manifest(Path(scans), depth="header", workers=workers)
    rows = list(manifest.rows())
    targets = targets_of(rows)
    make_fingerprints(targets, work_dir, workers=workers)
    index = read_index(work_dir)
    by_id = {target.id: target for target in targets}
    # A scan without a patient's name stands under its own id, and so is nobody else's.
    patients = {row["id"]: row["patient"] for row in rows}
    channels = {row["id"]: row["channel"] for row in rows}
    journal = work_dir / JOURNAL
    return find_copies(
        index,
        by_id,
        radius=radius,
        turned=turned,
        patients=patients,
        channels=channels,
        kernels=kernels_of(rows),
        worth=keep_priority([row for row in rows if row["id"] in by_id], index.fingerprints).values,
        journal=journal,
        workers=workers,
    )


def _write_json(result: Any, outfile: str | Path | None) -> None:
    if outfile is not None:
        with atomic_write(Path(outfile)) as aside:
            aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
