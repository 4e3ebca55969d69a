import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from medssl.errors import DataError
from medssl.evaluation.calibration import Decision, best_threshold, decide, fitted_temperature, probabilities
from medssl.evaluation.classes import (
    auroc,
    average_precision,
    brier,
    calibration_error,
    class_scores,
    confusion,
    precision_recall_curve,
    roc_curve,
)
from medssl.evaluation.draws import labelled_patients, stratified_patients


def cases(seed: int, classes: int, count: int = 60):
    """Return probabilities with many ties, and classes that they tell something of."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    logits = rng.normal(size=(count, classes)).round(1) + np.eye(classes)[truth]
    return probabilities(logits), truth


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_as_scikit_learn(seed):
    probability, truth = cases(seed, 2)
    predicted = probability.argmax(axis=1)
    ours = class_scores(probability, truth, predicted)
    assert ours["auroc"] == pytest.approx(metrics.roc_auc_score(truth, probability[:, 1]))
    assert ours["auprc"] == pytest.approx(metrics.average_precision_score(truth, probability[:, 1]))
    assert ours["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert ours["f1"] == pytest.approx(metrics.f1_score(truth, predicted))
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert ours["brier"] == pytest.approx(2 * metrics.brier_score_loss(truth, probability[:, 1]))
    false, true = roc_curve(probability[:, 1], truth == 1)
    theirs = metrics.roc_curve(truth, probability[:, 1], drop_intermediate=False)
    assert false == pytest.approx(theirs[0])
    assert true == pytest.approx(theirs[1])
    recall, precision = precision_recall_curve(probability[:, 1], truth == 1)
    theirs = metrics.precision_recall_curve(truth, probability[:, 1])
    assert precision == pytest.approx(theirs[0][:-1][::-1])
    assert recall == pytest.approx(theirs[1][:-1][::-1])


@pytest.mark.parametrize("seed", range(5))
def test_five_classes_as_scikit_learn(seed):
    probability, truth = cases(seed, 5)
    predicted = probability.argmax(axis=1)
    ours = class_scores(probability, truth, predicted)
    assert ours["auroc"] == pytest.approx(metrics.roc_auc_score(truth, probability, multi_class="ovr", average="macro"))
    assert ours["auprc"] == pytest.approx(metrics.average_precision_score(np.eye(5)[truth], probability))
    assert ours["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert ours["f1"] == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    assert (confusion(truth, predicted, 5) == metrics.confusion_matrix(truth, predicted)).all()


def test_calibration_error_and_brier_by_hand():
    """Two cases of confidence 0.9, one right: |0.9 - 0.5|; two of 0.6, both right: |0.6 - 1|; half each: 0.4."""
    probability = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    truth = np.array([0, 0, 0, 1])
    assert calibration_error(probability, truth) == pytest.approx(0.4)
    assert brier(probability, truth) == pytest.approx((0.02 + 1.62 + 0.32 + 0.32) / 4)


def test_scores_of_a_single_class_are_not_defined():
    score, truth = np.array([0.1, 0.9]), np.array([True, True])
    assert np.isnan(auroc(score, truth))
    assert np.isnan(average_precision(score, truth))


@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_a_temperature_is_found_again_and_changes_no_ranking(seed, temperature):
    """Classes drawn from softmax(z) make 1 the best temperature of z, and t that of t * z."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4000, 3))
    truth = (probabilities(logits).cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    found = fitted_temperature(temperature * logits, truth)
    assert found == pytest.approx(temperature, rel=0.15)


@pytest.mark.parametrize("right", [True, False])
def test_few_cases_do_not_make_certain_nor_ignorant(right):
    """Three cases alone would send the temperature to the ends of its range, 0.05 and 20."""
    logits = 2 * np.eye(3)
    found = fitted_temperature(logits, np.arange(3) if right else np.array([1, 2, 0]))
    assert 0.3 < found < 1 if right else 1 < found < 4
    many = fitted_temperature(np.tile(logits, (200, 1)), np.tile(np.arange(3), 200))
    assert many < 0.3
    assert (probabilities(logits, found).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_the_threshold_is_youdens():
    score, truth = np.array([0.1, 0.2, 0.3, 0.35, 0.8]), np.array([0, 0, 1, 0, 1])
    assert best_threshold(score, truth) == pytest.approx(0.25)
    assert best_threshold(score, np.zeros(5, dtype=int)) == 0.5
    false, true, thresholds = metrics.roc_curve(truth, score)
    predicted = Decision(threshold=best_threshold(score, truth)).predicted(np.stack([1 - score, score], axis=1))
    assert metrics.balanced_accuracy_score(truth, predicted) == pytest.approx(0.5 + (true - false).max() / 2)
    assert len(thresholds) > 0


def test_a_decision_without_validation_cases_changes_nothing():
    decision = decide(np.array([[0.0, 1.0]]), np.array([-1]))
    assert decision == Decision(temperature=1.0, threshold=0.5, cases=0)
    with pytest.raises(DataError, match="no validation case"):
        fitted_temperature(np.zeros((0, 2)), np.zeros(0, dtype=int))


def test_nothing_is_chosen_on_validation_cases_of_one_class():
    decision = decide(np.array([[0.0, 1.0], [0.0, 3.0], [2.0, 0.0]]), np.array([1, 1, 1]))
    assert (decision.temperature, decision.threshold, decision.cases) == (1.0, 0.5, 0)
    assert "one class" in decision.why


@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=30), st.integers(0, 5))
def test_stratified_draws_are_nested_and_hold_every_class_in_proportion(labels, draw):
    classes = {f"p{number}": label for number, label in enumerate(labels)}
    kinds = sorted(set(labels))
    before: set[str] = set()
    for n in range(len(kinds), len(labels) + 1):
        chosen = stratified_patients(classes, n, draw=draw)
        assert len(set(chosen)) == n
        assert before <= set(chosen)
        before = set(chosen)
        counts = {kind: sum(classes[p] == kind for p in chosen) for kind in kinds}
        assert min(counts.values()) >= 1
        assert all(abs(counts[k] - n * labels.count(k) / len(labels)) <= len(kinds) for k in kinds)
    if len(kinds) > 1:
        with pytest.raises(DataError, match="cannot hold every class"):
            stratified_patients(classes, len(kinds) - 1, draw=draw)


def test_draws_of_one_class_are_those_of_labelled_patients():
    classes = {f"p{number}": "labelled" for number in range(9)}
    for n in range(1, 10):
        assert stratified_patients(classes, n, draw=3, seed=4) == labelled_patients(classes, n, draw=3, seed=4)
