"""Searching codes: recall on planted pairs, full buckets, faults."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import ConfigError
from medssl.reduction.groups import lead
from medssl.reduction.neighbours import (
    Pairs,
    cosine_pairs,
    hamming_pairs,
    multi_index_pairs,
    planted_recall,
)


def codes(count, seed=0):
    found = np.random.default_rng(seed).integers(0, 2**64, (count, 8), dtype=np.uint64)
    found[:, 7] &= np.uint64(2**63 - 1)
    return found


def test_recall_on_planted_pairs_is_that_of_the_search():
    some = codes(2000)
    assert planted_recall(some, 40, search=lambda c: hamming_pairs(c, 40), planted=100) == 1.0
    assert planted_recall(some, 40, search=lambda c: multi_index_pairs(c, 40), planted=300) >= 0.99
    # Bands far too long for the radius fail, and the number says so.
    assert planted_recall(some, 40, search=lambda c: multi_index_pairs(c, 40, bands=8), planted=300) < 0.7
    assert planted_recall(some[:0], 40, search=lambda c: hamming_pairs(c, 40)) == 1.0


def test_blocks_change_nothing(monkeypatch):
    some = np.repeat(codes(40), 3, axis=0)
    whole = hamming_pairs(some, 250)
    vectors = np.random.default_rng(1).normal(size=(50, 6))
    near = cosine_pairs(vectors, 0.4)
    monkeypatch.setattr("medssl.reduction.neighbours._BLOCK_BYTES", 1000)
    assert hamming_pairs(some, 250).as_set() == whole.as_set()
    assert len(whole) > 120
    np.testing.assert_array_equal(cosine_pairs(vectors, 0.4).distance, near.distance)


def test_a_full_bucket_is_searched_in_part_and_counted():
    same = np.repeat(codes(1), 50, axis=0)
    same[25:] ^= np.uint64(1)  # one bit of each of eight words
    assert len(multi_index_pairs(same, 8, bands=9)) == 50 * 49 // 2
    part = multi_index_pairs(same, 8, bands=9, cap=5)
    assert part.capped > 0
    assert 50 <= len(part) < 50 * 49 // 2


def test_equal_vectors_are_at_no_distance_and_zeros_are_near_nothing():
    vectors = np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    found = cosine_pairs(vectors, 0.5)
    assert found.as_set() == {(0, 1)}
    assert found.distance.tolist() == [0.0]
    crossed = cosine_pairs(vectors[:1], 0.5, others=vectors)
    assert crossed.as_set() == {(0, 0), (0, 1)}


def test_chains_are_not_joined():
    """b lies between a and c; c is not dropped for a, which it does not resemble."""
    groups = lead(["a", "b", "c"], Pairs(np.array([0, 1]), np.array([1, 2]), np.array([5.0, 4.0])))
    assert groups.kept == ["a", "c"]
    assert groups.removed == {"b": "c"}  # the nearer of the two
    assert groups.members() == {"c": ["b"]}
    weighed = lead(["a", "b", "c"], Pairs(np.array([0, 1]), np.array([1, 2]), np.array([5.0, 4.0])), worth=[1, 2, 1])
    assert weighed.members() == {"b": ["a", "c"]}


def test_faults_are_told():
    with pytest.raises(ConfigError, match="uint64"):
        hamming_pairs(np.zeros((3, 8), dtype=np.int64), 1)
    with pytest.raises(ConfigError, match="NaN"):
        cosine_pairs(np.array([[np.nan, 1.0]]), 0.1)
    with pytest.raises(ConfigError, match="cannot be compared"):
        cosine_pairs(np.ones((2, 3)), 0.1, others=np.ones((2, 4)))
    with pytest.raises(ConfigError, match="differ"):
        lead(["a", "a"], hamming_pairs(codes(2), 1))
    with pytest.raises(ConfigError, match="finite number"):
        lead(["a", "b"], hamming_pairs(codes(2), 1), worth=[1.0, np.nan])
