"""Point-JEPA: the row of patches, its stretches, and what is foretold from what."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.randomness import Stream
from pointcloud.batch import CloudBatch, inside
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.point_jepa import PointJEPA, PointJEPASettings
from pointcloud.shapes import dataset
from pointcloud.views.orders import nearest_order, stretch

VIT = {
    "name": "point_vit", "width": 24, "depth": 2, "heads": 2, "points_per_token": 4, "patch": 8,
    "tokeniser": "pointnet", "positions": "every", "pool": "max_mean",
}  # fmt: skip
SMALL = {"points": 96, "predictor_width": 12, "predictor_depth": 1, "predictor_heads": 2}


def make(**more) -> PointJEPA:
    torch.manual_seed(0)
    return PointJEPA(PointJEPASettings.model_validate({**SMALL, **more}), CLOUD_ENCODERS.build(VIT))


def views_of(method, counts=(96, 96, 60, 4)):
    points = torch.from_numpy(dataset(range(1), seed=0, points=96)[0][: len(counts)])
    every = torch.arange(len(counts))
    batch = CloudBatch(
        points=points, count=torch.tensor(counts), centre=points.mean(dim=1), radius=points.norm(dim=-1).amax(dim=1),
        label=-torch.ones_like(every), item=every, patient=every, slot=every,
    )  # fmt: skip
    return method.views(batch, Stream(0, 0, every.tolist()))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12), other=st.integers(1, 12))
def test_the_row_goes_from_near_to_near(seed, size, other):
    count, longest = torch.tensor([size, other]), max(size, other)
    places = torch.randn(2, longest, 3, generator=torch.Generator().manual_seed(seed))
    order = nearest_order(places, count)
    for cloud, there in enumerate(count.tolist()):
        row = order[cloud].tolist()
        assert sorted(row[:there]) == list(range(there))
        assert row[there:] == list(range(there, longest))
        assert row[0] == int(places[cloud, :there].sum(dim=1).argmin())
        for turn in range(1, there):
            apart = (places[cloud, row[turn:there]] - places[cloud, row[turn - 1]]).norm(dim=1)
            assert apart[0] <= apart.min() + 1e-6


@pytest.mark.parametrize(("start", "wanted"), [(0.0, [0, 1]), (0.34, [1, 2]), (0.999, [2, 3])])
def test_a_stretch_lies_within_its_row(start, wanted):
    found = stretch(torch.tensor([start]), torch.tensor([2]), torch.tensor([4]), 6)
    assert found[0].nonzero()[:, 0].tolist() == wanted


def test_targets_and_context_are_apart_and_of_the_published_sizes():
    method = make()
    views = views_of(method)
    patches = method.encoder.patches(views.points, views.count)
    assert patches.count.tolist() == [24, 24, 15, 1]
    targets, context = method._stretches(patches, views)
    there = inside(patches.count, 24)
    assert not (targets & context[:, None]).any()
    assert not (context & ~there).any()
    assert not (targets & ~there[:, None]).any()
    order = nearest_order(patches.places, patches.count)
    for cloud, tokens in enumerate([24, 24, 15]):
        number = max(1, int(views.target_share[cloud, 0] * tokens))
        assert targets[cloud].sum(dim=1).tolist() == [number] * 4
        for block in targets[cloud]:  # in one piece along the row
            rows = block[order[cloud]].nonzero()[:, 0]
            assert int(rows.max() - rows.min()) == number - 1
        left = tokens - int(targets[cloud].any(dim=0).sum())
        assert int(context[cloud].sum()) == max(1, int(views.context_share[cloud, 0] * left))
    assert context[3].sum() == 1  # a cloud of one patch: seen, and nothing is foretold
    assert not targets[3].any()


def test_what_is_foretold_is_not_seen():
    """Points of the targets alone may move without a change of what is told; moving the context changes it."""
    method = make(targets=1).eval()
    views = views_of(method, (96,))
    patches = method.encoder.patches(views.points, views.count)
    targets, context = method._stretches(patches, views)
    told = []
    for changed in (None, targets[:, 0], context):
        tokens = patches.tokens.detach().clone()
        if changed is not None:
            tokens[changed] += torch.linspace(-1, 1, 24)
        handed = type(patches)(patches.places, patches.count, patches.members, tokens)
        method.encoder.patches = lambda *_, handed=handed: handed
        method._targets = lambda vit, _: torch.zeros_like(patches.tokens)
        told.append(method._foretell(views)[0].item())
    assert told[1] == told[0]
    assert told[2] != told[0]


def test_the_loss_is_the_smooth_absolute_difference_of_layer_normed_targets():
    """With beta 2 a difference of 1 costs 0.25; a predictor that says 0 everywhere is wrong by what is true."""
    method = make(targets=1).eval()
    with torch.no_grad():
        method.leave.weight.zero_()
        method.leave.bias.zero_()
        views = views_of(method, (96, 96))
        patches = method.encoder.patches(views.points, views.count)
        truth = torch.nn.functional.layer_norm(method._targets(method.encoder, patches), (24,))
        targets, _ = method._stretches(patches, views)
        rows = truth[targets[:, 0]]
        cost = torch.where(rows.abs() < 2, rows.square() / 4, rows.abs() - 1)
        assert method(views, 0.0).total.item() == pytest.approx(cost.mean().item(), abs=1e-6)
    one = torch.nn.functional.smooth_l1_loss(torch.tensor([1.0, 4.0]), torch.zeros(2), beta=2.0, reduction="none")
    assert one.tolist() == [0.25, 3.0]


def test_only_the_blocks_have_a_teacher_and_no_gradient_reaches_it():
    method = make(momentum=0.5, final_momentum=0.5)
    method(views_of(method), 0.0).total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    with torch.no_grad():
        for parameter in method.encoder.blocks.parameters():
            parameter.add_(1.0)
    before = method.teacher.module.norm.bias.clone()
    method.after_step(0.0)
    torch.testing.assert_close(method.teacher.module.norm.bias, before + 0.5)


def test_an_encoder_that_is_not_told_places_is_refused():
    with pytest.raises(ValueError, match="set the encoder's positions to 'every'"):
        PointJEPA(PointJEPASettings(), CLOUD_ENCODERS.build({**VIT, "positions": "none"}))
    with pytest.raises(ValueError, match="must divide"):
        PointJEPASettings(predictor_width=10, predictor_heads=4)
    with pytest.raises(ValueError, match="lower share"):
        PointJEPASettings(target_ratio=(0.3, 0.2))
