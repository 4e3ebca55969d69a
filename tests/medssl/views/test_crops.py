"""Crops against plain slicing, lattices against their definition."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

from medssl.randomness import Stream
from medssl.views.crops import body_region, cut, lattice_starts, random_starts


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_cut_equals_slicing(seed):
    draw = torch.Generator().manual_seed(seed)
    windows = torch.rand(2, 1, 12, 14, 10, generator=draw)
    starts = torch.stack([torch.randint(0, n, (2, 3), generator=draw) for n in (9, 10, 5)], dim=-1)
    crops = cut(windows, starts.float(), (4, 5, 6))
    for item in range(2):
        for number in range(3):
            z, y, x = starts[item, number].tolist()
            assert torch.equal(crops[item, number], windows[item, :, z : z + 4, y : y + 5, x : x + 6])


def test_cut_repeats_the_border_outside():
    windows = torch.arange(4.0).view(1, 1, 1, 1, 4)
    assert cut(windows, torch.tensor([[[0, 0, 2]]]), (1, 1, 4)).flatten().tolist() == [2, 3, 3, 3]
    assert cut(windows, torch.tensor([[[0, 0, -2]]]), (1, 1, 4)).flatten().tolist() == [0, 0, 0, 1]


def test_lattice_tiles_a_region_of_grid_times_crop():
    region = torch.tensor([[[2.0, 0.0, 1.0], [10.0, 12.0, 9.0]]])
    starts, pitch = lattice_starts(region, (2, 3, 1), (4, 4, 8))
    assert pitch.tolist() == [[4.0, 4.0, 8.0]]
    assert starts[0].tolist() == [[z, y, 1.0] for z in (2.0, 6.0) for y in (0.0, 4.0, 8.0)]


def test_lattice_of_a_tight_region_is_centred_and_distinct():
    region = torch.tensor([[[4.0, 4.0, 4.0], [12.0, 12.0, 12.0]]])
    starts, pitch = lattice_starts(region, (3, 1, 1), (8, 8, 8))
    assert pitch[0, 0] == 2.0
    assert starts[0, :, 0].tolist() == [2.0, 4.0, 6.0]


def test_body_region_stays_inside_the_window_and_holds_a_crop():
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        low = torch.randint(-10, 40, (1, 3), generator=draw).float()
        box = torch.stack([low, low + torch.randint(1, 40, (1, 3), generator=draw)], dim=1)
        region = body_region(torch.randint(-5, 20, (1, 3), generator=draw), box, (24, 30, 20), (8, 16, 20))
        assert (region[:, 0] >= 0).all()
        assert (region[:, 1] <= torch.tensor([24, 30, 20])).all()
        assert (region[:, 1] - region[:, 0] >= torch.tensor([8, 16, 20]) - 1e-4).all()


def test_random_starts_reach_both_ends_and_nothing_else():
    first, last = torch.zeros(1, 3), torch.tensor([[3.0, 0.0, 1.0]])
    starts = random_starts(Stream(0, 0, [0]), first, last, 400)[0]
    assert sorted(set(starts[:, 0].tolist())) == [0, 1, 2, 3]
    assert set(starts[:, 1].tolist()) == {0.0}
    counts = torch.bincount(starts[:, 0].long())
    assert counts.min() > 60  # uniform: 100 expected each
