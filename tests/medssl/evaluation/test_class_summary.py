import numpy as np
import pytest
from scipy.stats import norm

from medssl.errors import DataError
from medssl.evaluation.calibration import Decision
from medssl.evaluation.class_summary import ClassPredictions, compare_classifiers, delong, summarise_classes


def predictions(score, truth, patients=None):
    score, truth = np.asarray(score, dtype=float), np.asarray(truth)
    names = tuple(patients or [f"p{n}" for n in range(len(truth))])
    keys = tuple(f"case{n}" for n in range(len(truth)))
    probability = np.stack([1 - score, score], axis=1)
    return ClassPredictions(keys, names, truth, probability, (score >= 0.5).astype(int), ("no", "yes"))


def noisy(seed, noise, count=60):
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 2
    return 1 / (1 + np.exp(-(2.0 * truth - 1 + noise * rng.normal(size=count)))), truth


def test_delong_is_the_covariance_of_placements():
    """Against the definition: the share of negatives below each positive, and of positives above each negative."""
    one, truth = noisy(0, 1.5)
    other, _ = noisy(1, 2.5)
    positive = truth == 1

    def placements(score):
        pairs = (score[positive][:, None] > score[~positive]) + 0.5 * (score[positive][:, None] == score[~positive])
        return pairs.mean(axis=1), pairs.mean(axis=0), pairs.mean()

    (v1, w1, a1), (v2, w2, a2) = placements(one), placements(other)
    variance = np.var(v1 - v2, ddof=1) / positive.sum() + np.var(w1 - w2, ddof=1) / (~positive).sum()
    assert delong(one, other, positive) == pytest.approx(2 * norm.sf(abs(a1 - a2) / np.sqrt(variance)))
    assert delong(one, one, positive) == 1.0


def test_intervals_hold_the_score_and_repeated_slices_make_none_narrower():
    score, truth = noisy(2, 1.5)
    single = summarise_classes(predictions(score, truth), resamples=500)
    for interval in single.values():
        assert interval.low <= interval.high
    assert single["auroc"].low <= single["auroc"].estimate <= single["auroc"].high
    owners = [f"p{n}" for n in range(len(truth))] * 10
    tenfold = summarise_classes(predictions(np.tile(score, 10), np.tile(truth, 10), owners), resamples=500)
    width = single["auroc"].high - single["auroc"].low
    assert tenfold["auroc"].high - tenfold["auroc"].low == pytest.approx(width, rel=0.15)
    assert tenfold["auroc"].cases == len(truth)


def test_scans_of_a_patient_are_averaged_unless_their_classes_differ():
    cases = predictions([0.9, 0.3, 0.1], [1, 1, 0], ["a", "a", "b"])
    merged = cases.by_patient(Decision(threshold=0.7))
    assert merged.keys == ("a", "b")
    assert merged.probability[:, 1] == pytest.approx([0.6, 0.1])
    assert merged.predicted.tolist() == [0, 0]
    mixed = predictions([0.9, 0.3], [1, 0], ["a", "a"])
    assert mixed.by_patient(Decision()) is mixed


def test_comparisons_find_the_better_run_and_no_difference_where_there_is_none():
    good, truth = noisy(3, 0.8)
    poor, _ = noisy(4, 6.0)
    runs = {"good": predictions(good, truth), "poor": predictions(poor, truth), "same": predictions(good, truth)}
    found = compare_classifiers(runs, [("good", "poor"), ("good", "same")], resamples=500)
    by_pair = {(row.baseline, row.metric): row for row in found}
    better = by_pair["poor", "auroc"]
    assert better.test == "DeLong"
    assert better.p < 0.01
    assert better.difference.low > 0
    assert by_pair["same", "balanced_accuracy"].p == 1.0
    assert all(row.p_holm >= row.p for row in found)


def test_runs_that_cannot_be_compared_are_refused():
    score, truth = noisy(5, 1.0)
    runs = {"a": predictions(score, truth), "b": predictions(score, 1 - truth)}
    with pytest.raises(DataError, match="different classes"):
        compare_classifiers(runs, [("a", "b")], resamples=10)
