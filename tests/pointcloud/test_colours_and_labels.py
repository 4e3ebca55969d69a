"""Colours never wrap, labels keep their value, and what is missing is counted."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import DataError
from pointcloud.cloud import make_cloud
from pointcloud.colours import bytes_of_colours
from pointcloud.mesh import Mesh, cloud_of_mesh
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds

POINTS = np.random.default_rng(1).normal(size=(6, 3))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0000001]]), [[0, 128, 255]]),
        (np.array([[-1e-7, 0.25, 1.0]]), [[0, 64, 255]]),
        (np.array([[0.0, 127.4, 255.0001]]), [[0, 127, 255]]),
        (np.array([[0.0, 254.6, 255.9]], np.float32), [[0, 255, 255]]),
        (np.array([[0, 255, 256]], np.uint16), [[0, 1, 1]]),
        (np.array([[0, 32896, 65535]], np.uint16), [[0, 128, 255]]),
        (np.array([[0.0, 32896.0, 65535.2]]), [[0, 128, 255]]),
        (np.array([[0, 1, 255]], np.int64), [[0, 1, 255]]),
        (np.array([[0, 1, 1]], np.int64), [[0, 1, 1]]),
        (np.array([[7, 8, 9]], np.uint8), [[7, 8, 9]]),
    ],
)
def test_the_largest_value_decides_the_range_and_the_rest_is_clipped(values, expected):
    found, told = bytes_of_colours(values)
    np.testing.assert_array_equal(found, expected)
    assert told == ()


@pytest.mark.parametrize("value", [-1.0, -3, 70000, 1e9])
def test_colours_beyond_every_range_are_refused(value):
    with pytest.raises(DataError, match="colours reach"):
        bytes_of_colours(np.array([[0, 1, value]]))


def test_guesses_and_missing_colours_are_said():
    assert "nearly black" in bytes_of_colours(np.array([[0.2, 0.4, 1.3]]))[1][0]
    found, told = bytes_of_colours(np.array([[0.2, np.nan, 1.0], [0.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(found, [[51, 0, 255], [0, 255, 0]])
    assert "1 points have colours that are NaN" in told[0]


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_colours_of_a_surface_keep_their_range_when_they_are_mixed(top):
    """Weights of a triangle sum to 1 give or take a rounding: white corners became black points."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    mesh = Mesh(vertices=corners, faces=np.array([[0, 1, 2]]), colours=np.full((3, 3), top))
    assert (cloud_of_mesh(mesh, samples=5000, seed=0).colours == 255).all()


@pytest.mark.parametrize("value", [2**31, 2**32 - 1, 2**40, 2**62])
def test_labels_keep_their_value_through_the_store(tmp_path, value):
    labels = np.array([value, 0, 1, 2, 3, 4], np.uint64)
    cloud = make_cloud(POINTS, labels=labels)
    np.testing.assert_array_equal(cloud.labels, labels.astype(np.int64))
    store_from_clouds(tmp_path, [CloudItem(id="a", cloud=cloud)])
    np.testing.assert_array_equal(CloudStore.open(tmp_path).labels(0), labels.astype(np.int64))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.array([2**64 - 1, 0, 1, 2, 3, 4], np.uint64), "A label is 18446744073709551615"),
        (np.array([2**24 + 2, 0, 1, 2, 3, 4], np.float32), "float32 does not tell"),
        (np.array([2.0**60, 0, 1, 2, 3, 4]), "float64 does not tell"),
        (np.array([np.nan, 0, 1, 2, 3, 4]), "1 of 6 points have no label"),
        (np.array([np.inf, 0, 1, 2, 3, 4]), "1 of 6 points have no label"),
        (np.array([0.5, 0, 1, 2, 3, 4]), "not whole"),
    ],
)
def test_labels_that_would_change_are_refused(labels, told):
    with pytest.raises(DataError, match=told):
        make_cloud(POINTS, labels=labels)


def test_intensities_and_normals_that_are_not_there():
    cloud = make_cloud(POINTS, intensity=[1, np.nan, np.inf, 2, 1e300, 3], normals=np.zeros((6, 3)))
    np.testing.assert_array_equal(cloud.intensity, [1, 0, 0, 2, 0, 3])
    assert cloud.normals is None
    assert any("3 points have an intensity that is NaN" in warning for warning in cloud.warnings)
    assert any("normals are 0" in warning for warning in cloud.warnings)
    large = make_cloud(POINTS, normals=np.tile([3e300, 4e300, 0], (6, 1)))
    np.testing.assert_allclose(large.normals, np.tile([0.6, 0.8, 0], (6, 1)), rtol=1e-6)


def test_axes_are_left_as_they_are_and_integers_are_exact():
    whole = np.array([[2**40, 1, 0], [2**40 + 1, 2, 5], [2**40 + 7, 3, 9]], np.int64)
    np.testing.assert_array_equal(make_cloud(whole).positions(), whole)
