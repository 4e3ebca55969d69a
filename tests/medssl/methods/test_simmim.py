"""SimMIM: tokens in place of patches for each kind of encoder, one linear layer, L1 over hidden voxels."""

from __future__ import annotations

import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.methods.masked_window import MaskedViews
from medssl.methods.simmim import SimMIM, SimMIMSettings
from medssl.randomness import Stream
from medssl.views.masking import sample_patch_mask, to_voxels
from tests.perturbing import perturbed

ENCODERS = {
    "unet": ({"name": "unet", "channels": [4, 6, 8], "strides": [1, 2, [1, 2, 2]]}, (8, 16, 16), None),
    "vit": ({"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 4}, (16, 16, 24), (8, 8, 8)),
    "swin": (
        {"name": "swin", "feature_size": 12, "depths": [1] * 4, "heads": [2] * 4, "window": 4},
        (64, 64, 64),
        None,
    ),
}


@pytest.fixture(scope="module", params=ENCODERS)
def case(request) -> tuple[SimMIM, MaskedViews]:
    encoder, window, patch = ENCODERS[request.param]
    torch.manual_seed(4)
    method = perturbed(SimMIM(SimMIMSettings(window=window, patch=patch), build_encoder(encoder))).eval()
    hidden = sample_patch_mask(Stream(0, 0, [0]), shape=window, patch=method.patch, ratio=0.6)
    target = torch.rand(1, 1, *window, generator=torch.Generator().manual_seed(1))
    return method, MaskedViews(target=target, hidden=hidden, inside=torch.ones_like(target, dtype=torch.bool))


def test_hidden_voxels_change_nothing_that_is_drawn(case):
    method, views = case
    under = to_voxels(views.hidden, method.patch)
    with torch.no_grad():
        drawn = method.reconstruct(views)
        other = MaskedViews(torch.where(under, torch.rand_like(views.target), views.target), views.hidden, views.inside)
        assert torch.equal(drawn, method.reconstruct(other))
        third = MaskedViews(torch.where(under, views.target, 1 - views.target), views.hidden, views.inside)
        assert not torch.allclose(drawn, method.reconstruct(third), atol=1e-3)


def test_head_predicts_the_voxels_under_each_place_and_the_error_is_absolute(case):
    method, views = case
    with torch.no_grad():
        coarsest, drawn = method.encode_masked(views)[-1], method.reconstruct(views)
        z, y, x = (n - 1 for n in coarsest.shape[2:])
        block = method.head(coarsest[0, :, z, y, x]).view(method.stride)
        torch.testing.assert_close(drawn[0, 0, -method.stride[0] :, -method.stride[1] :, -method.stride[2] :], block)
        under = to_voxels(views.hidden, method.patch)
        wanted = (drawn - views.target).abs()[under].mean()
        assert method(views, 0.0).total.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_token_gets_a_gradient_and_the_encoder_is_left_as_it_was(case):
    method, views = case
    dense = method.encoder(views.target)[-1].detach()
    method.zero_grad()
    method(views, 0.0).total.backward()
    assert method.mask_token.grad.abs().sum() > 0
    assert torch.equal(method.encoder(views.target)[-1], dense)


def test_transformer_tokens_are_replaced_before_positions_are_added():
    encoder, window, patch = ENCODERS["vit"]
    method = SimMIM(SimMIMSettings(window=window, patch=patch), build_encoder(encoder))
    hidden = torch.zeros(1, 2, 2, 3, dtype=torch.bool)
    hidden[0, 0, 1, 2] = True
    seen = []
    method.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    target = torch.rand(1, 1, *window)
    method.encode_masked(MaskedViews(target, hidden, torch.ones_like(target, dtype=torch.bool)))
    tokens = (seen[0] - method.encoder.positions((4, 4, 6))).view(4, 4, 6, 24)
    torch.testing.assert_close(tokens[:2, 2:, 4:], method.mask_token.expand(2, 2, 2, 24), atol=1e-5, rtol=0)
    embedded, _ = method.encoder.embed_patches(target)
    torch.testing.assert_close(tokens[2:], embedded.view(4, 4, 6, 24)[2:], atol=1e-5, rtol=0)


def test_patches_must_be_whole_tokens():
    with pytest.raises(ValueError, match="encoder's token"):
        SimMIM(SimMIMSettings(window=(16, 16, 16), patch=(2, 2, 2)), build_encoder(ENCODERS["vit"][0]))
