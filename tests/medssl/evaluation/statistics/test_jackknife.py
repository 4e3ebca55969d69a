"""Pseudo-values: against the scores of cases left out one patient at a time, and against DeLong's variance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.classes import class_scores
from medssl.evaluation.metrics import CLASS_METRICS
from medssl.evaluation.statistics.crossed import crossed_interval
from medssl.evaluation.statistics.jackknife import pseudo_values


def predictions(seed=0, *, cases=60, patients=60, skill=1.5, classes=2):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % classes
    logits = rng.normal(size=(cases, classes)) + skill * np.eye(classes)[truth]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    owners = tuple(f"p{n % patients:02d}" for n in range(cases))
    return ClassPredictions(
        tuple(f"c{n}" for n in range(cases)), owners, truth, probability, probability.argmax(axis=1),
        tuple(f"k{c}" for c in range(classes)),
    )  # fmt: skip


def found(cases, metric):
    return pseudo_values(lambda weight: resampled_scores(cases, metric, weight), len(set(cases.patients)))


@pytest.mark.parametrize("metric", CLASS_METRICS)
@pytest.mark.parametrize("classes", [2, 3])
def test_they_come_from_the_scores_without_each_patient(metric, classes):
    cases = predictions(cases=40, patients=11, classes=classes)
    whole = class_scores(cases.probability, cases.truth, cases.predicted)[metric]
    wanted = []
    for name in sorted(set(cases.patients)):
        rows = np.array([owner != name for owner in cases.patients])
        without = class_scores(cases.probability[rows], cases.truth[rows], cases.predicted[rows])[metric]
        wanted.append(11 * whole - 10 * without)
    score, values = found(cases, metric)
    assert score == pytest.approx(whole)
    np.testing.assert_allclose(values, wanted)


def test_of_a_mean_they_are_the_values():
    rng = np.random.default_rng(1)
    own = rng.random(9)
    score, values = pseudo_values(lambda weight: weight @ own / weight.sum(axis=1), 9)
    assert score == pytest.approx(own.mean())
    np.testing.assert_allclose(values, own)


def test_the_error_of_an_auroc_is_delongs():
    """From the definition: the share of negatives below each positive, and of positives above each negative."""
    one, other = predictions(2, cases=200, patients=200), predictions(3, cases=200, patients=200)
    placements = []
    for cases in (one, other):
        score, positive = cases.probability[:, 1], cases.truth == 1
        pairs = score[positive][:, None] > score[~positive]
        placements.append((pairs.mean(axis=1), pairs.mean(axis=0), pairs.mean()))
    (v1, w1, a1), (v2, w2, a2) = placements
    variance = np.var(v1 - v2, ddof=1) / 100 + np.var(w1 - w2, ddof=1) / 100
    grids = [found(cases, "auroc") for cases in (one, other)]
    gap = crossed_interval(*(values[None, None] for _, values in grids), estimate=grids[0][0] - grids[1][0])
    assert gap.estimate == pytest.approx(a1 - a2)
    assert gap.error == pytest.approx(np.sqrt(variance), rel=0.01)


@pytest.mark.parametrize("skill", [0.6, 1.2])
@pytest.mark.parametrize("patients", [20, 40])
def test_intervals_of_an_auroc_hold_the_truth(patients, skill):
    truth = norm.cdf(skill)  # of logit differences 2 skill apart with a spread of sqrt(2): Phi(2 skill / 2)
    held = []
    for seed in range(300):
        score, values = found(predictions(seed, cases=patients, patients=patients, skill=skill), "auroc")
        interval = crossed_interval(values[None, None], estimate=score, bounds=(0, 1), logit=True)
        if interval.known:  # not where every case is in order
            held.append(interval.low <= truth <= interval.high)
    assert np.mean(held) >= 0.94


def test_differences_of_equal_classifiers_are_called_different_one_time_in_twenty():
    wrong = 0
    for seed in range(300):
        arms = [found(predictions([seed, arm], cases=24, patients=24), "auroc") for arm in range(2)]
        gap = crossed_interval(*(values[None, None] for _, values in arms), estimate=arms[0][0] - arms[1][0])
        wrong += not gap.low <= 0 <= gap.high
    assert wrong <= 24
