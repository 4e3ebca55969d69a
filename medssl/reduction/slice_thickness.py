"""Scans of which one has fewer slices: every k-th of the other's, or the means of k that follow each other.

Thin series are often passed on so. Averaged onto cubes, what little lies between the slices differs where an organ
begins or ends, and looks like a body that moved. On the thick slices themselves both are one array.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Thicker", "thick_slices", "thicker"]

_MOST = 8  # slices in one
_NEAR = 0.01  # of a voxel's size


@dataclass(frozen=True)
class Thicker:
    """Which of two scans has slices several times as thick, all else being equal.

    Attributes:
        second: It is the second.
        axis: Along which its voxels are longer.
        times: How many times, 2 to 8.
    """

    second: bool
    axis: int
    times: int


def thicker(one_mm: tuple[float, ...], two_mm: tuple[float, ...]) -> Thicker | None:
    """Return which scan's voxels are a whole number of times as long along one axis, or None.

    Args:
        one_mm: Size of the first's voxels (z, y, x).
        two_mm: Of the second's.
    """
    ratio = np.array(two_mm) / np.array(one_mm)
    other = np.flatnonzero(np.abs(ratio - 1) >= _NEAR)
    if len(other) != 1:
        return None
    axis = int(other[0])
    larger = float(max(ratio[axis], 1 / ratio[axis]))
    times = round(larger)
    if not 2 <= times <= _MOST or abs(larger / times - 1) >= _NEAR:
        return None
    return Thicker(second=bool(ratio[axis] > 1), axis=axis, times=times)


def thick_slices(
    values: npt.NDArray[Any], axis: int, times: int, begin: float
) -> Iterator[tuple[npt.NDArray[Any], int]]:
    """Yield a scan on thick slices in each way that may be the other's, and which of them is the other's first.

    Args:
        values: Voxels of the scan with thin slices.
        axis: The axis to thin.
        times: Thin slices in a thick one; the scan has as many at least.
        begin: About where the other's first slice begins, in thin slices; within one of it all ways are tried.
    """
    along = np.moveaxis(values, axis, 0)
    for first in range(round(begin) - 1, round(begin) + 2):
        phase = first % times
        count = (len(along) - phase) // times
        if count:
            blocks = along[phase : phase + count * times].reshape(count, times, *along.shape[1:])
            yield np.moveaxis(blocks.mean(axis=1, dtype=np.float32), 0, axis), (first - phase) // times
    middle = round(begin + (times - 1) / 2)
    for first in range(middle - 1, middle + 2):
        phase = first % times
        if phase < len(along):
            yield np.moveaxis(along[phase::times], 0, axis), (first - phase) // times
