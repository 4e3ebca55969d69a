"""How much of one scan is a function of another's intensities: what changes of window, type and scale leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.reduction import shifts
from medssl.reduction.shifts import Shift

__all__ = ["Limits", "explained_at", "explained_by"]

_SAMPLES = 48  # along each axis
_BINS = 256
Limits = tuple[tuple[float, float], tuple[float, float]]


def explained_at(one: npt.NDArray[Any], two: npt.NDArray[Any], shift: Shift, limits: Limits) -> float:
    """Return `explained_by` where the second, moved by a shift in voxels, lies over the first."""
    places, parts = shifts.overlap(one.shape, two.shape, shift)
    return explained_by(one[places], two[parts], limits)


def explained_by(one: npt.NDArray[Any], two: npt.NDArray[Any], limits: Limits) -> float:
    """Return the share of the second's variance that the first's intensity explains: eta squared, adjusted.

    Both are clipped to their limits: a few bright voxels, all in one bin, can hold much of the variance.
    """
    steps = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in one.shape)
    a, b = one[steps].astype(np.float64).ravel(), two[steps].astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = (np.clip(taken[finite], *ends) for taken, ends in zip((a, b), limits, strict=True))
    if not a.size or b.var() == 0.0:
        return 0.0
    bins = np.unique(np.quantile(a, np.linspace(0, 1, _BINS + 1)))
    which = np.searchsorted(bins[1:-1], a, side="right")
    count = np.bincount(which)
    means = np.bincount(which, weights=b) / np.maximum(count, 1)
    free = a.size - np.count_nonzero(count)  # of few voxels, as many bins would explain anything
    if free < 1:
        return 0.0
    return float(max(0.0, 1.0 - ((b - means[which]) ** 2).sum() / free / b.var(ddof=1)))
