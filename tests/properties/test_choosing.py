"""Laws of choosing: exact sizes, coverage, the same whatever the order of listing, and nothing more the second time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.reduction.leaders import farthest_first, joined, leaders, leaders_to_size
from medssl.reduction.metrics import Bits, Cosine
from medssl.reduction.strategies import Things, choose, parse_keep
from medssl.reduction.table import STRATEGIES
from tests.oracles.hash_6 import reduce_by_hash

FEW = settings(max_examples=20, deadline=None)
CHOOSING = [name for name in STRATEGIES if name != "all"]
COVERING = ("hash", "ssim", "mi", "embedding", "semdedup", "kcentre")


@st.composite
def things(draw):
    """Things with names, in clumps, some of them equal."""
    noise = np.random.default_rng(draw(st.integers(0, 10**6)))
    count = draw(st.integers(2, 14))
    clump = noise.integers(0, 4, count)
    vectors = noise.standard_normal((4, 6))[clump] + 0.05 * noise.integers(0, 3, (count, 6))
    pictures = noise.integers(0, 256, (4, 9, 9))[clump] + noise.integers(0, 9, (count, 9, 9))
    codes = noise.integers(0, 2**64, (4, 1), dtype=np.uint64)[clump] ^ noise.integers(0, 8, (count, 1), dtype=np.uint64)
    ids = [f"s{n:02d}" for n in noise.permutation(count)]
    return Things(ids=ids, codes=codes, vectors=vectors, pictures=pictures.clip(0, 255).astype(np.uint8))


def shuffled(given: Things, seed: int) -> Things:
    order = np.random.default_rng(seed).permutation(len(given))
    return subset(given, order)


def subset(given: Things, places) -> Things:
    return Things(
        ids=[given.ids[p] for p in places],
        codes=given.codes[places],
        vectors=given.vectors[places],
        pictures=given.pictures[places],
    )


def names(given: Things, choice) -> set[str]:
    return {given.ids[place] for place in choice.kept}


@pytest.mark.parametrize("name", CHOOSING)
@FEW
@given(things(), st.floats(0.05, 1.0), st.integers(0, 99))
def test_exactly_as_many_as_asked_for_and_free_of_the_order(name, some, share, seed):
    wanted = max(1, int(len(some) * share))
    choice = choose(name, some, size=wanted, seed=3)
    assert len(choice.kept) == wanted
    other = shuffled(some, seed)
    assert names(other, choose(name, other, size=wanted, seed=3)) == names(some, choice)
    if name in COVERING:
        assert set(choice.representative.tolist()) == set(choice.kept.tolist())
        assert np.isfinite(choice.distance).all()


@pytest.mark.parametrize("name", ["hash", "ssim", "mi", "embedding", "semdedup"])
@FEW
@given(things())
def test_within_a_radius_all_are_covered_and_a_second_choice_keeps_all(name, some):
    row = STRATEGIES[name]
    choice = choose(name, some)
    assert (choice.distance <= row.radius).all()
    kept = subset(some, choice.kept)
    assert len(choose(name, kept).kept) == len(kept)


@pytest.mark.parametrize("name", CHOOSING)
@FEW
@given(things())
def test_choosing_again_at_the_same_size_keeps_all(name, some):
    kept = subset(some, choose(name, some, size=2).kept)
    assert len(choose(name, kept, size=2).kept) == 2


@FEW
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_leaders_on_slices_keep_what_hash_6_keeps(seed, count):
    noise = np.random.default_rng(seed)
    volume = np.cumsum(noise.standard_normal((count, 20, 18)) * noise.integers(0, 2, (count, 1, 1)), axis=0)
    published = reduce_by_hash(volume)
    from medssl.reduction.slices import as_8_bit, difference_hash

    codes = np.array([difference_hash(as_8_bit(plane)) for plane in volume], dtype=np.uint64)
    ours = choose("hash", Things(ids=[f"{n:03d}" for n in range(count)], codes=codes[:, None], by_name=False))
    np.testing.assert_array_equal(ours.kept, np.flatnonzero(published == np.arange(count)))
    assert (ours.distance <= 6).all()


@FEW
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_farthest_first_is_within_twice_the_best_possible_radius(seed, count):
    import itertools

    points = np.random.default_rng(seed).integers(0, 2**16, (count, 1), dtype=np.uint64)
    table = np.stack([Bits(points).row(i) for i in range(count)])
    size = max(1, count // 3)
    best = min(table[list(some)].min(axis=0).max() for some in itertools.combinations(range(count), size))
    assert farthest_first(Bits(points), size).distance.max() <= 2 * best


@FEW
@given(st.integers(0, 10**6), st.integers(1, 15), st.floats(0, 1))
def test_leaders_cover_and_lie_apart(seed, count, radius):
    vectors = np.random.default_rng(seed).standard_normal((count, 3))
    metric = Cosine(vectors)
    choice = leaders(metric, radius)
    table = np.stack([metric.row(i) for i in range(count)])
    kept = choice.kept
    assert (table[np.ix_(kept, kept)][~np.eye(len(kept), dtype=bool)] > radius).all()
    np.testing.assert_array_equal(choice.distance, table[kept].min(axis=0))
    for size in range(count + 1):
        assert len(leaders_to_size(metric, size).kept) == size


def test_choices_join():
    one, two = (leaders(Bits(np.array(codes, dtype=np.uint64)), 1) for codes in ([0, 1], [7, 0, 6]))
    both = joined([one, two])
    np.testing.assert_array_equal(both.representative, [0, 0, 2, 3, 2])


def test_what_keep_may_be():
    assert parse_keep("12") == (12, None)
    assert parse_keep("50%") == parse_keep("0.5") == (None, 0.5)
