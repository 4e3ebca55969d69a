"""Flipped, swapped and negated copies by one index: a code that no flip and no change of sign alters.

A flip along an axis changes the sign of that axis' odd frequencies, and a negative that of all. Two frequencies that
are odd along the same axes change together, so whether their signs agree never changes. A code holds that for the
frequencies of each of the 8 kinds, each beside the next: 503 bits. The 6 orders of the axes have a code each. Near
codes propose a pair; the hashes then say which of the ways to turn it fits, and how well.

A frequency whose sign is wrong spoils two bits: of hashes that differ in a share p, codes differ in about 2 p (1 - p).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.hashes import Variant
from medssl.reduction.neighbours import multi_index_pairs

__all__ = ["Turned", "pair_codes", "turned_pairs"]

_CHECKED = 1 << 16  # pairs that are compared at a time
_TURNED = 1 << 12  # scans that are turned at a time
_SPARE = 2.0  # standard deviations of the bits that a pair at the radius is expected to differ in
_MEAN = 0  # place of the mean, which is no frequency, among those that are even along each axis


@dataclass(frozen=True)
class Turned:
    """Pairs of which the second is the first turned.

    Attributes:
        first: int64 (n,), places.
        second: int64 (n,), larger ones.
        distance: (n,), differing bits of 511 once the second is turned.
        variant: How the second is to be turned.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    variant: list[Variant]


def pair_codes(stored: hashes.Coefficients) -> hashes.Code:
    """Return which neighbouring frequencies of one kind have different signs: the same for all flips and the negative.

    Args:
        stored: (n, 8, 8, 8) as `hashes.coefficients` gives them.

    Returns:
        uint64 (n, 8).
    """
    found = []
    for odd in itertools.product((0, 1), repeat=3):
        kind = stored[:, odd[0] :: 2, odd[1] :: 2, odd[2] :: 2].reshape(len(stored), -1)
        kind = kind if any(odd) else kind[:, _MEAN + 1 :]
        told = kind != 0
        above = kind > 0
        found.append((above[:, 1:] ^ above[:, :-1]) & told[:, 1:] & told[:, :-1])
    every = np.concatenate(found, axis=1)
    packed = np.packbits(np.pad(every, ((0, 0), (0, hashes.WORDS * 64 - every.shape[1]))), axis=1, bitorder="little")
    result: hashes.Code = np.ascontiguousarray(packed).view("<u8").astype(np.uint64)
    return result


def turned_pairs(stored: hashes.Coefficients, radius: int, variants: Sequence[Variant] | None = None) -> Turned:
    """Return pairs whose hashes differ in at most ``radius`` bits once the second is turned, by the best way to do so.

    Args:
        stored: (n, 8, 8, 8) as `hashes.coefficients` gives them, none of them all zeros.
        radius: Differing bits of 511, inclusive.
        variants: The ways to turn a scan that are tried; by default all 95.
    """
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    distances, numbers = [np.zeros(0)], [np.zeros(0, np.int64)]
    every = list(variants or hashes.all_variants()[1:])
    if len(stored) > 1:
        upright = pair_codes(stored)
        bits = int(np.count_nonzero((stored != 0).any(axis=0)))
        for order in sorted({one.order for one in every}):
            moved = stored.transpose(0, *(1 + axis for axis in order))
            near = multi_index_pairs(upright, _code_radius(radius, bits), others=pair_codes(moved))
            one_way = near.first < near.second
            ways = [number for number, one in enumerate(every) if one.order == order]
            first, second = near.first[one_way], near.second[one_way]
            distance, way = _best(stored, first, second, [every[number] for number in ways])
            kept = distance <= radius
            firsts.append(first[kept])
            seconds.append(second[kept])
            distances.append(distance[kept])
            numbers.append(np.array(ways)[way[kept]])
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    distance, variant = np.concatenate(distances), np.concatenate(numbers)
    ordered = np.lexsort((variant, distance, second, first))
    first, second = first[ordered], second[ordered]
    new = np.concatenate([first[:1] == first[:1], (first[1:] != first[:-1]) | (second[1:] != second[:-1])])
    chosen = [every[int(number)] for number in variant[ordered][new]]
    return Turned(first[new], second[new], distance[ordered][new], chosen)


def _code_radius(radius: int, bits: int) -> int:
    """Return in how many bits the codes of hashes may differ that differ in ``radius`` of ``bits``."""
    share = min(0.5, radius / max(1, bits))
    both = 2 * share * (1 - share)
    return math.ceil(bits * both + _SPARE * math.sqrt(bits * both * (1 - both)))


def _best(
    stored: hashes.Coefficients, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], ways: list[Variant]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return for each pair in how many bits it differs turned in the best of these ways, and which that is."""
    distance, way = np.full(len(first), np.inf), np.zeros(len(first), dtype=np.int64)
    codes = hashes.bits(stored)
    # A scan is in many pairs, and is turned in each way once: finding its median takes longer than comparing codes.
    asked, place = np.unique(second, return_inverse=True)
    for number, one in enumerate(ways):
        parts = [asked[begin : begin + _TURNED] for begin in range(0, len(asked), _TURNED)]
        moved = np.concatenate([codes[:0], *(hashes.bits(hashes.turned(stored[part], one)) for part in parts)])
        for begin in range(0, len(first), _CHECKED):
            part = slice(begin, begin + _CHECKED)
            apart = np.bitwise_count(codes[first[part]] ^ moved[place[part]]).sum(axis=1)
            nearer = np.flatnonzero(apart < distance[part]) + begin
            distance[nearer], way[nearer] = apart[nearer - begin], number
    return distance, way
