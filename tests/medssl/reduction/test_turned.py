"""Turned copies by one index: beside the search that tries each of the 96 ways on all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.reduction import hashes
from medssl.reduction.neighbours import hamming_pairs
from medssl.reduction.turned import pair_codes, turned_pairs


def stored(count, seed):
    made = np.random.default_rng(seed).standard_normal((count, 8, 8, 8))
    made[:, 0, 0, 0] = 0
    return (made / np.abs(made).max(axis=(1, 2, 3), keepdims=True)).astype(np.float16)


@pytest.mark.parametrize("variant", [v for v in hashes.all_variants() if v.order == (0, 1, 2)], ids=lambda v: v.name())
def test_no_flip_and_no_change_of_sign_changes_a_code(variant):
    one = stored(5, 0)
    np.testing.assert_array_equal(pair_codes(hashes.turned(one, variant)), pair_codes(one))


def test_codes_of_strangers_are_evenly_far_apart():
    codes = pair_codes(stored(200, 1))
    apart = np.bitwise_count(codes[0] ^ codes[1:]).sum(axis=1) / 503
    assert abs(apart.mean() - 0.5) < 0.01


def exact(given, radius):
    best = {}
    codes = hashes.bits(given)
    for variant in hashes.all_variants()[1:]:
        near = hamming_pairs(codes, radius, others=hashes.bits(hashes.turned(given, variant)))
        for a, b, d in zip(near.first.tolist(), near.second.tolist(), near.distance.tolist(), strict=True):
            if a < b and d < best.get((a, b), (1e9, None))[0]:
                best[a, b] = d, variant
    return best


def test_the_pairs_variants_and_distances_are_those_of_the_exact_search():
    generator = np.random.default_rng(2)
    given = stored(40, 3)
    ways = hashes.all_variants()
    copies = []
    for number in range(40):
        copy = hashes.turned(given[number], ways[1 + int(generator.integers(95))]).astype(np.float32)
        copy += generator.standard_normal(copy.shape) * copy.std() * generator.uniform(0, 0.4)
        copy[0, 0, 0] = 0
        copies.append(copy.astype(np.float16))
    both = np.concatenate([given, np.stack(copies)])
    expected, found = exact(both, 77), turned_pairs(both, 77)
    assert len(expected) > 30
    got = {
        (a, b): (d, v)
        for a, b, d, v in zip(
            found.first.tolist(), found.second.tolist(), found.distance.tolist(), found.variant, strict=True
        )
    }
    assert got == expected


def test_one_scan_or_none_has_no_turned_copy():
    assert not len(turned_pairs(stored(1, 0), 77).first)
    assert not len(turned_pairs(stored(0, 0), 77).first)
