"""What is said to be detached gets no gradient, and what is not detached gets all of its own.

A stopped gradient moves no value, so no comparison of losses shows that it is gone; the methods would collapse later.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.encoders.table import build_encoder
from medssl.methods.byol import BYOL, BYOLSettings, SimSiam, SimSiamSettings
from medssl.methods.crop_views import CropViews
from medssl.objectives.agreement import cosine_distance
from medssl.objectives.infonce import dclw_weights
from medssl.objectives.position import base_regulariser
from medssl.objectives.prototypes import distillation, n_pair, patch_distillation, sharpened


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


MASK = torch.tensor([[True, False, True], [True, True, False]])
OBJECTIVES: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "cosine_distance": (cosine_distance, (4, 5), (4, 5)),
    "distillation": (distillation, (3, 4, 5), (2, 4, 5)),
    "n_pair": (n_pair, (3, 4, 5), (2, 4, 5)),
    "patch_distillation": (lambda s, t: patch_distillation(s, t, MASK), (2, 3, 4), (2, 3, 4)),
    "sharpened": (
        lambda s, t: distillation(s, sharpened(t, torch.zeros(5), temperature=0.1)),
        (3, 4, 5),
        (2, 4, 5),
    ),
    "dclw_weights": (lambda s, t: (s.sum(dim=1) * dclw_weights(t, t.roll(1, 0))).sum(), (4, 5), (4, 5)),
}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_no_gradient_reaches_the_target(name):
    objective, student_shape, target_shape = OBJECTIVES[name]
    student, target = drawn(*student_shape), drawn(*target_shape, seed=1)
    objective(student, target).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert target.grad is None


def views_of(batch: int = 4) -> CropViews:
    crops = torch.randn(batch, 2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    return CropViews(
        crops=crops, local=None, item=torch.arange(batch), patient=torch.arange(batch), seeds=torch.zeros(batch)
    )


def encoder() -> Encoder:
    torch.manual_seed(3)
    return build_encoder({"name": "unet", "channels": [4, 6], "blocks": 1})


def negative_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Algorithm 1 of SimSiam, D(p, z): the target is a constant."""
    return -(F.normalize(predicted, dim=1) * F.normalize(target.clone().detach(), dim=1)).sum(dim=1).mean()


def gradients(loss: Tensor, method: torch.nn.Module) -> dict[str, Tensor]:
    method.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_gradients_of_agreement_are_those_of_the_papers_algorithm(name):
    views = views_of()
    first_view, second_view = views.crops[:, 0], views.crops[:, 1]
    if name == "byol":
        made: BYOL | SimSiam = BYOL(BYOLSettings(crop=(8, 8, 8), hidden=16, projected=8), encoder())
    else:
        made = SimSiam(SimSiamSettings(crop=(8, 8, 8), hidden=16, projected=8, bottleneck=4), encoder())
    ours = gradients(made(views, 0.0).total, made)
    network = made.student if name == "byol" else made.network
    projected = network(torch.cat([first_view, second_view]))[1]
    predicted = made.predictor(projected)
    target = made.teacher(torch.cat([first_view, second_view]))[1] if name == "byol" else projected
    rows = len(first_view)
    # BYOL: |p - z|^2 = 2 - 2 cos, both ways; SimSiam: half of each way.
    crossed = negative_cosine(predicted[:rows], target[rows:]) + negative_cosine(predicted[rows:], target[:rows])
    theirs = gradients(crossed * (2.0 if name == "byol" else 0.5), made)
    assert ours.keys() == theirs.keys()
    assert not [key for key in ours if key.startswith("teacher")]
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], atol=1e-5, rtol=1e-3, msg=key)


def test_only_the_first_of_two_bases_is_pushed_where_the_released_code_does_so():
    features = drawn(1, 2, 3)
    with torch.no_grad():
        features.abs_()  # cosines above zero
    base_regulariser(features, detach_second=True).backward()
    assert features.grad[0, 0].abs().sum() > 0
    assert features.grad[0, 1].abs().sum() == 0
    both = features.detach().clone().requires_grad_()
    base_regulariser(both, detach_second=False).backward()
    assert (both.grad.abs().sum(dim=2) > 0).all()


def test_the_teacher_of_byol_follows_after_a_step():
    made = BYOL(BYOLSettings(crop=(8, 8, 8), hidden=16, projected=8, momentum=0.5), encoder())
    with torch.no_grad():
        for parameter in made.student.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in made.teacher.parameters()]
    made.after_step(0.0)
    for old, new in zip(before, made.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)
