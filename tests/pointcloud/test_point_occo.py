"""Completion: what is seen from one side, the folded grids, and the weights of the two distances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from medssl.randomness import Stream
from pointcloud.batch import CloudBatch
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.point_occo import FoldingDecoder, PointOcCo, PointOcCoSettings
from pointcloud.views.occlusion import OcclusionSettings, occlude
from pointcloud.views.spatial import random_rotation

SMALL = {"points": 64, "coarse": 8, "grid": 3, "hidden": 16, "fold_hidden": 16}


def test_the_nearer_of_two_walls_hides_the_other():
    line = torch.linspace(0, 1, 9)
    wall = torch.cartesian_prod(line, line)
    near, far = (torch.cat([wall, torch.full((81, 1), depth)], dim=1) for depth in (0.0, 0.5))
    both = torch.cat([far, near])[None]
    seen, number = occlude(both, torch.tensor([162]), torch.eye(3)[None], OcclusionSettings(pixel=0.3, depth=0.1))
    assert number.tolist() == [81]
    assert torch.equal(seen[0], near)
    from_behind = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
    seen, _ = occlude(both, torch.tensor([162]), from_behind, OcclusionSettings(pixel=0.3, depth=0.1))
    assert torch.equal(seen[0], far)
    seen, number = occlude(both, torch.tensor([162]), torch.eye(3)[None], OcclusionSettings(pixel=0.3, depth=0.6))
    assert number.tolist() == [162]  # as deep as both walls: nothing is hidden


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40), other=st.integers(1, 40))
def test_what_is_seen_are_points_of_the_cloud_the_nearest_always_and_no_padding(seed, size, other):
    count = torch.tensor([size, other])
    points = torch.randn(2, max(size, other), 3, generator=torch.Generator().manual_seed(seed))
    frame = random_rotation(Stream(seed, 0, [0, 1]), "any")
    seen, number = occlude(points, count, frame, OcclusionSettings())
    noisy = torch.where(torch.arange(points.shape[1])[None, :, None] < count[:, None, None], points, -9.0)
    again, same = occlude(noisy, count, frame, OcclusionSettings())
    assert torch.equal(number, same)
    assert torch.equal(seen, again)
    for cloud, there in enumerate(count.tolist()):
        found = {tuple(row) for row in seen[cloud, : number[cloud]].tolist()}
        own = points[cloud, :there]
        assert found <= {tuple(row) for row in own.tolist()}
        assert tuple(own[int((own @ frame[cloud, 2]).argmin())].tolist()) in found


def test_a_grid_is_folded_about_each_coarse_point():
    torch.manual_seed(0)
    decoder = FoldingDecoder(12, PointOcCoSettings.model_validate(SMALL))
    embedding = torch.randn(2, 12)
    coarse, fine = decoder(embedding)
    assert coarse.shape == (2, 8, 3)
    assert fine.shape == (2, 72, 3)
    assert decoder.grid.min() == pytest.approx(-0.05)
    assert decoder.grid.unique(dim=0).shape == (9, 2)
    # One layer over [grid, point, embedding], written out for one fine point.
    layer = torch.cat([decoder.of_grid.weight, decoder.of_point.weight, decoder.of_embedding.weight], dim=1)
    whole = layer @ torch.cat([decoder.grid[5], coarse[1, 3], embedding[1]]) + decoder.of_grid.bias
    torch.testing.assert_close(fine[1, 3 * 9 + 5], coarse[1, 3] + decoder.fold(whole))
    with torch.no_grad():
        decoder.fold[-1].weight.zero_()
        decoder.fold[-1].bias.zero_()
    coarse, fine = decoder(embedding)
    assert torch.equal(fine, coarse.repeat_interleave(9, dim=1))


def test_the_loss_is_half_the_sum_of_mean_distances_with_a_rising_weight():
    torch.manual_seed(0)
    settings_ = PointOcCoSettings.model_validate({**SMALL, "fine_weight": 0.2, "final_fine_weight": 1.0})
    method = PointOcCo(settings_, CLOUD_ENCODERS.build({"name": "pointnet", "widths": [8, 16]})).eval()
    every = torch.arange(2)
    points = torch.randn(2, 64, 3)
    batch = CloudBatch(
        points=points, count=torch.tensor([64, 40]), centre=points.mean(dim=1), radius=torch.ones(2) * 3,
        label=every, item=every, patient=every, slot=every,
    )  # fmt: skip
    views = method.views(batch, Stream(0, 0, [0, 1]))
    with torch.no_grad():
        coarse, fine = method.decoder(method.encoder.embed(views.seen, views.seen_count))
        wanted = {}
        for name, drawn in (("coarse", coarse), ("fine", fine)):
            halves = []
            for cloud, there in enumerate([64, 40]):
                own, whole = drawn[cloud].numpy(), views.points[cloud, :there].numpy()
                halves.append((cKDTree(whole).query(own)[0].mean() + cKDTree(own).query(whole)[0].mean()) / 2)
            wanted[name] = sum(halves) / 2
        for progress, weight in ((0.0, 0.2), (0.25, 0.6), (0.9, 1.0)):
            losses = method(views, progress)
            assert losses.parts["coarse"].item() == pytest.approx(wanted["coarse"], rel=1e-4)
            assert losses.parts["fine"].item() == pytest.approx(weight * wanted["fine"], rel=1e-4)
            assert losses.total.item() == pytest.approx(wanted["coarse"] + weight * wanted["fine"], rel=1e-4)
