"""Mean ranks: against scipy's Friedman test, published critical differences and rankings by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from medssl.errors import DataError
from medssl.evaluation.ranks import mean_ranks


def tasks_of(scores_TMD):
    return {f"task {t}": {f"m{m}": list(row) for m, row in enumerate(task)} for t, task in enumerate(scores_TMD)}


def test_ranks_by_hand():
    found = mean_ranks({"a": {"x": [0.9], "y": [0.5], "z": [0.1]}, "b": {"x": [0.3], "y": [0.7], "z": [0.3]}})
    assert dict(zip(found.methods, found.ranks, strict=True)) == {"y": 1.5, "x": 1.75, "z": 2.75}
    assert found.methods == ("y", "x", "z")
    assert found.low == found.ranks == found.high


@pytest.mark.parametrize("ties", [False, True])
def test_p_is_that_of_scipy(ties):
    scores = np.random.default_rng(0).random((8, 5, 1)) + 0.2 * np.arange(5)[None, :, None]
    scores = scores.round(1) if ties else scores
    theirs = friedmanchisquare(*scores[:, :, 0].T).pvalue
    assert mean_ranks(tasks_of(scores)).p == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_the_paper(methods, q):
    # table 5a of Demsar 2006, alpha 0.05
    found = mean_ranks(tasks_of(np.random.default_rng(1).random((14, methods, 1))))
    assert found.critical == pytest.approx(q * np.sqrt(methods * (methods + 1) / (6 * 14)), rel=1e-3)


def test_intervals_hold_the_mean_rank_and_widen_with_the_noise_of_draws():
    better = np.arange(4)[None, :, None] * 0.1
    noise = np.random.default_rng(2).normal(size=(5, 4, 6))
    wide, narrow = (mean_ranks(tasks_of(better + s * noise)) for s in (0.3, 0.01))
    for found in (wide, narrow):
        assert all(lo <= r <= hi for lo, r, hi in zip(found.low, found.ranks, found.high, strict=True))
        assert sum(found.ranks) == pytest.approx(4 * 5 / 2)
    assert narrow.methods == ("m3", "m2", "m1", "m0")
    assert narrow.low == narrow.high
    assert sum(wide.high) - sum(wide.low) > 1


def test_every_task_counts_once_however_many_draws_it_has():
    one = {"x": [1.0] * 9, "y": [0.0] * 9}
    assert mean_ranks({"a": one, "b": {"x": [0.0], "y": [1.0]}}).ranks == (1.5, 1.5)


def test_a_method_that_lacks_a_draw_is_named_with_its_task():
    with pytest.raises(DataError, match="task b: every method needs a score in every draw"):
        mean_ranks({"task a": {"x": [1.0], "y": [2.0]}, "task b": {"x": [1.0], "y": []}})
    with pytest.raises(DataError, match="need 2 tasks"):
        mean_ranks({"a": {"x": [1.0], "y": [2.0]}})
