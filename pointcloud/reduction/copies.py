"""Copies among point clouds: equal files or points, and near occupancies under the turns by right angles, looked at.

A copy may be reordered, moved, scaled, turned by right angles (y up, z up), thinned out, or shaken a little. The
511-bit hash of the occupancy proposes a pair; the distance between the two clouds decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medssl.reduction import hashes
from medssl.reduction.candidates import Candidate
from medssl.reduction.crowds import likeliest
from medssl.reduction.duplicates import Found, Match
from medssl.reduction.groups import lead
from medssl.reduction.hashes import Variant
from medssl.reduction.neighbours import Pairs
from medssl.reduction.turned import turned_pairs
from pointcloud.reduction.prints import CloudPrint, CloudTarget
from pointcloud.reduction.verdict import Points, judge, turns

__all__ = ["LIKELY", "RADIUS", "find_cloud_copies"]

RADIUS = 77  # differing bits of 511
LIKELY = 32  # pairs of a cloud that are looked at
_STEP = 16  # differing bits that make one pair nearer than another


def find_cloud_copies(
    prints: Sequence[CloudPrint],
    targets: Mapping[str, CloudTarget],
    *,
    radius: int = RADIUS,
    worth: Mapping[str, float] | None = None,
    patients: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Look at every pair of clouds that may be copies.

    Args:
        prints: Sorted by id.
        targets: id -> where a cloud lies.
        radius: Differing bits of 511 up to which the occupancy proposes a pair.
        worth: id -> what it is worth keeping for; by default its points.
        patients: id -> patient or object; clouds of one are told as such where they are no copies.
        progress: Called with (pairs done, pairs in all).
    """
    values = [float(one.count) if worth is None else worth[one.id] for one in prints]
    proposed, crowded = _candidates(prints, radius, values)
    owner = patients or {}
    cache: dict[str, Points] = {}
    failures: dict[str, str] = {}
    matches = []
    for done, one in enumerate(proposed, 1):
        first, second = prints[one.first], prints[one.second]
        same = first.id in owner and owner[first.id] == owner.get(second.id)
        verdict = judge(first, second, one.variant, targets, cache=cache, failures=failures, same_patient=same)
        matches.append(Match(first=first.id, second=second.id, candidate=one, verdict=verdict))
        if progress:
            progress(done, len(proposed))
    ids = [one.id for one in prints]
    place = {name: number for number, name in enumerate(ids)}
    copies = [match for match in matches if match.verdict.level.is_copy]
    pairs = Pairs(
        np.array([place[m.first] for m in copies], dtype=np.int64),
        np.array([place[m.second] for m in copies], dtype=np.int64),
        np.array([1.0 - m.verdict.agreement.score for m in copies], dtype=np.float64),
    )
    matches.sort(key=lambda match: (match.first, match.second))
    return Found(tuple(matches), lead(ids, pairs, worth=values), failures, 1.0, crowded=crowded)


def _candidates(prints: Sequence[CloudPrint], radius: int, worth: Sequence[float]) -> tuple[list[Candidate], int]:
    """Return pairs, each once, and how many were left out for likelier ones.

    Of clouds with equal files or points each is paired with the one worth most. Near occupancies under the 24 turns by
    right angles propose the rest, of which a cloud keeps the `LIKELY` nearest.
    """
    found: dict[tuple[int, int], Candidate] = {}
    for how in ("file", "array"):
        clusters: dict[str, list[int]] = {}
        for number, one in enumerate(prints):
            clusters.setdefault(one.file_hash if how == "file" else one.content_hash, []).append(number)
        for members in clusters.values():
            best = max(members, key=lambda number: (worth[number], -number))
            for low, high in (sorted((best, number)) for number in members if number != best):
                found.setdefault((low, high), Candidate(first=low, second=high, distance=0.0, how=how))
    if len(prints) < 2:
        return [], 0
    near = turned_pairs(np.stack([one.occupancy for one in prints]), radius, turns())
    rank = np.empty(len(prints), dtype=np.int64)
    rank[np.lexsort((np.arange(len(prints)), -np.asarray(worth)))] = np.arange(len(prints))
    kept = likeliest(near.first, near.second, near.distance // _STEP, rank, LIKELY)
    for place in np.flatnonzero(kept).tolist():
        a, b, variant = int(near.first[place]), int(near.second[place]), near.variant[place]
        how = "field" if variant == Variant() else "turned field"
        share = float(near.distance[place]) / hashes.BITS
        found.setdefault((a, b), Candidate(first=a, second=b, distance=share, how=how, variant=variant))
    return [found[pair] for pair in sorted(found)], int(np.count_nonzero(~kept))
