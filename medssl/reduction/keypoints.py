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
from medssl.reduction.hashes import Variant

__all__ = ["MOST", "Points", "cell_mm", "finest_mm", "keypoints", "turned"]

Points = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint64]]
MOST = 64  # points of one scan
_LONGEST = 96  # cells along the longest side, at most
_ROUNDED = 1.01  # a voxel of 0.999 mm counts as one of 1 mm
_CUBE = 8  # cells
_LOW = 4  # frequencies along each axis; 4^3 less the mean are 63 bits
_SUMS = (3**6, 5**3)  # cells of the two boxes of three, and of the one of five
_FLOOR = 0.01  # of the range of intensities: a weaker extremum is noise


def cell_mm(extent_mm: float) -> float:
    """Return the size of a cell for a scan of this longest side: a power of two, so that a cut copy has the same."""
    return float(2.0 ** math.ceil(math.log2(max(extent_mm, 1e-3) / _LONGEST)))


def finest_mm(voxel_mm: float) -> float:
    """Return the largest power of two that a voxel holds: smaller cells would show nothing more."""
    return float(2.0 ** math.floor(math.log2(voxel_mm * _ROUNDED)))


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
    smooth = _summed(_summed(field, 1), 1)
    blob = _summed(smooth, 2)
    blob *= np.float32(-1 / _SUMS[1])
    blob += smooth
    strength = np.abs(blob, out=blob)
    peak = strength.copy()
    for axis in range(3):
        before = peak.copy()
        upper, lower = _along(axis, slice(1, None)), _along(axis, slice(None, -1))
        np.maximum(peak[upper], before[lower], out=peak[upper])
        np.maximum(peak[lower], before[upper], out=peak[lower])
    places = np.flatnonzero((strength == peak).ravel() & (strength.ravel() > _FLOOR * _SUMS[0]))
    strongest = places[np.argsort(-strength.ravel()[places], kind="stable")[:most]]
    at = np.stack(np.unravel_index(strongest, field.shape), axis=1)
    if not len(at):
        return np.zeros((0, 3), dtype=np.int16), np.zeros(0, dtype=np.uint64)
    fine = at + _vertex(strength, at)
    return np.rint((fine + 0.5) * 4).astype(np.int16), _described(smooth, fine)


def turned(codes: npt.NDArray[np.uint64], variant: Variant) -> npt.NDArray[np.uint64]:
    """Return the hashes that points have once the scan is turned, but for bits of frequencies next to the median.

    Args:
        codes: uint64, any shape, as `keypoints` gives them.
        variant: What is done to the scan.
    """
    places, flipped = _turned_bits(variant)
    bits = np.unpackbits(np.ascontiguousarray(codes).view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    turned = np.pad(bits[:, places] ^ flipped, ((0, 0), (0, 1)))
    packed = np.ascontiguousarray(np.packbits(turned, axis=1, bitorder="little")).view("<u8").astype(np.uint64)
    return packed.reshape(codes.shape)


@functools.cache
def _turned_bits(variant: Variant) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
    """Return from which of the 63 bits each comes in a turned scan, and which change."""
    places = np.arange(_LOW**3).reshape(_LOW, _LOW, _LOW).transpose(variant.order).ravel()[1:] - 1
    odd = sum(axis % 2 for axis, flip in zip(np.indices((_LOW,) * 3), variant.flips, strict=True) if flip)
    flipped = (np.broadcast_to(odd, (_LOW,) * 3).ravel()[1:] + variant.negated) % 2
    return places, flipped.astype(np.uint8)


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _summed(field: Field, radius: int) -> Field:
    """Return sums over (2 radius + 1)^3 cells; beyond the border the last cell goes on."""
    result = field
    for axis, length in enumerate(field.shape):
        first, last = result[_along(axis, slice(0, 1))], result[_along(axis, slice(-1, None))]
        padded = np.concatenate([*[first] * radius, result, *[last] * radius], axis)
        result = padded[_along(axis, slice(0, length))] + padded[_along(axis, slice(1, 1 + length))]
        for k in range(2, 2 * radius + 1):
            result += padded[_along(axis, slice(k, k + length))]
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
    count = len(fine)
    places, waves = [], []
    for axis, length in enumerate(smooth.shape):
        begin = fine[:, axis] - (_CUBE - 1) / 2
        first = np.floor(begin).astype(np.intp)
        places.append(np.clip(first[:, None] + np.arange(_CUBE + 1), 0, length - 1))
        # Interpolating and transforming are both sums along one axis, so they are one.
        share = (begin - first).astype(np.float32)[:, None, None]
        wave = np.zeros((count, _LOW, _CUBE + 1), dtype=np.float32)
        wave[:, :, :-1] = _waves() * (1 - share)
        wave[:, :, 1:] += _waves() * share
        waves.append(wave)
    z, y, x = places
    rows = z[:, :, None] * smooth.shape[1] + y[:, None, :]
    low = smooth.ravel()[rows[:, :, :, None] * smooth.shape[2] + x[:, None, None, :]]
    # Products of matrices so small that no thread but this one takes part.
    low = low.reshape(count, (_CUBE + 1) ** 2, _CUBE + 1) @ waves[2].transpose(0, 2, 1)
    low = waves[1][:, None] @ low.reshape(count, _CUBE + 1, _CUBE + 1, _LOW)
    low = waves[0] @ low.reshape(count, _CUBE + 1, _LOW**2)
    return hashes.signs(low.reshape(count, _LOW**3)[:, 1:])


@functools.cache
def _waves() -> npt.NDArray[np.float32]:
    """Return the first 4 rows of the DCT-II of 8."""
    rows = np.cos(np.pi * np.arange(_LOW)[:, None] * (np.arange(_CUBE) + 0.5) / _CUBE)
    return rows.astype(np.float32)
