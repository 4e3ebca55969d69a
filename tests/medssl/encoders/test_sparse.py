"""Sparse passes: hidden voxels reach no feature, statistics are of visible places, all visible is the dense pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.encoders.sparse import active_only, active_places, sparse_pyramid
from medssl.encoders.table import build_encoder
from medssl.errors import ConfigError
from medssl.randomness import Stream
from medssl.views.masking import sample_patch_mask, to_voxels
from tests.perturbing import perturbed

PATCH, SIZE = (4, 8, 8), (12, 32, 16)
ENCODERS = {
    "unet": {"name": "unet", "channels": [4, 6, 8], "kernels": [[1, 3, 3], 3, 3], "strides": [1, [1, 2, 2], 2]},
    "residual": {"name": "residual", "channels": [4, 6, 8, 8], "blocks": [1, 2, 1, 1], "strides": [1, 2, 2, [1, 2, 2]]},
    "segres": {
        "name": "segres",
        "channels": [4, 6, 8],
        "blocks": 1,
        "strides": [1, 2, [1, 2, 2]],
        "beyond": ["y", "x"],
    },
    "segres of kept statistics": {"name": "segres", "channels": [4, 6], "blocks": 1, "statistics": "fixed"},
    "resnet": {
        "name": "resnet",
        "channels": [4, 4, 6],
        "blocks": 1,
        "strides": [1, 2, 2],
        "kernels": 3,
        "dilations": [1, 1, 2],
        "shortcut": "padded",
        "statistics": "fixed",
    },
    "stunet": {"name": "stunet", "channels": [4, 6, 8]},
    "unet3d": {"name": "unet3d", "channels": [4, 6, 8]},
    "strided first stage": {"name": "unet", "channels": [4, 6], "strides": [2, 2]},
}


def made(name: str, **more):
    torch.manual_seed(3)
    return perturbed(build_encoder({**ENCODERS[name], **more}))


def masked(patch=PATCH, ratio=0.6, batch=3):
    images = torch.rand(batch, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    hidden = sample_patch_mask(Stream(2, 0, range(batch)), shape=SIZE, patch=patch, ratio=ratio)
    return images, ~hidden


@pytest.mark.parametrize("patch", [PATCH, (2, 4, 8), (4, 4, 4)])
@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_voxels_change_no_feature_of_any_level(name, patch):
    encoder = made(name)
    images, visible = masked(patch)
    under = to_voxels(~visible, patch)
    levels = sparse_pyramid(encoder, images, visible)
    for other in (torch.where(under, 5 * torch.randn_like(images), images), images.masked_fill(under, float("nan"))):
        for level, same in zip(levels, sparse_pyramid(encoder, other, visible), strict=True):
            assert torch.equal(level, same)
    # and the test can fail: the dense pass sees them, at every level
    dense, moved = encoder(images), encoder(torch.where(under, torch.rand_like(images), images))
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(dense, moved, strict=True))


@pytest.mark.parametrize("name", ENCODERS)
def test_visible_voxels_change_features_of_every_level(name):
    encoder = made(name)
    images, visible = masked()
    places = to_voxels(visible, PATCH)
    moved = sparse_pyramid(encoder, torch.where(places, torch.rand_like(images), images), visible)
    for level, other in zip(sparse_pyramid(encoder, images, visible), moved, strict=True):
        active = active_places(visible, level.shape[2:]).expand_as(level)
        assert (level[~active] == 0).all()
        assert not torch.allclose(level[active], other[active], atol=1e-3)


@pytest.mark.parametrize("name", ENCODERS)
def test_all_visible_is_the_dense_pass(name):
    encoder = made(name)
    images, visible = masked()
    for level, dense in zip(sparse_pyramid(encoder, images, torch.ones_like(visible)), encoder(images), strict=True):
        torch.testing.assert_close(level, dense, atol=1e-4, rtol=1e-4)


def test_statistics_are_those_of_the_visible_places():
    """One block by hand: convolution of the masked image, then mean and variance over gathered values, per item."""
    encoder = made("unet")
    block = encoder.stages[0][0]
    images, visible = masked()
    places = to_voxels(visible, PATCH)[:, 0]
    features = nn.functional.conv3d(images * places[:, None], block.conv.weight, padding=(0, 1, 1)).detach()
    with active_only(block, visible):
        ours = block(images * places[:, None])
    for item, channel in ((0, 0), (1, 3), (2, 2)):
        values = features[item, channel][places[item]].numpy().astype("float64")
        scaled = (values - values.mean()) / (values.var() + 1e-5) ** 0.5
        wanted = scaled * block.norm.weight[channel].item() + block.norm.bias[channel].item()
        wanted = torch.from_numpy(wanted.copy()).float()
        wanted = torch.where(wanted > 0, wanted, 0.01 * wanted)
        torch.testing.assert_close(ours[item, channel][places[item]].detach(), wanted, atol=1e-4, rtol=1e-4)
        assert (ours[item, channel][~places[item]] == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_that_of_the_gathered_places(training):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 5, 3, padding=1), nn.BatchNorm3d(5), nn.ReLU()).train(training)
    reference = nn.BatchNorm1d(5).train(training)
    with torch.no_grad():
        for name in ("running_mean", "running_var", "weight", "bias"):
            getattr(network[1], name).copy_(torch.rand(5) + 0.5)
    reference.load_state_dict(network[1].state_dict())
    images, visible = masked()
    places = to_voxels(visible, PATCH)
    with active_only(network, visible):
        ours = network(images * places)
    gathered = network[0](images * places).movedim(1, -1)[places[:, 0]]
    torch.testing.assert_close(ours.movedim(1, -1)[places[:, 0]], reference(gathered).relu(), atol=1e-5, rtol=1e-4)
    assert (ours.masked_select(~places) == 0).all()
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(network[1].state_dict()[name], value, msg=name)


def test_all_visible_batch_norm_is_the_dense_one():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.GroupNorm(2, 4))
    images, visible = masked()
    dense = network(images)
    network[1].reset_running_stats()
    with active_only(network, torch.ones_like(visible)):
        torch.testing.assert_close(network(images), dense, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layer", [nn.GroupNorm(3, 6), nn.InstanceNorm3d(6), nn.InstanceNorm3d(6, affine=True)])
def test_group_and_instance_norm_are_those_of_gathered_places(layer):
    torch.manual_seed(0)
    features = torch.randn(3, 6, *SIZE)
    _, visible = masked()
    places = to_voxels(visible, PATCH)
    with active_only(layer, visible):
        ours = layer(features)
    for item in range(3):
        gathered = features[item][:, places[item, 0]][None]  # (1, C, active), to which torch's layers apply as they are
        if isinstance(layer, nn.GroupNorm):
            wanted = layer(gathered)[0]
        else:
            wanted = nn.functional.instance_norm(gathered, weight=layer.weight, bias=layer.bias)[0]
        torch.testing.assert_close(ours[item][:, places[item, 0]], wanted, atol=1e-5, rtol=1e-4)


def test_weights_keep_their_names_and_the_encoder_its_dense_pass():
    encoder = made("residual")
    images, visible = masked()
    names, dense = list(encoder.state_dict()), [level.clone() for level in encoder(images)]
    sparse_pyramid(encoder, images, visible)
    with pytest.raises(ConfigError), active_only(encoder, visible):
        encoder(images[:, :, :5])
    assert list(encoder.state_dict()) == names
    assert all(torch.equal(a, b) for a, b in zip(encoder(images), dense, strict=True))
    assert not any("forward" in vars(module) or module._forward_hooks for module in encoder.modules())


def test_checkpointing_computes_the_same_gradients():
    images, visible = masked()
    gradients = []
    for checkpointing in (False, True):
        encoder = made("residual", checkpointing=checkpointing).train()
        sum(level.square().sum() for level in sparse_pyramid(encoder, images, visible)).backward()
        gradients.append([p.grad for p in encoder.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*gradients, strict=True))


def test_gradient_of_the_input_is_that_of_finite_differences():
    encoder = made("unet").double()
    images, visible = masked(batch=1)
    images = images.double().requires_grad_()
    draw = torch.Generator().manual_seed(5)

    def value(inputs):
        draw.manual_seed(5)
        levels = sparse_pyramid(encoder, inputs, visible)
        return sum((level * torch.randn(level.shape, generator=draw, dtype=torch.float64)).sum() for level in levels)

    (gradient,) = torch.autograd.grad(value(images), images)
    under = to_voxels(~visible, PATCH)
    assert (gradient[under] == 0).all()
    place = tuple(torch.nonzero(~under)[200].tolist())
    step = torch.zeros_like(images)
    step[place] = 1e-3
    with torch.no_grad():
        slope = (value(images + step) - value(images - step)) / 2e-3
    assert slope.item() == pytest.approx(gradient[place].item(), rel=1e-2)


def test_places_are_repeated_and_joined():
    visible = torch.tensor([[[[True, False, False, False]]]])
    assert active_places(visible, (1, 2, 8))[0, 0, 0, 1].tolist() == [True] * 2 + [False] * 6
    assert active_places(visible, (1, 1, 2))[0, 0, 0, 0].tolist() == [True, False]
    with pytest.raises(ValueError, match="multiple"):
        active_places(visible, (1, 1, 6))


def test_layers_that_see_everything_are_refused():
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1))
    with pytest.raises(ValueError, match=r"'1' \(AdaptiveAvgPool3d\)"), active_only(network, masked()[1]):
        pass
    assert not network[0]._forward_hooks
