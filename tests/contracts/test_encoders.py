"""Every encoder of the table keeps the contract."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

import pytest
import torch
from pydantic import TypeAdapter

from medssl.decoder import SegmentationNetwork, UNetDecoder
from medssl.encoders.contract import Encoder, lay_channels_last
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.errors import ConfigError

# Sizes that differ along the axes; a row without any is tested at its smallest.
SMALL: dict[str, dict[str, object]] = {name: ENCODERS.load(name).smallest() for name in ENCODERS} | {
    "residual": {
        "channels": [4, 6, 8],
        "blocks": [1, 2, 1],
        "strides": [1, [1, 2, 2], 2],
        "kernels": [[1, 3, 3], 3, 3],
    },
    "unet": {"channels": [4, 6, 8], "strides": [1, [1, 2, 2], 2], "kernels": [[1, 3, 3], 3, 3]},
    "swin": {"feature_size": 12, "depths": [1, 1, 1, 1], "heads": [2, 2, 2, 2], "window": 4},
    "vit": {
        "width": 24,
        "depth": 3,
        "heads": 2,
        "patch": [2, 4, 4],
        "positions": "learned",
        "grid": [3, 2, 2],
        "class_token": True,
    },
    "primus": {"width": 24, "depth": 3, "heads": 2, "patch": [2, 4, 4], "grid": [3, 2, 2]},
    "segres": {
        "channels": [4, 6, 8],
        "blocks": [1, 2, 1],
        "strides": [1, [1, 2, 2], 2],
        "kernels": [[1, 3, 3], 3, 3],
        "beyond": ["y", "x"],
    },
    "resnet": {"channels": [4, 4, 8, 8, 8], "blocks": [1, 2, 1, 1, 1], "bottleneck": True, "kernels": [7, 3, 3, 3, 3]},
    "stunet": {"channels": [4, 6, 8], "blocks": [1, 2, 1], "strides": [1, [1, 2, 2], 2]},
    "unet3d": {"channels": [4, 6, 8], "strides": [1, [1, 2, 2], 2], "kernels": [[1, 3, 3], 3, 3]},
}
NAMES = sorted(ENCODERS)


def small(name: str, **settings: object) -> Encoder:
    """Return a small encoder whose parameters are all away from their start, zeros included."""
    torch.manual_seed(7)
    encoder = build_encoder({"name": name, **SMALL[name], **settings})
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder


def images(encoder: Encoder, batch: int = 2) -> torch.Tensor:
    """Return images of the smallest size the encoder takes, larger along x."""
    z, y, x = (2 * m for m in encoder.size_multiple)
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, encoder.in_channels, z, y, x + encoder.size_multiple[2], generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_refused_before_anything_is_computed_as_they_are_by_the_network(name: str) -> None:
    encoder = small(name)
    step = encoder.size_multiple
    for size in (step, tuple(2 * m for m in step), tuple(2 * m + (m > 1) for m in step), tuple(3 * m for m in step)):
        answers = []
        for call in (encoder.check_size, lambda size: encoder(torch.zeros(1, encoder.in_channels, *size))):
            try:
                call(size)
                answers.append("")
            except ConfigError as error:
                answers.append(str(error))
        assert answers[0] == answers[1], size
        if answers[0]:  # a task says so too before it trains, and what it suggests fits
            with pytest.raises(ConfigError, match=r"^task\.window") as refused:
                encoder.check_window(size, key="task.window")
            if (near := re.search(r"Try \((.*)\)", str(refused.value))) is not None:
                encoder.check_size(tuple(int(n) for n in near[1].split(",")))
        else:
            encoder.check_window(size, key="task.window")


@pytest.mark.parametrize("name", NAMES)
def test_row_names_what_it_loads(name: str) -> None:
    row = ENCODERS[name]
    assert issubclass(ENCODERS.load(name), Encoder)
    assert ENCODERS.settings_class(name).model_fields["name"].default == name
    assert row.paper
    assert row.take_when.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_pyramid_is_as_declared(name: str) -> None:
    encoder = small(name)
    batch = images(encoder)
    pyramid = encoder(batch)
    assert len(pyramid) == len(encoder.channels) == len(encoder.strides)
    for features, channels, stride in zip(pyramid, encoder.channels, encoder.strides, strict=True):
        size = tuple(n // s for n, s in zip(batch.shape[2:], stride, strict=True))
        assert features.shape == (2, channels, *size)
        assert torch.isfinite(features).all()
    vector = encoder.embed(batch)
    assert vector.shape == (2, encoder.embedding_dim)
    assert vector.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_the_embedding_goes_through_what_is_compiled(name: str) -> None:
    encoder = small(name).eval()
    called = []
    for module in encoder.modules():
        if getattr(module, "compiles", False):
            module._compiled_call_impl = noted(module, called)  # where nn.Module.compile puts its own
    encoder.embed(images(encoder))
    assert called


def noted(module: torch.nn.Module, called: list[torch.nn.Module]) -> Callable[..., object]:
    own = module._call_impl

    def call(*args: object, **kwargs: object) -> object:
        called.append(module)
        return own(*args, **kwargs)

    return call


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str) -> None:
    encoder = small(name)
    generator = torch.Generator().manual_seed(1)
    loss = sum((f * torch.randn(f.shape, generator=generator)).sum() for f in encoder(images(encoder)))
    loss.backward()
    still = [n for n, p in encoder.named_parameters() if p.grad is None or float(p.grad.abs().max()) == 0.0]
    assert still == []


@pytest.mark.parametrize("name", NAMES)
def test_coarsest_level_sees_every_parameter_of_its_path(name: str) -> None:
    """The pooled embedding alone must train the encoder, whatever tasks take of the finer levels."""
    encoder = small(name)
    (encoder.embed(images(encoder)) * torch.arange(encoder.embedding_dim)).sum().backward()
    moved = sum(p.grad is not None and float(p.grad.abs().max()) > 0 for p in encoder.parameters())
    assert moved / len(list(encoder.parameters())) > 0.75


@pytest.mark.parametrize("name", NAMES)
def test_eval_is_deterministic_and_each_image_stands_alone(name: str) -> None:
    encoder = small(name).eval()
    batch = images(encoder, batch=3)
    with torch.no_grad():
        first, second = encoder(batch), encoder(batch)
        alone = encoder(batch[1:2])
    for a, b, c in zip(first, second, alone, strict=True):
        assert torch.equal(a, b)
        assert torch.allclose(a[1:2], c, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_makes_a_fresh_encoder_the_same(name: str) -> None:
    encoder = small(name).eval()
    fresh = build_encoder(encoder.settings.model_dump(mode="json")).eval()
    batch = images(encoder, batch=1)
    with torch.no_grad():
        assert not torch.allclose(fresh(batch)[-1], encoder(batch)[-1])
        fresh.load_state_dict(encoder.state_dict(), strict=True)
        for a, b in zip(fresh(batch), encoder(batch), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_gives_the_same(name: str) -> None:
    encoder = small(name).eval()
    batch = images(encoder)
    last = copy.deepcopy(encoder)
    lay_channels_last(last)
    with torch.no_grad():
        plain, moved = encoder(batch), last(batch.to(memory_format=torch.channels_last_3d))
    for a, b in zip(plain, moved, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in NAMES if "checkpointing" in ENCODERS.settings_class(n).model_fields])
def test_checkpointing_changes_memory_alone(name: str) -> None:
    results = []
    for checkpointing in (False, True):
        encoder = small(name, checkpointing=checkpointing).train()
        encoder.embed(images(encoder)).square().sum().backward()
        results.append({n: p.grad for n, p in encoder.named_parameters() if p.grad is not None})
    assert results[0].keys() == results[1].keys()
    for key, gradient in results[0].items():
        assert torch.allclose(gradient, results[1][key], atol=1e-6, rtol=1e-4), key


@pytest.mark.parametrize("name", NAMES)
def test_autocast_stays_near(name: str) -> None:
    encoder = small(name).eval()
    batch = images(encoder)
    with torch.no_grad():
        exact = encoder.embed(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder.embed(batch)
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rough).min() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_sizes_that_do_not_fit_are_refused_with_one_that_does(name: str) -> None:
    encoder = small(name)
    good = images(encoder)
    with pytest.raises(ConfigError, match="multiple of") as caught:
        encoder(good[..., :-1])
    assert f"Try {tuple(good.shape[2:])}" in str(caught.value)
    with pytest.raises(ConfigError, match="in_channels"):
        encoder(good.repeat(1, 2, 1, 1, 1))
    z, y, x = encoder.size_multiple
    with pytest.raises(ConfigError, match="single voxel"):
        encoder(good[:, :, :z, :y, :x])


@pytest.mark.parametrize("name", NAMES)
def test_torch_export_gives_the_same(name: str) -> None:
    encoder = small(name).eval()
    batch = images(encoder)
    exported = torch.export.export(encoder, (batch,)).module()
    with torch.no_grad():
        for a, b in zip(encoder(batch), exported(batch), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_several_channels(name: str) -> None:
    encoder = small(name, in_channels=3).eval()
    batch = images(encoder, batch=1)
    with torch.no_grad():
        before = encoder.embed(batch)
        batch[:, 2] = 0.0
        assert not torch.allclose(encoder.embed(batch), before)


@pytest.mark.parametrize("name", NAMES)
def test_union_tells_settings_by_name(name: str) -> None:
    parsed = TypeAdapter(ENCODERS.settings_union()).validate_python({"name": name, **SMALL[name]})
    assert type(parsed) is ENCODERS.settings_class(name)
    assert build_encoder(parsed).channels == small(name).channels


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'residual'"):
        build_encoder({"name": "residul"})
    with pytest.raises(ConfigError, match="name"):
        build_encoder({"channels": [4]})
    with pytest.raises(ConfigError, match="Did you mean 'channels'"):
        build_encoder({"name": "unet", "chanels": [4]})
    with pytest.raises(ConfigError, match="blocks has 1 entries and channels has 2"):
        build_encoder({"name": "unet", "channels": [4, 8], "blocks": [1]})
    with pytest.raises(ConfigError, match="odd"):
        build_encoder({"name": "unet", "channels": [4, 8], "kernels": 2})
    with pytest.raises(ConfigError, match="heads must divide"):
        build_encoder({"name": "swin", "feature_size": 12, "heads": [5, 6, 12, 24]})


@pytest.mark.parametrize("name", ["unet", "residual", "timm"])
def test_slices_go_through_2d_networks_one_by_one(name: str) -> None:
    settings = {"model": "test_resnet"} if name == "timm" else {"channels": [4, 6, 8], "dims": 2}
    encoder = build_encoder({"name": name, **settings}).eval()
    y, x = (2 * m for m in encoder.size_multiple[1:])
    images = torch.rand(2, 1, 1, y, x, generator=torch.Generator().manual_seed(0))
    assert all(stride[0] == 1 for stride in encoder.strides)
    network = SegmentationNetwork(encoder, UNetDecoder(encoder, 3)).eval()
    assert network(images).shape == (2, 3, 1, y, x)
    pyramid = encoder(images)
    assert [level.shape[2] for level in pyramid] == [1] * len(pyramid)
    assert {p.shape[2] for p in network.parameters() if p.dim() == 5} == {1}
    if name == "timm":  # batch norm knows of no slice beside its own; instance norm counts the whole window
        stacked = torch.cat([images[:1], images[1:]], dim=2)
        for both, alone in zip(encoder(stacked), pyramid, strict=True):
            assert torch.allclose(both[0, :, 1], alone[1, :, 0], atol=1e-5)


def test_2d_networks_refuse_strides_along_z() -> None:
    with pytest.raises(ConfigError, match="along z must be 1"):
        build_encoder({"name": "unet", "channels": [4, 8], "dims": 2, "strides": [1, [2, 2, 2]]})


def test_unknown_timm_models_and_levels_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Near it: .*resnet18"):
        build_encoder({"name": "timm", "model": "resnet18x"})
    with pytest.raises(ConfigError, match="not the levels"):
        build_encoder({"name": "timm", "model": "test_resnet", "features": [0, 9]})
