"""Mean ranks: against scipy's Friedman test, published critical differences and rankings by hand."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, rankdata, ttest_1samp

from medssl.errors import DataError

mean_ranks = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks/ranks.py"))["mean_ranks"]


def data_sets_of(scores_SM):
    return {f"set {s}": {"n = 4": {f"m{m}": [v] for m, v in enumerate(row)}} for s, row in enumerate(scores_SM)}


def test_ranks_by_hand_and_every_data_set_counts_once():
    one = {"x": [0.9], "y": [0.5], "z": [0.1]}
    other = {"x": [0.5, 0.5], "y": [0.6, 0.8], "z": [0.25, 0.75]}
    found = mean_ranks({"a": {"1": one, "2": one, "4": one}, "b": {"1": other}})
    assert {m: i.estimate for m, i in zip(found.methods, found.ranks, strict=True)} == {"y": 1.5, "x": 1.75, "z": 2.75}
    assert found.methods == ("y", "x", "z")
    assert found.data_sets == 2
    assert all("too few" in interval.note for interval in found.ranks)


@pytest.mark.parametrize("ties", [False, True])
def test_p_is_that_of_scipy(ties):
    scores = np.random.default_rng(0).random((8, 5)) + 0.2 * np.arange(5)
    scores = scores.round(1) if ties else scores
    assert mean_ranks(data_sets_of(scores)).p == pytest.approx(friedmanchisquare(*scores.T).pvalue, rel=1e-9)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_the_paper(methods, q):
    # table 5a of Demsar 2006, alpha 0.05
    found = mean_ranks(data_sets_of(np.random.default_rng(1).random((14, methods))))
    assert found.critical == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 14)), rel=1e-3)


def test_intervals_are_t_intervals_over_data_sets():
    scores = np.random.default_rng(2).random((6, 3))
    found = mean_ranks(data_sets_of(scores), level=0.9)
    of_first = 4 - rankdata(scores, axis=1)[:, int(found.methods[0][1])]
    ends = ttest_1samp(of_first, 0).confidence_interval(0.9)
    assert (found.ranks[0].low, found.ranks[0].high) == pytest.approx((ends.low, ends.high))


def test_numbers_of_labels_of_one_data_set_are_no_data_sets():
    with pytest.raises(DataError, match="share its patients"):
        mean_ranks({"hippocampus": {str(n): {"x": [1.0], "y": [0.0]} for n in (1, 2, 4)}})


def test_a_method_that_lacks_a_draw_is_named_with_its_task():
    with pytest.raises(DataError, match="b, 2: every method needs a score in every draw"):
        mean_ranks({"a": {"2": {"x": [1.0], "y": [2.0]}}, "b": {"2": {"x": [1.0], "y": []}}})
