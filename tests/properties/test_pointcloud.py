"""What holds for every cloud: order, place and scale of the points change only what they should."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointcloud.cloud import make_cloud
from pointcloud.mesh import Mesh, sample_surface
from pointcloud.primitives.chamfer import chamfer
from pointcloud.primitives.farthest import farthest_points
from pointcloud.primitives.neighbours import nearest
from pointcloud.primitives.voxels import voxel_grid

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(4, 40)


def points_of(seed, clouds, size, grid=None):
    drawn = torch.randn(clouds, size, 3, generator=torch.Generator().manual_seed(seed))
    return drawn if grid is None else (drawn * grid).round() / grid


@settings(max_examples=25)
@given(seed=SEEDS, size=SIZES, grid=st.sampled_from([None, 1, 4]))
def test_each_pick_is_the_farthest_at_its_turn(seed, size, grid):
    """On a coarse grid too, where points repeat."""
    points = points_of(seed, 1, size, grid)
    order = farthest_points(points, size)[0]
    assert sorted(order.tolist()) == list(range(size))
    exact = points[0].double()
    for turn in range(1, size):
        reach = torch.cdist(exact, exact[order[:turn]]).amin(dim=1)
        assert reach[order[turn]] >= reach.max() - 1e-5


@settings(max_examples=20)
@given(seed=SEEDS, size=SIZES, count=st.integers(1, 4))
def test_farther_picks_begin_with_fewer(seed, size, count):
    points = points_of(seed, 2, size)
    assert torch.equal(farthest_points(points, size)[:, :count], farthest_points(points, count))


@settings(max_examples=20)
@given(seed=SEEDS, size=SIZES)
def test_a_shuffle_picks_the_same_places(seed, size):
    points = points_of(seed, 1, size)
    shuffle = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    start = int((shuffle == 0).nonzero())
    order = farthest_points(points, size // 2)
    shuffled = farthest_points(points[:, shuffle], size // 2, start=start)
    assert torch.equal(shuffle[shuffled[0]], order[0])


@settings(max_examples=20)
@given(seed=SEEDS, size=SIZES, other=SIZES)
def test_chamfer_is_symmetric_positive_and_zero_on_itself(seed, size, other):
    a, b = points_of(seed, 2, size), points_of(seed + 1, 2, other)
    there, back = chamfer(a, b), chamfer(b, a)
    torch.testing.assert_close(there, back)
    assert (there > 0).all()
    assert torch.equal(chamfer(a, a), torch.zeros(2))
    shuffle = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(chamfer(a[:, shuffle], b), there)
    torch.testing.assert_close(chamfer(a * 3, b * 3), there * 9)


@settings(max_examples=20)
@given(seed=SEEDS, size=SIZES, k=st.integers(1, 4))
def test_the_first_neighbour_of_a_point_is_itself(seed, size, k):
    points = points_of(seed, 1, size)
    found = nearest(points, points, k)
    assert torch.equal(found.indices[0, :, 0], torch.arange(size))
    assert (found.distances.diff(dim=-1) >= 0).all()


@settings(max_examples=20)
@given(seed=SEEDS, size=SIZES, edge=st.floats(0.05, 3.0))
def test_a_voxel_grid_loses_no_point(seed, size, edge):
    points = points_of(seed, 1, size)[0]
    grid = voxel_grid(points, edge)
    assert int(grid.counts.sum()) == size
    assert torch.equal(torch.bincount(grid.cube), grid.counts)
    assert ((points - grid.means[grid.cube]).abs() <= edge * (1 + 1e-5)).all()
    assert torch.equal(grid.cube[grid.first], torch.arange(len(grid.counts)))
    torch.testing.assert_close(
        (grid.means.double() * grid.counts[:, None]).sum(0), points.double().sum(0), atol=1e-4, rtol=1e-4
    )


@settings(max_examples=25)
@given(seed=SEEDS, size=SIZES, exponent=st.integers(-6, 9))
def test_a_cloud_keeps_its_shape_wherever_it_lies(seed, size, exponent):
    shape = np.random.default_rng(seed).normal(size=(size, 3))
    cloud = make_cloud(shape + 10.0**exponent)
    near = make_cloud(shape)
    np.testing.assert_allclose(cloud.positions(), shape + 10.0**exponent, atol=2e-5)
    np.testing.assert_allclose(
        cloud.points - cloud.points.mean(axis=0), near.points - near.points.mean(axis=0), atol=2e-5
    )


@settings(max_examples=15)
@given(seed=SEEDS, count=st.integers(1, 200))
def test_points_drawn_from_a_mesh_lie_on_their_triangles(seed, count):
    generator = np.random.default_rng(seed)
    mesh = Mesh(
        vertices=generator.normal(size=(6, 3)), faces=generator.permuted(np.tile(np.arange(6), (5, 1)), axis=1)[:, :3]
    )
    points, face, weights = sample_surface(mesh, count, generator)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    corners = mesh.vertices[mesh.faces[face]]
    np.testing.assert_allclose(np.einsum("nk,nkd->nd", weights, corners), points, atol=1e-12)
