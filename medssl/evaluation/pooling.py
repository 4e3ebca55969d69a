"""Several pretraining runs of one method taken together: what the method brings, not what one run of it brings.

An interval over draws and patients cannot see the luck of a pretraining run, since all draws share its weights. Arms
that are called METHOD-seed0, METHOD-seed1, ... are therefore pooled: P pretraining runs, D draws, C patients.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.few_label import CellResult
from medssl.evaluation.intervals import Interval
from medssl.evaluation.summary import patient_scores
from medssl.evaluation.wording import Table, interval_text
from medssl.randomness import numpy_generator

__all__ = ["PooledComparison", "crossed_bootstrap", "method_of", "pool_pretraining_runs", "pooled_rows"]

_Scores = npt.NDArray[np.float64]
_RESAMPLES = 4000


@dataclass(frozen=True, kw_only=True)
class PooledComparison:
    """One method, over its pretraining runs, against the baseline at one number of labelled patients.

    Attributes:
        method: Its name, without the seed.
        n: Number of labelled patients.
        mean: Mean difference to the baseline; the interval resamples pretraining runs, draws and patients.
        run_means: Mean difference of each pretraining run.
        better: Pairs of a pretraining run and a draw in which the method was ahead.
        pairs: All such pairs.
    """

    method: str
    n: int
    mean: Interval
    run_means: tuple[float, ...]
    better: int
    pairs: int


def method_of(arm: str) -> str:
    """Return the method whose run an arm is: METHOD of METHOD-seedN, else the arm's own name.

    Example:
        >>> method_of("voco-seed0"), method_of("scratch")
        ('voco', 'scratch')
    """
    found = re.fullmatch(r"(.+)-seed\d+", arm)
    return found[1] if found else arm


def crossed_bootstrap(
    differences_PDC: npt.ArrayLike, *, level: float = 0.95, resamples: int = _RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean with an interval that resamples all three axes independently, since they are crossed.

    With few entries on an axis its share of the spread is underestimated, by a factor of about sqrt((P - 1) / P): an
    interval over three pretraining runs is still a little too narrow.

    Args:
        differences_PDC: Differences by pretraining run, draw and patient, shape (P, D, C), without NaN.
        level: Confidence level in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: If there are no values, or some are not finite.
    """
    values = np.asarray(differences_PDC, dtype=float)
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        raise DataError(
            f"Differences by pretraining run, draw and patient are needed, all finite. Got shape {values.shape}, "
            f"{int((~np.isfinite(values)).sum())} not finite."
        )
    generator = numpy_generator(seed, *values.shape, resamples)
    means = np.empty(resamples)
    for i in range(resamples):
        runs, draws, patients = (generator.integers(0, size, size) for size in values.shape)
        means[i] = values[np.ix_(runs, draws, patients)].mean()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        estimate=float(values.mean()),
        low=float(low),
        high=float(high),
        level=level,
        cases=values.shape[2],
        draws=values.shape[1],
    )


def pool_pretraining_runs(
    cells: Sequence[CellResult], *, baseline: str, metric: str = "dice", level: float = 0.95
) -> tuple[PooledComparison, ...]:
    """Compare each method that was pretrained more than once with the baseline.

    Only draws that the baseline and every pretraining run of the method have done are counted, and patients with a
    score in all of them.

    Args:
        cells: Finished cells; arms called METHOD-seedN belong together.
        baseline: The arm that has no pretraining.
        metric: The metric, mean over structures.
        level: Confidence level of the intervals.
    """
    table: dict[tuple[str, int], dict[tuple[int, int], Mapping[str, float]]] = {}
    for result in cells:
        cell = result.cell
        table.setdefault((cell.arm, cell.n), {})[cell.draw, cell.seed] = patient_scores(result.scores, metric)
    methods: dict[tuple[str, int], list[str]] = {}
    for arm, n in table:
        if (method := method_of(arm)) != arm:
            methods.setdefault((method, n), []).append(arm)
    pooled = []
    for (method, n), arms in sorted(methods.items(), key=lambda item: (item[0][1], item[0][0])):
        if len(arms) < 2 or (baseline, n) not in table:
            continue
        differences = _differences(table, sorted(arms), n, baseline)
        if not differences.size:
            continue
        by_pair = differences.mean(axis=2)
        pooled.append(
            PooledComparison(
                method=method,
                n=n,
                mean=crossed_bootstrap(differences, level=level),
                run_means=tuple(float(m) for m in differences.mean(axis=(1, 2))),
                better=int((by_pair > 0).sum()),
                pairs=int(by_pair.size),
            )
        )
    return tuple(pooled)


def pooled_rows(pooled: Sequence[PooledComparison]) -> Table:
    """Return heads and rows of a table of pooled comparisons."""
    heads = ("n", "method", "mean difference", "each pretraining run", "ahead")
    rows = [
        (
            str(row.n),
            row.method,
            interval_text(row.mean, signed=True),
            ", ".join(f"{m:+.3f}" for m in row.run_means),
            f"{row.better}/{row.pairs}",
        )
        for row in pooled
    ]
    return heads, rows


def _differences(
    table: Mapping[tuple[str, int], Mapping[tuple[int, int], Mapping[str, float]]],
    arms: Sequence[str],
    n: int,
    baseline: str,
) -> _Scores:
    """Return arm minus baseline, shape (P, D, C); seeds of a draw are averaged."""
    sources = [table[name, n] for name in (*arms, baseline)]
    shared = sorted(set.intersection(*(set(source) for source in sources)))
    if not shared:
        return np.empty((0, 0, 0))
    patients = sorted(next(iter(sources[0].values())))
    draws = sorted({draw for draw, _ in shared})
    scores = np.array(
        [
            [
                np.mean([[source[key].get(p, np.nan) for p in patients] for key in shared if key[0] == draw], axis=0)
                for draw in draws
            ]
            for source in sources
        ]
    )
    known = np.isfinite(scores).all(axis=(0, 1))
    result: _Scores = scores[:-1, :, known] - scores[-1:, :, known]
    return result
