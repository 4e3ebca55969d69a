"""Is one arm better than another on the same patients? Paired tests, effect sizes and Holm's correction.

The unit is the patient: cases of one patient are averaged first, and slices are never counted as cases.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.intervals import Interval, average_over_draws, hierarchical_bootstrap

__all__ = ["PairedComparison", "average_by_patient", "holm", "paired_comparison", "wilcoxon_p"]


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """How one arm compares with another on the same patients.

    Attributes:
        median: Median over patients of the difference (arm - baseline), with its interval: the effect size.
        mean: Mean over patients of the difference, with its interval.
        p: Two-sided p of the Wilcoxon signed-rank test over patients, uncorrected.
        above: Patients with a difference above 0.
        below: Patients with a difference below 0.
        draw_means: Mean difference in each draw: whether the sign holds from draw to draw.
    """

    median: Interval
    mean: Interval
    p: float
    above: int
    below: int
    draw_means: tuple[float, ...]


def average_by_patient(patients: Sequence[str], values: npt.ArrayLike) -> dict[str, float]:
    """Return each patient's mean over their cases, NaN left out; NaN where a patient has no score at all.

    Args:
        patients: The patient of each case, shape (C,).
        values: A score for each case, shape (C,).

    Example:
        >>> average_by_patient(["a", "b", "a"], [1.0, 5.0, 3.0])
        {'a': 2.0, 'b': 5.0}
    """
    by_patient: dict[str, list[float]] = {}
    for patient, value in zip(patients, np.asarray(values, dtype=float).tolist(), strict=True):
        by_patient.setdefault(patient, []).append(value)
    return {patient: float(average_over_draws(np.array(v)[:, None])[0]) for patient, v in by_patient.items()}


def wilcoxon_p(differences: npt.ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test that paired differences are symmetric about 0.

    Exact for up to 50 differences without ties or zeros, else the normal approximation; zeros are dropped. Where
    every difference is 0, nothing speaks against equality and p is 1.

    Args:
        differences: One difference a patient, shape (C,); NaN is left out.

    Raises:
        DataError: If no difference is left.

    Example:
        >>> wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5]), wilcoxon_p([0.0, 0.0])
        (0.0625, 1.0)
    """
    from scipy.stats import wilcoxon

    known = np.asarray(differences, dtype=float)
    known = known[~np.isnan(known)]
    if not known.size:
        raise DataError("A paired test was asked for, and no patient has a score in both arms.")
    if not known.any():
        return 1.0
    return float(wilcoxon(known).pvalue)


def paired_comparison(
    differences_DC: npt.ArrayLike, *, level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> PairedComparison:
    """Compare two arms by their paired differences on the same patients.

    A patient's difference is averaged over draws; the test and the median are taken over patients, the intervals
    resample patients and draws. The test speaks of patients: it takes the draws as they are.

    Args:
        differences_DC: Arm minus baseline for each draw and patient, shape (D, C) or (C,); NaN where a pair is
            missing.
        level: Confidence level of the intervals.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: If no patient has a pair.
    """
    differences = np.atleast_2d(np.asarray(differences_DC, dtype=float))
    of_patient = average_over_draws(differences)
    of_patient = of_patient[~np.isnan(of_patient)]
    if not of_patient.size:
        raise DataError("A paired comparison was asked for, and no patient has a score in both arms.")
    median, mean = (
        hierarchical_bootstrap(differences, statistic=s, level=level, resamples=resamples, seed=seed)
        for s in ("median", "mean")
    )
    return PairedComparison(
        median=median,
        mean=mean,
        p=wilcoxon_p(of_patient),
        above=int((of_patient > 0).sum()),
        below=int((of_patient < 0).sum()),
        draw_means=tuple(float(average_over_draws(row[:, None])[0]) for row in differences),
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p values for having asked several questions (Holm 1979).

    The i-th smallest of m p values is multiplied by m - i + 1, then made to grow with its rank and capped at 1: the
    chance of even one false alarm among the questions stays under the level at which the corrected values are read.

    Args:
        p_values: p of each question; NaN where it is not defined, which counts as a question and stays NaN.

    Returns:
        Corrected p of each question, in the same order.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    ordered = sorted(p_values.items(), key=lambda item: (math.isnan(item[1]), item[1]))
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (name, p) in enumerate(ordered):
        largest = p if math.isnan(p) else max(largest, min(1.0, p * (len(ordered) - rank)))
        corrected[name] = largest
    return {name: corrected[name] for name in p_values}
