"""Methods against what their authors released: values of their code on fixed tensors, formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.encoders.table import build_encoder
from medssl.engine.optimiser import build_optimiser
from medssl.methods.crop_views import CropViews
from medssl.methods.global_contrast import GlobalContrast, GlobalContrastSettings
from medssl.methods.moco import MoCo, MoCoSettings
from medssl.methods.spark import SparK, SparKSettings
from medssl.methods.voco import VoCo, VoCoSettings, VoCoViews
from medssl.objectives.prototypes import n_pair, patch_distillation
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.views.masking import sample_block_mask
from medssl.workflows.pretrain_settings import PretrainSettings
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.point_distil import PointDistilSettings
from pointcloud.methods.point_mae import PointMAE, PointMAESettings, PointMAEViews

UNET = {"name": "unet", "channels": [4, 6, 8], "blocks": 1}


def wave(*shape: int, k: float) -> Tensor:
    """Return fixed numbers that no generator decides."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * k + k).view(*shape).float()


def test_voco_2_gives_what_the_released_code_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three scans of different counts of negatives; Luffy03/Large-Scale-Medical 1ad538b on the same features."""
    scans, crops, bases, width = 3, 2, 4, 5
    settings = VoCoSettings(
        crop=(8, 8, 8), grid=(1, 2, 2), teacher="heads", student_bases=True, inter="student", by_scan=True,
        regulariser="bases", hidden=8, projected=8,
    )  # fmt: skip
    method = VoCo(settings, build_encoder(UNET))
    student = {"crops": wave(scans, crops, width, k=1.3), "bases": wave(scans, bases, width, k=0.7)}
    student = {name: rows.requires_grad_() for name, rows in student.items()}
    teacher = {"crops": wave(scans, crops, width, k=1.31), "bases": wave(scans, bases, width, k=0.71)}
    monkeypatch.setattr(method, "_features", lambda views: (student, teacher))
    labels = [
        [[0.25, 0.75, 0, 0], [0, 0.5, 0.5, 0]],
        [[1.0, 0, 0, 0], [0, 0, 0.1, 0.9]],
        [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0]],
    ]
    empty = torch.zeros(scans, crops, 1, 8, 8, 8)
    places = torch.zeros(scans, crops, 3)
    views = VoCoViews(empty, empty, places, places, torch.tensor(labels), torch.ones(scans, 3))
    found = method(views, 0.0)
    parts = {name: value.item() for name, value in found.parts.items()}
    assert parts["position"] + parts["apart"] == pytest.approx(0.998194, abs=2e-5)
    assert parts["inter"] == pytest.approx(0.101656, abs=2e-5)
    assert parts["regulariser"] == pytest.approx(0.191904, abs=2e-5)
    alone = VoCoSettings(**{**settings.model_dump(), "regulariser": "none"})
    method.settings = alone
    (of_bases,) = torch.autograd.grad(method(views, 0.0).total, student["bases"])
    assert of_bases.abs().sum() > 0  # the student's own base crops learn from the next scan


def test_the_released_heads_of_voco_take_24_widths() -> None:
    """1152 features of Swin at width 48, which is 24 of its widths: the level of 8 widths is left out."""
    swin = {"name": "swin", "feature_size": 12, "depths": [1, 1, 1, 1], "heads": [2, 2, 2, 2], "window": 4}
    settings = {"crop": (64, 64, 64), "grid": (1, 3, 3), "teacher": "heads", "hidden": 8, "projected": 8}
    encoder = build_encoder(swin)
    assert encoder.channels == (12, 12, 24, 48, 96, 192)
    for levels, width in (("released", 24 * 12), ("all", 32 * 12)):
        method = VoCo(VoCoSettings(**settings, levels=levels), encoder)
        assert method.student.head.layers[0].in_features == width
    assert method.student.pooled(torch.rand(1, 1, 64, 64, 64)).shape == (1, 32 * 12)


@pytest.mark.parametrize("pool", ["mean", "prenorm", "grid", "levels", "attention"])
def test_voco_joins_the_levels_that_it_says_to_any_embedding(pool: str) -> None:
    encoder = build_encoder({"name": "unet", "channels": [4, 8, 16], "pool": pool}).eval()
    images = torch.rand(2, 1, 16, 16, 16)
    means = [level.mean(dim=(2, 3, 4)) for level in encoder(images)]
    settings = {"crop": (16, 16, 16), "grid": (1, 2, 2), "hidden": 8, "projected": 8}
    for levels, finer in (("last", 0), ("all", 2), ("released", 1)):
        if pool == "levels" and levels == "released":  # it would join what it is told to leave out
            with pytest.raises(ValueError, match=r"encoder\.pool"):
                VoCo(VoCoSettings(**settings, levels=levels), encoder)
            continue
        method = VoCo(VoCoSettings(**settings, levels=levels), encoder)
        wanted = torch.cat([*([] if pool == "levels" else means[:finer]), encoder.embed(images)], dim=1)
        assert torch.equal(method.student.pooled(images), wanted)
        assert method.student.head.layers[0].in_features == wanted.shape[1]


@pytest.mark.parametrize("preset", ["voco_v1", "voco_v2", "voco_paper"])
def test_the_published_vocos_take_amsgrad_and_clip_nothing(preset: str) -> None:
    train = resolve(PretrainSettings, preset=preset).settings.train
    assert train.clip is None
    assert build_optimiser(torch.nn.Linear(2, 2), train).defaults["amsgrad"] is True


def test_point_distil_scales_its_contrast_as_the_released_code() -> None:
    """fukexue/POS-BERT d922651, ``get_npair_loss``, on scores that its loss divides by 0.1 before."""
    student = torch.stack([0.01 * wave(4, 6, k=0.9 + 0.1 * s) for s in range(3)])
    teacher = torch.stack([torch.softmax(wave(4, 6, k=0.5 + 0.1 * t) / 0.04, dim=-1) for t in range(2)])
    settings = PointDistilSettings()
    assert settings.scale == pytest.approx(640.0)
    assert n_pair(student, teacher, scale=settings.scale).item() == pytest.approx(3.256528, rel=1e-4)
    assert n_pair(student, teacher).item() == pytest.approx(3.256528, rel=1e-4)
    assert PointDistilSettings(temperature=0.2).scale == pytest.approx(320.0)
    assert PointDistilSettings(contrast="bottleneck").scale == 64.0
    assert PointDistilSettings(contrast_scale=64.0).scale == 64.0  # what runs of earlier releases say


def test_the_loss_at_patches_is_a_mean_over_all_views() -> None:
    """``iBOTLoss``: of each image the sum at masked patches over their number (at least 1), then the batch's mean."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(4, 6, 5, generator=draw), torch.randn(4, 6, 5, generator=draw).softmax(dim=-1)
    masked = torch.rand(4, 6, generator=draw) < 0.4
    masked[1] = False
    losses = []
    for image in range(4):
        at = -(teacher[image] * torch.log_softmax(student[image] / 0.1, dim=-1)).sum(dim=-1)
        losses.append((at * masked[image]).sum() / max(1, int(masked[image].sum())))
    wanted = sum(losses) / 4
    assert patch_distillation(student, teacher, masked).item() == pytest.approx(float(wanted), rel=1e-5)
    other = patch_distillation(student, teacher, masked, over="masked").item()
    assert other == pytest.approx(float(wanted) * 4 / 3, rel=1e-5)  # what it was before


@pytest.mark.parametrize("cells", [(6, 6, 6), (1, 14, 14), (4, 8, 8)])
def test_blocks_hide_the_share_that_is_drawn(cells: tuple[int, int, int]) -> None:
    """.3 +- .2 of the patches as published; patches in blocks have more hidden neighbours than single ones."""
    shape = tuple(2 * n for n in cells)
    hidden = sample_block_mask(Stream(0, 0, range(200)), shape=shape, patch=(2, 2, 2), share=(0.1, 0.5))
    assert hidden.shape == (200, *cells)
    share = hidden.flatten(1).float().mean(dim=1)
    assert share.max() <= 0.5
    assert share.min() > 0
    assert share.mean() == pytest.approx(0.3, abs=0.05)
    assert share.std() > 0.07
    beside = hidden[..., 1:] & hidden[..., :-1]
    chance = (share**2).mean()
    assert beside.float().mean() > 1.3 * chance
    again = sample_block_mask(Stream(0, 0, [7]), shape=shape, patch=(2, 2, 2), share=(0.1, 0.5))
    assert torch.equal(again[0], hidden[7])  # a function of seed, step and slot


@pytest.mark.parametrize("cells", [(1, 1, 2), (2, 2, 2), (1, 2, 2)])
def test_blocks_leave_something_to_see(cells: tuple[int, int, int]) -> None:
    shape = tuple(2 * n for n in cells)
    hidden = sample_block_mask(Stream(0, 0, range(100)), shape=shape, patch=(2, 2, 2), share=(0.1, 0.9)).flatten(1)
    assert hidden.any(dim=1).all()
    assert not hidden.all(dim=1).any()


def test_moco_2_takes_its_negatives_from_the_queue_alone() -> None:
    torch.manual_seed(0)
    settings = MoCoSettings(window=(16, 16, 16), crop=(8, 8, 8), queue=6, hidden=8, projected=8, temperature=0.2)
    method = MoCo(settings, build_encoder(UNET)).train()
    crops = torch.rand(3, 2, 1, 8, 8, 8)
    first, then = (CropViews(crops, None, ids, ids) for ids in (torch.arange(3), torch.arange(3, 6)))
    # with an empty queue the batch's own keys are all there is
    assert method(first, 0.0).total.item() > 0.1
    method.after_step(0.0)
    found = method(then, 0.1).total.item()
    with torch.no_grad():
        query = torch.nn.functional.normalize(method.student(crops[:, 0])[1], dim=1)
        key = torch.nn.functional.normalize(method.teacher(crops[:, 1])[1], dim=1)
        queue = torch.nn.functional.normalize(method.queue.features[:3], dim=1)
        logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.T], dim=1) / 0.2
        wanted = torch.nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    assert found == pytest.approx(wanted.item(), rel=1e-4)


def test_the_head_of_global_contrast_has_no_biases() -> None:
    """krishnabits001/domain_specific_cl: both dense layers are made with ``use_bias=False``."""
    settings = GlobalContrastSettings(window=(1, 16, 16), hidden=8, projected=8)
    encoder = build_encoder({**UNET, "strides": [1, [1, 2, 2], [1, 2, 2]]})
    method = GlobalContrast(settings, encoder)
    assert [name for name, _ in method.head.named_parameters()] == ["layers.0.weight", "layers.2.weight"]


def test_s3d_projects_every_level_but_the_finest() -> None:
    """MIC-DKFZ/nnssl 7044864, ``SparK3D``: identity at its first level, 3x3x3 at the others, no affine norm."""
    base = {"window": (16, 16, 16), "patch": (8, 8, 8)}
    s3d = SparK(SparKSettings(**base, decoder="unet"), build_encoder(UNET))
    kinds = [type(level.projection).__name__ for level in s3d.densify]
    assert kinds == ["Identity", "Conv3d", "Conv3d"]
    assert all(level.projection.kernel_size == (3, 3, 3) for level in list(s3d.densify)[1:])
    assert all(level.projection.bias is not None for level in list(s3d.densify)[1:])
    assert not any(p.requires_grad for level in s3d.densify for p in level.norm.parameters())
    spark = SparK(SparKSettings(**base), build_encoder(UNET))
    assert [type(level.projection).__name__ for level in spark.densify] == ["Conv3d", "Conv3d", "Identity"]


@pytest.mark.parametrize("preset", ["dino", "ibot"])
def test_weight_decay_rises_as_published(preset: str) -> None:
    train = resolve(PretrainSettings, preset=preset).settings.train
    assert (train.weight_decay, train.final_weight_decay, train.clip) == (0.04, 0.4, 3.0)


@pytest.mark.parametrize("preset", ["masked", "spark_s3d"])
def test_the_recipe_of_nnssl_takes_the_input_it_was_made_for(preset: str) -> None:
    settings = resolve(PretrainSettings, preset=preset).settings
    assert (settings.train.optimiser, settings.train.lr, settings.data.normalise) == ("sgd", 1e-2, "zscore")


def test_point_mae_scores_hidden_patches_by_chamfer_of_squares() -> None:
    """Pang et al.: of each hidden patch the mean squared distance to the nearest point, both ways, about its centre."""
    torch.manual_seed(0)
    vit = {
        "name": "point_vit", "width": 12, "depth": 1, "heads": 2, "points_per_token": 8, "patch": 6,
        "tokeniser": "pointnet", "positions": "every", "pool": "max_mean",
    }  # fmt: skip
    method = PointMAE(PointMAESettings(points=64, decoder_depth=1), CLOUD_ENCODERS.build(vit)).eval()
    points = torch.randn(2, 64, 3, generator=torch.Generator().manual_seed(0))
    views = PointMAEViews(points, torch.full((2,), 64), torch.rand(2, 8, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        found, errors = method._draw(views), []
    assert int(found.hidden.sum()) == 2 * 4  # int(.6 * 8) of each, as there
    for drawn, target in zip(found.drawn, found.target, strict=True):
        ahead = [min(float(((p - q) ** 2).sum()) for q in target) for p in drawn]
        back = [min(float(((p - q) ** 2).sum()) for p in drawn) for q in target]
        errors.append(sum(ahead) / len(ahead) + sum(back) / len(back))
    assert method(views, 0.0).total.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)
