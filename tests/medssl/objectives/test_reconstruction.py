"""Masked reconstruction: the sheet's oracle values, and what must not count."""

from __future__ import annotations

import pytest
import torch

from medssl.objectives.reconstruction import masked_reconstruction, patchify


def test_predicting_zero_costs_the_unbiased_share():
    # patch [1, 2, 3, 4]: normalised by the unbiased variance its mean square is (N - 1) / N
    target = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 2, 2)
    hidden = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    loss = masked_reconstruction(torch.zeros_like(target), target, hidden, patch=(1, 2, 2), normalise=True)
    assert loss.item() == pytest.approx(0.75, abs=1e-5)


def test_perfect_prediction_costs_nothing():
    target = torch.rand(2, 1, 4, 4, 4)
    hidden = torch.rand(2, 2, 2, 2) > 0.5
    assert masked_reconstruction(target, target, hidden, patch=(2, 2, 2)).item() == 0.0


def test_only_hidden_and_counted_voxels_matter():
    target = torch.rand(1, 1, 4, 4, 4)
    hidden = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    hidden[0, 0, 0, 0] = True
    predicted = torch.zeros_like(target)
    expected = (target[:, :, :2, :2, :2] ** 2).mean()
    assert masked_reconstruction(predicted, target, hidden, patch=(2, 2, 2)).item() == pytest.approx(expected.item())
    predicted[..., 2:] = 9.0
    assert masked_reconstruction(predicted, target, hidden, patch=(2, 2, 2)).item() == pytest.approx(expected.item())
    counted = torch.zeros_like(target, dtype=torch.bool)
    counted[0, 0, 0, 0, 0] = True
    lone = masked_reconstruction(predicted, target, hidden, patch=(2, 2, 2), counted=counted)
    assert lone.item() == pytest.approx(target[0, 0, 0, 0, 0].item() ** 2)


def test_nothing_hidden_is_zero():
    target = torch.rand(1, 1, 2, 2, 2)
    assert masked_reconstruction(target + 1, target, torch.zeros(1, 1, 1, 1), patch=(2, 2, 2)).item() == 0.0


def test_patchify_order():
    image = torch.arange(2 * 2 * 4.0).view(1, 1, 2, 2, 4)
    assert patchify(image, (2, 2, 2))[0].tolist() == [
        [0, 1, 4, 5, 8, 9, 12, 13],
        [2, 3, 6, 7, 10, 11, 14, 15],
    ]


def test_gradient():
    target = torch.rand(1, 1, 2, 2, 4, dtype=torch.float64)
    hidden = torch.tensor([[[[True, False]]]])
    predicted = torch.rand(1, 1, 2, 2, 4, requires_grad=True)
    masked_reconstruction(predicted, target.float(), hidden, patch=(2, 2, 2)).backward()
    assert predicted.grad[..., 2:].abs().sum() == 0
    expected = 2 * (predicted.detach() - target.float())[..., :2] / 8
    assert torch.allclose(predicted.grad[..., :2], expected, atol=1e-6)
