"""How much of one scan is a function of another's intensities: what changes of window, type and scale leave alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.reduction import shifts
from medssl.reduction.inside import inside
from medssl.reduction.shifts import Shift

__all__ = ["Explained", "Limits", "explained_at", "explained_by", "explained_of", "function_of"]

_SAMPLES = 48  # along each axis
_BINS = 256
_FEWEST = 200  # voxels inside both, below which one is a function of the other by chance
Limits = tuple[tuple[float, float], tuple[float, float]]


def explained_at(one: npt.NDArray[Any], two: npt.NDArray[Any], shift: Shift, limits: Limits) -> float:
    """Return `explained_by` where the second, moved by a shift in voxels, lies over the first."""
    places, parts = shifts.overlap(one.shape, two.shape, shift)
    return explained_by(one[places], two[parts], limits)


@dataclass(frozen=True)
class Explained:
    """What the intensities of two arrays that lie on each other say of each other, in the better of both directions.

    Attributes:
        share: Share of the one's variance that the other's intensity explains, over all voxels or inside both bodies,
            where it is more: what was blanked explains nothing, and of a blurred body air is what still does.
        function: How far one is a function of the other's intensity alone; see `function_of`.
        equal: See `medssl.reduction.agreement.Agreement`.
    """

    share: float
    function: float
    equal: float


def explained_of(one: npt.NDArray[Any], two: npt.NDArray[Any], limits: Limits) -> Explained:
    """Return `Explained` of two arrays of one shape."""
    a, b = _sampled(one), _sampled(two)
    inner = [
        inside(np.nan_to_num(np.clip(taken, *ends), nan=ends[0]).astype(np.float32))
        for taken, ends in zip((a, b), limits, strict=True)
    ]
    both = inner[0] & inner[1]
    told = both if both.sum() >= _FEWEST else inner[0] | inner[1]  # what a narrow window makes even is no air
    pairs = (a, b, limits), (b, a, limits[::-1])
    return Explained(
        share=max(explained_by(x[of], y[of], ends) for x, y, ends in pairs for of in (both, both | True)),
        function=max(function_of(a[told], b[told]), function_of(b[told], a[told])) if told.sum() >= _FEWEST else 0.0,
        equal=_equal(a, b),
    )


def explained_by(one: npt.NDArray[Any], two: npt.NDArray[Any], limits: Limits) -> float:
    """Return the share of the second's variance that the first's intensity explains: eta squared, adjusted.

    Both are clipped to their limits: a few bright voxels, all in one bin, can hold much of the variance.
    """
    a, b = (_sampled(values).astype(np.float64).ravel() for values in (one, two))
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


def function_of(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> float:
    """Return how far the second's numbers are a function of the first's: 1 where they are, 0 where neither tells.

    Ranks are compared, so a large contrast, of lungs say, does not make up for what differs within a tissue.

    Source: S. Chatterjee, "A new coefficient of correlation", Journal of the American Statistical Association 116
    (2021), arXiv 1909.10140; with ties. Among equal numbers of the first the order is drawn, from a fixed seed.

    Args:
        one: (n,).
        two: (n,).
    """
    finite = np.flatnonzero(np.isfinite(one) & np.isfinite(two))
    if len(finite) < 2:
        return 0.0
    drawn = np.random.default_rng(0).permutation(finite)
    ordered = two[drawn][np.argsort(one[drawn], kind="stable")]
    _, which, counts = np.unique(ordered, return_inverse=True, return_counts=True)
    up_to = np.cumsum(counts)
    rank, above = up_to[which].astype(np.float64), (len(ordered) - up_to + counts)[which].astype(np.float64)
    spread = 2.0 * float((above * (len(ordered) - above)).sum())
    return max(0.0, 1.0 - len(ordered) * float(np.abs(np.diff(rank)).sum()) / spread) if spread > 0 else 0.0


def _sampled(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.ndim < 3:
        return values
    return values[tuple(slice(None, None, max(1, n // _SAMPLES)) for n in values.shape)]


def _equal(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> float:
    """Return the share of the smaller one's voxels that hold the same number in both, corrected for chance.

    The number that a scan holds most often is its background and is left out. The correction is J. Cohen's kappa
    (Educational and Psychological Measurement 20 (1960), 37-46), so that two masks of few numbers are not equal by it.
    """
    a, b = one.ravel(), two.ravel()
    told = []
    for taken in (a, b):
        numbers, counts = np.unique(taken, return_counts=True)
        told.append(taken != numbers[np.argmax(counts)])
    both = told[0] & told[1]
    least = min(int(np.count_nonzero(each)) for each in told)
    if not both.any():
        return 0.0
    a, b = a[both], b[both]
    numbers, which = np.unique(np.concatenate([a, b]), return_inverse=True)
    first, second = (np.bincount(part, minlength=len(numbers)) / len(a) for part in np.split(which, 2))
    chance = float((first * second).sum())
    if chance >= 1.0:
        return 0.0
    kappa = (float((a == b).mean()) - chance) / (1.0 - chance)
    return max(0.0, kappa) * len(a) / least
