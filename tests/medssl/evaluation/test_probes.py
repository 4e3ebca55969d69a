"""Probes of embeddings: patients are left out whole, collapse is seen."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import DataError
from medssl.evaluation.probes import effective_rank, feature_spread, knn_probe, linear_probe


def clustered(items=60, classes=3, seed=0, distance=4.0):
    generator = np.random.default_rng(seed)
    labels = np.arange(items) % classes
    embeddings = generator.standard_normal((items, 8)) + distance * np.eye(8)[labels]
    return embeddings, [f"class{label}" for label in labels], [f"p{i}" for i in range(items)]


@pytest.mark.parametrize("probe", [knn_probe, linear_probe])
def test_separable_classes_are_found_and_shuffled_ones_are_not(probe):
    embeddings, labels, patients = clustered()
    assert probe(embeddings, labels, patients).accuracy > 0.9
    shuffled = np.random.default_rng(3).permutation(labels).tolist()
    assert probe(embeddings, shuffled, patients).balanced_accuracy < 0.6


@pytest.mark.parametrize("probe", [knn_probe, linear_probe])
def test_a_second_scan_of_the_same_patient_does_not_answer(probe):
    # each patient is a tight cluster of their own and classes are noise: only a leak could score
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((30, 8)) * 10
    embeddings = np.repeat(centres, 4, axis=0) + 0.01 * generator.standard_normal((120, 8))
    labels = np.repeat(generator.integers(0, 2, 30), 4).tolist()
    leaking = probe(embeddings, labels, [f"p{i}" for i in range(120)]).accuracy
    honest = probe(embeddings, labels, [f"p{i // 4}" for i in range(120)]).accuracy
    assert leaking > 0.95 if probe is knn_probe else leaking > 0.6
    assert honest < 0.75


def test_balanced_accuracy_of_a_rare_class():
    embeddings, labels, patients = clustered(distance=0.0)
    labels = ["often"] * 54 + ["rare"] * 6
    score = knn_probe(embeddings, labels, patients, neighbours=25)
    assert score.accuracy == pytest.approx(0.9)
    assert score.balanced_accuracy == pytest.approx(0.5)
    assert score.chance == pytest.approx(0.9)


def test_scale_of_embeddings_does_not_matter_to_neighbours():
    embeddings, labels, patients = clustered(distance=1.5)
    scaled = embeddings * np.random.default_rng(0).uniform(0.1, 10, (60, 1))
    assert knn_probe(embeddings, labels, patients) == knn_probe(scaled, labels, patients)


def test_collapse():
    same = np.ones((10, 4)) * 3.0
    assert effective_rank(same) == 0.0
    assert feature_spread(same) == 0.0
    line = np.linspace(-1, 1, 10)[:, None] * np.ones((1, 4))
    assert effective_rank(line) == pytest.approx(1.0)
    even = np.random.default_rng(0).standard_normal((4000, 16))
    assert effective_rank(even) == pytest.approx(16, rel=0.01)
    assert feature_spread(even) == pytest.approx(1.0, abs=0.02)


def test_impossible_probes():
    embeddings, labels, patients = clustered()
    with pytest.raises(DataError, match="one label"):
        knn_probe(embeddings, labels[1:], patients)
    with pytest.raises(DataError, match="NaN"):
        linear_probe(np.full((60, 2), np.nan), labels, patients)
    with pytest.raises(DataError, match="two"):
        knn_probe(embeddings, labels, ["p"] * 60)
    with pytest.raises(DataError, match="two classes"):
        linear_probe(embeddings, ["a"] * 60, patients)
    with pytest.raises(DataError, match="neighbour"):
        knn_probe(embeddings, labels, patients, neighbours=0)
