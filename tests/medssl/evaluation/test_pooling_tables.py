"""What `benchmarks/pooling.py` pads for encoders of a large stride, and which pool its differences are from."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def pooling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "pooling.py"))


@pytest.mark.parametrize(
    ("size", "stride", "wanted"),
    [
        ((16, 32, 16), (8, 8, 8), (16, 32, 16)),
        ((30, 48, 31), (8, 8, 8), (32, 48, 32)),
        ((8, 48, 48), (32, 32, 32), (32, 64, 64)),
        ((16, 32, 16), (32, 32, 32), (32, 64, 32)),  # 32 along each axis would end in a single voxel
    ],
)
def test_windows_are_padded_about_their_middle_and_never_end_in_one_voxel(pooling, size, stride, wanted):
    images = torch.ones(2, 1, *size)
    found = sys.modules[pooling["pooled"].__module__].padded(images, stride)
    assert tuple(found.shape[2:]) == wanted
    low = [(full - length) // 2 for full, length in zip(wanted, size, strict=True)]
    assert found.sum() == images.sum()
    middle = found[:, :, low[0] : low[0] + size[0], low[1] : low[1] + size[1], low[2] : low[2] + size[2]]
    assert torch.equal(middle, images)


def rows_of(**scores):
    same = {
        "data": "acdc",
        "encoder": "unet",
        "arm": "fresh",
        "how": "tuned 60",
        "target": "diagnosis, AUROC",
        "seed": 0,
    }
    return [
        {**same, "pool": pool, "score": float(np.mean(values)), "patients": list(values)}
        for pool, values in scores.items()
    ]


def test_differences_are_from_the_mean_or_else_from_the_first_pool(pooling):
    rng = np.random.default_rng(0)
    mean, prenorm, attention = (rng.normal(at, 0.1, 20) for at in (0.5, 0.7, 0.6))
    told = pooling["tables"](rows_of(prenorm=prenorm, attention=attention))
    assert "tuned 60, minus prenorm" in told
    theirs = stats.ttest_rel(attention, prenorm).confidence_interval(0.95)
    assert f"{(attention - prenorm).mean():+.3f} [{theirs.low:+.3f}, {theirs.high:+.3f}]" in told
    told = pooling["tables"](rows_of(prenorm=prenorm, mean=mean))
    assert "tuned 60, minus mean" in told
    assert f"{(prenorm - mean).mean():+.3f}" in told
    told = pooling["tables"](rows_of(mean=mean, prenorm=mean))
    assert "+0.000 (no interval)" in told
    assert "nan" not in told
