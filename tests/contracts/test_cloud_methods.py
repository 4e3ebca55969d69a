"""Every method for clouds keeps the contract."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from medssl.errors import ConfigError
from medssl.methods.contract import Method
from medssl.randomness import Stream
from medssl.reporting.prose import signal_of
from pointcloud.batch import CloudBatch
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.loading import CloudLoader, held_out_clouds
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.shapes import CLASSES, shape
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds


def smallest(table, name):
    return {"name": name, **table.load(name).smallest()}


DISTIL, JEPA, OCCO = (smallest(CLOUD_METHODS, name) for name in ("point_distil", "point_jepa", "point_occo"))
DISTIL |= {"contrast_weight": 0.01, "thinned": [24], "thinned_number": 1}
MAE_VIT = smallest(CLOUD_ENCODERS, "point_vit")
VIT = {"name": "point_vit", "width": 24, "depth": 2, "heads": 2, "points_per_token": 8, "patch": 8}
POINTS = DISTIL["points"]
CASES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "point_distil, distillation alone": ({**DISTIL, "contrast_weight": 0}, VIT),
    "point_distil, with contrast": ({**DISTIL, "contrast_weight": 0.1}, {"name": "pointnet", "widths": [16, 32]}),
    "point_distil, filled": ({**DISTIL, "contrast_weight": 0.1, "fill": True, "teacher_statistics": "batch"}, VIT),
    "point_distil, masked": (
        {**DISTIL, "assign": "sinkhorn", "koleo_weight": 0.01, "patch_weight": 1.0, "large": {"shape": "box"},
         "contrast": "bottleneck"},
        VIT,
    ),
    "point_distil, masked, two heads": ({**DISTIL, "patch_weight": 1.0}, MAE_VIT),
    "point_jepa, class token": ({**JEPA, "targets": 1}, {**VIT, "positions": "input"}),
    "point_occo, pointnet": ({**OCCO, "spatial": {"rotate": "any"}}, {"name": "pointnet", "widths": [16, 32]}),
    "point_mae, class token": (
        {"name": "point_mae", "points": POINTS, "decoder_depth": 1},
        {**VIT, "positions": "every"},
    ),
}  # fmt: skip
CASES |= {
    name: (smallest(CLOUD_METHODS, name), smallest(CLOUD_ENCODERS, CLOUD_METHODS.load(name).smallest_encoder))
    for name in CLOUD_METHODS
}
NAMES = sorted(CASES)
# Their target moves with the teacher, so the loss over a run may rise while they learn.
MOVING = {case for case in CASES if case.startswith(("point_distil", "point_jepa", "point_moco"))}


def make(case: str) -> Method:
    torch.manual_seed(5)
    settings, encoder = CASES[case]
    return CLOUD_METHODS.build(settings, CLOUD_ENCODERS.build(encoder))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> CloudStore:
    """Six small clouds of as many shapes, with numbers of points of their own."""
    items = [
        CloudItem(id=name, cloud=shape(name, 0, seed=0, points=60 + 17 * number), patient=name)
        for number, name in enumerate(CLASSES[:6])
    ]
    return store_from_clouds(tmp_path_factory.mktemp("clouds"), items)


def batch_of(store: CloudStore, method: Method, step: int = 0, size: int = 3) -> CloudBatch:
    return CloudLoader(store, method.plan, batch_size=size, seed=0, threads=0).batch(step)


def views_of(method: Method, store: CloudStore, step: int = 0, size: int = 3):
    return method.views(batch_of(store, method, step, size), Stream(0, step, list(range(size))))


def tensors(views: object) -> list[Tensor]:
    found = []
    for value in (getattr(views, f.name) for f in dataclasses.fields(views)):
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += [t for part in value for t in tensors(part)]
        elif dataclasses.is_dataclass(value):
            found += tensors(value)
    return found


@pytest.mark.parametrize("name", sorted(CLOUD_METHODS))
def test_row_names_what_it_loads(name):
    row = CLOUD_METHODS[name]
    assert issubclass(CLOUD_METHODS.load(name), Method)
    assert CLOUD_METHODS.settings_class(name).model_fields["name"].default == name
    assert row.paper
    assert row.take_when


@pytest.mark.parametrize("case", NAMES)
def test_losses_are_finite_float32_scalars(case, store):
    method = make(case)
    losses = method(views_of(method, store), 0.0)
    assert losses.total.dtype == torch.float32
    assert losses.total.ndim == 0
    assert losses.parts
    assert {"spread", "effective_rank"} <= set(losses.signals)
    for name, value in {**losses.parts, **losses.signals}.items():
        assert value.ndim == 0, name
        assert torch.isfinite(value), name
        assert not value.requires_grad, name


@pytest.mark.parametrize("case", NAMES)
def test_every_trainable_parameter_gets_a_gradient(case, store):
    method = make(case)
    with torch.no_grad():  # away from a start at zero, where some gradients vanish
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    method(views_of(method, store), 0.5).total.backward()
    lacking = [
        name
        for name, p in method.named_parameters()
        if p.requires_grad and (p.grad is None or not bool(p.grad.abs().sum() > 0))
    ]
    assert not lacking


@pytest.mark.parametrize("case", NAMES)
def test_views_are_a_function_of_the_stream_and_of_each_slot_alone(case, store):
    method = make(case)
    batch = batch_of(store, method)
    once = tensors(method.views(batch, Stream(1, 4, [0, 1, 2])))
    again = tensors(method.views(batch, Stream(1, 4, [0, 1, 2])))
    other = tensors(method.views(batch, Stream(1, 5, [0, 1, 2])))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(once, other, strict=True))
    alone = tensors(method.views(batch.rows(2, 3), Stream(1, 4, [2])))
    for a, b in zip(once, alone, strict=True):
        assert a.shape[0] == 3  # an item a row, whatever the axes after it
        a = a[2:]
        for axis in range(1, a.ndim):  # alone, a cloud may be padded less
            a = a.narrow(axis, 0, min(a.shape[axis], b.shape[axis]))
        assert torch.allclose(a, b[tuple(slice(n) for n in a.shape)], atol=1e-5)


@pytest.mark.parametrize("case", NAMES)
def test_state_round_trip_gives_the_same_loss(case, store):
    method, other = make(case).eval(), make(case).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    views = views_of(method, store)
    wanted = method(views, 0.5).total
    assert not torch.allclose(other(views, 0.5).total, wanted)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other(views, 0.5).total, wanted)


@pytest.mark.parametrize("case", sorted(set(NAMES) - MOVING))
def test_training_lowers_the_loss_on_clouds_with_structure(case, store):
    method = make(case)
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    loader = CloudLoader(store, method.plan, batch_size=6, seed=0, threads=0)
    history = []
    for step in range(40):
        losses = method(method.views(loader.batch(step), Stream(0, step, list(range(6)))), step / 40)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        method.after_step(step / 40)
        history.append(losses.total.item())
    assert sum(history[-5:]) < 0.9 * sum(history[:5])


@pytest.mark.parametrize("case", sorted(MOVING))
def test_steps_on_one_batch_lower_its_loss_while_the_target_stands_still(case, store):
    method = make(case)
    views = views_of(method, store, size=6)
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(20):
        losses = method(views, 0.5)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(losses.total.item())
    assert history[-1] < history[0] - 0.02  # the entropy of a target is a floor that no step can lower


@pytest.mark.parametrize("case", NAMES)
def test_one_cloud_in_the_batch_works(case, store):
    method = make(case)
    assert torch.isfinite(method(views_of(method, store, size=1), 0.0).total)


@pytest.mark.parametrize("case", NAMES)
def test_pictures_and_probe(case, store):
    method = make(case).eval()
    batch = held_out_clouds(store, method.plan, 3, 0)[0]
    views = method.views(batch, Stream(0, -1, batch.slot.tolist()))
    with torch.no_grad():
        pictures, probe = method.pictures(views), method.probe(views)
    assert pictures
    for stack in pictures.values():
        assert stack.ndim == 3
        assert stack.shape[2] in (3, 4)
        there = torch.isfinite(stack[..., :3]).all(dim=-1)
        assert there.any(dim=1).all()
        if stack.shape[2] == 4:
            assert stack[there][:, 3].min() >= 0
            assert stack[there][:, 3].max() <= 1
    assert {"spread", "effective_rank"} <= set(probe)
    assert all(signal_of(name) for name in probe), "the report must know how to read every held-out signal"
    assert all(torch.isfinite(value) for value in probe.values())


@pytest.mark.parametrize("case", NAMES)
def test_kept_parts_share_the_weights_that_were_trained(case):
    method = make(case)
    kept = method.exported_modules()
    assert kept["encoder"] is method.encoder
    ours = {id(p) for p in method.parameters()}
    assert all(id(p) in ours for part in kept.values() for p in part.parameters())


def test_an_encoder_without_tokens_is_refused_where_tokens_are_needed():
    pointnet = CLOUD_ENCODERS.build({"name": "pointnet", "widths": [8, 8]})
    with pytest.raises(ValueError, match="needs the encoder point_vit"):
        CLOUD_METHODS.build({"name": "point_mae"}, pointnet)
    with pytest.raises(ConfigError, match="Did you mean 'point_mae'"):
        CLOUD_METHODS.build({"name": "point_mea"}, pointnet)


@pytest.mark.parametrize("case", NAMES)
def test_training_goes_through_what_is_compiled(case, store):
    """Methods may call parts of an encoder: compiling the whole of it would then do nothing, and say nothing."""
    method = make(case).train()
    called = []

    def noted(module, own):
        def call(*args, **kwargs):
            called.append(module)
            return own(*args, **kwargs)

        return call

    of_encoder = [module for module in method.encoder.modules() if getattr(module, "compiles", False)]
    for module in of_encoder:
        module._compiled_call_impl = noted(module, module._call_impl)  # where nn.Module.compile puts its own
    method(views_of(method, store), 0.5)
    assert set(map(id, called)) == set(map(id, of_encoder))
    assert of_encoder
