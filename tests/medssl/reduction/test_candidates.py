"""Proposals from points: how many of the pairs that are alike are seen at all."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.reduction.candidates import _across


@pytest.mark.parametrize(("changed", "least"), [(4, 0.99), (6, 0.9), (8, 0.7)])
def test_like_points_are_seen_among_very_many(changed, least):
    # 100,000 codes, as 600 scans have: evenly long bands of so many would leave 0.2 of the pairs with 6 changed bits
    rng = np.random.default_rng(changed)
    codes = rng.integers(1, 1 << 63, size=100_000, dtype=np.uint64)
    copied = rng.choice(len(codes), 500, replace=False)
    flips = np.array([np.bitwise_or.reduce(np.uint64(1) << rng.choice(63, changed, replace=False).astype(np.uint64))
                      for _ in copied])  # fmt: skip
    both = np.concatenate([codes, codes[copied] ^ flips])
    scan = np.concatenate([np.zeros(len(codes), np.int64), np.ones(len(copied), np.int64)])
    first, second = _across(both, scan, 8)
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    share = np.mean([(int(place), len(codes) + n) in found for n, place in enumerate(copied)])
    assert share >= least
