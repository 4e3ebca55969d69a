"""Collapse signals at their extremes."""

from __future__ import annotations

import pytest
import torch

from medssl.objectives.diagnostics import effective_rank, feature_spread


def test_collapsed_features_have_no_spread_and_rank_one():
    features = torch.ones(16, 8)
    assert feature_spread(features).item() == pytest.approx(0.0, abs=1e-6)
    line = torch.linspace(-1, 1, 16)[:, None] * torch.ones(1, 8)
    assert effective_rank(line).item() == pytest.approx(1.0, abs=1e-3)


def test_even_features_spread_to_one_and_fill_the_space():
    features = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    assert feature_spread(features).item() == pytest.approx(1.0, abs=0.05)
    assert effective_rank(features).item() == pytest.approx(8.0, abs=0.1)


def test_rank_ignores_a_constant_offset_and_scale():
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    assert effective_rank(features * 7 + 100).item() == pytest.approx(effective_rank(features).item(), rel=1e-3)
