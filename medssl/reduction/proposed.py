"""What the fingerprints propose, each in its own way: equal and near hashes, runs of slices, points that agree."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.hashes import Variant
from medssl.reduction.index import Index
from medssl.reduction.neighbours import Pairs, hamming_pairs, multi_index_pairs
from medssl.reduction.point_votes import agreeing, families, voted, weighed
from medssl.reduction.slice_votes import slice_pairs
from medssl.reduction.telling_points import points_of
from medssl.reduction.turned import turned_pairs

__all__ = ["RADIUS", "Candidate", "PointEvidence", "Proposed", "equal", "hashed", "is_exact", "near_codes", "sliced"]

RADIUS = 77  # 0.15 of the bits: what it proposes wrongly is looked at and dropped
_EXACT_UP_TO = 20_000  # codes; beyond, multi-index hashing
_POINT_VOTES = 4  # agreeing points at which the distance of a pair is that of the radius


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair worth looking at.

    Attributes:
        first: Place in the index.
        second: A larger place.
        distance: Share of differing bits, 0 to 1, of the hash that found it.
        how: "file", "array", "field", "box", "slices", "points", "turned field", "turned box", or "copies of copies".
        variant: How the second's axes are to be turned before looking.
    """

    first: int
    second: int
    distance: float
    how: str
    variant: Variant = field(default_factory=Variant)


@dataclass(frozen=True)
class Proposed:
    """Pairs that one hash proposes; distances in differing bits of ``bits``."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    how: str
    bits: int = hashes.BITS
    variant: Sequence[Variant] | None = None

    def candidates(self, places: npt.NDArray[np.intp] | None = None) -> Iterator[Candidate]:
        """Yield the pairs at these places, or all."""
        for place in (np.arange(len(self.first)) if places is None else places).tolist():
            yield Candidate(
                first=int(self.first[place]),
                second=int(self.second[place]),
                distance=float(self.distance[place]) / self.bits,
                how=self.how,
                variant=Variant() if self.variant is None else self.variant[place],
            )


def hashed(index: Index, radius: int, *, turned: int | None, parts: bool) -> Iterator[Proposed]:
    """Yield what each of the hashes of whole scans and of slices proposes.

    Args:
        index: Fingerprints.
        radius: Differing bits of 511, inclusive.
        turned: The same of flipped, swapped and negated copies; None where they are not looked for.
        parts: Look for scans that show a part of what others show.
    """
    for which in ("field", "box"):
        codes = index.codes(which)
        present = np.flatnonzero(codes.any(axis=1)) if len(codes) else np.zeros(0, dtype=np.intp)
        near = near_codes(codes[present], radius)
        yield Proposed(present[near.first], present[near.second], near.distance, which)
        if turned is not None and len(present) > 1:
            ways = turned_pairs(np.stack([getattr(index.fingerprints[place], which) for place in present]), turned)
            yield Proposed(
                present[ways.first], present[ways.second], ways.distance, f"turned {which}", variant=ways.variant
            )
    if parts:
        yield sliced(index)


def sliced(index: Index) -> Proposed:
    """Return what the hashes of slices propose; see `slice_votes`. Distances are in bits of 63."""
    return Proposed(*slice_pairs(index.fingerprints), "slices", bits=63)


def is_exact(codes: hashes.Code) -> bool:
    """Return whether `near_codes` finds every near pair of so many codes."""
    return len(codes) <= _EXACT_UP_TO


def near_codes(codes: hashes.Code, radius: int) -> Pairs:
    """Return near pairs of codes, uint64 (n, words): all of them up to `_EXACT_UP_TO`, beyond nearly all."""
    return hamming_pairs(codes, radius) if is_exact(codes) else multi_index_pairs(codes, radius)


class PointEvidence:
    """What the points of an index tell of pairs: the number of agreeing ones times their share, by their weights.

    Attributes:
        families: How many families there are, see `families`.
    """

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        points = points_of(prints)
        self._voting = {scale: voted(level) for scale, level in points.items()}
        family = families({scale: (level, self._voting[scale]) for scale, level in points.items()}, len(prints))
        self.families = len(np.unique(family))
        self._points = {scale: weighed(level, self._voting[scale], family) for scale, level in points.items()}

    def proposed(self) -> Iterator[tuple[Candidate, float]]:
        """Yield pairs whose points agree on one shift, and what their points tell.

        The distance falls with the number of those points from that of the radius on, so that it can be compared with
        the distances of hashes.
        """
        least_alike = RADIUS / hashes.BITS * _POINT_VOTES
        best: dict[tuple[int, int], tuple[float, float]] = {}
        for scale, (first, second, shift) in self._voting.items():
            agree, share, _ = agreeing(self._points[scale], first, second, shift)
            pairs = zip(first.tolist(), second.tolist(), strict=True)
            for pair, many, part in zip(pairs, agree.tolist(), share.tolist(), strict=True):
                best[pair] = max((many * part, many), best.get(pair, (0.0, 0.0)))
        for (a, b), (score, many) in best.items():
            yield Candidate(first=a, second=b, distance=least_alike / max(1.0, many), how="points"), score

    def of(self, proposed: Sequence[Candidate]) -> dict[tuple[int, int], float]:
        """Return for each pair what its points tell; infinity where too few can."""
        result: dict[tuple[int, int], float] = {}
        ways: dict[Variant, list[tuple[int, int]]] = {}
        for one in proposed:
            ways.setdefault(one.variant, []).append((one.first, one.second))
        for variant, pairs in ways.items():
            first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
            score, told = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=bool)
            for level in self._points.values():
                agree, share, enough = agreeing(level, first, second, variant=variant)
                score = np.where(enough, np.maximum(score, agree * share), score)
                told |= enough
            result |= dict(zip(pairs, np.where(told, score, np.inf).tolist(), strict=True))
        return result


def equal(prints: tuple[Fingerprint, ...], how: str, key: Callable[[Fingerprint], Hashable]) -> Iterator[Candidate]:
    """Yield each scan with the first that has the same key, and not all pairs: of a thousand equal files, 999."""
    first: dict[Hashable, int] = {}
    for place, one in enumerate(prints):
        earlier = first.setdefault(key(one), place)
        if earlier != place:
            yield Candidate(first=earlier, second=place, distance=0.0, how=how)
