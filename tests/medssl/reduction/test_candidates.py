"""Proposals from points: how many of the pairs that are alike are seen at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.formats.scan import Scan, ScanHeader
from medssl.phantoms import phantom
from medssl.reduction.candidates import LIMITS
from medssl.reduction.fingerprint import fingerprint_of
from medssl.reduction.proposed import PointEvidence
from medssl.reduction.telling_points import like_points


@pytest.mark.parametrize(("changed", "least"), [(4, 0.99), (6, 0.9), (8, 0.7)])
def test_like_points_are_seen_among_very_many(changed, least):
    # 100,000 codes, as 600 scans have: evenly long bands of so many would leave 0.2 of the pairs with 6 changed bits
    rng = np.random.default_rng(changed)
    codes = rng.integers(1, 1 << 63, size=100_000, dtype=np.uint64)
    copied = rng.choice(len(codes), 500, replace=False)
    flips = np.array([np.bitwise_or.reduce(np.uint64(1) << rng.choice(63, changed, replace=False).astype(np.uint64))
                      for _ in copied])  # fmt: skip
    found = like_points(codes, 8, codes[copied] ^ flips).as_set()
    share = np.mean([(int(place), n) in found for n, place in enumerate(copied)])
    assert share >= least


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_padding_of_a_thin_slab_hides_no_points(share):
    made = phantom(1, modality="CT", shape=(16, 100, 100), spacing_mm=(2.5, 3.5, 3.5), seed=4)
    pads = [(round(n * share / 3), round(n * share * 2 / 3)) for n in made.values.shape]
    padded = np.pad(made.values, pads, constant_values=made.values.min())
    prints = []
    for name, values in (("a", made.values), ("b", padded)):
        path = Path(name)
        header = ScanHeader(path=path, paths=(path,), format="nifti", shape=values.shape, affine=made.affine, dtype="f")
        one = Scan(header=header, values=values)
        prints.append(fingerprint_of(one, id=name, size_bytes=1, mtime_ns=1, file_hash=name))
    (found,) = [one for one, score in PointEvidence(tuple(prints)).proposed() if score >= LIMITS.worth_a_look]
    assert found.distance < 0.025  # 24 points agree and more; 6 to 11 where what lies around them is padding
