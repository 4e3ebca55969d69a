"""Places found again: against brute force, by hand, on planted places and on meaningless ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.evaluation.matching import best_threshold, carried, iou, landmarks_of, nearest, prompt_row, similarity
from medssl.evaluation.registration import registered_labels


@given(st.integers(0, 300), st.integers(1, 6))
def test_nearest_is_that_of_all_distances(seed, k):
    draw = np.random.default_rng(seed)
    queries, bank = draw.normal(size=(7, 4)), draw.normal(size=(5, 4))
    rows, far = nearest(queries, bank, k)
    every = np.linalg.norm(queries[:, None] - bank[None], axis=2)
    np.testing.assert_allclose(far, np.sort(every, axis=1)[:, :k], atol=1e-9)
    np.testing.assert_allclose(np.take_along_axis(every, rows, axis=1), far, atol=1e-9)


def test_carried_labels_are_scikit_learns_votes():
    from sklearn.neighbors import KNeighborsClassifier

    draw = np.random.default_rng(0)
    bank, labels, queries = draw.normal(size=(60, 3)), draw.integers(0, 2, 60), draw.normal(size=(40, 3))
    theirs = KNeighborsClassifier(5).fit(bank, labels).predict(queries)  # odd: no ties of two classes
    assert np.array_equal(carried(queries, bank, labels, 5), theirs)
    assert np.array_equal(carried(bank, bank, labels, 1), labels)
    # of as many votes the nearest counts
    assert carried(np.zeros((1, 1)), np.array([[1.0], [2.0]]), np.array([7, 3]), 2).tolist() == [7]


def test_landmarks_by_hand():
    labels = np.array([0, 1, 1, 1, 2])
    places = np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0], [3, 4, 0], [9, 9, 9]], dtype=float)
    found = landmarks_of(labels, places, {1: "a", 2: "b", 3: "c"})
    assert found["a: centroid"].tolist() == pytest.approx([7 / 3, 4 / 3, 0])
    assert found["a: first along axis 0"].tolist() == [1, 0, 0]
    assert found["a: last along axis 0"].tolist() == [3, 2, 0]  # the mean of both that lie farthest
    assert found["b: centroid"].tolist() == [9, 9, 9]
    assert len(found) == 2 * 7


def test_the_published_oracle_of_prompts():
    """Features e0 in the object and e1 outside: the map is 1 and 0, and any threshold between gives IoU 1."""
    truth = np.array([True] * 3 + [False] * 7)
    features = np.where(truth[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
    cosine = similarity(features, 0)
    assert cosine.tolist() == truth.astype(float).tolist()
    assert iou(cosine >= best_threshold([(cosine, truth)]), truth) == 1
    collapsed = similarity(np.ones((10, 2)), 0)
    assert iou(collapsed >= best_threshold([(collapsed, truth)]), truth) == pytest.approx(0.3)
    assert iou(~truth & truth, ~truth & truth) == 1
    assert similarity(np.zeros((2, 2)), 0).tolist() == [0, 0]
    assert prompt_row(np.array([1, 1, 1, 0]), np.array([[0.0], [4], [5], [3]]), 1) == 1


def test_registration_finds_a_shift_that_was_made():
    grid = np.stack(np.meshgrid(*map(np.arange, (24, 28, 28)), indexing="ij"), axis=-1)

    def ball(middle):
        return np.exp(-((grid - middle) ** 2 / np.array([20, 40, 60])).sum(axis=-1))

    still, moved = ball([12, 14, 14]), ball([14, 11, 16])
    labels = (moved > 0.5).astype(np.int16)
    truth = still > 0.5
    before = 2 * (truth & (labels > 0)).sum() / (truth.sum() + labels.sum())
    for way in ("affine", "deformable"):
        found, why = registered_labels(still, moved, labels, ((1, 1, 1), (1, 1, 1)), way=way)
        assert why == ""
        after = 2 * (truth & (found > 0)).sum() / (truth.sum() + found.sum())
        assert after > 0.9 > before + 0.2
