"""An image of another library is the scan that its file is, whatever the order of its axes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from medssl.errors import ConfigError
from medssl.formats.image_objects import values_and_affine
from medssl.formats.reading import read as read_scan

SHAPE = (5, 7, 4)  # x, y, z


@pytest.fixture
def file(tmp_path):
    """An oblique scan whose axes all differ, as a NIfTI file."""
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-0.7, 0.9, 2.5])
    affine[:3, 3] = (12, -30, 44)
    values = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    nib.Nifti1Image(values, affine).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


READERS = {
    "nibabel": nib.load,
    "SimpleITK": lambda path: sitk.ReadImage(str(path)),
    "MONAI": lambda path: LoadImage(image_only=True)(path),
    "MONAI, a channel": lambda path: LoadImage(image_only=True, ensure_channel_first=True)(path),
}


@pytest.mark.parametrize("name", READERS)
def test_it_is_what_its_file_is(file, name):
    values, affine = values_and_affine(READERS[name](file))
    scan = read_scan(file)
    np.testing.assert_array_equal(values.reshape(scan.values.shape), scan.values)
    np.testing.assert_allclose(affine, scan.header.affine, atol=1e-4)


def test_a_metatensor_says_its_space(file):
    image = LoadImage(image_only=True)(file)
    flipped = MetaTensor(image.as_tensor(), affine=torch.diag(torch.tensor([-1.0, -1, 1, 1]).double()) @ image.affine)
    flipped.meta["space"] = "LPS"
    np.testing.assert_allclose(values_and_affine(flipped)[1], values_and_affine(image)[1], atol=1e-6)
    flipped.meta["space"] = "SCR"
    with pytest.raises(ConfigError, match="RAS or LPS"):
        values_and_affine(flipped)


def test_several_channels_come_first(file):
    scan = read_scan(file)
    nibabel = nib.Nifti1Image(np.stack([scan.values.T, scan.values.T + 1], axis=-1), scan.header.affine)
    itk = sitk.GetImageFromArray(np.stack([scan.values, scan.values + 1], axis=-1), isVector=True)
    monai = MetaTensor(torch.as_tensor(np.stack([scan.values.T, scan.values.T + 1])), affine=scan.header.affine)
    for image in (nibabel, itk, monai):
        np.testing.assert_array_equal(values_and_affine(image)[0], np.stack([scan.values, scan.values + 1]))


def test_torchio_has_x_first(file):
    class ScalarImage:  # as torchio.ScalarImage shows itself; compared with the real one by hand
        data = torch.as_tensor(read_scan(file).values.T[None].copy())
        affine = read_scan(file).header.affine

    ScalarImage.__module__ = "torchio.data.image"
    values, affine = values_and_affine(ScalarImage())
    np.testing.assert_array_equal(values[0], read_scan(file).values)
    np.testing.assert_array_equal(affine, read_scan(file).header.affine)


@pytest.mark.parametrize("image", [np.zeros(SHAPE), torch.zeros(SHAPE), "scan.nii.gz"])
def test_an_array_is_no_such_image(image):
    assert values_and_affine(image) is None


@pytest.mark.parametrize(
    "image",
    [
        MetaTensor(torch.zeros(1, 1, 4, 4, 4)),
        MetaTensor(torch.zeros(4, 4)),
        sitk.Image([4, 4], sitk.sitkInt16),
        sitk.Image([4, 4, 4, 2], sitk.sitkInt16),
    ],
    ids=["batch", "slice", "2D of SimpleITK", "4D of SimpleITK"],
)
def test_other_axes_are_refused(image):
    with pytest.raises(ConfigError, match="is taken"):
        values_and_affine(image)
