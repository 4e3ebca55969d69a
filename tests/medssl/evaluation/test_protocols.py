"""Probes with fixed rules against scikit-learn, and few-shot tasks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from medssl.errors import ConfigError, DataError
from medssl.evaluation.protocols import NEIGHBOURS, PROBES, few_shot, probe


def clusters(per_class: int, *, seed: int, spread: float = 1.0, dim: int = 16, classes: int = 4):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), per_class)
    return centres[labels] + spread * generator.normal(size=(len(labels), dim)), [f"c{label}" for label in labels]


TRAIN, TEST = clusters(30, seed=1), clusters(20, seed=2)


def unit(values):
    centred = values - TRAIN[0].mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


@pytest.mark.parametrize("protocol", PROBES)
def test_every_protocol_tells_clusters_apart(protocol):
    found = probe(*TRAIN, *TEST, protocol=protocol)
    assert found.accuracy > 0.8 > found.chance
    assert found.right.mean() == found.accuracy
    assert (found.train, found.classes) == (120, 4)


@pytest.mark.parametrize("protocol", ["svm-c1", "knn"])
def test_a_constant_that_all_features_share_hides_nothing(protocol):
    """Features of an encoder are a small angle beside a common direction; as they are, nothing could be told."""
    shift = np.full(TRAIN[0].shape[1], 1000.0)
    shifted = probe(TRAIN[0] + shift, TRAIN[1], TEST[0] + shift, TEST[1], protocol=protocol)
    plain = probe(*TRAIN, *TEST, protocol=protocol)
    assert (shifted.right == plain.right).mean() > 0.97
    tasks = few_shot(*TRAIN, *TEST, ways=3, shots=5, draws=3)
    moved = few_shot(TRAIN[0] + shift, TRAIN[1], TEST[0] + shift, TEST[1], ways=3, shots=5, draws=3)
    assert moved.accuracies == pytest.approx(tasks.accuracies, abs=0.04)


def test_svm_c1_is_scikit_learns_of_directions():
    model = LinearSVC(random_state=0).fit(unit(TRAIN[0]), TRAIN[1])
    expected = model.score(unit(TEST[0]), TEST[1])
    assert probe(*TRAIN, *TEST, protocol="svm-c1").accuracy == pytest.approx(expected)


def test_knn_against_scikit_learn():
    model = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(unit(TRAIN[0]), TRAIN[1])
    found = probe(*TRAIN, *TEST, protocol="knn")
    agree = found.right == (model.predict(unit(TEST[0])) == np.array(TEST[1]))
    assert agree.mean() > 0.95  # they break ties otherwise


def test_labels_of_the_test_part_choose_nothing():
    """Shuffled test labels change the score alone, neither C nor the predictions."""
    noisy = clusters(30, seed=3, spread=3.0), clusters(20, seed=4, spread=3.0)
    first = probe(*noisy[0], *noisy[1], protocol="svm-cv")
    second = probe(*noisy[0], noisy[1][0], noisy[1][1][::-1], protocol="svm-cv")
    assert first.chosen == second.chosen
    assert first.accuracy != second.accuracy


def test_folds_are_split_by_patient():
    """A patient's twin of every item would make any C look perfect; by patient the choice sees through it."""
    generator = np.random.default_rng(5)
    values = generator.normal(size=(60, 40))
    labels = [str(label) for label in generator.integers(0, 2, 60)]
    patients = [f"p{row}" for row in range(60)]
    twice = np.concatenate([values, values])
    fair = probe(twice, labels * 2, *clusters_like(values), protocol="svm-cv", train_patients=patients * 2)
    fooled = probe(twice, labels * 2, *clusters_like(values), protocol="svm-cv")
    assert fair.chosen["C"] < fooled.chosen["C"]


def clusters_like(values):
    return np.random.default_rng(6).normal(size=(10, values.shape[1])), ["0"] * 5 + ["1"] * 5


def test_embeddings_of_noise_are_at_chance():
    generator = np.random.default_rng(7)
    found = probe(
        generator.normal(size=(200, 8)), generator.integers(0, 4, 200).tolist(),
        generator.normal(size=(400, 8)), generator.integers(0, 4, 400).tolist(), protocol="svm-cv",
    )  # fmt: skip
    assert abs(found.accuracy - 0.25) < 0.1


def test_what_cannot_be_probed():
    with pytest.raises(ConfigError, match="svm-cv"):
        probe(*TRAIN, *TEST, protocol="svm-c2")
    with pytest.raises(DataError, match="two classes"):
        probe(TRAIN[0], ["a"] * 120, *TEST)
    with pytest.raises(DataError, match="NaN"):
        probe(TRAIN[0] * np.nan, TRAIN[1], *TEST)
    with pytest.raises(DataError, match="one class for each"):
        probe(TRAIN[0], TRAIN[1][:-1], *TEST)


def test_a_class_that_was_never_fitted_is_told_wrong():
    found = probe(*TRAIN, TEST[0][:2], ["c0", "unseen"], protocol="knn")
    assert found.right.tolist()[1] is False or not found.right[1]


def test_few_shot_tasks_are_the_same_for_every_encoder_and_better_with_more_shots():
    hard = clusters(30, seed=1, spread=2.5, classes=6), clusters(20, seed=2, spread=2.5, classes=6)
    one = few_shot(*hard[0], *hard[1], ways=5, shots=1, draws=20)
    many = few_shot(*hard[0], *hard[1], ways=5, shots=20, draws=20)
    assert one.mean + 0.1 < many.mean
    assert one == few_shot(*hard[0], *hard[1], ways=5, shots=1, draws=20)
    assert one.accuracies != few_shot(*hard[0], *hard[1], ways=5, shots=1, draws=20, seed=1).accuracies
    assert one.spread == pytest.approx(np.std(one.accuracies, ddof=1))
    with pytest.raises(DataError, match="fewer ways"):
        few_shot(*hard[0], *hard[1], ways=7, shots=1)
