"""Hash-6 as its paper's scripts go: slice by slice, the first of those that are alike stands for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.reduction.slices import as_8_bit, difference_hash

__all__ = ["leaders_in_turn", "reduce_by_hash"]

HASH_6 = 6  # differing bits of 64, inclusive, up to which two slices count as the same


def leaders_in_turn(codes: npt.NDArray[np.uint64], radius: int) -> npt.NDArray[np.intp]:
    """Return for each 64-bit code the place of the code that stands for it, itself where it is kept.

    The first code that is left is kept and takes all that lie within the radius, again and again. It depends on the
    order; `groups.lead` is the one that does not.

    Args:
        codes: uint64 (n,).
        radius: Differing bits up to which a code is taken, inclusive.
    """
    leader = np.full(len(codes), -1, dtype=np.intp)
    for place in range(len(codes)):
        if leader[place] >= 0:
            continue
        left = np.flatnonzero(leader < 0)
        apart = np.bitwise_count(codes[left] ^ codes[place])
        leader[left[apart <= radius]] = place
    return leader


def reduce_by_hash(volume: npt.NDArray[Any], *, radius: int = HASH_6) -> npt.NDArray[np.intp]:
    """Return for each slice of a volume the slice that stands for it by the paper's rule (Hash-6 at radius 6).

    Two things the published scripts do are left out, being slips: slices are taken in the order in which they lie, not
    in the order of file names without leading zeros, and nothing is copied.

    Args:
        volume: Slices (z, y, x) in the order in which they lie.
        radius: Differing bits of 64 up to which two slices count as the same, inclusive.

    Returns:
        (z,) places; the slices that are kept are those that stand for themselves.
    """
    codes = np.array([difference_hash(as_8_bit(plane)) for plane in volume], dtype=np.uint64)
    return leaders_in_turn(codes, radius)
