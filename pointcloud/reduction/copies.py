"""Copies among point clouds: equal files or points, and near occupancies under the turns by right angles, looked at.

A copy may be reordered, moved, scaled, turned by right angles (y up, z up), thinned out, or shaken a little. The
511-bit hash of the occupancy proposes a pair; the distance between the two clouds decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medssl.reduction import hashes
from medssl.reduction.candidates import Candidate
from medssl.reduction.duplicates import Found, Match
from medssl.reduction.groups import lead
from medssl.reduction.hashes import Variant
from medssl.reduction.neighbours import Pairs, hamming_pairs
from pointcloud.reduction.prints import CloudPrint, CloudTarget
from pointcloud.reduction.verdict import Points, judge, turns

__all__ = ["RADIUS", "find_cloud_copies"]

RADIUS = 77  # differing bits of 511


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
    proposed = _candidates(prints, radius)
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
    values = [float(one.count) if worth is None else worth[one.id] for one in prints]
    matches.sort(key=lambda match: (match.first, match.second))
    return Found(tuple(matches), lead(ids, pairs, worth=values), failures, 1.0)


def _candidates(prints: Sequence[CloudPrint], radius: int) -> list[Candidate]:
    """Return each pair once: equal files or points, and near occupancies under the 24 turns by right angles."""
    found: dict[tuple[int, int], Candidate] = {}
    for how in ("file", "array"):
        clusters: dict[str, list[int]] = {}
        for number, one in enumerate(prints):
            clusters.setdefault(one.file_hash if how == "file" else one.content_hash, []).append(number)
        for members in clusters.values():
            for low, high in itertools.combinations(members, 2):
                found.setdefault((low, high), Candidate(first=low, second=high, distance=0.0, how=how))
    stored = [one.occupancy for one in prints]
    if len(stored) > 1:
        codes = hashes.bits(np.stack(stored))
        for variant in turns():
            near = hamming_pairs(
                codes, radius, others=hashes.bits(np.stack([hashes.turned(c, variant) for c in stored]))
            )
            for a, b, d in zip(near.first.tolist(), near.second.tolist(), near.distance.tolist(), strict=True):
                before = found.get((a, b))
                if a < b and (before is None or d / hashes.BITS < before.distance):
                    how = "field" if variant == Variant() else "turned field"
                    found[a, b] = Candidate(first=a, second=b, distance=d / hashes.BITS, how=how, variant=variant)
    return [found[pair] for pair in sorted(found)]
