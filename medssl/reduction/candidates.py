"""Pairs of scans that may be copies, from their fingerprints alone, and as few as the fingerprints allow.

Equal and near hashes find whole copies; runs of equal slices find what was cut along z and left alone besides; points
that agree on one shift find what was cut, padded or masked in any other way, and small rotations.

What is proposed in any of these ways is then held against the points of both scans. Bodies of one kind look alike, and
the pairs that do so by chance are a share of all pairs; so of pairs that the points leave in doubt each scan keeps the
likeliest few. The rest is counted, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.crowds import likeliest
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.hashes import Variant
from medssl.reduction.index import Index
from medssl.reduction.neighbours import Pairs, hamming_pairs, multi_index_pairs, planted_recall
from medssl.reduction.point_votes import Points, agreeing, points_of, voted
from medssl.reduction.slice_votes import slice_pairs
from medssl.reduction.turned import turned_pairs

__all__ = [
    "DOUBTFUL",
    "EXACT_UP_TO",
    "HASHES_ALONE",
    "LIKELY",
    "NEAREST",
    "RADIUS",
    "Candidate",
    "Proposals",
    "candidates",
    "point_candidates",
    "propose",
    "search_recall",
    "slice_candidates",
]

RADIUS = 77  # 0.15 of the bits: what it proposes wrongly is looked at and dropped
EXACT_UP_TO = 20_000  # codes; beyond, multi-index hashing
LIKELY = 128  # pairs of a scan that are kept where its points leave little doubt
HASHES_ALONE = 24  # pairs of a scan that are kept where it has too few points to tell, the nearest by hash
DOUBTFUL = 16  # pairs of a scan that are kept where they do
NEAREST = 4  # pairs of a scan by the nearest of its hashes that are kept whatever its points say
_HASHED = 128  # pairs of a scan by one hash that are held against its points
_SURE = 5.0  # agreeing points times their share, which all but 1 % of re-exports reach
_WORTH_A_LOOK = 2.5  # the same of pairs that nothing else proposes
_NOTHING = 0.25  # the same of pairs that a hash proposes: below, no point agrees with another
_STEP = 16  # differing bits that make one pair nearer than another
_POINT_VOTES = 4  # agreeing points at which the distance of a pair is that of the radius


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


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What the fingerprints propose.

    Attributes:
        pairs: Those worth looking at, sorted, each once.
        unlike: Pairs that some hash or run of points proposed, and that the points of both scans speak against.
        crowded: Pairs that may be copies and are not among the likeliest of either scan: they are not looked at.
    """

    pairs: tuple[Candidate, ...]
    unlike: int
    crowded: int


def candidates(
    index: Index,
    *,
    radius: int = RADIUS,
    turned: bool = True,
    parts: bool = True,
    worth: Sequence[float] | None = None,
) -> list[Candidate]:
    """Return the pairs of `propose`."""
    return list(propose(index, radius=radius, turned=turned, parts=parts, worth=worth).pairs)


def propose(
    index: Index,
    *,
    radius: int = RADIUS,
    turned: bool = True,
    parts: bool = True,
    worth: Sequence[float] | None = None,
) -> Proposals:
    """Return the pairs that one of the fingerprints proposes and that the points of both scans do not speak against.

    Scans without any contrast have no hash; only equal files and arrays are told of them. A scan keeps its `NEAREST`
    pairs by hash, the `DOUBTFUL` likeliest of those whose points leave it open, the `HASHES_ALONE` nearest of those
    that have too few points to tell, and `LIKELY` of the others. Where it has more of these, they are the ones with the
    scans worth most, which are the same for all scans of a large group: so all of a group meet.

    Args:
        index: Fingerprints.
        radius: Differing bits of 511, inclusive.
        turned: Look for flipped, swapped and negated copies as well.
        parts: Look for scans of a part of the body that another shows.
        worth: What each scan is worth keeping for; by default its voxels.
    """
    prints = index.fingerprints
    values = np.array([np.prod(one.shape) for one in prints] if worth is None else worth, dtype=np.float64)
    rank = np.empty(len(prints), dtype=np.int64)
    rank[np.lexsort((np.arange(len(prints)), -values))] = np.arange(len(prints))
    found: dict[tuple[int, int], Candidate] = {}
    _take(found, _equal(prints, "file", lambda one: one.file_hash))
    _take(found, _equal(prints, "array", lambda one: one.content_hash))
    equal = dict(found)
    crowded = 0
    for proposed in _hashed(index, radius, turned=turned, parts=parts):
        near = likeliest(proposed.first, proposed.second, proposed.distance // _STEP, rank, _HASHED)
        crowded += int(np.count_nonzero(~near))
        _take(found, proposed.candidates(np.flatnonzero(near)))
    nearest = _nearest_by_hash(found, equal, rank)
    points = points_of(prints)
    evidence = _held_against_points(points, [one for pair, one in found.items() if pair not in equal])
    if parts:
        for one, score in _by_points(points):
            pair = one.first, one.second
            if pair not in equal:
                evidence[pair] = max(score, evidence.get(pair, 0.0))
                _take(found, [one])
    evidence = {pair: score for pair, score in evidence.items() if pair not in nearest}
    unlike = [p for p, n in evidence.items() if n < (_WORTH_A_LOOK if found[p].how == "points" else _NOTHING)]
    for pair in unlike:
        del found[pair], evidence[pair]
    # Half as likely is less likely; what lies between is decided by worth, so that the scans of a group meet. Where the
    # scans have too few points to tell, their hashes do.
    likely: dict[tuple[int, int], float] = {}
    doubtful: dict[tuple[int, int], float] = {}
    untold: dict[tuple[int, int], float] = {}
    for pair, score in evidence.items():
        if np.isinf(score):
            untold[pair] = found[pair].distance * hashes.BITS // _STEP
        elif score >= _SURE:
            likely[pair] = 0.0
        else:
            doubtful[pair] = -np.floor(np.log2(score))
    for most, doubts in ((LIKELY, likely), (DOUBTFUL, doubtful), (HASHES_ALONE, untold)):
        some = sorted(doubts)
        first, second = np.array(some, dtype=np.int64).reshape(-1, 2).T
        doubt = np.array([doubts[pair] for pair in some])
        kept = likeliest(first, second, doubt, rank, most)
        for place in np.flatnonzero(~kept).tolist():
            del found[some[place]]
            crowded += 1
    return Proposals(pairs=tuple(found[pair] for pair in sorted(found)), unlike=len(unlike), crowded=crowded)


def _nearest_by_hash(
    found: dict[tuple[int, int], Candidate], equal: dict[tuple[int, int], Candidate], rank: npt.NDArray[np.int64]
) -> set[tuple[int, int]]:
    """Return the pairs that are among the nearest of a scan by a hash; they are looked at whatever the points say."""
    pairs = [pair for pair in found if pair not in equal]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    kept = likeliest(first, second, np.array([found[pair].distance for pair in pairs]), rank, NEAREST)
    return {pairs[place] for place in np.flatnonzero(kept).tolist()}


def search_recall(index: Index, *, radius: int = RADIUS, which: str = "field") -> float:
    """Return the share of planted pairs that the search of `candidates` finds among these very codes.

    It is 1 where the search is exact, up to 20 000 scans; beyond, copies of the codes are planted and searched for.
    """
    codes = index.codes(which)
    if len(codes) <= EXACT_UP_TO:
        return 1.0
    return planted_recall(codes[codes.any(axis=1)], radius, search=lambda some: _near(some, radius))


def slice_candidates(index: Index) -> list[Candidate]:
    """Return pairs of which one shows a part of what the other shows along z; see `slice_votes`."""
    return list(_sliced(index).candidates())


def point_candidates(index: Index) -> list[Candidate]:
    """Return pairs whose points agree on one shift well enough to be worth a look; see `point_votes`.

    The distance told falls with the number of those points from that of the radius on, so that it can be compared with
    the distances of hashes.
    """
    return [one for one, score in _by_points(points_of(index.fingerprints)) if score >= _WORTH_A_LOOK]


@dataclass(frozen=True)
class _Proposed:
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


def _hashed(index: Index, radius: int, *, turned: bool, parts: bool) -> Iterator[_Proposed]:
    """Yield what each of the hashes of whole scans and of slices proposes."""
    for which in ("field", "box"):
        codes = index.codes(which)
        present = np.flatnonzero(codes.any(axis=1)) if len(codes) else np.zeros(0, dtype=np.intp)
        near = _near(codes[present], radius)
        yield _Proposed(present[near.first], present[near.second], near.distance, which)
        if turned and len(present) > 1:
            ways = turned_pairs(np.stack([getattr(index.fingerprints[place], which) for place in present]), radius)
            yield _Proposed(
                present[ways.first], present[ways.second], ways.distance, f"turned {which}", variant=ways.variant
            )
    if parts:
        yield _sliced(index)


def _sliced(index: Index) -> _Proposed:
    return _Proposed(*slice_pairs(index.fingerprints), "slices", bits=63)


def _near(codes: hashes.Code, radius: int) -> Pairs:
    return hamming_pairs(codes, radius) if len(codes) <= EXACT_UP_TO else multi_index_pairs(codes, radius)


def _by_points(points: dict[int, Points]) -> Iterator[tuple[Candidate, float]]:
    """Yield pairs whose points agree on one shift, and the number of agreeing points times their share."""
    least_alike = RADIUS / hashes.BITS * _POINT_VOTES
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for level in points.values():
        first, second, shift = voted(level)
        agree, share, _ = agreeing(level, first, second, shift)
        for pair, many, part in zip(
            zip(first.tolist(), second.tolist(), strict=True), agree.tolist(), share.tolist(), strict=True
        ):
            best[pair] = max((many * part, many), best.get(pair, (0.0, 0)))
    for (a, b), (score, many) in best.items():
        yield Candidate(first=a, second=b, distance=least_alike / max(1, many), how="points"), score


def _held_against_points(points: dict[int, Points], proposed: Sequence[Candidate]) -> dict[tuple[int, int], float]:
    """Return for each pair the number of agreeing points times their share; infinity where too few can tell."""
    result: dict[tuple[int, int], float] = {}
    ways: dict[Variant, list[tuple[int, int]]] = {}
    for one in proposed:
        ways.setdefault(one.variant, []).append((one.first, one.second))
    for variant, pairs in ways.items():
        first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        score, told = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=bool)
        for level in points.values():
            agree, share, enough = agreeing(level, first, second, variant=variant)
            score = np.where(enough, np.maximum(score, agree * share), score)
            told |= enough
        result |= dict(zip(pairs, np.where(told, score, np.inf).tolist(), strict=True))
    return result


def _take(found: dict[tuple[int, int], Candidate], new: Iterable[Candidate]) -> None:
    for one in new:
        before = found.get((one.first, one.second))
        if before is None or one.distance < before.distance:
            found[one.first, one.second] = one


def _equal(prints: tuple[Fingerprint, ...], how: str, key: Callable[[Fingerprint], Hashable]) -> Iterator[Candidate]:
    """Yield each scan with the first that has the same key, and not all pairs: of a thousand equal files, 999."""
    first: dict[Hashable, int] = {}
    for place, one in enumerate(prints):
        earlier = first.setdefault(key(one), place)
        if earlier != place:
            yield Candidate(first=earlier, second=place, distance=0.0, how=how)
