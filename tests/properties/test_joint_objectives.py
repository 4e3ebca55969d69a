"""Laws of contrast and distillation, and their gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.objectives.agreement import cosine_distance
from medssl.objectives.infonce import info_nce, pairs_of_views
from medssl.objectives.koleo import koleo
from medssl.objectives.prototypes import Centre, distillation, patch_distillation, sharpened, sinkhorn
from medssl.objectives.redundancy import barlow_twins, vicreg
from medssl.queue import FeatureQueue

seeds = st.integers(0, 10_000)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 6), st.integers(2, 3))
def test_contrast_knows_no_order_of_items_and_no_scale(seed, batch, views):
    features, key = drawn(seed, views, batch, 5), torch.arange(batch)
    loss = info_nce(pairs_of_views(features, key, key), temperature=0.2).view(views, batch)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    again = info_nce(pairs_of_views(3.0 * features[:, order], key, key), temperature=0.2).view(views, batch)
    assert torch.allclose(loss[:, order], again, atol=1e-4)
    assert (loss >= 0).all()
    decoupled = info_nce(pairs_of_views(features, key, key), temperature=0.2, positive_in_denominator=False)
    assert (decoupled <= loss.flatten() + 1e-6).all()


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_one_patient_alone_gives_no_loss_and_no_gradient(seed):
    features = drawn(seed, 2, 3, 5).requires_grad_()
    for denominator in (True, False):
        pairs = pairs_of_views(features, torch.arange(3), torch.zeros(3, dtype=torch.int64))
        loss = info_nce(pairs, temperature=0.1, positive_in_denominator=denominator).sum()
        loss.backward()
        assert loss.item() == 0
        assert (features.grad == 0).all()


def test_crops_of_one_patient_get_no_gradient_from_each_other():
    features = drawn(0, 2, 3, 5).requires_grad_()
    pairs = pairs_of_views(features, torch.arange(3), torch.tensor([0, 0, 1]))
    info_nce(pairs, temperature=0.5, positive_in_denominator=False)[0].backward()  # anchor: first view of item 0
    assert (features.grad[:, 1] == 0).all()
    assert (features.grad[:, 2] != 0).any()


@pytest.mark.parametrize("name", ["contrast", "dcl", "cosine", "barlow", "vicreg", "distillation", "patches", "koleo"])
def test_gradients(name):
    """Finite differences in float32 on smooth points, since the objectives compute in float32 themselves."""
    first, second, key = drawn(3, 4, 3), drawn(4, 4, 3), torch.arange(4)
    teacher = torch.softmax(drawn(5, 2, 2, 3), dim=-1)
    functions = {
        "contrast": lambda x: info_nce(pairs_of_views(torch.stack([x, second]), key, key), temperature=0.5).mean(),
        "dcl": lambda x: info_nce(
            pairs_of_views(torch.stack([x, second]), key, key), temperature=0.5, positive_in_denominator=False
        ).mean(),
        "cosine": lambda x: cosine_distance(x, second),
        "barlow": lambda x: barlow_twins(x, second),
        "vicreg": lambda x: sum(vicreg(x, second, variance=1.0, invariance=1.0).values()),
        "distillation": lambda x: distillation(x.view(2, 2, 3), teacher, temperature=0.5),
        "patches": lambda x: patch_distillation(
            x.view(2, 2, 3), teacher, torch.tensor([[True, False], [True, True]]), temperature=0.5
        ),
        "koleo": koleo,
    }
    point = first.clone().requires_grad_()
    functions[name](point).backward()
    step = 1e-2
    for i in range(4):
        for j in range(3):
            bump = torch.zeros_like(first)
            bump[i, j] = step
            slope = (functions[name](first + bump) - functions[name](first - bump)) / (2 * step)
            assert point.grad[i, j].item() == pytest.approx(slope.item(), abs=2e-2, rel=5e-2), (name, i, j)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 12), st.integers(2, 6), st.floats(0.01, 50.0))
def test_sinkhorn_gives_shares_whatever_the_scores(seed, rows, prototypes, scale):
    shares = sinkhorn(scale * drawn(seed, rows, prototypes), epsilon=0.05, iterations=50)
    assert torch.isfinite(shares).all()
    assert torch.allclose(shares.sum(dim=1), torch.ones(rows), atol=1e-4)
    if scale < 0.1:
        assert torch.allclose(shares.sum(dim=0), torch.full((prototypes,), rows / prototypes), rtol=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_queue_holds_the_last_rows_whatever_the_batches(length, batches):
    queue, pushed = FeatureQueue(length, 2), []
    for size in batches:
        keys = torch.arange(len(pushed), len(pushed) + size)
        queue.push(keys[:, None].expand(size, 2).float(), keys, 100 + keys)
        pushed += keys.tolist()
    held = queue.keys[queue.keys >= 0]
    assert sorted(held.tolist()) == pushed[-length:]
    assert torch.equal(queue.features[queue.keys >= 0, 0].long(), held)
    assert torch.equal(queue.groups[queue.keys >= 0], held + 100)


def test_the_centre_moves_in_training_only_and_after_the_step():
    centre = Centre(3, momentum=0.9)
    centre.see(torch.ones(4, 3))
    assert (centre.value == 0).all()
    centre.move()
    assert torch.allclose(centre.value, torch.full((3,), 0.1))
    centre.eval()
    centre.see(torch.full((4, 3), 9.0))
    centre.move()
    assert torch.allclose(centre.value, torch.full((3,), 0.1))
    assert set(centre.state_dict()) == {"value"}


def test_a_centre_takes_from_the_prototype_that_always_wins():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    assert (sharpened(logits, torch.tensor([2.0, 0.0]), temperature=0.1) == 0.5).all()
