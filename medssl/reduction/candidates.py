"""Pairs of scans that may be copies, from their fingerprints alone: equal hashes, near hashes, and matching slabs."""

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

__all__ = ["EXACT_UP_TO", "RADIUS", "Candidate", "candidates", "search_recall", "slab_candidates"]

RADIUS = 77  # 0.15 of the bits: what it proposes wrongly is looked at and dropped
EXACT_UP_TO = 20_000  # codes; beyond, multi-index hashing
SLAB_RADIUS = 12.0  # mean differing bits of 63 over the slabs that overlap
_SEED_RADIUS = 6  # differing bits of the slabs that propose an offset
_LEAST_SHARE = 0.6
_LEAST_SLABS = 4
_LEAST_VOTES = 2  # slabs that must propose one offset: a single one does by chance


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair worth looking at.

    Attributes:
        first: Place in the index.
        second: A larger place.
        distance: Share of differing bits, 0 to 1, of the hash that found it.
        how: "file", "array", "field", "box", "slabs", or "turned field" and "turned box".
        variant: How the second's axes are to be turned before looking.
    """

    first: int
    second: int
    distance: float
    how: str
    variant: Variant = field(default_factory=Variant)


def candidates(index: Index, *, radius: int = RADIUS, turned: bool = True, slabs: bool = True) -> list[Candidate]:
    """Return every pair that one of the fingerprints proposes, once each, by the nearest hash that did.

    Scans without any contrast have no hash; only equal files and arrays are told of them.

    Args:
        index: Fingerprints.
        radius: Differing bits of 511, inclusive.
        turned: Look for flipped, swapped and negated copies as well, 95 searches more; exact, so its time grows with
            the square of the number of scans.
        slabs: Look for scans of a part of the body that another shows.
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
                other = hashes.bits(np.stack([hashes.turned(one, variant) for one in stored]))
                near = hamming_pairs(codes, radius, others=other)
                one_way = near.first < near.second
                near = Pairs(near.first[one_way], near.second[one_way], near.distance[one_way])
                take(_of(near, present, f"turned {which}", variant))
    if slabs:
        take(slab_candidates(index))
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


def slab_candidates(index: Index) -> list[Candidate]:
    """Return pairs of which one shows a part of what the other shows along z, or both overlap by 60 % of the shorter.

    Two slabs or more that are nearly equal propose an offset; what counts is the mean distance of all slabs that lie
    on each other at that offset. Scans of fewer than 4 slabs are left out.
    """
    prints = index.fingerprints
    long = [place for place, one in enumerate(prints) if len(one.slabs) >= _LEAST_SLABS]
    if len(long) < 2:
        return []
    codes = np.concatenate([prints[place].slabs for place in long])
    scan = np.repeat(np.array(long), [len(prints[place].slabs) for place in long])
    position = np.concatenate([np.arange(len(prints[place].slabs)) for place in long])
    telling = np.flatnonzero(codes)
    near = multi_index_pairs(codes[telling][:, None], _SEED_RADIUS, bands=_SEED_RADIUS + 1, cap=200)
    first, second = telling[near.first], telling[near.second]
    across = scan[first] < scan[second]
    first, second = first[across], second[across]
    proposed = np.stack([scan[first], scan[second], position[first] - position[second]], axis=1)
    best: dict[tuple[int, int], float] = {}
    offsets, votes = np.unique(proposed, axis=0, return_counts=True)
    for a, b, offset in offsets[votes >= _LEAST_VOTES].tolist():
        distance = _on_each_other(prints[a].slabs, prints[b].slabs, offset)
        if distance <= SLAB_RADIUS:
            best[a, b] = min(distance, best.get((a, b), np.inf))
    return [Candidate(first=a, second=b, distance=d / 63, how="slabs") for (a, b), d in sorted(best.items())]


def _on_each_other(one: hashes.Code, two: hashes.Code, offset: int) -> float:
    start, stop = max(0, offset), min(len(one), len(two) + offset)
    if stop - start < max(_LEAST_SLABS, _LEAST_SHARE * min(len(one), len(two))):
        return float("inf")
    apart: npt.NDArray[np.uint8] = np.bitwise_count(one[start:stop] ^ two[start - offset : stop - offset])
    return float(apart.mean())


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
