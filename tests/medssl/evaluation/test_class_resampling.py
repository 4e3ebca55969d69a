"""Weighted scores against scikit-learn on repeated cases."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from medssl.evaluation import class_resampling
from medssl.evaluation.calibration import Decision
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.classes import class_scores
from medssl.evaluation.metrics import CLASS_METRICS


def predictions(classes=2, *, cases=60, patients=12, seed=0, skill=1.0):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % classes
    logits = rng.normal(size=(cases, classes)).round(1) + skill * np.eye(classes)[truth]  # rounded: ties occur
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    owners = tuple(f"p{n:02d}" for n in rng.integers(0, patients, cases))
    return ClassPredictions(
        tuple(f"c{n}" for n in range(cases)), owners, truth, probability, probability.argmax(axis=1),
        tuple(f"k{c}" for c in range(classes)),
    )  # fmt: skip


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", CLASS_METRICS)
def test_a_weighted_score_is_the_score_of_repeated_cases(classes, metric):
    cases = predictions(classes)
    names, owner = np.unique(cases.patients, return_inverse=True)
    weight = np.random.default_rng(1).multinomial(len(names), np.full(len(names), 1 / len(names)), size=20)
    weight = np.concatenate([np.ones((1, len(names))), weight]).astype(int)
    expected = []
    for row in weight:
        rows = np.repeat(np.arange(len(cases)), row[owner])
        expected.append(class_scores(cases.probability[rows], cases.truth[rows], cases.predicted[rows])[metric])
    np.testing.assert_allclose(resampled_scores(cases, metric, weight), expected)


def test_scores_of_everybody_are_those_of_scikit_learn():
    cases = predictions(2)
    everybody = np.ones((1, len(set(cases.patients))))
    ours = {m: resampled_scores(cases, m, everybody)[0] for m in CLASS_METRICS}
    assert ours["auroc"] == pytest.approx(roc_auc_score(cases.truth, cases.probability[:, 1]))
    assert ours["auprc"] == pytest.approx(average_precision_score(cases.truth, cases.probability[:, 1]))
    assert ours["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(cases.truth, cases.predicted))


def test_a_resample_without_a_class_has_no_auroc():
    cases = predictions(2, cases=4, patients=4)
    cases = ClassPredictions(
        cases.keys, ("a", "b", "c", "d"), cases.truth, cases.probability, cases.predicted, cases.classes
    )
    weight = np.array([[4, 0, 0, 0], [0, 2, 2, 0]])
    found = resampled_scores(cases, "auroc", weight)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
    assert np.isnan(resampled_scores(cases, "auprc", weight)[0])


def test_scans_of_a_patient_are_averaged_unless_their_classes_differ():
    def of(score, truth, owners):
        score = np.array(score)
        names = tuple(f"c{n}" for n in range(len(score)))
        return ClassPredictions(
            names, owners, np.array(truth), np.stack([1 - score, score], axis=1), (score >= 0.5).astype(int), ("n", "y")
        )

    merged = of([0.9, 0.3, 0.1], [1, 1, 0], ("a", "a", "b")).by_patient(Decision(threshold=0.7))
    assert merged.keys == ("a", "b")
    assert merged.probability[:, 1] == pytest.approx([0.6, 0.1])
    assert merged.predicted.tolist() == [0, 0]
    mixed = of([0.9, 0.3], [1, 0], ("a", "a"))
    assert mixed.by_patient(Decision()) is mixed


def test_pairs_are_counted_in_parts_where_there_are_many(monkeypatch):
    cases = predictions(2)
    weight = np.concatenate([np.ones((1, 12)), 1 - np.eye(12)])
    whole = resampled_scores(cases, "auroc", weight)
    monkeypatch.setattr(class_resampling, "_PAIRS", 70)
    np.testing.assert_allclose(resampled_scores(cases, "auroc", weight), whole)
