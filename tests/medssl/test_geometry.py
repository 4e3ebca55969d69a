"""Geometry: conventions checked by hand, and against nibabel and SimpleITK."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medssl import geometry

VALUES = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
AFFINE = np.array([[0, 0, 4.0, 5], [-2.0, 0, 0, 6], [0, 3.0, 0, 7], [0, 0, 0, 1]])


def test_spacing_is_in_array_order() -> None:
    assert geometry.spacing_mm(np.diag([1.0, 2.0, 3.0, 1.0])) == (3.0, 2.0, 1.0)
    assert geometry.spacing_mm(AFFINE) == (4.0, 3.0, 2.0)


@pytest.mark.parametrize(("affine", "name"), [(np.eye(4), "RAS"), (np.diag([-1.0, -1, 1, 1]), "LPS"), (AFFINE, "PSR")])
def test_orientation_by_hand_and_by_nibabel(affine: np.ndarray, name: str) -> None:
    assert geometry.orientation(affine) == name == "".join(nibabel.aff2axcodes(affine))


def test_canonical_turning_equals_nibabels() -> None:
    values, affine = geometry.to_canonical(VALUES, AFFINE)
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), AFFINE))
    np.testing.assert_array_equal(values, np.asarray(image.dataobj).transpose(2, 1, 0))
    np.testing.assert_allclose(affine, image.affine)
    assert geometry.orientation(affine) == "RAS"


def test_at_45_degrees_a_scan_is_turned_once_at_most() -> None:
    tied = np.eye(4)  # x and y are as near to the front; the larger cosine of z is matched first
    tied[:3, :3] = [
        [0.6, -0.6, np.sqrt(0.28)],
        [np.sqrt(0.5), np.sqrt(0.5), 0.0],
        [np.sqrt(0.14), -np.sqrt(0.14), -np.sqrt(0.72)],
    ]
    once, affine_once = geometry.to_canonical(VALUES, tied)
    twice, affine_twice = geometry.to_canonical(once, affine_once)
    np.testing.assert_array_equal(once, twice)
    np.testing.assert_array_equal(affine_once, affine_twice)


def test_itk_speaks_lps() -> None:
    image = sitk.GetImageFromArray(VALUES)
    origin, spacing, direction = geometry.itk_from_affine(AFFINE)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    x, y, z = image.TransformIndexToPhysicalPoint((3, 2, 1))
    np.testing.assert_allclose([-x, -y, z], geometry.to_world(AFFINE, (1, 2, 3)))


def test_world_and_index_undo_each_other() -> None:
    index = np.array([[0, 0, 0], [1, 2, 3], [-0.5, 7.25, 1e3]])
    np.testing.assert_allclose(geometry.to_index(AFFINE, geometry.to_world(AFFINE, index)), index)


def test_a_crop_keeps_places() -> None:
    moved = geometry.crop_affine(AFFINE, (1, 2, 3))
    np.testing.assert_allclose(geometry.to_world(moved, (0, 0, 0)), geometry.to_world(AFFINE, (1, 2, 3)))
    assert geometry.spacing_mm(moved) == geometry.spacing_mm(AFFINE)


def test_resizing_by_hand() -> None:
    shape, affine = geometry.resized_grid((10, 20, 30), np.diag([1.0, 1.0, 2.0, 1.0]), (1.0, 2.0, 3.0))
    assert shape == (20, 10, 10)
    np.testing.assert_allclose(affine, [[3, 0, 0, 1.0], [0, 2, 0, 0.5], [0, 0, 1, -0.5], [0, 0, 0, 1]])


def test_resampling_equals_simpleitks_inside() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(9, 10, 11)).astype(np.float32)
    affine = np.diag([1.5, 1.0, 2.0, 1.0])
    turned = np.diag([1.1, 0.9, 1.3, 1.0])
    turned[:3, :3] = turned[:3, :3] @ np.array([[0.995, -0.0998, 0], [0.0998, 0.995, 0], [0, 0, 1]])
    turned[:3, 3] = [3.0, 2.0, 3.0]
    shape = (7, 6, 8)

    image = sitk.GetImageFromArray(source)
    grid = sitk.Image([*shape[::-1]], sitk.sitkFloat32)
    for target, where in ((image, affine), (grid, turned)):
        origin, spacing, direction = geometry.itk_from_affine(where)
        target.SetOrigin(origin)
        target.SetSpacing(spacing)
        target.SetDirection(direction)
    for order, interpolator in ((0, sitk.sitkNearestNeighbor), (1, sitk.sitkLinear)):
        expected = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), interpolator, -7.0))
        found = geometry.resample_to_grid(source, affine, shape, turned, order=order, fill=-7.0)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found.dtype == np.float32


def test_a_finer_grid_has_no_rim_of_filling() -> None:
    ones = np.ones((4, 5, 6), dtype=np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    shape, finer = geometry.resized_grid(ones.shape, affine, (0.7, 1.0, 0.5))
    np.testing.assert_array_equal(geometry.resample_to_grid(ones, affine, shape, finer, order=1, fill=-9.0), 1.0)


def test_outside_is_filled_from_the_outer_face_on() -> None:
    ones = np.ones((4, 4, 4), dtype=np.int16)
    moved = geometry.crop_affine(np.eye(4), (-2, 0, 0.4))
    result = geometry.resample_to_grid(ones, np.eye(4), (8, 4, 4), moved, order=1, fill=-1024)
    assert result.dtype == np.int16
    assert result[:, 0, 0].tolist() == [-1024, -1024, 1, 1, 1, 1, -1024, -1024]
    assert result[3, 0].tolist() == [1, 1, 1, 1]  # 3.4 is still in the last voxel
    moved = geometry.crop_affine(np.eye(4), (0, 0, 0.6))
    assert geometry.resample_to_grid(ones, np.eye(4), (4, 4, 4), moved, order=0, fill=0)[0, 0].tolist() == [1, 1, 1, 0]
