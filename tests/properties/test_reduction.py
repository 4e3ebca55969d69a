"""Laws of finding and grouping copies, on random codes, vectors and pairs, against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medssl.reduction.groups import lead
from medssl.reduction.neighbours import Pairs, cosine_pairs, hamming_pairs, multi_index_pairs

FEW = settings(max_examples=25, deadline=None)


@st.composite
def clumped_codes(draw):
    """Codes of two words in clumps, so that small distances occur, some of them equal."""
    seed, clumps, each = draw(st.integers(0, 10**6)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    generator = np.random.default_rng(seed)
    centres = generator.integers(0, 2**64, (clumps, 2), dtype=np.uint64)
    codes = np.repeat(centres, each, axis=0)
    for row in codes:
        for bit in generator.integers(0, 128, generator.integers(0, 12)):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    return codes


def slow_hamming(first, second):
    return sum((int(a) ^ int(b)).bit_count() for a, b in zip(first, second, strict=True))


@FEW
@given(clumped_codes(), st.integers(0, 30))
def test_hamming_search_is_brute_force(codes, radius):
    expected = {
        (i, j): d
        for i in range(len(codes))
        for j in range(i + 1, len(codes))
        if (d := slow_hamming(codes[i], codes[j])) <= radius
    }
    found = hamming_pairs(codes, radius)
    assert dict(zip(zip(found.first.tolist(), found.second.tolist()), found.distance.tolist())) == expected  # noqa: B905
    crossed = hamming_pairs(codes[:3], radius, others=codes)
    assert {(i, j) for i, j in crossed.as_set() if i < j} == {(i, j) for i, j in expected if i < 3}


@FEW
@given(clumped_codes(), st.integers(0, 20), st.integers(0, 5))
def test_more_bands_than_radius_miss_nothing(codes, radius, seed):
    exact = hamming_pairs(codes, radius)
    banded = multi_index_pairs(codes, radius, bands=radius + 1, seed=seed, block=7)
    assert banded.capped == 0
    np.testing.assert_array_equal(exact.first, banded.first)
    np.testing.assert_array_equal(exact.second, banded.second)
    np.testing.assert_array_equal(exact.distance, banded.distance)


@FEW
@given(clumped_codes(), st.integers(1, 4), st.integers(1, 3))
def test_fewer_bands_and_full_buckets_find_nothing_that_is_not_there(codes, bands, cap):
    assert multi_index_pairs(codes, 15, bands=bands, cap=cap).as_set() <= hamming_pairs(codes, 15).as_set()


@FEW
@given(hnp.arrays(np.float64, (9, 3), elements=st.integers(-3, 3)), st.floats(0, 1.9))
def test_cosine_search_is_brute_force(vectors, radius):
    found = cosine_pairs(vectors, radius).as_set()
    lengths = np.linalg.norm(vectors, axis=1)
    for i in range(9):
        for j in range(i + 1, 9):
            if not lengths[i] or not lengths[j]:
                assert (i, j) not in found
                continue
            apart = 1 - vectors[i] @ vectors[j] / lengths[i] / lengths[j]
            if abs(apart - radius) > 1e-6:
                assert ((i, j) in found) == (apart < radius)


@st.composite
def pairs_of_ids(draw):
    count = draw(st.integers(1, 12))
    chosen = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=25))
    unique = sorted({(min(p), max(p)) for p in chosen if p[0] != p[1]})
    distances = draw(st.lists(st.integers(0, 3), min_size=len(unique), max_size=len(unique)))
    worth = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return [f"s{i}" for i in range(count)], unique, distances, worth


def packed(pairs, distances):
    places = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Pairs(places[:, 0], places[:, 1], np.array(distances, dtype=np.float64))


@FEW
@given(pairs_of_ids())
def test_every_marked_scan_has_a_pair_with_a_kept_one_and_kept_ones_have_none(drawn):
    ids, pairs, distances, worth = drawn
    groups = lead(ids, packed(pairs, distances), worth=worth)
    known = {(ids[i], ids[j]): d for (i, j), d in zip(pairs, distances, strict=True)}
    known |= {(j, i): d for (i, j), d in known.items()}
    for place, name in enumerate(ids):
        if name in groups.removed:
            assert groups.distance[place] == known[name, groups.removed[name]]
            assert groups.distance[place] == min(d for (i, j), d in known.items() if i == name and j in groups.kept)
    assert set(groups.removed.values()) <= set(groups.kept)
    assert not {(i, j) for i, j in known if i in groups.kept and j in groups.kept}
    assert sorted([*groups.kept, *groups.removed]) == sorted(ids)


@FEW
@given(pairs_of_ids(), st.randoms(use_true_random=False))
def test_the_order_of_scans_and_of_pairs_changes_nothing(drawn, random):
    ids, pairs, distances, worth = drawn
    groups = lead(ids, packed(pairs, distances), worth=worth)
    order = list(range(len(ids)))
    random.shuffle(order)
    new_place = {old: new for new, old in enumerate(order)}
    listed = [((new_place[i], new_place[j]), d) for (i, j), d in zip(pairs, distances, strict=True)]
    random.shuffle(listed)
    again = lead(
        [ids[old] for old in order],
        packed([pair for pair, _ in listed], [d for _, d in listed]),
        worth=[worth[old] for old in order],
    )
    assert again.removed == groups.removed
    assert again.members() == groups.members()


@FEW
@given(pairs_of_ids())
def test_choosing_again_among_the_kept_keeps_all(drawn):
    ids, pairs, distances, worth = drawn
    kept = lead(ids, packed(pairs, distances), worth=worth).kept
    place = {name: kept.index(name) for name in kept}
    left = [((i, j), d) for (i, j), d in zip(pairs, distances, strict=True) if ids[i] in place and ids[j] in place]
    remaining = packed([(place[ids[i]], place[ids[j]]) for (i, j), _ in left], [d for _, d in left])
    assert lead(kept, remaining, worth=[worth[ids.index(name)] for name in kept]).kept == kept
