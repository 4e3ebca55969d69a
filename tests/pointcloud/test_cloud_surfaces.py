"""Surfaces of volumes: in mm and RAS+, closed, and where they should be."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import DataError
from medssl.geometry import to_index
from pointcloud.surfaces import cloud_from_labels, cloud_from_volume, surface_of

CENTRE = np.array([30.0, -20.0, 11.0])
RADIUS_MM = 9.0
OBLIQUE = np.array([[-1.2, 0.1, 0.0, 44.0], [0.1, 1.3, 0.3, -36.0], [0.0, -0.2, 2.0, -8.0], [0, 0, 0, 1]])
MIRRORED = np.diag([1.0, 1.5, 2.0, 1.0]) + np.array([[0, 0, 0, 15.0], [0, 0, 0, -40], [0, 0, 0, -6], [0, 0, 0, 0]])


def distance_to_centre(affine, shape=(20, 26, 30)):
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = index[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]
    return np.linalg.norm(world - CENTRE, axis=-1)


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED], ids=["oblique", "straight"])
def test_a_ball_is_found_where_it_is(affine):
    values = RADIUS_MM - distance_to_centre(affine)
    cloud = cloud_from_volume(values, affine, level=0.0, samples=1500, seed=2)
    assert cloud.unit == "mm"
    reach = np.linalg.norm(cloud.positions() - CENTRE, axis=1)
    assert np.abs(reach - RADIUS_MM).max() < 0.15
    outward = ((cloud.positions() - CENTRE) / reach[:, None] * cloud.normals).sum(axis=1)
    assert outward.min() > 0.9


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED], ids=["oblique", "straight"])
def test_a_structure_of_a_label_map(affine):
    labels = np.where(distance_to_centre(affine) < RADIUS_MM, 4, 0).astype(np.uint8)
    labels[0, 0, 0] = 9
    for smooth_mm in (0.0, 1.0):
        cloud = cloud_from_labels(labels, affine, structure=4, samples=1500, smooth_mm=smooth_mm)
        reach = np.linalg.norm(cloud.positions() - CENTRE, axis=1)
        assert np.abs(reach - RADIUS_MM).max() < 1.6
        assert abs(reach.mean() - RADIUS_MM) < 0.4
        assert cloud.label == 4
    again = cloud_from_labels(labels, affine, structure=4, samples=1500, smooth_mm=1.0)
    np.testing.assert_array_equal(again.points, cloud.points)


def test_one_voxel_is_a_closed_surface_about_it():
    labels = np.zeros((3, 3, 3), dtype=np.int16)
    labels[0, 1, 2] = 1  # at an edge of the volume
    cloud = cloud_from_labels(labels, MIRRORED, structure=1, samples=0)
    index = to_index(MIRRORED, cloud.positions())
    corners = {tuple(point) for point in np.round(index - [0, 1, 2], 4).tolist()}
    assert corners == {
        (0.5, 0, 0), (-0.5, 0, 0), (0, 0.5, 0), (0, -0.5, 0), (0, 0, 0.5), (0, 0, -0.5)
    }  # fmt: skip


@pytest.mark.parametrize("axis", range(3))
def test_turned_axes_do_not_turn_the_surface_inside_out(axis):
    affine = MIRRORED.copy()
    affine[axis] *= -1
    mask = np.zeros((6, 6, 6))
    mask[2:5, 1:4, 1:5] = 1
    mesh = surface_of(mask, affine, level=0.5)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    volume = np.einsum("nd,nd->", a, np.cross(b, c)) / 6
    assert 0.5 < volume / (36 * 3.0) < 1.0  # marching cubes cuts the corners of a box


def test_holes_of_nan_and_the_edge_are_closed():
    values = RADIUS_MM - distance_to_centre(MIRRORED)
    values[:2] = np.nan
    mesh = surface_of(values, MIRRORED, level=-3.0)  # the ball reaches out of the volume
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_refusals():
    labels = np.zeros((4, 4, 4), dtype=np.int16)
    labels[1, 1, 1] = 3
    with pytest.raises(DataError, match=r"no structure 5. There are: 0, 3"):
        cloud_from_labels(labels, np.eye(4), structure=5)
    with pytest.raises(DataError, match="Smooth less"):
        cloud_from_labels(labels, np.eye(4), structure=3, smooth_mm=3.0)
    with pytest.raises(DataError, match="above 7"):
        cloud_from_volume(labels, np.eye(4), level=7)
    with pytest.raises(DataError, match="shape"):
        cloud_from_volume(labels[0], np.eye(4), level=1)
    with pytest.raises(DataError, match="shape"):
        cloud_from_labels(labels[0], np.eye(4), structure=3)


@pytest.mark.realdata
def test_the_hippocampus_of_a_patient(real_data):
    import nibabel

    path = sorted((real_data / "hippocampus" / "labelsTr").glob("hippocampus_*.nii.gz"))[0]
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj).astype(np.int16).transpose(2, 1, 0)
    cloud = cloud_from_labels(labels, image.affine, structure=1, samples=1024, smooth_mm=0.7, path=path)
    inside = image.affine[:3, :3] @ np.argwhere(labels == 1)[:, ::-1].mean(axis=0) + image.affine[:3, 3]
    assert np.linalg.norm(cloud.positions().mean(axis=0) - inside) < 3.0
    assert 10 < np.ptp(cloud.positions(), axis=0).max() < 50
