"""What holds for every view of a cloud, whatever its points, their order and their number."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.randomness import Stream
from pointcloud.batch import inside
from pointcloud.views.crops import CropSettings, apply_crops, fill_by_interpolation, sample_crops
from pointcloud.views.masks import Chosen, random_mask
from pointcloud.views.multi_crop import MultiCropSettings, multi_crop
from pointcloud.views.spatial import SpatialSettings, apply_spatial, sample_spatial

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(2, 30)
SHAPES = st.sampled_from(["ball", "box"])


def clouds_of(seed, *counts):
    drawn = torch.randn(len(counts), max(counts), 3, generator=torch.Generator().manual_seed(seed))
    return drawn, torch.tensor(counts)


def rows_of(points):
    return {tuple(row) for row in points.tolist()}


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, other=SIZES, shape=SHAPES, low=st.floats(0.1, 0.5), high=st.floats(0.5, 1.0))
def test_crops_are_points_of_their_cloud_and_as_many_as_their_share(seed, size, other, shape, low, high):
    chosen = CropSettings(number=3, share=(low, high), shape=shape)
    points, count = clouds_of(seed, size, other)
    params = sample_crops(chosen, Stream(seed, 0, [0, 1]))
    cut, kept = apply_crops(points, count, params)
    for cloud, there in enumerate(count.tolist()):
        for view in range(3):
            number = int(kept[cloud, view])
            assert number == max(1, math.ceil(params.share[cloud, view].double().item() * there - 1e-6))
            assert number <= chosen.length(there)
            found = cut[cloud, view, :number]
            assert len(rows_of(found)) == number
            assert rows_of(found) <= rows_of(points[cloud, :there])
            assert not cut[cloud, view, number:].any()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, shape=SHAPES)
def test_a_crop_moves_with_its_cloud(seed, size, shape):
    """On a grid of eighths, so that moving rounds nothing."""
    points, count = clouds_of(seed, size)
    points = (points * 8).round() / 8 + torch.arange(size)[None, :, None]
    params = sample_crops(CropSettings(number=2, shape=shape), Stream(seed, 0, [0]))
    cut, kept = apply_crops(points, count, params)
    moved, same = apply_crops(points + 4.0, count, params)
    assert torch.equal(kept, same)
    there = inside(kept[0], cut.shape[2])
    assert torch.equal(moved[0][there], cut[0][there] + 4.0)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, other=SIZES, more=st.integers(0, 60))
def test_filling_keeps_the_points_and_stays_between_them(seed, size, other, more):
    points, count = clouds_of(seed, size, other)
    length = max(size, other) + more
    keys = torch.rand(2, length, generator=torch.Generator().manual_seed(seed))
    filled = fill_by_interpolation(points, count, length, keys)
    assert filled.shape == (2, length, 3)
    for cloud, there in enumerate(count.tolist()):
        own = points[cloud, :there]
        assert torch.equal(filled[cloud, :there], own)
        assert (filled[cloud].amin(dim=0) >= own.amin(dim=0) - 1e-5).all()
        assert (filled[cloud].amax(dim=0) <= own.amax(dim=0) + 1e-5).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, other=SIZES, ratio=st.floats(0.05, 0.95))
def test_masks_hide_their_share_leave_one_and_never_padding(seed, size, other, ratio):
    places, count = clouds_of(seed, size, other)
    generator = torch.Generator().manual_seed(seed)
    hidden = random_mask(torch.rand(2, 40, generator=generator), count, ratio)
    assert hidden.shape == places.shape[:2]
    assert not (hidden & ~inside(count, places.shape[1])).any()
    for row, there in zip(hidden, count.tolist(), strict=True):
        assert int(row.sum()) == min(max(1, int(ratio * there + 1e-6)), there - 1)
    shown = Chosen(~hidden & inside(count, places.shape[1]))
    assert shown.count.tolist() == (count - hidden.sum(dim=1)).tolist()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=SIZES, other=SIZES, kind=st.sampled_from(["none", "z", "any"]))
def test_turns_keep_distances_and_the_same_factor_keeps_their_ratios(seed, size, other, kind):
    points, count = clouds_of(seed, size, other)
    chosen = SpatialSettings(rotate=kind, scale=(0.5, 2.0), translate=0.3)
    params = sample_spatial(chosen, Stream(seed, 0, [0, 1]), length=points.shape[1])
    changed, same = apply_spatial(points, count, params)
    assert torch.equal(same, count)
    for cloud, there in enumerate(count.tolist()):
        before, after = (torch.cdist(p[cloud, :there].double(), p[cloud, :there].double()) for p in (points, changed))
        factor = after.sum() / before.sum()
        assert 0.5 - 1e-4 <= factor <= 2.0 + 1e-4
        torch.testing.assert_close(after, before * factor, atol=1e-4, rtol=1e-4)
        assert not changed[cloud, there:].any()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, size=st.integers(8, 30), other=st.integers(8, 30), fill=st.booleans())
def test_views_of_a_cloud_do_not_depend_on_the_other_clouds(seed, size, other, fill):
    chosen = MultiCropSettings.model_validate(
        {"points": 30, "small": {"number": 2, "share": (0.2, 0.5)}, "thinned": (8,), "fill": fill}
    )
    points, count = clouds_of(seed, size, other)
    large, small = multi_crop(chosen, points, count, Stream(seed, 3, [5, 6]))
    alone, others = multi_crop(chosen, points[1:, :other], count[1:], Stream(seed, 3, [6]))
    for both, one in zip((large, *small), (alone, *others), strict=True):
        assert torch.equal(both.count[1:], one.count)
        there = inside(one.count[0], one.points.shape[2])
        torch.testing.assert_close(both.points[1, :, : there.shape[1]][there], one.points[0][there])
        beyond = inside(both.count[1], both.points.shape[2])
        assert not both.points[1][~beyond].any()
