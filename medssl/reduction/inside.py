"""What of a scan lies inside the body: the air around it, and the edge to that, say nothing of whose body it is.

Two small bodies in air agree in their outlines however unlike they are within, for the step from air to tissue is far
larger than any texture. So detail is taken among cells inside alone, and how much their agreement tells is judged by
how many of them are independent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medssl.reduction import grids
from medssl.reduction.grids import Field

__all__ = ["Mask", "air", "detail_of", "independent", "inside"]

Mask = npt.NDArray[np.bool_]
_EVEN = (
    0.1  # distance of the quartiles of air as a share of its contrast to the body; of what Otsu halves, 0.2 and more
)
_BLUR = 5  # cells
_LAGS = 4  # cells, beyond which the blur has taken all correlation away


def air(field: Field) -> Mask:
    """Return which cells are air around a body; none where a scan shows no air, as crops of organs do.

    Air is what lies on the background's side of Otsu's threshold, is reached from the border along at least half of the
    straight lines through a cell, and is even. Lungs are reached along z at most, so they belong to the body.
    """
    body = grids.foreground(field)
    free = np.zeros(field.shape, dtype=np.int8)
    long = [axis for axis, length in enumerate(field.shape) if length > 2]
    for axis in long:
        for way in (slice(None), slice(None, None, -1)):
            along = (slice(None),) * axis + (way,)
            free[along] += ~np.logical_or.accumulate(body[along], axis=axis)
    around: Mask = ~body & (free >= max(1, len(long)))
    if not around.any():
        return around
    # Quartiles, for cells at the body's edge are partly body, and in a small scan many cells lie there.
    low, middle, high = np.quantile(field[around], (0.25, 0.5, 0.75)).tolist()
    contrast = abs(float(np.median(field[body])) - middle)
    return around if high - low <= _EVEN * contrast else np.zeros_like(around)


def inside(field: Field, reach: tuple[int, ...] = (1, 1, 1)) -> Mask:
    """Return which cells are neither `air` nor near it.

    Args:
        field: Intensities, (z, y, x).
        reach: Cells along each axis over which one voxel spreads an edge.
    """
    from scipy.ndimage import maximum_filter

    around = air(field)
    return ~maximum_filter(around, [2 * n + 1 for n in reach]) if around.any() else ~around


def detail_of(field: Field, mask: Mask | None = None) -> Field:
    """Return what a blur of five cells takes away, where only cells of a mask are blurred; 0 outside of it."""
    from scipy.ndimage import uniform_filter

    size = [min(_BLUR, n) for n in field.shape]
    if mask is None or mask.all():
        whole: Field = field - uniform_filter(field, size=size, mode="nearest")
        return whole
    weight = uniform_filter(mask.astype(np.float32), size=size, mode="nearest")
    mean = field[mask].mean(dtype=np.float64) if mask.any() else 0.0  # large numbers would cost digits
    low = np.where(mask, field - np.float32(mean), np.float32(0))
    result: Field = np.where(mask, low - uniform_filter(low, size=size, mode="nearest") / np.maximum(weight, 1e-6), 0)
    return result.astype(np.float32, copy=False)


def independent(one: Field, two: Field, mask: Mask) -> float:
    """Return how many independent cells two fields of detail have: with that many, strangers would agree as these may.

    Neighbouring cells of a smooth texture say the same twice. Along each axis both fields' correlations with themselves
    are multiplied and summed over lags.

    Source: M. S. Bartlett, Journal of the Royal Statistical Society 98 (1935); for fields, P. Clifford, S. Richardson,
    D. Hemon, Biometrics 45 (1989), 123-134. Not as there: correlations are taken along the axes alone.
    """
    count = float(np.count_nonzero(mask))
    power = [float((field * field).sum(dtype=np.float64)) for field in (one, two)]
    if min(power) <= 0.0:
        return 0.0
    for axis, length in enumerate(mask.shape):
        total = 1.0
        for lag in range(1, min(_LAGS, length - 1) + 1):
            ahead = (slice(None),) * axis + (slice(lag, None),)
            behind = (slice(None),) * axis + (slice(None, -lag),)
            first, second = (
                float((field[ahead] * field[behind]).sum(dtype=np.float64)) / whole
                for field, whole in zip((one, two), power, strict=True)
            )
            total += 2.0 * max(0.0, first * second)
        count /= total
    return count
