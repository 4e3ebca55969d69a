"""IoU of parts by hand, against scikit-learn, and as laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from medssl.errors import DataError
from medssl.evaluation.parts import part_scores, shape_iou


def test_by_hand():
    truth, predicted = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 1, 1, 0])
    # part 0: 2 of 3; part 1: 2 of 3; part 2 is in neither: 1. The point without a label counts nowhere.
    assert shape_iou(truth, predicted, [0, 1]) == pytest.approx(2 / 3)
    assert shape_iou(truth, predicted, [0, 1, 2]) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_classes_weigh_alike_and_shapes_weigh_alike():
    good, bad = np.array([0, 1]), np.array([1, 0])
    scores = part_scores([good] * 4, [good, good, good, bad], ["a", "a", "a", "b"], {"a": [0, 1], "b": [0, 1]})
    assert scores.instance_miou == pytest.approx(0.75)
    assert scores.class_miou == pytest.approx(0.5)
    assert scores.by_class == {"a": 1.0, "b": 0.0}
    assert scores.accuracy == pytest.approx(0.75)


def test_parts_are_means_over_the_shapes_whose_class_has_them():
    truth, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
    scores = part_scores([truth, truth], [predicted, truth], ["a", "b"], {"a": [0, 1], "b": [0, 1, 2]})
    assert scores.by_part == {0: pytest.approx((2 / 3 + 1) / 2), 1: pytest.approx((2 / 3 + 1) / 2), 2: 1.0}


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_against_scikit_learn(seed, parts):
    generator = np.random.default_rng(seed)
    truth, predicted = generator.integers(0, parts, (2, 50))
    numbers = list(range(parts))
    expected = jaccard_score(truth, predicted, labels=numbers, average=None, zero_division=1.0).mean()
    assert shape_iou(truth, predicted, numbers) == pytest.approx(expected)
    order = generator.permutation(50)
    assert shape_iou(truth[order], predicted[order], numbers) == pytest.approx(expected)
    assert shape_iou(truth, truth, numbers) == 1.0


def test_what_cannot_be_scored():
    with pytest.raises(DataError, match="label"):
        shape_iou(np.array([-1, -1]), np.array([0, 1]), [0, 1])
    with pytest.raises(DataError, match="scored"):
        shape_iou(np.array([0]), np.array([0, 1]), [0, 1])
    with pytest.raises(DataError, match="predictions"):
        part_scores([np.array([0])], [], ["a"], {"a": [0]})
