"""Few-shot tasks of frozen embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import DataError
from medssl.evaluation.few_shot import STANDARD, few_shot, tasks_of


def clusters(per_class: int, *, seed: int, spread: float = 1.0, dim: int = 16, classes: int = 4):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), per_class)
    return centres[labels] + spread * generator.normal(size=(len(labels), dim)), [f"c{label}" for label in labels]


def test_a_constant_that_all_features_share_hides_nothing():
    """Features of an encoder are a small angle beside a common direction; as they are, nothing could be told."""
    (train, classes), (test, asked) = clusters(30, seed=1), clusters(20, seed=2)
    tasks = few_shot(train, classes, test, asked, ways=3, shots=5, draws=3)
    moved = few_shot(train + 1000.0, classes, test + 1000.0, asked, ways=3, shots=5, draws=3)
    assert moved.accuracies == pytest.approx(tasks.accuracies, abs=0.04)


def test_what_the_classes_cannot_fill_is_left_out_and_said_where_it_was_asked_for():
    train, test = ["a"] * 12 + ["b"] * 25 + ["c"] * 30, ["a", "b"]
    allowed, told = tasks_of([(2, 10), (2, 20), (3, 1)], train, test)
    assert allowed == [(2, 10)]
    assert [line.partition(" is left out")[0] for line in told] == ["2-way 20-shot", "3-way 1-shot"]
    assert tasks_of(None, train, test) == ([], [])
    many = [str(n % 10) for n in range(200)]
    assert tasks_of(None, many, many) == (list(STANDARD), [])


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
