"""Bootstrap intervals: over cases, and over cases and draws at once.

D draws, C cases (or patients: the caller averages a patient's cases first, since they are not independent), R
resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.randomness import numpy_generator

__all__ = ["Interval", "average_over_draws", "bootstrap_mean", "bootstrap_statistic", "hierarchical_bootstrap"]

Values = npt.NDArray[np.float64]
_RESAMPLES = 4000
# Resampled values held at once: bounds memory at about 64 MiB whatever the number of cases.
_BLOCK = 8_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: The statistic of the values themselves.
        low: Lower end; NaN where there are too few values to say (fewer than two).
        high: Upper end.
        level: Confidence level, such as 0.95.
        cases: Values that went in, NaN left out.
        draws: Draws that were resampled as well; 1 where only cases were.
        method: "percentile" or "bca".
    """

    estimate: float
    low: float
    high: float
    level: float
    cases: int
    draws: int = 1
    method: str = "percentile"


def bootstrap_mean(
    values: npt.ArrayLike,
    *,
    level: float = 0.95,
    method: str = "percentile",
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the mean of the values with a bootstrap interval; see `bootstrap_statistic`.

    Example:
        >>> found = bootstrap_mean([0.8, 0.9, 0.7, float("nan"), 0.8])
        >>> round(found.estimate, 2), found.low < 0.8 < found.high, found.cases
        (0.8, True, 4)
    """
    return bootstrap_statistic(
        values, lambda v: v.mean(axis=-1), level=level, method=method, resamples=resamples, seed=seed
    )


def bootstrap_statistic(
    values: npt.ArrayLike,
    statistic: Callable[[Values], Values],
    *,
    level: float = 0.95,
    method: str = "percentile",
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic of independent values with a bootstrap interval.

    Args:
        values: One value a case, shape (C,); NaN (both masks empty) is left out.
        statistic: Function of an array (..., C) that reduces the last axis, such as a mean or a median.
        level: Confidence level in (0, 1).
        method: "percentile", or "bca": bias-corrected and accelerated (Efron 1987), better for skewed scores.
        resamples: Number of resamples.
        seed: Seed of the resamples; the interval is a pure function of the values and the seed.

    Raises:
        DataError: If no value is left, or ``method`` or ``level`` is not allowed.
    """
    _check(level, method)
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if not known.size:
        raise DataError("An interval was asked for, and no case has a score. Score at least one case.")
    estimate = float(statistic(known))
    if known.size < 2:
        nan = float("nan")
        return Interval(estimate=estimate, low=nan, high=nan, level=level, cases=1, method=method)
    generator = numpy_generator(seed, known.size, resamples)
    parts = []
    for count in _blocks(resamples, known.size):
        parts.append(statistic(known[generator.integers(0, known.size, (count, known.size))]))
    resampled = np.concatenate(parts)
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        shares = _bca_shares(known, statistic, resampled, estimate, shares)
    low, high = np.quantile(resampled, shares)
    return Interval(
        estimate=estimate, low=float(low), high=float(high), level=level, cases=int(known.size), method=method
    )


def average_over_draws(scores_DC: npt.ArrayLike) -> Values:
    """Return each case's mean over the draws in which it has a score; NaN where it has none, shape (C,)."""
    scores = np.asarray(scores_DC, dtype=float)
    known = ~np.isnan(scores)
    counts = known.sum(axis=0)
    sums = np.where(known, scores, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def hierarchical_bootstrap(
    scores_DC: npt.ArrayLike,
    *,
    statistic: str = "mean",
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic over cases of their averages over draws, with an interval that resamples cases AND draws.

    Every draw of labelled patients is scored on the same test cases, so the two are crossed: a resample takes D draws
    and, independently, C cases, each with replacement; a case's scores are averaged over the draws taken, and the
    statistic is taken over the cases. The interval so says what another choice of labelled scans and another test set
    would have given. A case's spread over few draws is underestimated, by a factor of about sqrt((D - 1) / D); with a
    single draw only cases are resampled, and ``draws`` says so.

    Args:
        scores_DC: Scores, or paired differences of scores, shape (D, C); NaN where a case has none.
        statistic: "mean" or "median", over cases.
        level: Confidence level in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: If no case has a score, or a choice is not allowed.
    """
    _check(level, "percentile")
    if statistic not in ("mean", "median"):
        raise DataError(f"statistic must be 'mean' or 'median'. Got '{statistic}'.")
    reduce = np.mean if statistic == "mean" else np.median
    scores = np.atleast_2d(np.asarray(scores_DC, dtype=float))
    scores = scores[:, ~np.isnan(scores).all(axis=0)] if scores.size else scores
    scores = scores[~np.isnan(scores).all(axis=1)] if scores.size else scores
    if not scores.size:
        raise DataError("An interval was asked for, and no case has a score. Score at least one case.")
    num_draws, num_cases = scores.shape
    estimate = float(reduce(average_over_draws(scores)))
    if num_cases < 2:
        nan = float("nan")
        return Interval(estimate=estimate, low=nan, high=nan, level=level, cases=num_cases, draws=num_draws)
    known = ~np.isnan(scores)
    filled = np.where(known, scores, 0.0)
    generator = numpy_generator(seed, num_draws, num_cases, resamples)
    parts = []
    for count in _blocks(resamples, num_cases):
        weights_RD = generator.multinomial(num_draws, np.full(num_draws, 1 / num_draws), size=count).astype(float)
        weight_RC = weights_RD @ known
        # A case whose known draws were all missed falls back on its average over all draws.
        mean_RC = np.where(weight_RC > 0, (weights_RD @ filled) / np.maximum(weight_RC, 1), average_over_draws(scores))
        cases_RC = generator.integers(0, num_cases, (count, num_cases))
        parts.append(reduce(np.take_along_axis(mean_RC, cases_RC, axis=1), axis=1))
    low, high = np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=estimate, low=float(low), high=float(high), level=level, cases=num_cases, draws=num_draws)


def _bca_shares(
    values: Values, statistic: Callable[[Values], Values], resampled: Values, estimate: float, shares: Values
) -> Values:
    """Move the shares of a percentile interval by bias and acceleration (Efron, JASA 1987)."""
    from scipy.stats import norm

    below = (np.count_nonzero(resampled < estimate) + 0.5 * np.count_nonzero(resampled == estimate)) / resampled.size
    if not 0 < below < 1:
        return shares
    bias = norm.ppf(below)
    left_out = np.array([float(statistic(np.delete(values, i))) for i in range(values.size)])
    spread = left_out.mean() - left_out
    scale = float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / (6 * scale) if scale > 0 else 0.0
    moved = bias + norm.ppf(shares)
    result: Values = norm.cdf(bias + moved / (1 - acceleration * moved))
    return result


def _blocks(resamples: int, width: int) -> list[int]:
    size = max(1, min(resamples, _BLOCK // max(width, 1)))
    whole, rest = divmod(resamples, size)
    return [size] * whole + ([rest] if rest else [])


def _check(level: float, method: str) -> None:
    if not 0 < level < 1:
        raise DataError(f"A confidence level lies in (0, 1). Got {level}. Try 0.95.")
    if method not in ("percentile", "bca"):
        raise DataError(f"An interval's method is 'percentile' or 'bca'. Got '{method}'.")
