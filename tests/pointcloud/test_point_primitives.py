"""Each primitive against an independent implementation, values by hand, and its stated policies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from medssl.errors import DataError
from pointcloud.primitives.chamfer import chamfer, nearest_distances
from pointcloud.primitives.farthest import farthest_points
from pointcloud.primitives.neighbours import mutual_nearest, nearest, within
from pointcloud.primitives.normals import estimate_normals
from pointcloud.primitives.voxels import voxel_grid


def cloud(seed, *shape, dtype=torch.float32):
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def open3d_cloud(points):
    open3d = pytest.importorskip("open3d")
    made = open3d.geometry.PointCloud()
    made.points = open3d.utility.Vector3dVector(np.asarray(points, dtype=np.float64))
    return made


def plain_order(points, count, start):
    """The definition, word for word, in float64."""
    points = np.asarray(points, dtype=np.float64)
    order = [start]
    while len(order) < count:
        nearest_pick = cdist(points, points[order]).min(axis=1)
        nearest_pick[order] = -1
        order.append(int(nearest_pick.argmax()))
    return order


class TestFarthestPoints:
    def test_line_by_hand(self):
        line = torch.arange(5.0)[None, :, None] * torch.tensor([1.0, 0, 0])
        assert farthest_points(line, 3).tolist() == [[0, 4, 2]]
        assert farthest_points(line, 2, start=2).tolist() == [[2, 0]]

    def test_equals_the_definition(self):
        points = cloud(1, 3, 60)
        start = torch.tensor([0, 7, 59])
        order = farthest_points(points, 60, start=start)
        for row in range(3):
            assert order[row].tolist() == plain_order(points[row], 60, int(start[row]))

    def test_same_set_as_open3d(self):
        points = cloud(2, 1, 500)
        theirs = np.asarray(open3d_cloud(points[0]).farthest_point_down_sample(40).points)  # in the cloud's own order
        ours = points[0][farthest_points(points, 40)[0].sort().values].double().numpy()
        np.testing.assert_array_equal(ours, theirs)

    def test_duplicates_come_last_and_no_index_twice(self):
        points = torch.cat([cloud(3, 1, 5)] * 4, dim=1)
        order = farthest_points(points, 20)[0]
        assert sorted(order.tolist()) == list(range(20))
        assert len({tuple(point) for point in points[0][order[:5]].tolist()}) == 5

    def test_too_many(self):
        points = cloud(4, 2, 6)
        with pytest.raises(DataError, match="7 points are to be picked from 6"):
            farthest_points(points, 7)
        order = farthest_points(points, 15, beyond="repeat")
        assert torch.equal(order[:, :6], farthest_points(points, 6))
        assert torch.equal(order[:, 6:12], order[:, :6])
        assert torch.equal(order[:, 12:], order[:, :3])

    def test_padding_is_never_picked(self):
        points = cloud(5, 2, 12)
        padded = points.clone()
        padded[1, 7:] = torch.nan
        lengths = torch.tensor([12, 7])
        order = farthest_points(padded, 7, lengths=lengths)
        assert torch.equal(order[1:], farthest_points(points[1:, :7], 7))
        assert torch.equal(order[:1], farthest_points(points[:1], 7))
        repeated = farthest_points(padded, 10, lengths=lengths, beyond="repeat")
        assert repeated[1].tolist() == [*order[1].tolist(), *order[1, :3].tolist()]

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_not_finite_is_refused(self, wrong):
        points = cloud(6, 1, 5)
        points[0, 3, 1] = wrong
        with pytest.raises(DataError, match="NaN or infinite"):
            farthest_points(points, 2)

    @pytest.mark.parametrize(("count", "start"), [(0, 0), (2, 5), (2, -1)])
    def test_wrong_arguments(self, count, start):
        with pytest.raises(DataError):
            farthest_points(cloud(7, 1, 5), count, start=start)

    def test_the_way_of_other_devices_is_the_same(self):
        from pointcloud.primitives import farthest

        points = cloud(9, 3, 50)
        planes = points.permute(2, 0, 1).contiguous()
        first, endless = torch.tensor([3, 0, 49]), torch.full((3, 50), torch.inf)
        there = farthest._loop(planes, endless.clone(), 30, first)
        assert torch.equal(farthest._loop_on_cpu(points, planes, endless.clone(), 30, first), there)
        halves = farthest_points(cloud(9, 3, 50).bfloat16(), 50)
        assert torch.equal(halves.sort(dim=1).values, torch.arange(50).expand(3, 50))

    def test_the_order_may_index_what_is_learnt(self):
        points = cloud(9, 2, 20).requires_grad_()
        order = farthest_points(points, 5)
        (gradient,) = torch.autograd.grad(points.gather(1, order[..., None].expand(-1, -1, 3)).sum(), points)
        assert float(gradient.sum()) == 2 * 5 * 3

    def test_layout_and_type_do_not_matter(self):
        points = cloud(8, 2, 40)
        planar = points.transpose(1, 2).contiguous().transpose(1, 2)
        assert torch.equal(farthest_points(points, 12), farthest_points(planar, 12))
        assert torch.equal(farthest_points(points, 12), farthest_points(points.double(), 12))


class TestNeighbours:
    @pytest.mark.parametrize("way", ["tree", "blocks"])
    def test_nearest_equals_all_distances(self, way):
        queries, points = cloud(10, 2, 30), cloud(11, 2, 80)
        found = nearest(queries, points, 9, way=way)
        for row in range(2):
            between = cdist(queries[row].double(), points[row].double())
            np.testing.assert_array_equal(found.indices[row].numpy(), between.argsort(axis=1)[:, :9])
            np.testing.assert_allclose(found.distances[row].numpy(), np.sort(between, axis=1)[:, :9], rtol=1e-5)

    def test_nearest_equals_open3d(self):
        open3d = pytest.importorskip("open3d")
        points = cloud(12, 1, 200)
        tree = open3d.geometry.KDTreeFlann(open3d_cloud(points[0]))
        found = nearest(points, points, 5).indices[0]
        for row in range(0, 200, 20):
            assert list(tree.search_knn_vector_3d(points[0, row].double().numpy(), 5)[1]) == found[row].tolist()

    @pytest.mark.parametrize("way", ["tree", "blocks"])
    def test_within_equals_all_distances(self, way):
        queries, points = cloud(13, 2, 25), cloud(14, 2, 70)
        found = within(queries, points, 0.9, at_most=8, way=way)
        for row in range(2):
            between = cdist(queries[row].double(), points[row].double())
            for query in range(25):
                order = between[query].argsort()
                expected = [int(at) for at in order if between[query, at] <= 0.9][:8]
                expected += [-1] * (8 - len(expected))
                assert found.indices[row, query].tolist() == expected
                assert torch.isinf(found.distances[row, query]).tolist() == [at == -1 for at in expected]

    @pytest.mark.parametrize("way", ["tree", "blocks"])
    def test_mutual_nearest_is_nearest_both_ways(self, way):
        a, b = cloud(18, 2, 40), cloud(19, 2, 25)
        a[1, 33:] = torch.nan
        lengths = torch.tensor([40, 33])
        to_b, to_a = mutual_nearest(a, b, lengths_a=lengths, way=way)
        for row, length in enumerate((40, 33)):
            between = cdist(a[row, :length].double(), b[row].double())
            np.testing.assert_array_equal(to_b[row, :length].numpy(), between.argmin(axis=1))
            np.testing.assert_array_equal(to_a[row].numpy(), between.argmin(axis=0))

    @pytest.mark.parametrize("way", ["tree", "blocks"])
    def test_radius_counts_its_edge_and_may_exceed_the_points(self, way):
        points = torch.tensor([[[0.0, 0, 0], [2, 0, 0], [3, 0, 0]]])
        found = within(points[:, :1], points, 2.0, at_most=5, way=way)
        assert found.indices.tolist() == [[[0, 1, -1, -1, -1]]]

    @pytest.mark.parametrize("way", ["tree", "blocks"])
    def test_padding_is_nobodys_neighbour(self, way):
        points = cloud(15, 2, 20)
        padded = points.clone()
        padded[1, 9:] = torch.nan
        found = nearest(points, padded, 6, lengths=torch.tensor([20, 9]), way=way)
        assert int(found.indices[1].max()) < 9
        assert torch.equal(found.indices[1], nearest(points[1:], points[1:, :9], 6, way=way).indices[0])

    def test_far_from_the_origin(self):
        points = cloud(16, 1, 300).double() + 4e6
        assert torch.equal(
            nearest(points, points, 4, way="tree").indices, nearest(points, points, 4, way="blocks").indices
        )

    def test_wrong_arguments(self):
        points = cloud(17, 2, 5)
        with pytest.raises(DataError, match="k is 6"):
            nearest(points, points, 6)
        with pytest.raises(DataError, match="clouds of queries"):
            nearest(points[:1], points, 2)
        with pytest.raises(DataError, match="above 0"):
            within(points, points, -1.0, at_most=2)
        with pytest.raises(DataError, match="shape"):
            nearest(points[0], points[0], 2)
        with pytest.raises(DataError, match="lengths"):
            nearest(points, points, 2, lengths=torch.tensor([5, 6]))


class TestVoxelGrid:
    def test_equals_open3d(self):
        points = cloud(20, 400)
        theirs = np.asarray(open3d_cloud(points).voxel_down_sample(0.5).points)
        ours = voxel_grid(points, 0.5).means.double().numpy()
        assert len(ours) == len(theirs)
        theirs = theirs[np.lexsort(np.round(theirs, 4).T)]
        ours = ours[np.lexsort(np.round(ours, 4).T)]
        np.testing.assert_allclose(ours, theirs, atol=1e-6)

    def test_by_hand(self):
        points = torch.tensor([[2.5, 0, 0], [0.1, 0.2, 0.3], [0.3, 0.4, 0.5], [2.6, 0, 1.5]])
        grid = voxel_grid(points, 1.0, origin=torch.zeros(3))
        assert grid.places.tolist() == [[0, 0, 0], [2, 0, 0], [2, 0, 1]]
        assert grid.cube.tolist() == [1, 0, 0, 2]
        assert grid.counts.tolist() == [2, 1, 1]
        assert grid.first.tolist() == [1, 0, 3]
        torch.testing.assert_close(grid.means[0], torch.tensor([0.2, 0.3, 0.4]))

    def test_refusals(self):
        with pytest.raises(DataError, match="above 0"):
            voxel_grid(cloud(21, 5), 0.0)
        with pytest.raises(DataError, match="too many"):
            voxel_grid(cloud(21, 5), 1e-9)


class TestChamfer:
    def test_by_hand(self):
        a = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
        b = torch.tensor([[[0.0, 0, 0], [3, 0, 0], [0, 4, 0]]])
        # a to b: 0, 1. b to a: 0, 4, 16 squared; 0, 2, 4 not.
        assert chamfer(a, b).item() == pytest.approx(0.5 + 20 / 3)
        assert chamfer(a, b, norm="l1").item() == pytest.approx(0.5 * (0.5 + 2.0), abs=1e-5)

    @pytest.mark.parametrize("way", ["tree", "blocks"])
    @pytest.mark.parametrize("norm", ["l1", "l2"])
    def test_value_and_gradient_equal_the_plain_form(self, way, norm):
        a, b = cloud(30, 2, 40).requires_grad_(), cloud(31, 2, 50).requires_grad_()
        ours = chamfer(a, b, norm=norm, way=way)
        between = (a[:, :, None] - b[:, None]).square().sum(-1)
        ahead, back = between.amin(2), between.amin(1)
        plain = 0.5 * (ahead.sqrt().mean(1) + back.sqrt().mean(1)) if norm == "l1" else ahead.mean(1) + back.mean(1)
        torch.testing.assert_close(ours, plain)
        for mine, theirs in zip(
            torch.autograd.grad(ours.sum(), (a, b)), torch.autograd.grad(plain.sum(), (a, b)), strict=True
        ):
            torch.testing.assert_close(mine, theirs)

    @pytest.mark.parametrize("norm", ["l1", "l2"])
    def test_gradcheck(self, norm):
        a, b = cloud(32, 1, 6, dtype=torch.float64), cloud(33, 1, 7, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda p, q: chamfer(p, q, norm=norm), (a.requires_grad_(), b.requires_grad_()), eps=1e-6, atol=1e-6
        )

    def test_directed_distance_equals_open3d(self):
        a, b = cloud(34, 1, 100), cloud(35, 1, 120)
        theirs = np.asarray(open3d_cloud(a[0]).compute_point_cloud_distance(open3d_cloud(b[0])))
        np.testing.assert_allclose(nearest_distances(a, b)[0].sqrt().numpy(), theirs, rtol=1e-5)

    def test_equal_clouds_have_finite_gradients(self):
        a = cloud(36, 1, 10).requires_grad_()
        (gradient,) = torch.autograd.grad(chamfer(a, a.detach(), norm="l1").sum(), a)
        assert torch.isfinite(gradient).all()

    @pytest.mark.parametrize("norm", ["l1", "l2"])
    def test_padding_changes_nothing(self, norm):
        a, b = cloud(37, 2, 15), cloud(38, 2, 18)
        padded = a.clone()
        padded[1, 11:] = torch.nan
        padded.requires_grad_()
        found = chamfer(padded, b, norm=norm, lengths_a=torch.tensor([15, 11]))
        torch.testing.assert_close(found[1:], chamfer(a[1:, :11], b[1:], norm=norm))
        (gradient,) = torch.autograd.grad(found.sum(), padded)
        assert torch.equal(gradient[1, 11:], torch.zeros(4, 3))

    def test_unknown_norm(self):
        with pytest.raises(DataError, match="Allowed: l1, l2"):
            chamfer(cloud(39, 1, 3), cloud(39, 1, 3), norm="l3")


class TestNormals:
    def test_equal_open3ds_up_to_sign(self):
        open3d = pytest.importorskip("open3d")
        points = cloud(40, 1, 300)
        theirs = open3d_cloud(points[0])
        theirs.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(12))
        ours = estimate_normals(points, k=12).directions[0].double().numpy()
        same = np.abs((ours * np.asarray(theirs.normals)).sum(axis=1))
        assert np.quantile(same, 0.02) > 0.999

    def test_sphere_points_outwards(self):
        sphere = torch.nn.functional.normalize(cloud(41, 1, 2000), dim=-1)
        found = estimate_normals(sphere, k=12)
        assert ((found.directions * sphere).sum(-1) > 0.95).float().mean() > 0.99
        inwards = estimate_normals(sphere, k=12, towards=torch.zeros(3)).directions
        torch.testing.assert_close(inwards, -found.directions)

    def test_plane(self):
        flat = cloud(42, 1, 60) * torch.tensor([1.0, 1.0, 0.0])
        found = estimate_normals(flat, k=8, towards=torch.tensor([0.0, 0, 5]))
        torch.testing.assert_close(found.directions, torch.tensor([0.0, 0, 1]).expand(1, 60, 3))
        assert float(found.variation.max()) < 1e-12
        assert math.isclose(float(found.directions.norm(dim=-1).mean()), 1.0, rel_tol=1e-6)

    def test_refusals(self):
        with pytest.raises(DataError, match="k is 2"):
            estimate_normals(cloud(43, 1, 5), k=2)
        with pytest.raises(DataError, match="k is 6"):
            estimate_normals(cloud(43, 1, 5), k=6)


@pytest.mark.gpu
def test_the_device_changes_nothing():
    points, other = cloud(50, 2, 300), cloud(51, 2, 200)
    order = farthest_points(points.cuda(), 30).cpu()
    assert torch.equal(order, farthest_points(points, 30))
    assert torch.equal(nearest(other.cuda(), points.cuda(), 4).indices.cpu(), nearest(other, points, 4).indices)
    torch.testing.assert_close(chamfer(points.cuda(), other.cuda()).cpu(), chamfer(points, other))
