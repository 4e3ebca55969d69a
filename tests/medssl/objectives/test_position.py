"""Position contrast: labels against brute force, losses against values by hand, gradients against differences."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from medssl.objectives.position import base_regulariser, clamped_cosine, overlap_labels, position_loss
from medssl.views.crops import lattice_starts


def brute_force_overlap(start, base, crop):
    """Count voxels that two crops share."""
    shared = 1.0
    for a, b, c in zip(start, base, crop, strict=True):
        shared *= len(set(range(a, a + c)) & set(range(b, b + c))) / c
    return shared


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 24), min_size=3, max_size=3), st.lists(st.integers(0, 24), min_size=3, max_size=3))
def test_labels_equal_the_counted_overlap(start, base):
    crop = (6, 8, 5)
    label = overlap_labels(
        torch.tensor([[start]]).float(), torch.tensor([[base]]).float(), torch.tensor([crop]).float()
    )
    assert label.item() == pytest.approx(brute_force_overlap(start, base, crop), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.floats(0, 1)] * 3),
    st.tuples(*[st.integers(20, 90)] * 3),
)
def test_labels_sum_to_one_over_any_lattice(grid, share, size):
    region = torch.stack([torch.zeros(1, 3), torch.tensor([size]).float()], dim=1)
    bases, pitch = lattice_starts(region, grid, (16, 16, 16))
    start = bases[:, :1] + (bases[:, -1:] - bases[:, :1]) * torch.tensor(share)
    assert overlap_labels(start, bases, pitch).sum().item() == pytest.approx(1.0, abs=1e-4)


def test_loss_by_hand():
    similarity = torch.tensor([[[0.5, 0.2, 0.0]]])
    label = torch.tensor([[[0.75, 0.25, 0.0]]])
    pos, neg = position_loss(similarity, label, positive="overlap", negative="square")
    assert pos.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.95)), abs=1e-6)
    assert neg.item() == 0.0
    pos, _ = position_loss(similarity, label, positive="equal")
    assert pos.item() == pytest.approx(-(math.log(0.75) + math.log(0.95)) / 2, abs=1e-6)
    everything, nothing = position_loss(similarity, label, positive="all")
    assert everything.item() == pytest.approx(-(math.log(0.75) + math.log(0.95)) / 3, abs=1e-6)
    assert nothing.item() == 0.0


def test_negative_terms_by_hand():
    similarity, label = torch.tensor([[[1.0, 0.6, 0.2]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    _, square = position_loss(similarity, label, negative="square")
    _, log = position_loss(similarity, label, negative="log")
    assert square.item() == pytest.approx((0.36 + 0.04) / 2, abs=1e-6)
    assert log.item() == pytest.approx(-(math.log(0.4) + math.log(0.8)) / 2, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_loss_is_never_negative_and_zero_at_the_label(seed):
    draw = torch.Generator().manual_seed(seed)
    label = torch.rand(2, 3, 4, generator=draw) * (torch.rand(2, 3, 4, generator=draw) > 0.5)
    similarity = torch.rand(2, 3, 4, generator=draw)
    for positive in ("overlap", "equal", "all"):
        for negative in ("square", "log"):
            parts = position_loss(similarity, label, positive=positive, negative=negative)
            assert all(part >= 0 for part in parts)
            assert sum(position_loss(label, label, positive=positive, negative=negative)).item() < 2e-6


def test_loss_stays_finite_at_the_worst_similarity():
    similarity = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    total = sum(position_loss(similarity, torch.tensor([[[1.0, 0.0]]])))
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(similarity.grad).all()


@pytest.mark.parametrize("positive", ["overlap", "equal", "all"])
@pytest.mark.parametrize("negative", ["square", "log"])
def test_gradient(positive, negative):
    # away from the kink at similarity = label; float32 inside, hence the loose step
    label = torch.tensor([[[0.7, 0.3, 0.0]]])
    similarity = torch.tensor([[[0.4, 0.6, 0.3]]], requires_grad=True)
    sum(position_loss(similarity, label, positive=positive, negative=negative)).backward()
    for place in range(3):
        step = torch.zeros_like(label)
        step[..., place] = 1e-2
        with torch.no_grad():
            up = sum(position_loss(similarity + step, label, positive=positive, negative=negative))
            down = sum(position_loss(similarity - step, label, positive=positive, negative=negative))
        assert similarity.grad[..., place].item() == pytest.approx(((up - down) / 2e-2).item(), abs=2e-3)


def test_clamped_cosine_agrees_with_torch():
    a, b = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), torch.randn(2, 4, 5)
    expected = torch.nn.functional.cosine_similarity(a[:, :, None], b[:, None], dim=-1).clamp(min=0)
    assert torch.allclose(clamped_cosine(a, b), expected, atol=1e-6)


def test_regulariser_by_hand():
    features = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    assert base_regulariser(features).item() == pytest.approx(1 / 3)
    tilted = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])
    assert base_regulariser(tilted, power=2).item() == pytest.approx(0.36)
    assert base_regulariser(tilted, power=1).item() == pytest.approx(0.6)
    apart = torch.zeros(1, 3, 3, dtype=torch.bool)
    assert base_regulariser(features, apart_BGG=apart).item() == 0.0


def test_regulariser_detaches_the_second_of_a_pair():
    features = torch.randn(1, 2, 4, generator=torch.Generator().manual_seed(3)).abs().requires_grad_()
    base_regulariser(features, detach_second=True).backward()
    assert features.grad[0, 0].abs().sum() > 0
    assert features.grad[0, 1].abs().sum() == 0
