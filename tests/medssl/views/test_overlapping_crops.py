"""Two views of a window: they show the same scan where their boxes say so."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from medssl.randomness import Stream
from medssl.views.overlapping_crops import aligned, overlapping_crops
from medssl.views.settings.intensity import IntensitySettings
from medssl.windows import WindowBatch

SIZE = (16, 24, 20)


def windows(size=SIZE, count=6):
    """Return windows whose values say along which axis and where a voxel lies: one channel an axis."""
    axes = torch.meshgrid(*[torch.arange(n) for n in size], indexing="ij")
    values = torch.stack(axes)[None].expand(count, 3, *size).to(torch.int16)
    return WindowBatch(
        values=values.contiguous(),
        origin=torch.zeros(count, 3, dtype=torch.int64),
        extent=torch.tensor([size] * count),
        body_box=torch.tensor([[(0, 0, 0), size]] * count).float(),
        spacing_mm=torch.ones(count, 3),
        scale=torch.tensor([[[0.0, 100.0]] * 3] * count),
        item=torch.arange(count),
        patient=torch.arange(count),
        part=torch.zeros(count, dtype=torch.int64),
        slot=torch.arange(count),
    )


def drawn(step=0, **changes):
    chosen = {
        "size": (8, 12, 8), "edge": (0.7, 1.4), "least": 0.01, "flip": (0.5, 0.5, 0.5),
        "intensity": IntensitySettings(), **changes,
    }  # fmt: skip
    batch = windows()
    return overlapping_crops(batch, Stream(0, step, list(range(len(batch)))), **chosen)


@pytest.mark.parametrize("step", range(4))
def test_aligned_views_show_the_same_places(step):
    """Voxels hold their own coordinates, so after alignment both views hold the same ones, to a voxel's rounding."""
    pair = drawn(step)
    assert pair.crops.shape == (6, 2, 3, 8, 12, 8)
    assert pair.boxes.min() >= 0
    assert pair.boxes.max() <= 1
    assert (pair.boxes[:, :, 0] < pair.boxes[:, :, 1]).all()
    one, two = (aligned(pair.crops[:, view], pair.boxes[:, view], pair.flips[:, view]) for view in (0, 1))
    # away from the faces of a view, where nothing is extrapolated, coordinates are linear and sampling is exact
    inner = (slice(None), slice(None), slice(2, -2), slice(3, -3), slice(2, -2))
    apart = 100 * (one - two)[inner].abs()
    assert apart.median() < 0.05
    assert apart.max() < 1.0
    assert pair.flips.any()


def test_voxels_are_kept_where_regions_keep_their_size():
    pair = drawn(edge=(1.0, 1.0), flip=(0.0, 0.0, 0.0))
    coordinates = 100 * pair.crops
    assert torch.allclose(coordinates, coordinates.round(), atol=1e-3)
    assert torch.allclose(coordinates.diff(dim=3)[:, :, 0], torch.ones(()), atol=1e-3)
    assert torch.allclose(coordinates.diff(dim=5)[:, :, 2], torch.ones(()), atol=1e-3)


@pytest.mark.parametrize("least", [0.01, 0.3, 0.95])
def test_the_second_region_overlaps_the_first(least):
    """Even where no draw does: then it is moved there."""
    for step in range(3):
        pair = drawn(step, edge=(0.5, 0.9), least=least)
        share = (pair.boxes[:, 1, 1] - pair.boxes[:, 1, 0]).prod(dim=1)
        whole = (pair.boxes[:, :, 1] - pair.boxes[:, :, 0]) > 1 - 1e-6  # along an axis, one region lies in the other
        moved = whole.any(dim=1).all(dim=1)
        assert (share > 0).all()
        assert ((share >= least - 1e-6) | moved).all()


def test_draws_are_those_of_the_stream():
    first, again, other = drawn(1), drawn(1), drawn(2)
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
    assert not torch.equal(first.boxes, other.boxes)


def test_slices_are_cut_in_their_plane():
    batch = windows((1, 24, 20))
    pair = overlapping_crops(
        batch, Stream(0, 0, list(range(len(batch)))), size=(1, 12, 8), edge=(0.6, 1.5), least=0.01,
        flip=(0.0, 0.0, 0.5), intensity=IntensitySettings(),
    )  # fmt: skip
    assert pair.crops.shape == (6, 2, 3, 1, 12, 8)
    assert torch.equal(pair.boxes[:, :, 0, 0], torch.zeros(6, 2))
    assert torch.equal(pair.boxes[:, :, 1, 0], torch.ones(6, 2))
