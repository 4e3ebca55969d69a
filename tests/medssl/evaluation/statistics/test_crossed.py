"""The one interval: against scipy and a table of mean squares made by hand, and by simulation how often it is right."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medssl.errors import DataError
from medssl.evaluation.statistics.crossed import crossed_interval, crossed_variance, p_of


def test_of_patients_alone_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    own, other = rng.normal(0.7, 0.1, 14), rng.normal(0.65, 0.1, 14)
    found = crossed_interval(own[None, None], other[None, None], level=0.9)
    theirs = stats.ttest_rel(own, other)
    ends = theirs.confidence_interval(0.9)
    assert found.estimate == pytest.approx((own - other).mean())
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert p_of(found) == pytest.approx(theirs.pvalue)
    assert (found.sampled, found.freedom) == (("patients",), 13)


def test_of_runs_alone_it_is_welchs_test():
    rng = np.random.default_rng(1)
    own, other = rng.normal(0.7, 0.1, 5), rng.normal(0.6, 0.3, 4)
    block = [np.repeat(arm[:, None, None], 3, axis=2) for arm in (own, other)]  # patients and draws do not differ
    theirs = stats.ttest_ind(own, other, equal_var=False)
    found = crossed_interval(*block)
    assert found.freedom == pytest.approx(theirs.df)
    assert p_of(found) == pytest.approx(theirs.pvalue)


def test_it_is_the_sum_of_mean_squares_of_an_analysis_of_variance():
    """Sums of squares by loops over cells, the degrees of freedom as Satterthwaite wrote them down."""
    values = np.random.default_rng(2).normal(size=(3, 4, 5)) + np.arange(3)[:, None, None] + np.arange(5)
    runs, draws, patients = values.shape
    whole = sum(values.flat) / values.size
    squares = []
    for axis, others in ((0, draws * patients), (1, runs * patients), (2, runs * draws)):
        total = 0.0
        for place in range(values.shape[axis]):
            mean = sum(np.take(values, place, axis).flat) / others
            total += others * (mean - whole) ** 2
        squares.append((total / (values.shape[axis] - 1) / values.size, values.shape[axis] - 1))
    variance = sum(part for part, _ in squares)
    freedom = variance**2 / sum(part**2 / df for part, df in squares)
    found = crossed_interval(values)
    assert found.error == pytest.approx(math.sqrt(variance))
    assert found.freedom == pytest.approx(freedom)
    assert found.high - found.estimate == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(variance))


def test_the_variance_is_that_of_repeated_experiments():
    """Where only main effects vary, the squared error is on average the variance of the estimate over experiments."""
    rng = np.random.default_rng(3)
    shape = (4000, 3, 4, 8)
    values = (rng.normal(size=(4000, 3, 1, 1)) * 0.6 + rng.normal(size=(4000, 1, 4, 1)) * 0.8
              + rng.normal(size=(4000, 1, 1, 8))) * np.ones(shape)  # fmt: skip
    variance, _ = crossed_variance(values)
    truth = 0.6**2 / 3 + 0.8**2 / 4 + 1 / 8
    assert variance.mean() == pytest.approx(truth, rel=0.03)
    assert values.mean(axis=(1, 2, 3)).var() == pytest.approx(truth, rel=0.08)


def luck(rng, tables, runs, draws, patients, *, run=0.3):
    size = lambda *axes: [tables, *(n if a in axes else 1 for a, n in enumerate((runs, draws, patients)))]  # noqa: E731
    return (
        run * rng.standard_normal(size(0)) + 0.3 * rng.standard_normal(size(1)) + rng.standard_normal(size(2))
        + 0.3 * rng.standard_normal(size(0, 1)) + 0.4 * rng.standard_normal(size(1, 2))
        + 0.5 * rng.standard_normal(size(0, 1, 2))
    )  # fmt: skip


def alarms(own, other=None):
    """Return the share of tables without an effect of which the interval excludes 0."""
    middle = own.mean(axis=(1, 2, 3)) - (0 if other is None else other.mean(axis=(1, 2, 3)))
    variance, freedom = crossed_variance(own, other)
    return float((2 * stats.t.sf(np.abs(middle) / np.sqrt(variance), freedom) < 0.05).mean())


@pytest.mark.parametrize("patients", [6, 12, 30])
@pytest.mark.parametrize("draws", [2, 4, 8])
@pytest.mark.parametrize("runs", [2, 3, 5])
def test_with_two_runs_and_more_95_of_100_intervals_hold_the_truth(runs, draws, patients):
    rng = np.random.default_rng([runs, draws, patients])
    assert 0.93 <= 1 - alarms(luck(rng, 3000, runs, draws, patients)) <= 0.985


def test_with_one_run_fewer_do_where_runs_have_luck():
    rng = np.random.default_rng(0)
    assert 0.7 < 1 - alarms(luck(rng, 3000, 1, 4, 30)) < 0.93
    assert 1 - alarms(luck(rng, 3000, 1, 4, 30, run=0.0)) > 0.93


def test_the_resampling_that_this_replaces_held_it_less_often():
    rng = np.random.default_rng(1)
    tables = luck(rng, 300, 2, 3, 12)
    held = []
    for table in tables:
        weights = [rng.multinomial(n, np.full(n, 1 / n), size=200) / n for n in table.shape]
        low, high = np.quantile(np.einsum("gdp,rg,rd,rp->r", table, *weights, optimize=True), [0.025, 0.975])
        held.append(low <= 0 <= high)
    assert np.mean(held) < 0.92 < 1 - alarms(tables)


def test_runs_of_the_baseline_count_too():
    rng = np.random.default_rng(4)
    shared = luck(rng, 3000, 1, 3, 12)
    own, other = (shared + 2.0 * rng.standard_normal((3000, n, 1, 1)) for n in (5, 3))
    assert alarms(own, other) < 0.075
    assert alarms(own, other.mean(axis=1, keepdims=True)) > 0.15  # as if the baseline's runs had no luck


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_draws_from_a_small_pool_are_not_independent(share):
    """Labelled patients differ; draws of n from a pool of n / share see the pool's luck again and again."""
    rng = np.random.default_rng(5)
    n, tables, draws = 4, 1500, 6
    pool = rng.standard_normal((tables, round(n / share)))
    picked = np.stack([pool[:, rng.permutation(pool.shape[1])[:n]].mean(axis=1) for _ in range(draws)], axis=1)
    values = picked[:, None, :, None] + 0.1 * rng.standard_normal((tables, 1, draws, 20))
    middle = values.mean(axis=(1, 2, 3))

    def coverage(overlap):
        variance, freedom = crossed_variance(values, overlap=overlap)
        return float((np.abs(middle) <= stats.t.ppf(0.975, freedom) * np.sqrt(variance)).mean())

    assert coverage(share) > 0.92
    assert coverage(share) > coverage(0.0) + (0.2 if share > 0.2 else 0.03)


def test_draws_of_the_same_patients_are_no_axis():
    values = np.random.default_rng(6).normal(size=(1, 5, 9))
    found = crossed_interval(values, overlap=1.0)
    assert (found.draws, found.sampled) == (1, ("patients",))
    assert found.low == pytest.approx(crossed_interval(values.mean(axis=1, keepdims=True)).low)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.full((1, 1, 20), 1.0), "an interval cannot be computed"),
        (np.array([[[0.1, 0.9]]]), "2 patients are too few"),
        (np.array([[[0.1]]]), "1 patient is too few"),
        (np.array([[[0.1, np.nan, 0.3]]]), "not defined"),
    ],
)
def test_where_there_can_be_no_interval_it_says_why(values, why):
    found = crossed_interval(values)
    assert why in found.note
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(p_of(found))


def test_an_interval_stays_within_the_range_of_the_score():
    found = crossed_interval(np.array([[[1.0, 1.0, 1.0, 0.6]]]), bounds=(0, 1))
    assert found.high == 1.0
    assert 0 < found.low < 0.9


def test_shapes_and_levels_are_checked():
    with pytest.raises(DataError, match="by run, draw and patient"):
        crossed_interval(np.zeros((2, 3)))
    with pytest.raises(DataError, match="same draws and patients"):
        crossed_interval(np.zeros((2, 3, 4)), np.zeros((1, 2, 4)))
    with pytest.raises(DataError, match="level"):
        crossed_interval(np.zeros((1, 1, 4)), level=95)


def test_draws_of_a_clouds_points_are_held_by_the_interval_over_them():
    """`benchmarks/coverage.py --clouds`: few labelled clouds, many asked, drawing points moves both."""
    simulated = runpy.run_path(str(Path(__file__).parents[4] / "benchmarks/coverage.py"))["cloud_tables"]
    tables = simulated(np.random.default_rng(1), 60, labelled=20, tested=400, share=0.3)
    one, eight, gap_of_one, gap_of_eight, _ = np.array(tables, dtype=float).mean(axis=0)
    assert min(eight, gap_of_eight) > 0.85
    assert eight > one + 0.05
    assert gap_of_eight > gap_of_one + 0.05
