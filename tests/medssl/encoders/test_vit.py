"""The plain transformer: positions for windows of any size, windows of one slice, the layers a task may take."""

from __future__ import annotations

import pytest
import torch

from medssl.decoder import SegmentationNetwork, UNetDecoder, decoder_levels
from medssl.encoders.table import build_encoder
from medssl.encoders.transformer import sincos_positions
from medssl.errors import ConfigError

TINY = {"name": "vit", "width": 24, "depth": 4, "heads": 2}


def test_sizes_are_the_usual_ones():
    counts = {}
    for size in ("tiny", "small", "base"):
        encoder = build_encoder({"name": "vit", "size": size})
        counts[size] = sum(p.numel() for p in encoder.blocks.parameters()) + encoder.norm.weight.numel() * 2
    # 12 blocks of 12 w^2 + 13 w, and the last norm: ViT-Ti, -S and -B without embedding and head
    assert counts == {"tiny": 5_338_752, "small": 21_294_336, "base": 85_056_000}


def test_fixed_positions_do_not_depend_on_the_window():
    small, large = sincos_positions((2, 3, 4), 48), sincos_positions((4, 5, 6), 48)
    assert torch.equal(small.view(2, 3, 4, 48), large.view(4, 5, 6, 48)[:2, :3, :4])
    assert len(torch.unique(large, dim=0)) == 4 * 5 * 6


def test_learnt_positions_are_kept_at_their_grid_and_interpolated_to_others():
    encoder = build_encoder({**TINY, "patch": 4, "positions": "learned", "grid": [2, 2, 2]})
    assert encoder.positions((2, 2, 2)) is encoder.pos_embed
    with torch.no_grad():
        ramp = torch.arange(2.0).view(1, 1, 1, 2).expand(1, 2, 2, 2).reshape(1, 8, 1)
        encoder.pos_embed.copy_(ramp.expand(1, 8, 24))
    wide = encoder.positions((2, 2, 4)).view(2, 2, 4, 24)
    assert wide[0, 1, :, 3].tolist() == pytest.approx([0.0, 0.25, 0.75, 1.0])
    assert encoder(torch.rand(1, 1, 8, 8, 16))[-1].shape == (1, 24, 2, 2, 4)


def test_windows_of_one_slice():
    encoder = build_encoder({**TINY, "patch": [1, 8, 8]})
    network = SegmentationNetwork(encoder, UNetDecoder(encoder, 3))
    assert encoder.strides == ((1, 8, 8),) * 3
    assert network(torch.rand(2, 1, 1, 16, 24)).shape == (2, 3, 1, 16, 24)


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        (16, [(1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8), (16, 16, 16)]),
        (8, [(1, 1, 1), (2, 2, 2), (4, 4, 4), (8, 8, 8)]),
        ([2, 8, 8], [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]),
        (12, [(1, 1, 1), (3, 3, 3), (6, 6, 6), (12, 12, 12)]),
        (14, [(1, 1, 1), (7, 7, 7), (14, 14, 14)]),
        (1, [(1, 1, 1)]),
    ],
)
def test_decoder_takes_the_layers_to_finer_strides(patch, strides):
    encoder = build_encoder({**TINY, "patch": patch})
    assert [level.stride for level in decoder_levels(encoder)] == strides
    network = SegmentationNetwork(encoder, UNetDecoder(encoder, 2)) if strides[1:] else None
    if network is not None:
        size = tuple(2 * length for length in encoder.patch)
        logits = network(torch.rand(1, 1, *size))
        assert logits.shape == (1, 2, *size)
        logits.square().sum().backward()
        assert all(p.grad is not None for p in network.parameters())


def test_widths_of_the_base_size_are_those_of_unetr():
    encoder = build_encoder({"name": "vit", "size": "base", "depth": 4})
    assert [level.channels for level in decoder_levels(encoder)] == [16, 32, 64, 128, 768]


def test_layers_can_be_named():
    encoder = build_encoder({**TINY, "patch": 8, "layers": [1, 4]})
    images = torch.rand(1, 1, 16, 16, 16)
    tokens, grid = encoder.embed_patches(images)
    tokens = tokens + encoder.positions(grid)
    torch.testing.assert_close(encoder(images)[0], encoder.as_map(encoder.blocks[0](tokens), grid))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"heads": 5}, "heads must divide the width, 24"),
        ({"positions": "learned"}, "needs 'grid'"),
        ({"grid": [2, 2, 2]}, "needs 'grid'"),
        ({"layers": [2, 1, 4]}, "must rise"),
        ({"layers": [1, 2]}, "end with the last block, 4"),
        ({"layers": [1, 2, 3, 4], "patch": 4}, "be 2 at most"),
    ],
)
def test_settings_that_do_not_agree(wrong, said):
    with pytest.raises(ConfigError, match=said):
        build_encoder({**TINY, "patch": 8, **wrong})


def test_a_class_token_takes_part_and_stays_out_of_maps_and_of_hidden_tokens() -> None:
    encoder = build_encoder({**TINY, "patch": 4, "class_token": True, "pool": "class"}).eval()
    images = torch.rand(2, 1, 8, 8, 12, generator=torch.Generator().manual_seed(0))
    tokens, grid = encoder.embed_patches(images)
    with torch.no_grad():
        pyramid, vector = encoder(images, pooled=True)
        placed = tokens + encoder.positions(grid)
        assert torch.allclose(encoder.as_map(encoder.encode(placed)[-1], grid), pyramid[-1], atol=1e-6)
        assert encoder.encode(placed[:, :5])[-1].shape == (2, 5, 24)
        encoder.cls_token.add_(torch.randn(1, 1, 24))
        moved, other = encoder(images, pooled=True)
    assert not torch.allclose(other, vector, atol=1e-3)
    assert not torch.allclose(moved[-1], pyramid[-1], atol=1e-3), "every token looks at it"


@pytest.mark.parametrize("interpolation", ["offset", "size"])
def test_a_traced_network_takes_other_batches_and_windows_than_its_table(interpolation: str) -> None:
    """Imported 3DINO could be exported neither to ONNX nor to MONAI nor as TorchScript."""
    settings = {**TINY, "patch": 4, "class_token": True, "pool": "class", "positions": "learned", "grid": [3, 3, 3]}
    encoder = build_encoder({**settings, "interpolation": interpolation}).eval()
    images = torch.randn(2, 1, 8, 12, 16)
    traced = torch.jit.trace(encoder, images[:1], check_trace=False, strict=False)
    for ours, theirs in zip(encoder(images), traced(images), strict=True):
        torch.testing.assert_close(ours, theirs)
