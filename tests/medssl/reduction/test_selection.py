"""Strategies of selection: sizes, seeds, and what each of them promises."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import ConfigError
from medssl.reduction.selection import (
    balanced_choice,
    every_nth,
    random_choice,
    semantic_duplicates,
    semantic_duplicates_as_published,
    spherical_k_means,
    target_size,
)


@pytest.fixture(scope="module")
def clumps():
    """Ninety vectors in one tight clump, and ten each in two others."""
    generator = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat([0, 1, 2], [90, 10, 10])]
    return centres + generator.normal(0, 0.05, (110, 3))


def on_circle(*degrees):
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def chosen_by(strategy, vectors, size, seed=0):
    return {
        "random": lambda: random_choice(len(vectors), size=size, seed=seed),
        "every": lambda: every_nth(len(vectors), size=size),
        "balanced": lambda: balanced_choice(vectors, size=size, levels=[12, 3], seed=seed),
    }[strategy]()


@pytest.mark.parametrize("strategy", ["random", "every", "balanced"])
@pytest.mark.parametrize("size", [0, 1, 7, 40, 110])
def test_a_size_is_met_exactly_with_rising_places(strategy, size, clumps):
    places = chosen_by(strategy, clumps, size, seed=3)
    assert len(places) == size
    assert (np.diff(places) > 0).all()
    assert set(places.tolist()) <= set(range(110))
    np.testing.assert_array_equal(places, chosen_by(strategy, clumps, size, seed=3))


def test_seeds_draw_differently_and_nest(clumps):
    assert set(random_choice(50, size=5, seed=1)) <= set(random_choice(50, size=20, seed=1))
    assert set(random_choice(50, size=20, seed=1)) != set(random_choice(50, size=20, seed=2))


def test_every_nth():
    assert every_nth(10, step=3).tolist() == [0, 3, 6, 9]
    assert every_nth(10, share=0.5).tolist() == [0, 2, 4, 6, 8]
    assert every_nth(7, size=3).tolist() == [0, 2, 4]


def test_balance_keeps_what_is_rare(clumps):
    places = balanced_choice(clumps, size=30, levels=[3], seed=0)
    assert np.histogram(places, bins=[0, 90, 100, 110])[0].tolist() == [10, 10, 10]
    more = balanced_choice(clumps, size=60, levels=[3], seed=0)
    assert np.histogram(more, bins=[0, 90, 100, 110])[0].tolist() == [40, 10, 10]
    by_chance = random_choice(110, size=30, seed=0)
    assert np.count_nonzero(by_chance < 90) > 20


def test_k_means_finds_the_clumps_and_leaves_no_cluster_empty(clumps):
    member, centroids = spherical_k_means(clumps, 3, seed=1)
    assert len({member[0], member[95], member[105]}) == 3
    assert len(np.unique(member[:90])) == 1
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1.0, atol=1e-6)
    same, _ = spherical_k_means(np.ones((6, 2)), 4)
    assert len(np.unique(same)) == 4
    assert spherical_k_means(np.ones((2, 2)), 9)[1].shape == (2, 2)


def test_as_published_a_chain_is_pruned_to_its_first_and_repaired_it_is_covered():
    vectors = on_circle(0, 8, 16, 24, 32)
    eps = 1 - np.cos(np.deg2rad(10))
    published = semantic_duplicates_as_published(vectors, eps=eps, clusters=1)
    ids = list("abcde")
    repaired = semantic_duplicates(ids, vectors, eps=eps, clusters=1)
    # The farthest from the centroid, one end, stays alone or with the other end: the middle has none within eps.
    apart = 1 - (vectors @ vectors.T)
    assert (apart[:, published].min(axis=1) > eps).any()
    kept = [ids.index(name) for name in repaired.kept]
    assert (apart[:, kept].min(axis=1) <= eps + 1e-6).all()
    assert all(apart[i, j] > eps for i in kept for j in kept if i != j)


def test_as_published_the_border_of_clusters_hides_pairs():
    vectors = on_circle(0, 1, 1, 50, 51, 90)
    eps = 1 - np.cos(np.deg2rad(3))
    split = semantic_duplicates_as_published(vectors, eps=eps, clusters=6)
    whole = semantic_duplicates([f"s{i}" for i in range(6)], vectors, eps=eps, clusters=6)
    assert len(split) > len(whole.kept) == 3


@pytest.mark.parametrize("keep", ["hard", "easy", "random"])
def test_the_order_of_listing_changes_nothing(keep, clumps):
    ids = [f"s{i:03d}" for i in range(110)]
    groups = semantic_duplicates(ids, clumps, eps=0.002, keep=keep)
    order = np.random.default_rng(5).permutation(110)
    again = semantic_duplicates([ids[i] for i in order], clumps[order], eps=0.002, keep=keep)
    assert again.removed == groups.removed
    assert 3 < len(groups.kept) < 110


def test_hard_keeps_the_farthest_from_the_centroid_and_easy_the_nearest():
    vectors = on_circle(0, 1, 2, 4)
    eps = 1 - np.cos(np.deg2rad(5))
    ids = list("abcd")
    assert semantic_duplicates(ids, vectors, eps=eps, clusters=1, keep="hard").kept == ["d"]
    assert semantic_duplicates(ids, vectors, eps=eps, clusters=1, keep="easy").kept in (["b"], ["c"])


def test_faults_are_told(clumps):
    for wrong in ({}, {"size": 3, "share": 0.5}, {"size": 11}, {"share": 0.0}, {"share": 1.5}):
        with pytest.raises(ConfigError):
            target_size(10, **wrong)
    assert target_size(10, share=0.01) == 1
    with pytest.raises(ConfigError, match="step"):
        every_nth(10, step=0)
    with pytest.raises(ConfigError, match="levels"):
        balanced_choice(clumps, size=5, levels=[3, 9])
    with pytest.raises(ConfigError, match="keep"):
        semantic_duplicates_as_published(clumps, eps=0.1, clusters=2, keep="best")
    with pytest.raises(ConfigError, match="clusters"):
        spherical_k_means(clumps[:0], 2)
