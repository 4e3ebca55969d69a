"""Distillation with contrast: the loss written out, and the faults of the published code that are not repeated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.objectives.diagnostics import feature_spread
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.point_distil import PointDistil, PointDistilSettings
from pointcloud.shapes import dataset

POINTS, CLOUDS = 96, 4
VIT = {"name": "point_vit", "width": 24, "depth": 1, "heads": 2, "points_per_token": 8, "patch": 8}
SMALL = {
    "points": POINTS, "prototypes": 16, "hidden": 16, "bottleneck": 8, "small": {"number": 2, "share": [0.2, 0.5]},
    "thinned": [24], "thinned_number": 1, "freeze_prototypes": 0,
}  # fmt: skip


def make(**more) -> PointDistil:
    torch.manual_seed(0)
    settings = PointDistilSettings.model_validate({**SMALL, **more})
    return PointDistil(settings, CLOUD_ENCODERS.build(VIT))


def batch(patients=range(CLOUDS)) -> CloudBatch:
    points = torch.from_numpy(dataset(range(1), seed=0, points=POINTS)[0][:CLOUDS])
    every = torch.arange(CLOUDS)
    return CloudBatch(
        points=points, count=torch.full((CLOUDS,), POINTS), centre=points.mean(dim=1),
        radius=points.norm(dim=-1).amax(dim=1), label=-torch.ones_like(every), item=every,
        patient=torch.tensor(list(patients)), slot=every,
    )  # fmt: skip


def views_of(method, patients=range(CLOUDS)):
    return method.views(batch(patients), Stream(0, 0, range(CLOUDS)))


def test_the_published_number_of_views_gives_34_terms():
    """18 views of the student, 2 of the teacher; what a view is to itself is left out."""
    method = PointDistil(PointDistilSettings(hidden=16, bottleneck=8), CLOUD_ENCODERS.build({**VIT, "patch": 4}))
    crops = method.views(batch(), Stream(0, 0, range(CLOUDS))).crops
    students = crops.large.count.shape[1] + sum(kind.count.shape[1] for kind in crops.small)
    assert students == 18
    assert crops.large.count.shape[1] * students - 2 == 34
    assert [int(kind.count.max()) for kind in crops.small[1:]] == [POINTS, POINTS, POINTS, 64]  # no more than it has


def test_distillation_is_the_mean_over_pairs_of_different_views_written_out():
    method = make(contrast_weight=0, teacher_temperature=0.05, final_teacher_temperature=0.05).eval()
    with torch.no_grad():
        method.centre.value.copy_(torch.linspace(-0.1, 0.1, 16))
        views = views_of(method)
        kinds = [views.crops.large, *views.crops.small]
        student = [
            method.student(kind.points[:, v], kind.count[:, v])["scores"]
            for kind in kinds for v in range(kind.count.shape[1])
        ]  # fmt: skip
        teacher = [method.teacher(kinds[0].points[:, v], kinds[0].count[:, v])["scores"] for v in range(2)]
        terms = [
            torch.nn.functional.cross_entropy(student[s] / 0.1, ((teacher[t] - method.centre.value) / 0.05).softmax(-1))
            for t in range(2) for s in range(len(student)) if s != t
        ]  # fmt: skip
        assert len(terms) == 2 * (2 + 2 + 1) - 2
        assert method(views, 0.5).total.item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-4)


def test_the_contrastive_branch_runs_moves_the_centre_and_has_its_weight():
    """In the published code this branch stops with a TypeError where it updates the centre."""
    losses = {}
    for weight in (0.0, 0.5, 1.0):
        method = make(contrast_weight=weight)
        views = views_of(method)
        losses[weight] = method(views, 0.5).total.item()
        seen = method.teacher(*views.crops.large.flat())["scores"].mean(dim=0)
        method.after_step(0.5)
        torch.testing.assert_close(method.centre.value, 0.1 * seen, atol=1e-6, rtol=1e-4)
    assert losses[1.0] > losses[0.0]
    assert losses[0.5] - losses[0.0] == pytest.approx((losses[1.0] - losses[0.0]) / 2, rel=1e-3)


@pytest.mark.parametrize("contrast", ["scores", "bottleneck"])
def test_clouds_of_one_patient_are_not_distinguished(contrast):
    method = make(contrast_weight=1.0, contrast=contrast).eval()
    assert method(views_of(method, [7] * CLOUDS), 0.5).parts["contrast"].item() == 0.0
    assert method(views_of(method, [7, 7, 8, 8]), 0.5).parts["contrast"].item() > 0.0


def test_contrast_of_bottlenecks_written_out():
    method = make(contrast_weight=2.0, contrast="bottleneck", contrast_scale=5.0).eval()
    with torch.no_grad():
        views = views_of(method)
        kinds = [views.crops.large, *views.crops.small]
        student = [
            method.student(kind.points[:, v], kind.count[:, v])["bottleneck"]
            for kind in kinds for v in range(kind.count.shape[1])
        ]  # fmt: skip
        teacher = [method.teacher(kinds[0].points[:, v], kinds[0].count[:, v])["bottleneck"] for v in range(2)]
        terms = [
            torch.nn.functional.cross_entropy(5 * student[s] @ teacher[t].T, torch.arange(CLOUDS))
            for t in range(2) for s in range(len(student)) if s != t
        ]  # fmt: skip
        found = method(views, 0.5).parts["contrast"].item()
    assert found == pytest.approx(2 * torch.stack(terms).mean().item(), abs=1e-5)


def test_the_teacher_follows_parameters_and_buffers():
    """The published teacher follows the student's parameters alone; its running statistics stay its own."""
    method = make(momentum=0.75, final_momentum=0.75)
    before = {name: value.clone() for name, value in method.teacher.module.named_buffers()}
    parameters = {name: value.clone() for name, value in method.teacher.module.named_parameters()}
    method(views_of(method), 0.0).total.backward()
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.1)
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.module.named_buffers())
    method.after_step(0.0)
    moved = 0
    for name, value in method.student.named_buffers():
        found = method.teacher.module.get_buffer(name)
        if value.is_floating_point():
            torch.testing.assert_close(found, 0.75 * before[name] + 0.25 * value)
            moved += int(not torch.equal(found, before[name]))
        else:
            assert torch.equal(found, value)
    assert moved > 0
    for name, value in method.student.named_parameters():
        wanted = 0.75 * parameters[name] + 0.25 * value.detach()
        torch.testing.assert_close(method.teacher.module.get_parameter(name), wanted)


@pytest.mark.parametrize("fill", [False, True])
def test_views_leave_the_global_generators_alone(fill):
    """The published loader seeds numpy's global generator with each item's index."""
    method = make(fill=fill)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    before, before_torch = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    views_of(method)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before_torch)


def test_the_size_of_a_crop_says_nothing_of_its_kind_unless_it_is_filled():
    """Filled crops have two sizes, so that a student can tell large from small without looking at a point."""
    both = {"share": [0.2, 0.9]}
    free, filled = (
        views_of(make(fill=fill, large=both, small={"number": 6, "share": [0.2, 0.5]})).crops for fill in (False, True)
    )
    assert len(set(free.small[0].count.flatten().tolist())) > 6
    assert int(free.small[0].count.max()) <= 48
    assert set(filled.large.count.flatten().tolist()) == {87}
    assert set(filled.small[0].count.flatten().tolist()) == {48}
    assert free.large.count.min() < filled.large.count.min()


def test_prototypes_stand_still_at_first():
    method = make(freeze_prototypes=0.1, contrast_weight=0.1)
    gradients = {}
    for progress in (0.05, 0.1):
        method.zero_grad()
        method(views_of(method), progress).total.backward()
        gradients[progress] = method.student.head.prototypes.grad.abs().sum().item()
        assert method.student.head.perceptron[0].weight.grad.abs().sum() > 0
    assert gradients[0.05] == 0.0
    assert gradients[0.1] > 0.0


def test_only_the_student_is_masked_and_only_hidden_patches_count():
    method = make(patch_weight=1.0, contrast_weight=0).eval()
    with torch.no_grad():
        views = views_of(method)
        points, count = views.crops.large.flat()
        groups = method.encoder.groups(points, count)
        hidden = method._hidden(views, groups)
        share = hidden.sum(dim=1) / groups.count
        assert (share <= 0.4).all()
        assert (share > 0.05).all()
        teacher = method.teacher(points, count, groups=groups, places=True)["places"]
        student = method.student(points, count, groups=groups, hidden=hidden, places=True)["places"]
        whole = method.student(points, count, groups=groups, places=True)["places"]
        assert torch.equal(teacher, whole)  # the same weights, and nothing is hidden from it
        by_token = -((teacher / 0.04).softmax(-1) * (student / 0.1).log_softmax(-1)).sum(-1)
        wanted = torch.stack([row[mask].mean() for row, mask in zip(by_token, hidden, strict=True)]).mean()
        assert method(views, 0.5).parts["patches"].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_the_norm_of_the_head_tells_clouds_apart_whose_embeddings_hardly_differ():
    near = torch.ones(6, 24) + 1e-3 * torch.randn(6, 24, generator=torch.Generator().manual_seed(0))
    spread = {
        norm: feature_spread(make(head_norm=norm).student.head.bottleneck(near)) for norm in ("none", "batch_plain")
    }
    assert spread["none"] < 0.1
    assert spread["batch_plain"] > 0.5


def test_settings_that_leave_no_pair_or_no_share_are_refused():
    with pytest.raises(ValueError, match="needs a view that its teacher does not see"):
        PointDistilSettings.model_validate({"large": {"number": 1}, "small": {"number": 0}, "thinned": []})
    with pytest.raises(ValueError, match="lower first"):
        PointDistilSettings(mask_ratio=(0.5, 0.2))
    with pytest.raises(ValueError, match="needs the encoder point_vit"):
        PointDistil(PointDistilSettings(patch_weight=1.0), CLOUD_ENCODERS.build({"name": "pointnet", "widths": [8, 8]}))
