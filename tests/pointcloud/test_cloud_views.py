"""Crops, filling, masks and spatial views of clouds against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from medssl.randomness import Stream
from pointcloud.views.crops import (
    CropParams,
    CropSettings,
    apply_crops,
    fill_by_interpolation,
    sample_crops,
)
from pointcloud.views.masks import Chosen, random_mask
from pointcloud.views.multi_crop import MultiCropSettings, multi_crop
from pointcloud.views.spatial import SpatialParams, SpatialSettings, apply_spatial, random_rotation, sample_spatial

LINE = torch.stack([torch.arange(8.0), torch.zeros(8), torch.zeros(8)], dim=1)[None]


def crop(points, count, place, share, frame=None):
    params = CropParams(torch.tensor([[place]]), torch.tensor([[share]]), frame)
    return apply_crops(points, torch.tensor([count]), params)


def test_a_ball_on_a_line_holds_the_nearest_half():
    cut, kept = crop(LINE, 8, 0.0, 0.5)
    assert kept.tolist() == [[4]]
    assert cut[0, 0, :, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
    cut, kept = crop(LINE, 8, 0.99, 3 / 8)  # about the last point
    assert cut[0, 0, :, 0].tolist() == [7.0, 6.0, 5.0]


@pytest.mark.parametrize(("share", "number"), [(0.5, 4), (0.51, 5), (0.125, 1), (0.01, 1), (1.0, 8), (0.9, 8)])
def test_a_crop_holds_the_share_rounded_up(share, number):
    assert crop(LINE, 8, 0.3, share)[1].tolist() == [[number]]
    assert CropSettings(share=(0.01, share)).length(8) == number


def test_padding_is_in_no_crop():
    padded = torch.cat([LINE[:, :5], torch.full((1, 3, 3), 0.1)], dim=1)  # rows that would be near
    cut, kept = crop(padded, 5, 0.0, 1.0)
    assert kept.tolist() == [[5]]
    assert cut[0, 0, :5, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_box_is_long_where_its_proportion_is_large():
    """Points on both axes; a box three times as long along x as along y takes three on x for each on y."""
    x = torch.stack([torch.arange(1.0, 7), torch.zeros(6), torch.zeros(6)], dim=1)
    points = torch.cat([torch.zeros(1, 3), x, x[:, [1, 0, 2]]])[None]
    frame = torch.diag(torch.tensor([1 / 3, 1.0, 1.0]))[None, None]
    cut, _ = crop(points, 13, 0.0, 9 / 13, frame)
    assert sorted(cut[0, 0].tolist()) == sorted([[0.0, 0, 0], *x.tolist(), [0.0, 1, 0], [0.0, 2, 0]])
    turned = frame @ torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # its long side now along y
    cut, _ = crop(points, 13, 0.0, 9 / 13, turned)
    assert sorted(cut[0, 0].tolist()) == sorted([[0.0, 0, 0], *x[:, [1, 0, 2]].tolist(), [1.0, 0, 0], [2.0, 0, 0]])


def test_drawn_frames_are_turned_boxes_of_the_allowed_proportions():
    frame = sample_crops(CropSettings(shape="box", number=40, aspect=3.0), Stream(0, 0, [0])).frame
    sides = 1 / frame.norm(dim=-1)
    assert sides.min() >= 1 / 3 - 1e-4
    assert sides.max() <= 3 + 1e-4
    assert sides.max() > 2.0
    unit = frame * sides[..., None]
    torch.testing.assert_close(unit @ unit.transpose(-1, -2), torch.eye(3).expand(1, 40, 3, 3), atol=1e-5, rtol=0)


def test_filling_adds_the_mean_of_a_point_and_its_three_nearest():
    """On a line the four nearest to the first of five points at 0, 1, 2, 3, 10 are the first four: mean 1.5."""
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [10, 0, 0]])[None]
    keys = torch.tensor([[0.1, 0.9, 0.8, 0.7, 0.2, 0.5, 0.5]])
    filled = fill_by_interpolation(points, torch.tensor([5]), 7, keys)
    assert filled[0, :5].tolist() == points[0].tolist()
    assert filled[0, 5:, 0].tolist() == [1.5, 4.0]  # of the point at 0, then of that at 10: (10 + 3 + 2 + 1) / 4
    again = fill_by_interpolation(points, torch.tensor([2]), 7, keys)  # two points fill up by rounds
    assert again.shape == (1, 7, 3)
    assert again[0, 2:4, 0].tolist() == [0.5, 0.5]
    assert torch.equal(fill_by_interpolation(points, torch.tensor([5]), 5, keys), points)


def test_masks_hide_the_smallest_keys_of_the_tokens_that_are_there():
    keys = torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.7], [0.2, 0.8, 0.0, 0.0, 0.0]])
    hidden = random_mask(keys, torch.tensor([5, 2]), 0.4)
    assert hidden.tolist() == [[False, True, False, True, False], [True, False, False, False, False]]
    assert not random_mask(keys[:1], torch.tensor([1]), 0.9).any()  # a single token is shown
    assert random_mask(keys[:1], torch.tensor([5]), 0.999).sum() == 4  # one stays


def test_chosen_tokens_keep_their_order():
    chosen = Chosen(torch.tensor([[False, True, False, True], [True, False, False, False]]))
    assert chosen.count.tolist() == [2, 1]
    assert chosen.of(torch.arange(8.0).reshape(2, 4, 1))[chosen.there][:, 0].tolist() == [1.0, 3.0, 4.0]


def test_spatial_changes_come_in_order():
    """Noise first, then the matrix, then the shift: 2 * (1 + 0.5) + 10."""
    params = SpatialParams(2 * torch.eye(3)[None], torch.tensor([[10.0, 0, 0]]), torch.full((1, 4, 3), 0.5), None, None)
    changed, count = apply_spatial(torch.ones(1, 3, 3), torch.tensor([2]), params)
    assert changed.tolist() == [[[13.0, 3.0, 3.0], [13.0, 3.0, 3.0], [0.0, 0.0, 0.0]]]
    assert count.tolist() == [2]


def test_points_are_left_out_by_their_order_and_the_share_rounds_up():
    params = SpatialParams(
        torch.eye(3)[None], torch.zeros(1, 3), None, torch.tensor([0.5]), torch.tensor([[0.3, 0.1, 0.9, 0.2, 0.0]])
    )
    changed, count = apply_spatial(LINE[:, :5], torch.tensor([5]), params)
    assert count.tolist() == [3]
    assert changed[0, :, 0].tolist() == [4.0, 1.0, 3.0, 0.0, 0.0]


def test_rotations_about_z_leave_z_alone_and_any_rotation_is_even():
    stream = Stream(0, 0, range(200))
    upright = random_rotation(stream, "z")
    torch.testing.assert_close(upright[:, :, 2], torch.tensor([0.0, 0, 1]).expand(200, 3))
    free = random_rotation(stream, "any", 20).flatten(0, 1)
    torch.testing.assert_close(free @ free.transpose(1, 2), torch.eye(3).expand(4000, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(free), torch.ones(4000), atol=1e-4, rtol=0)
    # Archimedes: each coordinate of an even point on the sphere is even in [-1, 1].
    ordered = free[:, 2, 0].sort().values
    assert (ordered - torch.linspace(-1, 1, 4000)).abs().max() < 0.07
    assert torch.equal(random_rotation(stream, "none")[0], torch.eye(3))


def test_factors_are_even_in_the_logarithm_and_noise_is_clipped():
    settings = SpatialSettings(scale=(0.5, 2.0), by_axis=True, jitter=0.1, jitter_clip=0.15)
    params = sample_spatial(settings, Stream(0, 0, range(300)), length=4)
    factor = params.matrix.diagonal(dim1=-2, dim2=-1)
    assert (factor < 1).float().mean() == pytest.approx(0.5, abs=0.06)
    assert factor.min() >= 0.5 - 1e-5
    assert factor.max() <= 2.0 + 1e-5
    assert not torch.allclose(factor[:, 0], factor[:, 1])
    assert params.noise.abs().max() == pytest.approx(0.15)
    assert params.noise.std() == pytest.approx(0.1 * math.sqrt(0.779), rel=0.1)  # variance of a normal clipped at 1.5


def test_thinned_views_are_spread_over_the_whole_cloud():
    settings = MultiCropSettings.model_validate(
        {"points": 8, "thinned": [2, 100], "thinned_number": 1, "thinned_spatial": {}}
    )
    large, small = multi_crop(settings, LINE, torch.tensor([8]), Stream(0, 0, [0]))
    assert large.points.shape[:2] == (1, 2)
    assert len(small) == 3
    assert sorted(small[1].points[0, 0, :, 0].tolist()) == [0.0, 7.0]
    assert small[1].count.tolist() == [[2]]
    assert sorted(small[2].points[0, 0, :, 0].tolist()) == LINE[0, :, 0].tolist()
    points, count = large.flat()
    assert torch.equal(points[1], large.points[0, 1])
    assert count.tolist() == large.count[0].tolist()
