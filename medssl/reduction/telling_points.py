"""The points of all scans, without those that so many scans show that they tell nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.neighbours import Pairs, distinct, hamming_pairs, joined, multi_index_pairs

__all__ = ["COMMON", "RADIUS", "Ints", "Points", "like_points", "points_of"]

COMMON = 0.2  # of the scans, or families, from which what they share is common
RADIUS = 8  # differing bits of 63 of two points that vote
_CAP = 200  # codes of one bucket that are compared in full
_BANDS = 6  # the buckets of as many hold more codes than those of fewer, longer bands: recall comes before speed
_SAMPLE = 128  # scans that say how common a point is
_ASKED = 1 << 15  # points that are held against those of the sample at a time
_FEW_SCANS = 64  # of which none says what is common
_SHARE_KEPT = 3  # a third of the points of each scan, the rarest, is kept however common they are
_COPY = 20  # differing bits of 511 up to which scans are plainly one: strangers differ in 24, in real sets in 96
_MOSTLY = 0.5  # of the scans of the sample that are no plain copies of others, below which copies count once

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """The telling points of all scans, on grids of one size of cell.

    Attributes:
        starts: int64 (scans + 1,), where the points of each scan begin.
        places: int64 (n, 3), quarters of a cell from the middle of the scan.
        codes: uint64 (n,).
        halves: float64 (scans, 3), half the size of each scan in quarters of a cell.
        weights: float64 (n,), what each tells, beside the others of its scan; see `weighed`.
    """

    starts: Ints
    places: Ints
    codes: hashes.Code
    halves: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]

    @property
    def scans(self) -> Ints:
        """The scan of each point."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


def points_of(prints: Sequence[Fingerprint]) -> dict[int, Points]:
    """Return the points of all scans by log2 of the size of their cells in mm, without the common ones."""
    found = {}
    levels = [np.unique(one.points[:, 0]).tolist() for one in prints]
    for scale in sorted({scale for several in levels for scale in several}):
        masks = [one.points[:, 0] == scale for one in prints]
        counts = [int(mask.sum()) for mask in masks]
        size = 4 / 2.0**scale / 2
        made = Points(
            starts=np.concatenate([[0], np.cumsum(counts)]),
            places=np.concatenate([one.points[mask, 1:] for one, mask in zip(prints, masks, strict=True)]).astype(
                np.int64
            ),
            codes=np.concatenate([one.point_codes[mask] for one, mask in zip(prints, masks, strict=True)]),
            halves=np.array([np.multiply(one.shape, one.spacing_mm) * size for one in prints]).reshape(-1, 3),
            weights=np.ones(sum(counts)),
        )
        found[scale] = _telling(made, prints)
    return found


def _telling(points: Points, prints: Sequence[Fingerprint]) -> Points:
    """Leave out points of constant surroundings and, where there are enough scans to tell, common ones.

    Where most scans are plainly copies of others each counts once, for what copies share is not common there.
    """
    kept = points.codes != 0
    scans = points.scans
    with_points = np.flatnonzero(np.diff(points.starts))
    asked = with_points[np.linspace(0, len(with_points) - 1, min(_SAMPLE, len(with_points))).astype(np.int64)]
    first = _first_of_each([prints[place] for place in asked.tolist()])
    asked = asked[first] if len(first) < _MOSTLY * len(asked) else asked
    if len(asked) >= _FEW_SCANS:
        sampled = np.flatnonzero(np.isin(scans, asked) & kept)
        count = np.zeros(len(scans), dtype=np.int64)
        for begin in range(0, len(scans), _ASKED):
            part = slice(begin, begin + _ASKED)
            near = like_points(points.codes[part], RADIUS, points.codes[sampled])
            seen = distinct(near.first * len(points.starts) + scans[sampled[near.second]])
            count[part] = np.bincount(seen // len(points.starts), minlength=len(scans[part]))
        # The rarest third of each scan: by how common they are, within the scan.
        order = np.lexsort((count, scans))
        rank = np.empty(len(scans), dtype=np.int64)
        rank[order] = np.arange(len(scans)) - points.starts[scans[order]]
        rare = rank * _SHARE_KEPT < np.diff(points.starts)[scans]
        kept &= (count <= max(2.0, COMMON * len(asked))) | rare
    starts = np.concatenate([[0], np.cumsum(np.bincount(scans[kept], minlength=len(points.starts) - 1))])
    return Points(starts, points.places[kept], points.codes[kept], points.halves, points.weights[kept])


def _first_of_each(prints: Sequence[Fingerprint]) -> Ints:
    """Return the places of scans of which no earlier one is plainly a copy, nor a copy of its copies."""
    if not prints:
        return np.zeros(0, dtype=np.int64)
    near = hamming_pairs(hashes.bits(np.stack([one.field for one in prints])), _COPY)
    first: Ints = np.unique(joined(np.stack([near.first, near.second]), len(prints)), return_index=True)[1]
    return np.sort(first)


def like_points(codes: hashes.Code, radius: int, others: hashes.Code | None = None) -> Pairs:
    """Return pairs of points with near hashes, uint64 (n,): nearly all, up to hundreds of thousands of points."""
    against = None if others is None else others[:, None]
    return multi_index_pairs(codes[:, None], radius, others=against, bands=_BANDS, cap=_CAP)
