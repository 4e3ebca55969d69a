"""Pairs of scans that may be copies, from their fingerprints alone, and as few as the fingerprints allow.

Equal and near hashes find whole copies; runs of equal slices find what was cut along z and left alone besides; points
that agree on one shift find what was cut, padded or masked in any other way, and small rotations.

What is proposed in any of these ways is then held against the points of both scans. Bodies of one kind look alike, and
the pairs that do so by chance are a share of all pairs; so of pairs that the points leave in doubt each scan keeps the
likeliest few. The rest is counted, never dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.crowds import likeliest, place_of
from medssl.reduction.index import Index
from medssl.reduction.neighbours import planted_recall
from medssl.reduction.proposed import RADIUS, Candidate, PointEvidence, equal, hashed, is_exact, near_codes

__all__ = [
    "LIMITS",
    "RADIUS",
    "Candidate",
    "Limits",
    "Proposals",
    "Weighed",
    "candidates",
    "keep",
    "propose",
    "search_recall",
    "weigh",
]

_HASHED = 128  # pairs of a scan by one hash that are held against its points
_STEP = 16  # differing bits that make one pair nearer than another


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Which pairs are kept. All but `likely` are set by benchmarks/reduction_proposals.py.

    Attributes:
        sure: What the points of a pair tell from which it is no doubtful one.
        worth_a_look: The same of pairs that points alone propose, below which they are unlike.
        nothing: The same of pairs that a hash proposes.
        nearest: Pairs of a scan by the nearest of its hashes that are kept whatever their points say.
        plain: Differing bits of 511 up to which they are.
        doubtful: Pairs of a scan that are kept where its points leave it open.
        alone: Pairs of a scan that are kept where it has too few points to tell, the nearest by hash.
        likely: Pairs of a scan that are kept where its points leave little doubt.
        chance: By how much `worth_a_look` and `nothing` rise with each doubling of the families beyond `few`: strangers
            that look alike by chance are a share of all pairs, and copies are not.
        fewer: By how many bits `plain` falls, and the radius of turned pairs, which have 95 ways to be near by chance.
        few: Families up to which none does.
        turned: Differing bits below which that radius never falls: nearly all turned copies lie nearer.
    """

    sure: float = 5.0
    worth_a_look: float = 2.0
    nothing: float = 1.0
    nearest: int = 4
    plain: float = 40.0
    doubtful: int = 8
    alone: int = 8
    likely: int = 128
    chance: float = 0.2
    fewer: float = 5.0
    few: int = 64
    turned: int = 20

    def doublings(self, families: int) -> float:
        """Return how often so many families of scans are twice as many as `few`."""
        return math.log2(max(1.0, families / self.few))

    def turned_radius(self, radius: int, families: int) -> int:
        """Return the differing bits up to which a hash proposes turned pairs, where it does others up to a radius."""
        return min(radius, max(self.turned, math.floor(radius - self.fewer * self.doublings(families))))

    def among(self, families: int) -> Limits:
        """Return the limits among so many families of scans."""
        doublings = self.doublings(families)
        higher = self.chance * doublings
        return replace(
            self,
            worth_a_look=self.worth_a_look + higher,
            nothing=self.nothing + higher,
            plain=self.plain - self.fewer * doublings,
            few=max(self.few, families),
        )


LIMITS = Limits()


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


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Every pair that a fingerprint proposes, and what speaks for it.

    Attributes:
        equal: Pairs with equal files or arrays.
        pairs: The others.
        evidence: float64 (n,), what the points of each tell; infinity where too few can.
        place: int64 (n,), the place of each among the pairs of one of its scans by the distance of their hashes, from
            0; of pairs that points alone propose, by the distance that stands for it.
        rank: int64 (scans,), the order of the scans by worth.
        crowded: Pairs that were too many to be held against points.
        families: Of scans, see `medssl.reduction.point_votes.families`.
    """

    equal: tuple[Candidate, ...]
    pairs: tuple[Candidate, ...]
    evidence: npt.NDArray[np.float64]
    place: npt.NDArray[np.int64]
    rank: npt.NDArray[np.int64]
    crowded: int
    families: int


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

    Scans without any contrast have no hash; only equal files and arrays are told of them. How many pairs a scan keeps
    is said by `LIMITS`. Where it has more, they are the ones with the scans worth most, which are the same for all
    scans of a large group: so all of a group meet.

    Args:
        index: Fingerprints.
        radius: Differing bits of 511, inclusive; of turned copies fewer the more families there are.
        turned: Look for flipped, swapped and negated copies as well.
        parts: Look for scans of a part of the body that another shows.
        worth: What each scan is worth keeping for; by default its voxels.
    """
    return keep(weigh(index, radius=radius, turned=turned, parts=parts, worth=worth))


def weigh(
    index: Index,
    *,
    radius: int = RADIUS,
    turned: bool = True,
    parts: bool = True,
    worth: Sequence[float] | None = None,
) -> Weighed:
    """Return every pair that a fingerprint proposes, with what speaks for it. Arguments are those of `propose`."""
    prints = index.fingerprints
    values = np.array([np.prod(one.shape) for one in prints] if worth is None else worth, dtype=np.float64)
    rank = np.empty(len(prints), dtype=np.int64)
    rank[np.lexsort((np.arange(len(prints)), -values))] = np.arange(len(prints))
    known: dict[tuple[int, int], Candidate] = {}
    _take(known, equal(prints, "file", lambda one: one.file_hash))
    _take(known, equal(prints, "array", lambda one: one.content_hash))
    found: dict[tuple[int, int], Candidate] = {}
    crowded = 0
    points = PointEvidence(prints)
    turned_radius = LIMITS.turned_radius(radius, points.families) if turned else None
    for proposed in hashed(index, radius, turned=turned_radius, parts=parts):
        near = likeliest(proposed.first, proposed.second, proposed.distance // _STEP, rank, _HASHED)
        crowded += int(np.count_nonzero(~near))
        _take(found, proposed.candidates(np.flatnonzero(near)))
    found = {pair: one for pair, one in found.items() if pair not in known}
    place = dict(zip(found, _places(list(found.values()), rank).tolist(), strict=True))
    evidence = points.of(list(found.values()))
    if parts:
        for one, score in points.proposed():
            pair = one.first, one.second
            if pair not in known:
                evidence[pair] = max(score, evidence.get(pair, 0.0))
                place.setdefault(pair, len(prints))
                _take(found, [one])
    ordered = sorted(found)
    return Weighed(
        equal=tuple(known[pair] for pair in sorted(known)),
        pairs=tuple(found[pair] for pair in ordered),
        evidence=np.array([evidence[pair] for pair in ordered]),
        place=np.array([place[pair] for pair in ordered], dtype=np.int64),
        rank=rank,
        crowded=crowded,
        families=points.families,
    )


def keep(weighed: Weighed, limits: Limits = LIMITS) -> Proposals:
    """Return the pairs that are worth looking at by these limits, among so many families."""
    limits = limits.among(weighed.families)
    pairs, evidence = weighed.pairs, weighed.evidence
    first, second = _ends(pairs)
    bits = np.array([one.distance for one in pairs]) * hashes.BITS
    alone = np.array([one.how == "points" for one in pairs], dtype=bool)
    kept = (weighed.place < limits.nearest) & (bits <= limits.plain)
    unlike = ~kept & (evidence < np.where(alone, limits.worth_a_look, limits.nothing))
    open_ = ~kept & ~unlike
    untold, likely = np.isinf(evidence), evidence >= limits.sure
    # Half as likely is less likely; what lies between is decided by worth, so that the scans of a group meet. Where the
    # scans have too few points to tell, their hashes do.
    halvings = -np.floor(np.log2(np.clip(evidence, 1e-9, 1e9)))
    for group, doubt, most in (
        (open_ & untold, bits // _STEP, limits.alone),
        (open_ & likely & ~untold, np.zeros(len(pairs)), limits.likely),
        (open_ & ~likely, halvings, limits.doubtful),
    ):
        some = np.flatnonzero(group)
        kept[some[likeliest(first[some], second[some], doubt[some], weighed.rank, most)]] = True
    chosen = [*weighed.equal, *(pairs[place] for place in np.flatnonzero(kept).tolist())]
    return Proposals(
        pairs=tuple(sorted(chosen, key=lambda one: (one.first, one.second))),
        unlike=int(np.count_nonzero(unlike)),
        crowded=weighed.crowded + int(np.count_nonzero(~kept & ~unlike)),
    )


def search_recall(index: Index, *, radius: int = RADIUS, which: str = "field") -> float:
    """Return the share of planted pairs that the search of `candidates` finds among these very codes.

    It is 1 where the search is exact, up to 20 000 scans; beyond, copies of the codes are planted and searched for.
    """
    codes = index.codes(which)
    if is_exact(codes):
        return 1.0
    return planted_recall(codes[codes.any(axis=1)], radius, search=lambda some: near_codes(some, radius))


def _ends(pairs: Sequence[Candidate]) -> npt.NDArray[np.int64]:
    return np.array([(one.first, one.second) for one in pairs], dtype=np.int64).reshape(-1, 2).T


def _places(pairs: Sequence[Candidate], rank: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    first, second = _ends(pairs)
    return place_of(first, second, np.array([one.distance for one in pairs]), rank)


def _take(found: dict[tuple[int, int], Candidate], new: Iterable[Candidate]) -> None:
    for one in new:
        before = found.get((one.first, one.second))
        if before is None or one.distance < before.distance:
            found[one.first, one.second] = one
