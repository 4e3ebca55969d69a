"""Which of several methods comes first over many comparisons: mean ranks, and how far apart they must lie to differ.

Scores of different tasks cannot be averaged, ranks can. M methods, T tasks; a task may be one data set at one number of
labels, with scores in D draws of labelled patients.

Reference:
    Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006: sections 3.2.2 (Friedman's
    test) and 3.2.2.1 (Nemenyi's critical difference).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, rankdata, studentized_range

from medssl.errors import DataError
from medssl.randomness import numpy_generator

__all__ = ["MeanRanks", "mean_ranks"]

Values = npt.NDArray[np.float64]
_RESAMPLES = 4000


@dataclass(frozen=True, kw_only=True)
class MeanRanks:
    """Mean ranks of M methods, 1 the best.

    Attributes:
        methods: Names, best first.
        ranks: The mean rank of each: first over draws, then over tasks, so that each task counts once.
        low: Lower end of its interval, which resamples the draws of each task.
        high: Upper end.
        p: Friedman's test that all methods are alike, over the ``tasks`` rankings of scores averaged over draws.
        critical: Nemenyi: two methods whose mean ranks over tasks lie nearer than this do not differ.
        tasks: Number of tasks.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p: float
    critical: float
    tasks: int


def mean_ranks(
    tasks: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> MeanRanks:
    """Rank methods over tasks; higher scores are better, equal ones share their ranks.

    Tasks that share test patients (the numbers of labels of one data set) are not independent, so that p and the
    critical difference are a little too bold there; intervals see the draws alone, not the luck of a pretraining run.

    Args:
        tasks: Task -> method -> one score a draw, draws in the same order for every method of a task.
        level: Confidence level of the intervals, and 1 - level of the critical difference.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: There are fewer than 2 tasks or methods, or a method lacks a task or a draw.
    """
    methods = sorted(next(iter(tasks.values()), {}))
    if len(tasks) < 2 or len(methods) < 2:
        raise DataError(f"Mean ranks need 2 tasks and 2 methods, and there are {len(tasks)} and {len(methods)}.")
    scores_MD: dict[str, Values] = {}
    for task, found in tasks.items():
        lengths = {len(found[m]) for m in methods if m in found}
        if sorted(found) != methods or len(lengths) != 1 or 0 in lengths:
            raise DataError(f"{task}: every method needs a score in every draw. Methods {sorted(found)}, of {methods}.")
        scores_MD[task] = np.array([found[m] for m in methods], dtype=float)
        if np.isnan(scores_MD[task]).any():
            raise DataError(f"{task}: a score is not a number.")
    means_TM = np.array([_ranks(scores.mean(axis=1)) for scores in scores_MD.values()])
    own = means_TM.mean(axis=0)
    drawn = np.zeros((resamples, len(methods)))
    generator = numpy_generator(seed, len(methods), len(tasks))
    for scores in scores_MD.values():
        draws = scores.shape[1]
        weights_RD = generator.multinomial(draws, np.full(draws, 1 / draws), size=resamples) / draws
        drawn += _ranks(weights_RD @ scores.T) / len(tasks)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    order = np.argsort(own, kind="stable")
    number, count = len(methods), len(tasks)
    critical = studentized_range.ppf(level, number, np.inf) / np.sqrt(2) * np.sqrt(number * (number + 1) / (6 * count))
    return MeanRanks(
        methods=tuple(methods[i] for i in order),
        ranks=tuple(float(own[i]) for i in order),
        low=tuple(float(low[i]) for i in order),
        high=tuple(float(high[i]) for i in order),
        p=_friedman(means_TM),
        critical=float(critical),
        tasks=count,
    )


def _ranks(scores: Values) -> Values:
    ranks: Values = rankdata(-scores, axis=-1)
    return ranks


def _friedman(ranks_TM: Values) -> float:
    """Return the p of Friedman's test, corrected for ties; scipy's own refuses two methods."""
    tasks, methods = ranks_TM.shape
    spread = ((ranks_TM - (methods + 1) / 2) ** 2).sum()
    if spread == 0:
        return 1.0
    statistic = tasks * (methods - 1) * ((ranks_TM.mean(axis=0) - (methods + 1) / 2) ** 2).sum() * tasks / spread
    return float(chi2.sf(statistic, methods - 1))
