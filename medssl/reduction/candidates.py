"""Pairs of scans that may be copies, from their fingerprints alone.

Equal and near hashes find whole copies; runs of equal slices find what was cut along z and left alone besides; points
that agree on one shift find what was cut, padded or masked in any other way, and small rotations.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.hashes import Variant
from medssl.reduction.index import Index
from medssl.reduction.neighbours import Pairs, hamming_pairs, multi_index_pairs, planted_recall

__all__ = [
    "EXACT_UP_TO",
    "RADIUS",
    "Candidate",
    "candidates",
    "point_candidates",
    "search_recall",
    "slice_candidates",
]

RADIUS = 77  # 0.15 of the bits: what it proposes wrongly is looked at and dropped
EXACT_UP_TO = 20_000  # codes; beyond, multi-index hashing
_SLICE_RADIUS = 10.0  # mean differing bits of 63 over the slices that lie on each other
_SEED_RADIUS = 4  # differing bits of the slices that propose an offset
_LEAST_SHARE = 0.6
_LEAST_SLICES = 4
_LEAST_VOTES = 2  # slices that must propose one offset: a single one does by chance
_POINT_RADIUS = 8  # differing bits of 63 of two points
_POINT_VOTES = 4  # points that must agree on one shift
_SHIFT = 8  # quarters of a cell within which shifts are one
_BINS = 1 << 9  # of shifts along an axis; more would come round again, which costs a look and no more
_FAR = 1 << 30  # added to offsets, so that none is negative
_LOW_HALF = (1 << 32) - 1
_CAP = 200  # codes of one bucket that are compared in full
_FEW = 4_000_000  # codes of slices or points, of some 25,000 scans: up to there recall comes before speed
_BANDS = 6  # as many bands then, whose buckets hold more codes


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair worth looking at.

    Attributes:
        first: Place in the index.
        second: A larger place.
        distance: Share of differing bits, 0 to 1, of the hash that found it.
        how: "file", "array", "field", "box", "slices", "points", or "turned field" and "turned box".
        variant: How the second's axes are to be turned before looking.
    """

    first: int
    second: int
    distance: float
    how: str
    variant: Variant = field(default_factory=Variant)


def candidates(index: Index, *, radius: int = RADIUS, turned: bool = True, parts: bool = True) -> list[Candidate]:
    """Return every pair that one of the fingerprints proposes, once each, by the nearest hash that did.

    Scans without any contrast have no hash; only equal files and arrays are told of them.

    Args:
        index: Fingerprints.
        radius: Differing bits of 511, inclusive.
        turned: Look for flipped, swapped and negated copies as well, 95 searches more; exact, so its time grows with
            the square of the number of scans.
        parts: Look for scans of a part of the body that another shows.
    """
    prints = index.fingerprints
    found: dict[tuple[int, int], Candidate] = {}

    def take(new: Iterable[Candidate]) -> None:
        for one in new:
            before = found.get((one.first, one.second))
            if before is None or one.distance < before.distance:
                found[one.first, one.second] = one

    take(_equal(prints, "file", lambda one: one.file_hash))
    take(_equal(prints, "array", lambda one: one.content_hash))
    for which in ("field", "box"):
        codes = index.codes(which)
        present = np.flatnonzero(codes.any(axis=1)) if len(codes) else np.zeros(0, dtype=np.intp)
        codes = codes[present]
        near = _near(codes, radius)
        take(_of(near, present, which, Variant()))
        if turned and len(codes) > 1:
            stored = np.stack([getattr(prints[place], which) for place in present])
            for variant in hashes.all_variants()[1:]:
                other = hashes.bits(hashes.turned(stored, variant))
                near = hamming_pairs(codes, radius, others=other)
                one_way = near.first < near.second
                near = Pairs(near.first[one_way], near.second[one_way], near.distance[one_way])
                take(_of(near, present, f"turned {which}", variant))
    if parts:
        take(slice_candidates(index))
        take(point_candidates(index))
    return [found[pair] for pair in sorted(found)]


def search_recall(index: Index, *, radius: int = RADIUS, which: str = "field") -> float:
    """Return the share of planted pairs that the search of `candidates` finds among these very codes.

    It is 1 where the search is exact, up to 20 000 scans; beyond, copies of the codes are planted and searched for.
    """
    codes = index.codes(which)
    if len(codes) <= EXACT_UP_TO:
        return 1.0
    return planted_recall(codes[codes.any(axis=1)], radius, search=lambda some: _near(some, radius))


def _near(codes: hashes.Code, radius: int) -> Pairs:
    return hamming_pairs(codes, radius) if len(codes) <= EXACT_UP_TO else multi_index_pairs(codes, radius)


def slice_candidates(index: Index) -> list[Candidate]:
    """Return pairs of which one shows a part of what the other shows along z, or both overlap by 60 % of the shorter.

    Two slices or more that are nearly equal propose an offset; what counts is the mean distance of all slices that lie
    on each other at that offset. Slices must be equally thick. Scans of fewer than 4 slices are left out.
    """
    prints = index.fingerprints
    long = [place for place, one in enumerate(prints) if len(one.slices) >= _LEAST_SLICES]
    if len(long) < 2:
        return []
    codes = np.concatenate([prints[place].slices for place in long])
    position = np.concatenate([np.arange(len(prints[place].slices)) for place in long])
    scan = np.repeat(np.array(long, dtype=np.int64), [len(prints[place].slices) for place in long])
    first, second = _across(codes, scan, _SEED_RADIUS)
    best: dict[tuple[int, int], float] = {}
    offset = position[first] - position[second] + _FAR
    for a, b, step, _ in _voted(scan[first], scan[second], offset, _LEAST_VOTES):
        distance = _on_each_other(prints[a].slices, prints[b].slices, step - _FAR)
        if distance <= _SLICE_RADIUS:
            best[a, b] = min(distance, best.get((a, b), np.inf))
    return [Candidate(first=a, second=b, distance=d / 63, how="slices") for (a, b), d in sorted(best.items())]


def _on_each_other(one: hashes.Code, two: hashes.Code, offset: int) -> float:
    start, stop = max(0, offset), min(len(one), len(two) + offset)
    if stop - start < max(_LEAST_SLICES, _LEAST_SHARE * min(len(one), len(two))):
        return float("inf")
    apart: npt.NDArray[np.uint8] = np.bitwise_count(one[start:stop] ^ two[start - offset : stop - offset])
    return float(apart.mean())


def point_candidates(index: Index) -> list[Candidate]:
    """Return pairs of which 3 points or more, with like surroundings, are moved against each other in one way.

    The distance told falls with the number of those points from that of the radius on, so that it can be compared with
    the distances of hashes.
    """
    prints = index.fingerprints
    if len(prints) < 2:
        return []
    codes = np.concatenate([one.point_codes for one in prints])
    places = np.concatenate([one.points for one in prints]).astype(np.int64)
    scan = np.repeat(np.arange(len(prints), dtype=np.int64), [len(one.point_codes) for one in prints])
    first, second = _across(codes, scan, _POINT_RADIUS)
    scale = places[:, 0]
    alike = scale[first] == scale[second]
    first, second = first[alike], second[alike]
    shift = places[first, 1:] - places[second, 1:]
    most: dict[tuple[int, int], int] = {}
    # Shifts that a border of the bins parts in one of the eight ways to lay them lie together in another.
    for laid in np.ndindex(2, 2, 2):
        z, y, x = ((shift + np.array(laid) * (_SHIFT // 2)) // _SHIFT % _BINS).T
        bins = ((scale[first] % 32 * _BINS + z) * _BINS + y) * _BINS + x
        for a, b, _, votes in _voted(scan[first], scan[second], bins, _POINT_VOTES):
            most[a, b] = max(votes, most.get((a, b), 0))
    least_alike = RADIUS / hashes.BITS * _POINT_VOTES
    return [Candidate(first=a, second=b, distance=least_alike / n, how="points") for (a, b), n in sorted(most.items())]


def _voted(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], bins: npt.NDArray[np.int64], least: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (first scan, second scan, bin, votes) of every bin of a pair that has enough votes.

    Args:
        first: Scan of each vote.
        second: The other one.
        bins: What each vote is for, 0 to 2^32 - 1.
        least: Votes that are enough.
    """
    pair, which, together = np.unique(first << 32 | second, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(together[which] >= least)  # most pairs meet once or twice, by chance
    voted, votes = np.unique(which[kept] << 32 | bins[kept], return_counts=True)
    enough = votes >= least
    named, bins = pair[voted[enough] >> 32], voted[enough] & _LOW_HALF
    columns = named >> 32, named & _LOW_HALF, bins, votes[enough]
    yield from zip(*(column.tolist() for column in columns), strict=True)


def _across(codes: hashes.Code, scan: npt.NDArray[np.int64], radius: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return places of near 63-bit codes of two different scans, the earlier scan first."""
    telling = np.flatnonzero(codes)
    near = multi_index_pairs(codes[telling][:, None], radius, bands=_BANDS if len(telling) <= _FEW else 0, cap=_CAP)
    first, second = telling[near.first], telling[near.second]
    across = scan[first] < scan[second]
    return first[across], second[across]


def _equal(prints: tuple[Fingerprint, ...], how: str, key: Callable[[Fingerprint], Hashable]) -> Iterator[Candidate]:
    """Yield each scan with the first that has the same key, and not all pairs: of a thousand equal files, 999."""
    first: dict[Hashable, int] = {}
    for place, one in enumerate(prints):
        earlier = first.setdefault(key(one), place)
        if earlier != place:
            yield Candidate(first=earlier, second=place, distance=0.0, how=how)


def _of(pairs: Pairs, present: npt.NDArray[np.intp], how: str, variant: Variant) -> Iterator[Candidate]:
    for a, b, distance in zip(present[pairs.first], present[pairs.second], pairs.distance, strict=True):
        yield Candidate(first=int(a), second=int(b), distance=float(distance) / hashes.BITS, how=how, variant=variant)
