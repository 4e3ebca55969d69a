"""Attention maps: what a head looks at lies on the points that it looks at."""

from __future__ import annotations

import matplotlib.image
import pytest
import torch

from medssl.cloud_picture import cloud_picture
from pointcloud.attention import attention_maps, draw_attention
from pointcloud.encoders.patches import to_points
from pointcloud.encoders.table import CLOUD_ENCODERS

VIT = {"name": "point_vit", "width": 24, "depth": 2, "heads": 3, "points_per_token": 8, "patch": 8}


def clouds():
    return torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0)) / 3, torch.tensor([40, 24])


def test_a_point_has_the_greatest_value_of_its_patches():
    members = torch.tensor([[[0, 1, 2], [2, 3, 3]]])
    assert to_points(torch.tensor([[0.25, 0.5]]), members, 6).tolist() == [[0.25, 0.25, 0.5, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize("pool", ["cls", "max_mean"])
def test_maps_are_shares_of_the_greatest_and_nothing_where_padded(pool):
    torch.manual_seed(0)
    encoder = CLOUD_ENCODERS.build({**VIT, "pool": pool}).train()
    points, count = clouds()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    maps = attention_maps(encoder, points, count)
    assert maps.shape == (2, 3, 40)
    assert torch.equal(maps.amax(dim=2), torch.ones(2, 3))
    assert maps.min() >= 0
    assert not maps[1, :, 24:].any()
    alone = attention_maps(encoder, points[1:, :24], count[1:])
    torch.testing.assert_close(maps[1:, :, :24], alone, atol=1e-5, rtol=1e-4)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


@pytest.mark.parametrize("pool", ["cls", "max_mean"])
def test_attention_of_the_last_block_sums_to_one_and_follows_its_query(pool):
    torch.manual_seed(0)
    encoder = CLOUD_ENCODERS.build({**VIT, "depth": 1, "pool": pool}).eval()
    points, count = clouds()
    with torch.no_grad():
        weights, patches = encoder.attention(points, count)
        tokens, there, _ = encoder.tokens_in(patches.tokens, patches.places, patches.count)
        block = encoder.blocks.blocks[0]
        query, key = block._split(block.query(block.norm_attention(tokens))), block._heads(tokens, None)[1]
        exact = (query @ key.transpose(2, 3) / 8**0.5).masked_fill(~there[:, None, None], -torch.inf).softmax(-1)
    if pool == "cls":
        torch.testing.assert_close(weights, exact[:, :, 0, 1:])
    else:
        torch.testing.assert_close(weights[1], exact[1, :, :3].mean(dim=1))
        torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 3))


def test_a_row_a_head_and_one_for_their_mean(tmp_path):
    encoder = CLOUD_ENCODERS.build(VIT)
    draw_attention(encoder, *clouds(), tmp_path / "attention.png")
    picture = matplotlib.image.imread(tmp_path / "attention.png")
    assert picture.shape[0] == 4 * 1.8 * 120
    assert [path.name for path in tmp_path.iterdir()] == ["attention.png"]


def test_the_drawer_leaves_out_what_is_nan_and_colours_by_value():
    points = torch.tensor([[0.0, 0, -1], [0.0, 0, 1], [torch.nan, 0, 0]]).numpy()
    picture = cloud_picture(points, size=64, values=torch.tensor([0.0, 1.0, 1.0]).numpy())
    low, high = picture[32:].max(axis=(0, 1)), picture[:32].max(axis=(0, 1))
    assert low.tolist() == [41, 71, 122]
    assert high.tolist() == [250, 237, 204]
    assert not cloud_picture(points[2:], size=8).any()
