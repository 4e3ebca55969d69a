"""A scan on a small grid: robust intensities, block means with fractional edges, and the box of the foreground.

Everything is summed in one fixed order and without BLAS, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Box",
    "Sample",
    "axis_box",
    "block_means",
    "cells",
    "clip_limits",
    "foreground",
    "foreground_box",
    "image_box",
    "in_box",
    "limits_of",
    "sample",
    "start_of",
]

Field = npt.NDArray[np.float32]
Box = tuple[tuple[float, float], ...]

_CLIP_PERCENT = (0.5, 99.5)  # symmetric, so that a scan with the sign changed is clipped alike
_SAMPLES_PER_AXIS = 48
_BINS = 256
_COUNTED = 1 << 17  # whole numbers that span less than this are counted, not sorted
_LEAST_SHARE = 0.05  # of the fullest plane: planes with less foreground are noise, or a table


@dataclass(frozen=True)
class Sample:
    """Intensities of voxels spread evenly over a scan: each that occurs, rising, and how often it does.

    Attributes:
        levels: float64 (n,).
        counts: int64 (n,).
    """

    levels: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    @property
    def size(self) -> int:
        """Voxels."""
        return int(self.counts.sum())

    def quantiles(self, percents: Sequence[float]) -> list[float]:
        """Return percentiles, interpolated linearly as `numpy.percentile` has them; 0 of an empty sample."""
        if not len(self.levels):
            return [0.0] * len(percents)
        up_to = np.cumsum(self.counts)
        place = (up_to[-1] - 1) * np.asarray(percents) / 100
        below, above = np.floor(place), np.ceil(place)
        low, high = (self.levels[np.searchsorted(up_to, edge, side="right")] for edge in (below, above))
        return [float(q) for q in low + (high - low) * (place - below)]


def sample(values: npt.NDArray[Any], *, hounsfield: bool = False) -> Sample:
    """Return the finite ones of voxels spread evenly over a scan, at most 48 along each axis.

    Args:
        values: Voxels, any number of axes.
        hounsfield: Values are HU: they are kept within [-1024, 3071], so padding outside the scanner's circle is air.
    """
    steps = (-(-n // _SAMPLES_PER_AXIS) for n in values.shape)
    places = (slice((n - 1) % step // 2, None, step) for n, step in zip(values.shape, steps, strict=True))
    taken = values[tuple(places)].ravel()
    if taken.dtype.kind == "f":
        taken = taken[np.isfinite(taken)]
    if hounsfield:
        taken = np.clip(taken, -1024, 3071)
    low, high = (float(taken.min()), float(taken.max())) if taken.size else (0.0, 0.0)
    if high - low < _COUNTED and (taken.dtype.kind in "iub" or bool((taken == np.rint(taken)).all())):
        # Counting is many times quicker than sorting.
        counts = np.bincount((taken.astype(np.int64) if taken.size else np.zeros(0, np.int64)) - int(low))
        present = np.flatnonzero(counts)
        return Sample(present.astype(np.float64) + low, counts[present])
    taken = np.sort(taken)  # several times as quick as `numpy.unique`, which hashes first
    starts = np.flatnonzero(np.concatenate([taken[:1] == taken[:1], taken[1:] != taken[:-1]]))
    return Sample(taken[starts].astype(np.float64), np.diff(np.append(starts, taken.size)))


def clip_limits(values: npt.NDArray[Any], *, hounsfield: bool = False) -> tuple[float, float]:
    """Return the intensities between which a scan is looked at, 0.5 % and 99.5 % of a `sample`; 0, 0 if that is empty.

    Args:
        values: Voxels, any number of axes; a sample is its own sample only if it is short.
        hounsfield: As in `sample`.
    """
    return limits_of(sample(values, hounsfield=hounsfield))


def limits_of(taken: Sample) -> tuple[float, float]:
    """Return the limits of `clip_limits` from a sample."""
    low, high = taken.quantiles(_CLIP_PERCENT)
    if low == high and taken.size:  # nearly everything has one value: what little there is besides is the image
        low, high = float(taken.levels[0]), float(taken.levels[-1])
    return low, high


def block_means(values: npt.NDArray[Any], axis: int, edges: npt.NDArray[np.float64]) -> Field:
    """Average an array between edges along one axis; a voxel that an edge cuts counts by its share.

    Args:
        values: Array of any shape.
        axis: The axis to reduce.
        edges: n + 1 rising edges in voxels, in [0, length]; voxel i covers [i, i + 1].

    Returns:
        Array with n means along the axis, float32.
    """
    last = values.shape[axis] - 1
    starts, stops = edges[:-1], edges[1:]
    first = np.minimum(np.floor(starts).astype(np.intp), last)
    shape = tuple(-1 if a == axis % values.ndim else 1 for a in range(values.ndim))
    step = int(first[1] - first[0]) if len(first) > 1 else 1
    even = step > 0 and bool((np.diff(first) == step).all())
    means: Field | None = None
    # Block by block would be a loop over n; the k-th voxel of all blocks at once is a few long steps.
    for k in range(max(1, int((np.ceil(stops) - first).max()))):
        place = first + k
        share = np.maximum(np.minimum(place + 1, stops) - np.maximum(place, starts), 0.0) / (stops - starts)
        if even and place[-1] <= last:  # a view is quicker to take than a list of places
            taken = values[(slice(None),) * (axis % values.ndim) + (slice(int(place[0]), int(place[-1]) + 1, step),)]
        else:
            taken = np.take(values, np.minimum(place, last), axis)
        part = taken.astype(np.float32, order="C")
        part *= share.astype(np.float32).reshape(shape)
        means = part if means is None else np.add(means, part, out=means)
    assert means is not None
    return means


def cells(values: npt.NDArray[Any], axis: int, voxel_mm: float, cell_mm: float) -> Field:
    """Return an array on cells of a given size along one axis, by means, or between voxels by interpolation.

    The cells lie in the middle of the array: what is left over, less than a cell, is divided between both ends, so
    that a flip of the array is a flip of the result.

    Args:
        values: Array of any shape.
        axis: The axis to change.
        voxel_mm: Size of its voxels.
        cell_mm: Size of a cell. An array shorter than that becomes one cell.
    """
    length = values.shape[axis]
    count = max(1, int(length * voxel_mm / cell_mm + 1e-6))
    width = min(cell_mm / voxel_mm, float(length))
    edges = np.clip(start_of(length, voxel_mm, cell_mm) / voxel_mm + np.arange(count + 1) * width, 0.0, length)
    if width >= 1.0:
        return block_means(values, axis, edges)
    # Cells smaller than a voxel would be steps.
    places = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, length - 1)
    below = np.minimum(np.floor(places).astype(np.intp), length - 1)
    above = np.minimum(below + 1, length - 1)
    weight = (places - below).astype(np.float32)
    weight = weight.reshape([-1 if a == axis % values.ndim else 1 for a in range(values.ndim)])
    result: Field = np.take(values, below, axis) * (1 - weight) + np.take(values, above, axis) * weight
    return result


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


def start_of(length: int, voxel_mm: float, cell_mm: float) -> float:
    """Return where the first of the `cells` begins, in mm from the first voxel's face."""
    count = max(1, int(length * voxel_mm / cell_mm + 1e-6))
    return max(0.0, (length * voxel_mm - count * cell_mm) / 2)


def foreground(field: Field) -> npt.NDArray[np.bool_]:
    """Return which voxels are body: Otsu's threshold, and background is what the edges of the field show most.

    The sign of the intensities so does not matter. A constant field is all foreground.

    Source: N. Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979), 62-66.
    """
    low, high = float(field.min()), float(field.max())
    if not high > low:
        return np.ones(field.shape, dtype=bool)
    which = ((field - low) * np.float32(_BINS / (high - low) * (1 - 1e-6))).astype(np.uint8)
    counts = np.bincount(which.ravel(), minlength=_BINS)
    borders = np.linspace(low, high, _BINS + 1)
    share = np.cumsum(counts) / field.size
    mean = np.cumsum(counts * (borders[:-1] + borders[1:]) / 2) / field.size
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * share - mean) ** 2 / (share * (1 - share))
    between[~np.isfinite(between)] = -1.0
    # Between two heaps any threshold is as good: the middle of the best ones does not hang on a single voxel.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-6))
    bright: npt.NDArray[np.bool_] = which > (best[0] + best[-1]) // 2
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


def image_box(values: npt.NDArray[Any]) -> tuple[slice, ...]:
    """Return what is left of a scan without the outer planes that hold one value only: padding, and air made even.

    Args:
        values: Voxels, any number of axes.

    Returns:
        A slice along each axis, whole numbers; everything where nothing is left.
    """
    box: list[slice] = [slice(0, n) for n in values.shape]
    for axis, length in enumerate(values.shape):
        start, stop = 0, length
        while start < stop and _is_even(values[tuple(box[:axis])][(slice(None),) * axis + (start,)]):
            start += 1
        if start == stop:
            return tuple(slice(0, n) for n in values.shape)
        while _is_even(values[tuple(box[:axis])][(slice(None),) * axis + (stop - 1,)]):
            stop -= 1
        box[axis] = slice(start, stop)
    return tuple(box)


def _is_even(plane: npt.NDArray[Any]) -> bool:
    first = plane[(0,) * plane.ndim]
    some = plane[(slice(None, None, 17),) * plane.ndim]  # most planes are told by a few voxels
    return bool((some == first).all()) and bool((plane == first).all())


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
