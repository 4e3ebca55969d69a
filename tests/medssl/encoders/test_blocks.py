from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.encoders.blocks import InstanceNorm, ResidualBlock, as_triples, cumulative_strides, initialise
from medssl.encoders.residual import ResidualEncoder, ResidualSettings
from medssl.encoders.unet import UNetEncoder, UNetSettings


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_norm_is_torchs(dtype: torch.dtype, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    features = (3 + 2 * torch.randn(2, 5, 4, 6, 8, generator=generator)).to(dtype)
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last_3d)
    ours, theirs = InstanceNorm(5).to(dtype), nn.InstanceNorm3d(5, affine=True, dtype=dtype)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.arange(1.0, 6.0))
            norm.bias.copy_(torch.arange(5.0))
    torch.testing.assert_close(ours(features), theirs(features), atol=1e-5, rtol=1e-5)


def test_norm_by_hand() -> None:
    values = torch.tensor([0.0, 2.0]).view(1, 1, 1, 1, 2)
    assert torch.allclose(InstanceNorm(1)(values).flatten(), torch.tensor([-1.0, 1.0]), atol=1e-4)


def test_a_fresh_residual_block_is_its_skip() -> None:
    block = ResidualBlock(3, 3, kernel=(3, 3, 3), stride=(1, 2, 2))
    initialise(block)
    features = torch.rand(1, 3, 4, 4, 4)
    expected = nn.functional.avg_pool3d(features, (1, 2, 2))
    torch.testing.assert_close(block(features), expected)


def test_convolutions_keep_the_variance_of_leaky_relus() -> None:
    """Kaiming: the weights' variance is 2 / ((1 + slope^2) fan_in)."""
    torch.manual_seed(0)
    encoder = UNetEncoder(UNetSettings(channels=(32, 64)))
    weight = encoder.stages[1][1].conv.weight
    assert weight.var().item() == pytest.approx(2 / ((1 + 0.01**2) * 64 * 27), rel=0.05)


def test_strides_multiply_from_level_to_level() -> None:
    strides = as_triples([1, (1, 2, 2), 2, (2, 1, 2)])
    assert cumulative_strides(strides) == ((1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 4, 8))


def test_unset_blocks_are_those_of_nnunet() -> None:
    assert ResidualSettings().stage_blocks == (1, 3, 4, 6, 6, 6)
    assert ResidualSettings(channels=(8, 16)).stage_blocks == (1, 3)
    assert UNetSettings(channels=(8, 16, 32)).stage_blocks == (2, 2, 2)
    encoder = ResidualEncoder(ResidualSettings(channels=(4, 8, 8), blocks=(2, 1, 3)))
    assert [len(stage) for stage in encoder.stages] == [2, 1, 3]


def test_the_default_is_as_large_as_resenc_l() -> None:
    """102 million parameters are published for the whole ResEnc-L network, of which its encoder has the most."""
    with torch.device("meta"):
        encoder = ResidualEncoder(ResidualSettings())
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert 85e6 < count < 102e6
