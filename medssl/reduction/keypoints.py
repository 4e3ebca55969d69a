"""Points of a scan that a cut, a mask or a pad does not move against each other, each with a hash of its surroundings.

A hash of the whole field or of a box changes as soon as its borders do. Points are found from what lies around them, so
those in the part that two scans share are the same in both, and their differences in position are one shift: that is
what `candidates` votes for.

Source: extrema of a difference of smoothings, as in M. Toews, W. M. Wells, "Efficient and robust model-to-image
alignment using 3D scale-invariant features", Medical Image Analysis 17 (2013), with which L. Chauvin et al. found
repeated subjects in large collections of MRI ("Neuroimage signature from salient keypoints is highly specific to
individuals and shared by close relatives", NeuroImage 204 (2020)). Not as there: smoothing is by boxes, there are two
scales and no orientations (turned copies are found by `hashes`), and a point is described by the signs of the lowest
frequencies of the cube around it.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from medssl.reduction import hashes
from medssl.reduction.grids import Field

__all__ = ["MOST", "Points", "cell_mm", "keypoints"]

Points = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint64]]
MOST = 64  # points of one scan
_LONGEST = 96  # cells along the longest side, at most
_CUBE = 8  # cells
_LOW = 4  # frequencies along each axis; 4^3 less the mean are 63 bits
_FLOOR = 0.01  # of the range of intensities: a weaker extremum is noise


def cell_mm(extent_mm: float) -> float:
    """Return the size of a cell for a scan of this longest side: a power of two, so that a cut copy has the same."""
    return float(2.0 ** math.ceil(math.log2(max(extent_mm, 1e-3) / _LONGEST)))


def keypoints(field: Field, most: int = MOST) -> Points:
    """Return the strongest extrema of a field of cubic cells, and a hash of the cube of 8 cells around each.

    Args:
        field: (z, y, x), intensities scaled to about 0 to 1.
        most: How many, at most.

    Returns:
        int16 (n, 3), places (z, y, x) in quarters of a cell from the field's first corner; uint64 (n,), 63 bits. The
        strongest come first.
    """
    if min(field.shape) < 3:
        return np.zeros((0, 3), dtype=np.int16), np.zeros(0, dtype=np.uint64)
    smooth = _boxed(_boxed(field, 1), 1)
    blob = smooth - _boxed(smooth, 2)
    strength = np.abs(blob)
    peak = strength.copy()
    for axis in range(3):
        before = peak.copy()
        upper, lower = _along(axis, slice(1, None)), _along(axis, slice(None, -1))
        np.maximum(peak[upper], before[lower], out=peak[upper])
        np.maximum(peak[lower], before[upper], out=peak[lower])
    places = np.flatnonzero((strength == peak).ravel() & (strength.ravel() > _FLOOR))
    strongest = places[np.argsort(-strength.ravel()[places], kind="stable")[:most]]
    at = np.stack(np.unravel_index(strongest, field.shape), axis=1)
    if not len(at):
        return np.zeros((0, 3), dtype=np.int16), np.zeros(0, dtype=np.uint64)
    fine = at + _vertex(strength, at)
    return np.rint((fine + 0.5) * 4).astype(np.int16), _described(smooth, fine)


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _boxed(field: Field, radius: int) -> Field:
    """Return means over (2 radius + 1)^3 cells; beyond the border the last cell goes on."""
    result = field
    for axis, length in enumerate(field.shape):
        padded = np.pad(result, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="edge")
        result = padded[_along(axis, slice(0, length))].copy()
        for k in range(1, 2 * radius + 1):
            result += padded[_along(axis, slice(k, k + length))]
        result *= np.float32(1 / (2 * radius + 1))
    return result


def _vertex(strength: Field, at: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return how far from each extremum the top of a parabola along each axis lies, at most half a cell."""
    moved = np.zeros(at.shape)
    middle = strength[tuple(at.T)].astype(np.float64)
    for axis, length in enumerate(strength.shape):
        step = np.eye(3, dtype=np.intp)[axis]
        before = strength[tuple(np.maximum(at - step, 0).T)].astype(np.float64)
        after = strength[tuple(np.minimum(at + step, np.array(strength.shape) - 1).T)].astype(np.float64)
        bend = before - 2 * middle + after
        inside = (at[:, axis] > 0) & (at[:, axis] < length - 1) & (bend < -1e-9)
        moved[inside, axis] = np.clip(0.5 * (before - after)[inside] / bend[inside], -0.5, 0.5)
    return moved


def _described(smooth: Field, fine: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Return the 63 signs of each cube: its lowest frequencies above their median."""
    steps = np.arange(_CUBE) - (_CUBE - 1) / 2
    cubes: npt.NDArray[np.float32] = np.zeros((len(fine), _CUBE, _CUBE, _CUBE), dtype=np.float32)
    corners = []
    for axis, length in enumerate(smooth.shape):
        place = np.clip(fine[:, axis, None] + steps, 0, length - 1)
        below = np.minimum(np.floor(place).astype(np.intp), max(0, length - 2))
        weight = (place - below).astype(np.float32)
        corners.append(((below, 1 - weight), (np.minimum(below + 1, length - 1), weight)))
    for z, wz in corners[0]:
        for y, wy in corners[1]:
            for x, wx in corners[2]:
                values = smooth[z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
                cubes += values * (wz[:, :, None, None] * wy[:, None, :, None] * wx[:, None, None, :])
    waves = _waves()
    low = cubes
    for _ in range(3):  # the first of the three axes is reduced, and comes back as the last
        low = np.einsum("nzyx,kz->nyxk", low, waves)
    return hashes.signs(low.reshape(len(fine), -1)[:, 1:])


@functools.cache
def _waves() -> npt.NDArray[np.float32]:
    """Return the first 4 rows of the DCT-II of 8."""
    rows = np.cos(np.pi * np.arange(_LOW)[:, None] * (np.arange(_CUBE) + 0.5) / _CUBE)
    return rows.astype(np.float32)
