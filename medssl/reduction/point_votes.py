"""Scans whose points agree on one shift, and how many of the points that both ought to show do agree at it.

Two points are like each other where their hashes are near. A pair of scans of which several like points are moved by
one shift is then looked at as a whole: of the points of each that lie within the other, how many have a like one where
the shift says. Agreeing points times their share come to 5 to 60 for nearly all copies made in 42 ways.

An outline that is the same in many scans makes their points agree, and speaks for no copy. So the folder itself says
what a point tells: scans that are plainly copies are one family, and a point that agrees with points of k other
families weighs 1/k beside the others of its scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes, keypoints
from medssl.reduction.hashes import Variant
from medssl.reduction.neighbours import distinct, joined
from medssl.reduction.telling_points import COMMON, RADIUS, Ints, Points, like_points

__all__ = ["LEAST_POINTS", "MANY_ALIKE", "Votes", "agreeing", "families", "voted", "weighed"]

LEAST_POINTS = 16  # of each scan, on grids of one size: fewer say nothing about a pair
_VOTES = 4  # points that must agree on one shift
_BIN = 8  # quarters of a cell within which shifts are one
_BINS = 1 << 9  # of shifts along an axis; more would come round again, which costs a look and no more
_LOW_HALF = (1 << 32) - 1
_BEYOND = 3  # quarters of a cell by which a point may lie beside the place that the shift says
_ALIKE = 14  # differing bits of two points at one place that are the same
_TOGETHER = 128  # pairs that are compared at a time
_MATCHES = 40  # like points of each point, on average, beyond which only nearer hashes are taken as like
_CHUNK = 512  # scans whose votes are counted at a time
_PLAIN = 0.5  # share of the points of a pair that agree from which the two are one family
MANY_ALIKE = 16  # scans, or families, up to which none says that something is common
_PLAIN_SCORE = 5.0  # agreeing points times their share from which they are

Votes = tuple[Ints, Ints, Ints]


def voted(points: Points) -> Votes:
    """Return pairs of scans of which several like points are moved by one shift, and that shift.

    Returns:
        first (n,), second (n,), larger, and the shift (n, 3) in quarters of a cell that has most votes; each pair once.
    """
    scans, count = points.scans, len(points.starts) - 1
    pairs, shifts, votes = [np.zeros(0, np.int64)], [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    radius = _radius(points)
    for begin in range(0, count, _CHUNK):
        low, high = points.starts[begin], points.starts[min(count, begin + _CHUNK)]
        if high == low:
            continue
        near = like_points(points.codes[low:high], radius, points.codes[low:])
        one, two = near.first + low, near.second + low
        across = scans[one] < scans[two]
        for pair, shift, many in _most_voted(points, scans, one[across], two[across]):
            pairs.append(pair)
            shifts.append(shift)
            votes.append(many)
    pair, shift, many = np.concatenate(pairs), np.concatenate(shifts), np.concatenate(votes)
    order = np.lexsort((*shift.T, -many, pair))
    pair, shift = pair[order], shift[order]
    new = np.concatenate([pair[:1] == pair[:1], pair[1:] != pair[:-1]])
    return pair[new] >> 32, pair[new] & _LOW_HALF, shift[new]


def _radius(points: Points) -> int:
    """Return how near hashes must be for their points to be alike: nearer, where there are very many."""
    count = len(points.codes)
    some = np.unique(np.linspace(0, max(0, count - 1), 20_000).astype(np.int64))
    if count <= len(some):
        return RADIUS
    near = like_points(points.codes[some], RADIUS)
    for radius in range(RADIUS, 0, -2):
        if 2 * (near.distance <= radius).sum() / len(some) * count / len(some) <= _MATCHES:
            return radius
    return 2


def _most_voted(points: Points, scans: Ints, one: Ints, two: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield (first << 32 | second, shift, votes) of the shifts of a pair of scans that have enough votes."""
    pair, which, together = np.unique(scans[one] << 32 | scans[two], return_inverse=True, return_counts=True)
    kept = together[which] >= _VOTES  # most pairs meet once or twice, by chance
    for named, shift, votes in _bins(which[kept], points.places[one[kept]] - points.places[two[kept]]):
        enough = votes >= _VOTES
        yield pair[named[enough]], shift[enough], votes[enough]


def _bins(which: Ints, shift: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield (which, mean shift, votes) of the bins that shifts fall into, in eight ways to lay the bins.

    Shifts that a border of the bins parts in one of the ways lie together in another.
    """
    for laid in np.ndindex(2, 2, 2):
        z, y, x = ((shift + np.array(laid) * (_BIN // 2)) // _BIN % _BINS).T
        bins = which << 27 | z << 18 | y << 9 | x
        order = np.argsort(bins, kind="stable")
        starts = np.flatnonzero(np.concatenate([bins[:1] == bins[:1], np.diff(bins[order]) != 0]))
        if len(starts):
            votes = np.diff(np.append(starts, len(bins)))
            mean = np.rint(np.add.reduceat(shift[order], starts, axis=0) / votes[:, None]).astype(np.int64)
            yield which[order[starts]], mean, votes


def families(levels: Mapping[int, tuple[Points, Votes]], count: int) -> Ints:
    """Return the family of each scan: scans that plain copies join, chains of them too, int64 (count,).

    Scans of which half the points agree are joined. What joins more than a fifth of all scans is an outline that all
    have, and no family: there only those stay joined of which half agrees on each size of cell that shows enough, with
    the points of all those scans weighed as if each were of its own family.

    Args:
        levels: Points of all scans, and pairs as `voted` returns them, by log2 of the size of cells.
        count: Scans.
    """
    points = {scale: level for scale, (level, _) in levels.items()}
    votes = {scale: told for scale, (_, told) in levels.items()}
    links = {scale: _plain(points[scale], told) for scale, told in votes.items()}
    family = joined(
        np.concatenate([np.zeros((2, 0), np.int64), *(np.stack(v[:2]) for v in links.values())], axis=1), count
    )
    large = np.bincount(family, minlength=count)[family] > max(MANY_ALIKE, COMMON * count)
    if not large.any():
        return family
    alone = np.where(large, count + np.arange(count), family)
    told = {scale: weighed(points[scale], votes[scale], alone) for scale in levels}
    ends = [np.zeros((2, 0), np.int64)]
    for scale, (one, two, _) in links.items():
        ends.append(np.stack([one, two])[:, ~large[one]])
        inner = links[scale][0][large[one]], links[scale][1][large[one]], links[scale][2][large[one]]
        first, second, shift = _plain(told[scale], inner)
        plain = np.ones(len(first), dtype=bool)
        for other in levels.keys() - {scale}:
            moved = np.rint(shift * 2.0 ** (scale - other)).astype(np.int64)
            _, share, enough = agreeing(told[other], first, second, moved)
            plain &= ~enough | (share >= _PLAIN)
        ends.append(np.stack([first[plain], second[plain]]))
    return joined(np.concatenate(ends, axis=1), count)


def _plain(points: Points, votes: Votes) -> Votes:
    """Return the pairs of which half the points agree, and of those points as many as are no chance."""
    agree, share, _ = agreeing(points, *votes)
    first, second, shift = (each[(share >= _PLAIN) & (agree * share >= _PLAIN_SCORE)] for each in votes)
    return first, second, shift


def weighed(points: Points, votes: Votes, family: Ints) -> Points:
    """Return the points with what each tells: 1/k of one that agrees with points of k other families.

    Of one that a fifth of all families show it is nothing.

    Args:
        points: Points of all scans.
        votes: Pairs as `voted` returns them.
        family: int64 (scans,), see `families`.
    """
    known, family = np.unique(family, return_inverse=True)
    strange = np.flatnonzero(family[votes[0]] != family[votes[1]])
    first, second, shift = (each[strange] for each in votes)
    seen = [np.zeros(0, np.int64)]
    for begin in range(0, len(first), _TOGETHER):
        part = slice(begin, begin + _TOGETHER)
        one, two = _table(points, first[part]), _table(points, second[part])
        met = _met(one, two, shift[part])
        for table, agree, others in ((one, met.one, second[part]), (two, met.two, first[part])):
            seen.append((table.at * len(known) + family[others][:, None])[agree])
    point = distinct(np.concatenate(seen)) // max(1, len(known))
    count = np.bincount(point, minlength=len(points.codes))
    weights = np.where(count > max(MANY_ALIKE, COMMON * len(known)), 0.0, 1.0 / np.maximum(1.0, count))
    return replace(points, weights=weights)


def agreeing(
    points: Points,
    first: Ints,
    second: Ints,
    shift: Ints | None = None,
    variant: Variant | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return how many points of pairs of scans agree, which share that is, and whether both have enough to say so.

    Both by the weights of the points beside each other: the number is how many points of one weight would tell as much
    (L. Kish, "Survey Sampling", 1965: the square of the sum over the sum of the squares).

    Args:
        points: Points of all scans.
        first: int64 (n,), scans.
        second: int64 (n,), scans.
        shift: int64 (n, 3), quarters of a cell by which the second is moved. Without it no shift is tried, and then the
            one that most of the points that are alike at any place ask for.
        variant: How the axes of the second are turned first.
    """
    agree, share = np.zeros(len(first)), np.zeros(len(first))
    counts = np.diff(points.starts)
    for begin in range(0, len(first), _TOGETHER):
        part = slice(begin, begin + _TOGETHER)
        one, two = _table(points, first[part]), _turned(_table(points, second[part]), variant or Variant())
        if shift is not None:
            met = _met(one, two, shift[part])
            agree[part], share[part] = met.number(), met.share()
            continue
        tried = [_met(one, two, here) for here in (np.zeros((len(one.there), 3), np.int64), _own_shift(one, two))]
        numbers, shares = np.stack([met.number() for met in tried]), np.stack([met.share() for met in tried])
        better = (numbers * shares).argmax(axis=0)
        agree[part], share[part] = np.choose(better, numbers), np.choose(better, shares)
    return agree, share, np.minimum(counts[first], counts[second]) >= LEAST_POINTS


@dataclass(frozen=True)
class _Table:
    """The points of some scans, each row as long as the longest."""

    places: npt.NDArray[np.int16]
    codes: hashes.Code
    there: npt.NDArray[np.bool_]
    halves: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    at: Ints


@dataclass(frozen=True)
class _Met:
    """Which points of pairs of rows agree at a shift, which lie within the other scan, and their weights."""

    one: npt.NDArray[np.bool_]
    two: npt.NDArray[np.bool_]
    within_one: npt.NDArray[np.bool_]
    within_two: npt.NDArray[np.bool_]
    weights: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

    def share(self) -> npt.NDArray[np.float64]:
        """Return which share of the points that both ought to show agrees, by their weights; of the scan with less."""
        sides = zip((self.one, self.two), (self.within_two, self.within_one), self.weights, strict=True)
        told = [(w * agree).sum(axis=1) / np.maximum((w * within).sum(axis=1), 1e-9) for agree, within, w in sides]
        least: npt.NDArray[np.float64] = np.minimum(1.0, np.minimum(told[0], told[1]))
        return least

    def number(self) -> npt.NDArray[np.float64]:
        """Return how many points agree, by their weights; see `agreeing`."""
        told = [w * agree for w, agree in zip(self.weights, (self.one, self.two), strict=True)]
        one, two = (w.sum(axis=1) ** 2 / np.maximum((w * w).sum(axis=1), 1e-9) for w in told)
        least: npt.NDArray[np.float64] = np.minimum(one, two)
        return least


def _table(points: Points, scans: Ints) -> _Table:
    counts = np.diff(points.starts)[scans]
    there = np.arange(max(1, int(counts.max(initial=0)))) < counts[:, None]
    at = np.where(there, points.starts[scans][:, None] + np.arange(there.shape[1]), 0)
    halves = points.halves[scans]
    if not len(points.codes):
        nothing = np.zeros(at.shape)
        return _Table(np.zeros((*at.shape, 3), np.int16), np.zeros(at.shape, np.uint64), there, halves, nothing, at)
    weights = points.weights[at] * there
    return _Table(points.places[at].astype(np.int16), points.codes[at], there, halves, weights, at)


def _turned(table: _Table, variant: Variant) -> _Table:
    """Return points as a turned scan has them, but for bits of frequencies that lie next to the median."""
    if variant == Variant():
        return table
    sign = np.where(variant.flips, -1, 1).astype(np.int16)
    order = list(variant.order)
    codes = keypoints.turned(table.codes, variant)
    return replace(table, places=table.places[..., order] * sign, codes=codes, halves=table.halves[:, order])


def _own_shift(one: _Table, two: _Table) -> Ints:
    """Return for each pair of rows the shift that most points ask for that are alike, wherever they lie."""
    best, most = np.zeros((len(one.there), 3), dtype=np.int64), np.zeros(len(one.there), dtype=np.int64)
    alike = np.bitwise_count(one.codes[:, :, None] ^ two.codes[:, None]) <= _ALIKE
    pair, a, b = np.nonzero(alike & one.there[:, :, None] & two.there[:, None])
    for which, shift, votes in _bins(pair, one.places[pair, a].astype(np.int64) - two.places[pair, b]):
        order = np.lexsort((*shift.T, -votes, which))
        which, shift, votes = which[order], shift[order], votes[order]
        new = np.concatenate([[True], which[1:] != which[:-1]])
        new[new] = votes[new] > most[which[new]]
        most[which[new]], best[which[new]] = votes[new], shift[new]
    return best


def _met(one: _Table, two: _Table, shift: Ints) -> _Met:
    """Return which points agree where the second is moved by a shift."""
    moved = two.places + shift[:, None]
    same = one.there[:, :, None] & two.there[:, None]
    for axis in range(3):
        same &= np.abs(one.places[:, :, None, axis] - moved[:, None, :, axis]) <= _BEYOND
    pair, a, b = np.nonzero(same)
    far = np.bitwise_count(one.codes[pair, a] ^ two.codes[pair, b]) > _ALIKE
    same[pair[far], a[far], b[far]] = False
    within_two = (np.abs(one.places - shift[:, None]) <= two.halves[:, None]).all(axis=2) & one.there
    within_one = (np.abs(moved) <= one.halves[:, None]).all(axis=2) & two.there
    agree_one, agree_two = np.asarray(same.any(axis=2)), np.asarray(same.any(axis=1))
    return _Met(agree_one, agree_two, within_one, within_two, (one.weights, two.weights))
