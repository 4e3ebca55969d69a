"""Reducing the slices of one scan, and Hash-6 of "Less is More" exactly as its authors published it.

Source: D. Wolf et al., "Less is More: Selective reduction of CT data for self-supervised pre-training of deep learning
models with contrastive learning improves downstream classification performance", Computers in Biology and Medicine 183
(2024) 109242, and the code beside it (dHash of 8-bit slices, distance 6, greedy).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["HASH_6", "as_8_bit", "difference_hash", "leaders_in_turn", "reduce_by_hash"]

HASH_6 = 6  # differing bits of 64, inclusive, up to which two slices count as the same
_SIDE = 8


def as_8_bit(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Stretch a slice's own minimum and maximum to 0 and 255, without a window, as the paper does.

    Args:
        image: Slice (y, x). A constant one becomes 0.
    """
    values = np.asarray(image, dtype=np.float64)
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros(values.shape, dtype=np.uint8)
    stretched: npt.NDArray[np.uint8] = ((values - low) / (high - low) * 255.0).astype(np.uint8)
    return stretched


def difference_hash(image: npt.NDArray[np.uint8]) -> int:
    """Return the 64 bits of dHash: grey, 9x8 by Lanczos, each pixel brighter than its left neighbour, row by row.

    The first comparison is the highest bit, as `imagehash.dhash(image, hash_size=8)` prints it.

    Args:
        image: 8-bit grey slice (y, x).
    """
    from PIL import Image

    small = Image.fromarray(image).convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small)
    return int.from_bytes(np.packbits(pixels[:, 1:] > pixels[:, :-1]).tobytes(), "big")


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
