"""Collapse signals at their extremes."""

from __future__ import annotations

import pytest
import torch

from medssl.objectives.diagnostics import effective_rank, feature_spread, knn_prediction


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


def test_knn_agrees_with_scikit_learn_across_groups():
    from sklearn.neighbors import KNeighborsRegressor

    draw = torch.Generator().manual_seed(0)
    features, target = torch.randn(40, 6, generator=draw), torch.randn(40, 3, generator=draw)
    group = torch.arange(40) // 8
    predicted = knn_prediction(features, target, group, neighbours=5)
    centred = (features - features.mean(0)) / features.std(0, unbiased=False)
    unit = torch.nn.functional.normalize(centred, dim=1).numpy()
    for held_out in range(5):
        rows = (group == held_out).numpy()
        model = KNeighborsRegressor(n_neighbors=5, metric="cosine").fit(unit[~rows], target.numpy()[~rows])
        assert torch.allclose(predicted[rows], torch.from_numpy(model.predict(unit[rows])).float(), atol=1e-5)


def test_knn_takes_fewer_neighbours_where_there_are_fewer():
    features, target = torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]])
    predicted = knn_prediction(features, target, torch.tensor([0, 0, 1]), neighbours=5)
    assert predicted[0].item() == 3.0
