"""Classifiers compared over numbers of labelled patients: one row a method, its pretraining runs taken together.

A cell is one classifier: the arm that it started from, fitted on the n labelled patients of one draw. Arms that are
called METHOD-seed0, METHOD-seed1, ... are one method. G pretraining runs, D draws, P test patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.class_summary import ClassPredictions, bootstrap_p
from medssl.evaluation.intervals import Interval
from medssl.evaluation.paired import holm
from medssl.evaluation.pooling import method_of
from medssl.evaluation.wording import Table, interval_text, p_text
from medssl.randomness import numpy_generator

__all__ = [
    "ArmComparison",
    "ArmScore",
    "ArmTable",
    "ClassCell",
    "arm_rows",
    "compare_arms",
    "gain_rows",
]

Values = npt.NDArray[np.float64]
Runs = Mapping[str, Mapping[int, Sequence[Values]]]  # run -> draw -> scores of its seeds, each (1 + R,)
_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class ClassCell:
    """What one classifier predicted.

    Attributes:
        arm: What it started from; METHOD-seedN is the N-th run of a method.
        how: How it was fitted, such as "linear", "knn" or "fine-tuned"; rows of different ways are not mixed.
        n: Number of labelled patients.
        draw: Which draw of them.
        seed: Seed of the fit; scores of several seeds are averaged.
        cases: Its predictions of the test cases.
    """

    arm: str
    how: str
    n: int
    draw: int
    seed: int = 0
    cases: ClassPredictions


@dataclass(frozen=True, kw_only=True)
class ArmScore:
    """One method at one number of labelled patients.

    Attributes:
        arm: The method.
        how: How it was fitted.
        n: Number of labelled patients.
        mean: Mean over runs and draws; the interval resamples pretraining runs, draws and patients.
        run_means: The mean of each pretraining run.
        draw_means: The mean of each draw.
    """

    arm: str
    how: str
    n: int
    mean: Interval
    run_means: tuple[float, ...]
    draw_means: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ArmComparison:
    """One method against the baseline.

    Attributes:
        arm: The method.
        baseline: What it is compared with.
        how: How both were fitted.
        n: Number of labelled patients.
        difference: Arm minus baseline; the interval resamples runs, draws and patients, the last two in both alike.
        run_means: The difference of each pretraining run.
        ahead: Pairs of a run and a draw in which the arm was ahead.
        pairs: All such pairs.
        p: Two-sided, of the bootstrap: twice the smaller share of resampled differences on either side of 0.
        p_holm: Corrected for all comparisons of the table.
    """

    arm: str
    baseline: str
    how: str
    n: int
    difference: Interval
    run_means: tuple[float, ...]
    ahead: int
    pairs: int
    p: float
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class ArmTable:
    """Scores of all methods, and the tests against the baseline."""

    metric: str
    patients: int
    scores: tuple[ArmScore, ...]
    comparisons: tuple[ArmComparison, ...]


def compare_arms(
    cells: Sequence[ClassCell],
    *,
    baseline: str,
    metric: str = "auroc",
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> ArmTable:
    """Score every method at every number of labelled patients, and test it against the baseline.

    A method and the baseline are compared on the draws that both have. With few runs or draws their share of the
    spread is underestimated, by about sqrt((G - 1) / G): intervals over two or three runs are a little too narrow.

    Args:
        cells: Predictions of the same test cases, in any order.
        baseline: The method that the others are compared with; without it there are no comparisons.
        metric: One of ``RESAMPLED_METRICS``.
        level: Confidence level of the intervals.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: There is no cell, or two cells are of different cases.
    """
    if not cells:
        raise DataError("No classifier is done yet, so there is nothing to compare.")
    keys = set(cells[0].cases.keys)
    if any(set(cell.cases.keys) != keys for cell in cells):
        raise DataError("Classifiers were scored on different cases. Use one fixed test split for the comparison.")
    patients = len(set(cells[0].cases.patients))
    weight = _drawn(numpy_generator(seed, patients, resamples), patients, resamples)
    weight = np.concatenate([np.ones((1, patients)), weight])  # the first row is everybody, once
    table: dict[tuple[str, int, str], dict[str, dict[int, list[Values]]]] = {}
    for cell in cells:
        group = table.setdefault((cell.how, cell.n, method_of(cell.arm)), {})
        group.setdefault(cell.arm, {}).setdefault(cell.draw, []).append(resampled_scores(cell.cases, metric, weight))

    scores, found = [], []
    for (how, n, arm), runs in sorted(table.items(), key=lambda item: (item[0][0], item[0][1], item[0][2] != baseline)):
        own = _stacked(runs, _draws(runs))
        if not own.size:
            continue  # its runs have no draw in common yet
        generator = numpy_generator(seed, n, *own.shape)
        drawn = _averaged(own, _drawn(generator, own.shape[1], resamples), generator)
        scores.append(
            ArmScore(
                arm=arm, how=how, n=n, mean=_interval(own, drawn, level, patients),
                run_means=_means(own, 1), draw_means=_means(own, 0),
            )
        )  # fmt: skip
        reference = table.get((how, n, baseline), {})
        shared = _draws(runs) & _draws(reference)
        if arm == baseline or not shared:
            continue
        own, other = _stacked(runs, shared), _stacked(reference, shared)
        generator = numpy_generator(seed, n, *own.shape)
        draws = _drawn(generator, own.shape[1], resamples)
        differences = _averaged(own, draws, generator) - _averaged(other, draws, generator)
        gap = own - other.mean(axis=0, keepdims=True)
        found.append(
            ArmComparison(
                arm=arm, baseline=baseline, how=how, n=n, difference=_interval(gap, differences, level, patients),
                run_means=_means(gap, 1), ahead=int((gap[..., 0] > 0).sum()), pairs=int(gap[..., 0].size),
                p=bootstrap_p(differences), p_holm=1.0,
            )
        )  # fmt: skip
    corrected = holm({str(i): row.p for i, row in enumerate(found)})
    comparisons = tuple(replace(row, p_holm=corrected[str(i)]) for i, row in enumerate(found))
    return ArmTable(metric=metric, patients=patients, scores=tuple(scores), comparisons=comparisons)


def arm_rows(table: ArmTable) -> Table:
    """Return heads and rows of the table of scores."""
    heads = ("how", "n", "arm", table.metric, "each pretraining run", "draws")
    rows = [
        (row.how, str(row.n), row.arm, interval_text(row.mean), ", ".join(f"{m:.3f}" for m in row.run_means),
         str(len(row.draw_means)))
        for row in table.scores
    ]  # fmt: skip
    return heads, rows


def gain_rows(table: ArmTable) -> Table:
    """Return heads and rows of the table of comparisons."""
    heads = (
        "how",
        "n",
        "arm",
        "against",
        f"difference, {table.metric}",
        "each pretraining run",
        "ahead",
        "p",
        "p Holm",
    )
    rows = [
        (row.how, str(row.n), row.arm, row.baseline, interval_text(row.difference, signed=True),
         ", ".join(f"{m:+.3f}" for m in row.run_means), f"{row.ahead}/{row.pairs}", p_text(row.p), p_text(row.p_holm))
        for row in table.comparisons
    ]  # fmt: skip
    return heads, rows


def _draws(runs: Runs) -> set[int]:
    """Return the draws that every run has."""
    return set.intersection(*(set(of_run) for of_run in runs.values())) if runs else set()


def _stacked(runs: Runs, draws: set[int]) -> Values:
    """Return scores (G, D, 1 + R), seeds averaged."""
    return np.array([[np.mean(of_run[d], axis=0) for d in sorted(draws)] for _, of_run in sorted(runs.items())])


def _drawn(generator: np.random.Generator, count: int, resamples: int) -> Values:
    """Return how often each of ``count`` things was drawn with replacement, (R, count)."""
    return generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)


def _averaged(scores_GDR: Values, draws_RD: Values, generator: np.random.Generator) -> Values:
    """Return the mean over drawn runs and draws in each resample of the patients, (R,)."""
    runs, draws, _ = scores_GDR.shape
    runs_RG = _drawn(generator, runs, len(draws_RD))
    mean: Values = np.einsum("gdr,rg,rd->r", scores_GDR[..., 1:], runs_RG, draws_RD) / (runs * draws)
    return mean


def _means(scores_GDR: Values, over: int) -> tuple[float, ...]:
    return tuple(float(v) for v in scores_GDR[..., 0].mean(axis=over))


def _interval(scores_GDR: Values, drawn: Values, level: float, patients: int) -> Interval:
    known = drawn[~np.isnan(drawn)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if known.size else (float("nan"), float("nan"))
    return Interval(
        estimate=float(scores_GDR[..., 0].mean()),
        low=float(low),
        high=float(high),
        level=level,
        cases=patients,
        draws=scores_GDR.shape[1],
    )
