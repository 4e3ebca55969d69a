"""The likeliest pairs of each scan: what bounds the work where very many scans look alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["likeliest", "place_of"]

Ints = npt.NDArray[np.int64]


def likeliest(first: Ints, second: Ints, doubt: npt.NDArray[Any], rank: Ints, most: int) -> npt.NDArray[np.bool_]:
    """Return which pairs are among the ``most`` likeliest of one of their two scans; see `place_of`."""
    result: npt.NDArray[np.bool_] = place_of(first, second, doubt, rank) < most
    return result


def place_of(first: Ints, second: Ints, doubt: npt.NDArray[Any], rank: Ints) -> Ints:
    """Return the place of each pair among those of one of its two scans, the likeliest first: the lower of both.

    Args:
        first: int64 (n,), places of scans; a pair stands once.
        second: int64 (n,).
        doubt: (n,), the lower the likelier.
        rank: int64 (scans,), each rank once. Of pairs with equal doubt a scan prefers those with the scan of the lowest
            rank, so that the scans of a group too large to be paired in full share the same partners.
    """
    scan, other = np.concatenate([first, second]), rank[np.concatenate([second, first])]
    order = np.lexsort((other, np.concatenate([doubt, doubt]), scan))
    place = np.empty(len(scan), dtype=np.int64)
    place[order] = np.arange(len(scan)) - np.searchsorted(scan[order], scan[order], side="left")
    result: Ints = np.minimum(place[: len(first)], place[len(first) :])
    return result
