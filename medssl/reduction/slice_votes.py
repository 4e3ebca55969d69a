"""Scans of which one shows a part of what the other shows along z: their slices lie on each other at one offset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.neighbours import multi_index_pairs

__all__ = ["slice_pairs"]

_SLICE_RADIUS = 10.0  # mean differing bits of 63 over the slices that lie on each other
_SEED_RADIUS = 4  # differing bits of the slices that propose an offset
_LEAST_SHARE = 0.6
_LEAST_SLICES = 4
_LEAST_VOTES = 2  # slices that must propose one offset: a single one does by chance
_CAP = 200  # codes of one bucket that are compared in full
_BANDS = 6  # with a radius of 4, of codes that agree in one band none is missed
_CHUNK = 512  # scans whose slices are searched for at a time, which bounds memory
_TOGETHER = 1 << 14  # pairs that are compared at a time
_FAR = 1 << 30  # added to offsets, so that none is negative
_LOW_HALF = (1 << 32) - 1

Ints = npt.NDArray[np.int64]


def slice_pairs(prints: Sequence[Fingerprint]) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """Return pairs of which one shows a part of what the other shows along z, or both overlap by 60 % of the shorter.

    Two slices or more that are nearly equal propose an offset, and of a pair the offset that most propose is tried.
    What counts is the mean distance of all slices that lie on each other there. Slices must be equally thick. Scans of
    fewer than 4 slices are left out.

    Returns:
        first (n,), second (n,), larger, and the mean of differing bits of 63 (n,); sorted, each pair once.
    """
    counts = np.array([len(one.slices) if len(one.slices) >= _LEAST_SLICES else 0 for one in prints], dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    if np.count_nonzero(counts) < 2:
        return nothing, nothing, np.zeros(0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    codes = np.concatenate([one.slices[:count] for one, count in zip(prints, counts, strict=True)])
    scan = np.repeat(np.arange(len(prints)), counts)
    position = np.arange(len(codes)) - starts[scan]
    chunks = [
        _offsets(codes, scan, position, starts[begin : begin + _CHUNK + 1]) for begin in range(0, len(prints), _CHUNK)
    ]
    first, second, offset = np.concatenate(chunks, axis=1)
    distance = _on_each_other(codes, starts, first, second, offset)
    kept = np.flatnonzero(distance <= _SLICE_RADIUS)
    return first[kept], second[kept], distance[kept]


def _offsets(codes: hashes.Code, scan: Ints, position: Ints, starts: Ints) -> Ints:
    """Return pairs of some scans and later ones, and the offset that most of their slices propose, int64 (3, n)."""
    low, high = int(starts[0]), int(starts[-1])
    mine, telling = low + np.flatnonzero(codes[low:high]), low + np.flatnonzero(codes[low:])
    near = multi_index_pairs(codes[mine][:, None], _SEED_RADIUS, others=codes[telling][:, None], bands=_BANDS, cap=_CAP)
    one, two = mine[near.first], telling[near.second]
    across = scan[one] < scan[two]
    one, two = one[across], two[across]
    pair, which = np.unique(scan[one] << 32 | scan[two], return_inverse=True)
    asked, votes = np.unique(which << 32 | (position[one] - position[two] + _FAR), return_counts=True)
    asked, votes = asked[votes >= _LEAST_VOTES], votes[votes >= _LEAST_VOTES]
    # Of a pair the offset that most slices propose; of equal ones the first.
    asked = asked[np.lexsort((asked, -votes, asked >> 32))]
    asked = asked[np.unique(asked >> 32, return_index=True)[1]]
    named = pair[asked >> 32]
    return np.stack([named >> 32, named & _LOW_HALF, (asked & _LOW_HALF) - _FAR])


def _on_each_other(
    codes: hashes.Code, starts: Ints, first: Ints, second: Ints, offset: Ints
) -> npt.NDArray[np.float64]:
    """Return the mean distance of the slices that lie on each other; infinity where these are too few."""
    sizes = np.diff(starts)
    begin = np.maximum(0, offset)
    stop = np.minimum(sizes[first], sizes[second] + offset)
    shared = stop - begin
    enough = shared >= np.maximum(_LEAST_SLICES, _LEAST_SHARE * np.minimum(sizes[first], sizes[second]))
    result = np.full(len(first), np.inf)
    places = np.flatnonzero(enough)
    for begins in range(0, len(places), _TOGETHER):
        part = places[begins : begins + _TOGETHER]
        count = shared[part]
        ends = np.cumsum(count)
        step = np.arange(ends[-1]) - np.repeat(ends - count, count)
        a = np.repeat(starts[first[part]] + begin[part], count) + step
        b = np.repeat(starts[second[part]] + begin[part] - offset[part], count) + step
        apart = np.bitwise_count(codes[a] ^ codes[b]).astype(np.float64)
        result[part] = np.add.reduceat(apart, ends - count) / count
    return result
