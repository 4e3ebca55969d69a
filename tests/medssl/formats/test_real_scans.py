"""Real scans, read by us, by nibabel and by SimpleITK."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medssl import formats, geometry
from medssl.formats import dicom

DATA = os.environ.get("MEDSSL_DATA", "")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA, reason="MEDSSL_DATA names no folder of real scans"),
]


def some_nifti(*, most: int = 24) -> list[Path]:
    every = sorted(Path(DATA).rglob("*.nii.gz")) if DATA else []
    return every[:: max(1, len(every) // most)]


@pytest.mark.parametrize("path", some_nifti(), ids=lambda path: path.name)
def test_nifti_as_nibabel_and_simpleitk_read_it(path: Path) -> None:
    scan = formats.read(path)
    image = nibabel.load(path)
    np.testing.assert_allclose(scan.values, image.get_fdata().transpose(2, 1, 0), rtol=1e-6)
    np.testing.assert_allclose(scan.header.spacing_mm[::-1], image.header.get_zooms()[:3], rtol=1e-5)
    bare_sform = any(warning.startswith("sform without voxel size") for warning in scan.header.warnings)
    if not bare_sform:
        np.testing.assert_allclose(scan.header.affine, image.affine, atol=1e-6)
    assert formats.read_header(path).dtype == scan.values.dtype.name
    try:
        other = sitk.ReadImage(str(path))
    except RuntimeError:
        return  # SimpleITK refuses affines that are not quite orthonormal
    np.testing.assert_allclose(scan.values, sitk.GetArrayFromImage(other), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(scan.header.spacing_mm[::-1], other.GetSpacing(), rtol=1e-5)
    affine = geometry.affine_from_itk(other.GetOrigin(), other.GetSpacing(), other.GetDirection())
    if not bare_sform and not any("orientation" in warning for warning in scan.header.warnings):
        np.testing.assert_allclose(scan.header.affine, affine, atol=1e-2)


def test_dicom_as_simpleitk_reads_it() -> None:
    found, errors = dicom.find_series(Path(DATA))
    if not found:
        pytest.skip("no DICOM series in the folder")
    assert errors == []
    for series in found:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(path) for path in series.header.paths])
        image = reader.Execute()
        np.testing.assert_array_equal(dicom.read_series(series).values, sitk.GetArrayFromImage(image))
        affine = geometry.affine_from_itk(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
        np.testing.assert_allclose(series.header.affine, affine, atol=1e-3)
        assert series.header.units == "HU"
