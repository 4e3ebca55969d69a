"""The other ways to find copies, beside which benchmarks/reduction_recall.py puts ours: 2D hashes of slices."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from middle_slice_hash import perceptual_hash
from reduction_scans import Item, one_body

from medssl.reduction.fingerprint import read_target
from medssl.reduction.slices import as_8_bit, difference_hash

__all__ = ["CLEANVISION", "IMAGEDEDUP", "Slices", "hash_6_share", "other_false", "slices_of"]

IMAGEDEDUP, CLEANVISION = 10, 0
HASH_6 = 6  # differing bits of 64, inclusive, up to which the paper calls two slices the same


@dataclass(frozen=True)
class Slices:
    """What the 2D ways keep of a scan, from the array as it is stored."""

    perceptual: int
    difference: npt.NDArray[np.uint64]


def slices_of(item: Item) -> Slices:
    """Hash the middle slice by pHash, and every slice by dHash."""
    values = np.nan_to_num(read_target(item.target).values)
    planes = [as_8_bit(plane) for plane in values]
    return Slices(
        perceptual_hash(planes[len(planes) // 2]),
        np.array([difference_hash(plane) for plane in planes], dtype=np.uint64),
    )


def hash_6_share(one: Slices, two: Slices) -> float:
    """Return the share of the slices of the shorter scan that have a slice within 6 bits in the other."""
    apart = np.bitwise_count(one.difference[:, None] ^ two.difference[None])
    axis = 1 if len(one.difference) <= len(two.difference) else 0
    return float((apart.min(axis=axis) <= HASH_6).mean())


def other_false(mine: list[Item], slices: dict[str, Slices]) -> None:
    """Count strangers that the 2D hashes call copies: the middle slices of all pairs, Hash-6 of the originals."""
    here = [item for item in mine if item.id in slices]
    codes = np.array([slices[item.id].perceptual for item in here], dtype=np.uint64)
    body = np.unique([item.original.id for item in here], return_inverse=True)[1]
    counts = Counter[str]()
    for place in range(len(here) - 1):
        apart = np.bitwise_count(codes[place + 1 :] ^ codes[place])
        other = body[place + 1 :] != body[place]
        counts["pairs"] += int(other.sum())
        counts["imagededup"] += int((other & (apart <= IMAGEDEDUP)).sum())
        counts["cleanvision"] += int((other & (apart <= CLEANVISION)).sum())
    plain = [item for item in here if item.change is None]
    pairs = [(a, b) for a, b in itertools.combinations(plain, 2) if one_body(a, b) is False]
    wrong = sum(hash_6_share(slices[a.id], slices[b.id]) >= 0.5 for a, b in pairs)
    print(
        f"The others, called copies: pHash 10 {counts['imagededup']:,} and pHash 0 {counts['cleanvision']:,} of "
        f"{counts['pairs']:,}; Hash-6 {wrong:,} of {len(pairs):,} pairs of originals."
    )
