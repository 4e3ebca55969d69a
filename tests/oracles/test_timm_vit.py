"""timm's vision transformer and MONAI's positions as oracles: weights carry over by name, features agree."""

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer

from medssl.encoders.table import build_encoder
from medssl.encoders.transformer import LAYER_NORM_EPS, Block, sincos_positions


def test_block_is_timms():
    torch.manual_seed(0)
    theirs = TimmBlock(24, 4, qkv_bias=True).eval()
    ours = Block(24, 4)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    tokens = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)


def test_one_slice_is_timms_vision_transformer():
    torch.manual_seed(0)
    sizes = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 4}
    theirs = VisionTransformer(img_size=(16, 24), in_chans=1, class_token=False, global_pool="avg", **sizes).eval()
    ours = build_encoder(
        {
            "name": "vit", "patch": [1, 8, 8], "width": 24, "depth": 3, "heads": 4, "positions": "learned",
            "grid": [1, 2, 3], "layers": [1, 2, 3],
        }
    )  # fmt: skip
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith(("head", "fc_norm"))}
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"][:, :, None]
    weights |= {"norm.weight": torch.rand(24), "norm.bias": torch.rand(24)}  # timm norms after its pooling
    ours.load_state_dict(weights, strict=True)
    images = torch.rand(2, 1, 16, 24)
    _, features = theirs.forward_intermediates(images, norm=False)
    for level, wanted in zip(ours(images[:, :, None])[:-1], features, strict=False):
        torch.testing.assert_close(level[:, :, 0], wanted, atol=1e-5, rtol=1e-4)
    last = torch.nn.functional.layer_norm(
        features[-1].movedim(1, -1), (24,), weights["norm.weight"], weights["norm.bias"], LAYER_NORM_EPS
    )
    torch.testing.assert_close(ours(images[:, :, None])[-1][:, :, 0].movedim(1, -1), last, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("grid", "width"), [((2, 3, 4), 48), ((1, 5, 2), 12)])
def test_positions_are_monais_with_axes_in_our_order(grid, width):
    theirs = build_sincos_position_embedding(list(grid), width)[0]
    second, first, third = theirs.chunk(3, dim=1)  # theirs begins with the middle axis
    torch.testing.assert_close(sincos_positions(grid, width), torch.cat((first, second, third), dim=1))


def test_channels_that_are_left_over_are_zero():
    code = sincos_positions((2, 2, 2), 20)
    torch.testing.assert_close(code[:, :18], sincos_positions((2, 2, 2), 18))
    assert (code[:, 18:] == 0).all()
