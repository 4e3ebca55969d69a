"""A scan on a small grid: robust intensities, block means with fractional edges, and the box of the foreground.

Everything is summed in one fixed order and without BLAS, so results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Box", "axis_box", "block_means", "clip_limits", "foreground", "foreground_box", "in_box"]

Field = npt.NDArray[np.float32]
Box = tuple[tuple[float, float], ...]

_CLIP_PERCENT = (0.5, 99.5)  # symmetric, so that a scan with the sign changed is clipped alike
_SAMPLES_PER_AXIS = 96
_BINS = 256
_LEAST_SHARE = 0.05  # of the fullest plane: planes with less foreground are noise, or a table


def clip_limits(values: npt.NDArray[Any], *, hounsfield: bool = False) -> tuple[float, float]:
    """Return the intensities between which a scan is looked at, 0.5 % and 99.5 % of its finite voxels.

    Args:
        values: Voxels, three axes or two. Every n-th is taken where there are more than 96 along an axis.
        hounsfield: Values are HU: limits stay within [-1024, 3071], so padding outside of the scanner's circle is air.
    """
    steps = tuple(slice(None, None, max(1, n // _SAMPLES_PER_AXIS)) for n in values.shape)
    sample = np.asarray(values[steps], dtype=np.float64).ravel()
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    if hounsfield:
        sample = np.clip(sample, -1024.0, 3071.0)
    low, high = np.percentile(sample, _CLIP_PERCENT)
    if low == high:  # nearly everything has one value: what little there is besides is the image
        low, high = sample.min(), sample.max()
    return float(low), float(high)


def block_means(values: npt.NDArray[Any], axis: int, edges: npt.NDArray[np.float64]) -> Field:
    """Average an array between edges along one axis; a voxel that an edge cuts counts by its share.

    Args:
        values: Array of any shape.
        axis: The axis to reduce.
        edges: n + 1 rising edges in voxels, in [0, length]; voxel i covers [i, i + 1].

    Returns:
        Array with n means along the axis, float32.
    """
    length = values.shape[axis]
    moved = np.moveaxis(values, axis, 0)
    whole = np.minimum(np.floor(edges).astype(np.intp), length - 1)
    part = (edges - whole).astype(np.float32).reshape((-1,) + (1,) * (moved.ndim - 1))
    rows = moved[whole].astype(np.float32, copy=False) * part
    sums = np.add.reduceat(moved, whole[:-1], axis=0, dtype=np.float32)
    sums[-1] = np.add.reduce(moved[whole[-2] : whole[-1]], axis=0, dtype=np.float32)
    sums[whole[:-1] == whole[1:]] = 0.0  # reduceat gives the voxel itself where an interval is empty
    widths = np.diff(edges).astype(np.float32).reshape(part[1:].shape)
    means: Field = (sums + rows[1:] - rows[:-1]) / widths
    return np.moveaxis(means, 0, axis)


def in_box(values: npt.NDArray[Any], box: Box, size: int) -> Field:
    """Return the means of ``size`` equal blocks along each axis of a box, float32, shape (size,) * axes.

    Args:
        values: Array.
        box: (start, stop) in voxels along each axis, within the array; fractions are allowed.
        size: Blocks along each axis. Where there are more blocks than voxels, voxels repeat.
    """
    result: npt.NDArray[Any] = values
    for axis, (start, stop) in enumerate(box):
        result = block_means(result, axis, np.linspace(start, stop, size + 1))
    return np.ascontiguousarray(result, dtype=np.float32)


def foreground(field: Field) -> npt.NDArray[np.bool_]:
    """Return which voxels are body: Otsu's threshold, and background is what the edges of the field show most.

    The sign of the intensities so does not matter. A constant field is all foreground.

    Source: N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979), 62-66.
    """
    low, high = float(field.min()), float(field.max())
    if not high > low:
        return np.ones(field.shape, dtype=bool)
    counts, borders = np.histogram(field, bins=_BINS, range=(low, high))
    share = np.cumsum(counts) / field.size
    mean = np.cumsum(counts * (borders[:-1] + borders[1:]) / 2) / field.size
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * share - mean) ** 2 / (share * (1 - share))
    between[~np.isfinite(between)] = -1.0
    # Between two heaps any threshold is as good: the middle of the best ones does not hang on a single voxel.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-6))
    bright: npt.NDArray[np.bool_] = field > borders[1 + (best[0] + best[-1]) // 2]
    at_border = np.zeros(field.shape, dtype=np.int8)
    for axis, length in enumerate(field.shape):
        for plane in {0, length - 1}:
            at_border[(slice(None),) * axis + (plane,)] += 1
    edges = at_border >= 2
    return ~bright if np.count_nonzero(bright[edges]) * 2 > np.count_nonzero(edges) else bright


def foreground_box(mask: npt.NDArray[np.bool_]) -> Box:
    """Return the box of a mask, (start, stop) along each axis in voxels, with fractions.

    Along an axis it reaches to where the mask covers 5 % of what it covers in the fullest plane.
    """
    axes = range(mask.ndim)
    return tuple(axis_box(mask.mean(axis=tuple(a for a in axes if a != axis))) for axis in axes)


def axis_box(profile: npt.NDArray[Any]) -> tuple[float, float]:
    """Return where a profile rises above 5 % of its maximum first and falls below it last, with fractions.

    The fraction is the share of the limit that the first plane outside reaches, so the box moves smoothly.
    """
    most = float(profile.max())
    if most <= 0.0:
        return 0.0, float(len(profile))
    limit = _LEAST_SHARE * most
    inside = np.flatnonzero(profile > limit)
    first, last = int(inside[0]), int(inside[-1])
    before = float(profile[first - 1]) / limit if first > 0 else 0.0
    after = float(profile[last + 1]) / limit if last + 1 < len(profile) else 0.0
    return first - before, last + 1 + after
