"""One oblique, anisotropic, flipped phantom in every format: the readers must agree on voxels and places."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medssl import formats, geometry
from medssl.formats.arrays import write_npz
from medssl.formats.dicom_write import write_multiframe, write_series
from medssl.formats.itk import write_itk
from medssl.formats.nifti import write_nifti
from medssl.phantoms import phantom


def oblique_affine() -> np.ndarray:
    a, b = np.deg2rad(17.0), np.deg2rad(-9.0)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-11.0, 12.5, -15.25])
    affine[:3, 3] = [33.5, -120.25, 871.125]
    return affine


VALUES = phantom(3, modality="CT", shape=(17, 21, 26)).values
AFFINE = oblique_affine()


def write_as(kind: str, folder: Path) -> Path:
    if kind in ("nii", "nii.gz"):
        write_nifti(folder / f"scan.{kind}", VALUES, AFFINE)
    elif kind in ("mha", "nrrd"):
        write_itk(folder / f"scan.{kind}", VALUES, AFFINE)
    elif kind in ("mhd", "nhdr"):
        write_itk(folder / "whole.mha", VALUES, AFFINE)
        sitk.WriteImage(sitk.ReadImage(str(folder / "whole.mha")), str(folder / f"scan.{kind}"))
    elif kind == "npz":
        write_npz(folder / "scan.npz", VALUES, AFFINE, units="HU", modality="CT")
    elif kind == "dicom":
        write_series(folder / "scan.dicom-series", VALUES, AFFINE)
        return folder / "scan.dicom-series"
    elif kind == "multiframe":
        write_multiframe(folder / "scan.dcm", VALUES, AFFINE)
        return folder / "scan.dcm"
    return folder / f"scan.{kind}"


@pytest.mark.parametrize("kind", ["nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr", "npz", "dicom", "multiframe"])
def test_every_format_reads_back_equal(kind: str, tmp_path: Path) -> None:
    path = write_as(kind, tmp_path)
    header, scan = formats.read_header(path), formats.read(path)
    assert header.shape == scan.values.shape
    assert header.dtype == scan.values.dtype.name == "int16"
    assert header.warnings == ()
    np.testing.assert_allclose(header.affine, scan.header.affine, atol=1e-12)
    # DICOM sorts slices along the normal, so the z axis may run the other way: compare in one orientation.
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    expected, expected_affine = geometry.to_canonical(VALUES, AFFINE)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-4)
    np.testing.assert_allclose(header.spacing_mm, (15.25, 12.5, 11.0), atol=1e-4)


def test_only_measured_formats_say_hounsfield_units(tmp_path: Path) -> None:
    assert formats.read_header(write_as("dicom", tmp_path)).units == "HU"
    assert formats.read_header(write_as("multiframe", tmp_path)).units == "HU"
    assert formats.read_header(write_as("npz", tmp_path)).units == "HU"
    assert formats.read_header(write_as("nii.gz", tmp_path)).units == "arbitrary"


def test_nibabel_reads_what_we_write(tmp_path: Path) -> None:
    image = nibabel.load(write_as("nii.gz", tmp_path))
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), VALUES)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-4)


@pytest.mark.parametrize("kind", ["nii.gz", "mha", "nrrd"])
def test_simpleitk_reads_what_we_write(kind: str, tmp_path: Path) -> None:
    image = sitk.ReadImage(str(write_as(kind, tmp_path)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VALUES)
    affine = geometry.affine_from_itk(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    np.testing.assert_allclose(affine, AFFINE, atol=1e-3)


def test_simpleitk_reads_the_series_as_we_do(tmp_path: Path) -> None:
    folder = write_as("dicom", tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    scan = formats.read(folder)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), scan.values)
    affine = geometry.affine_from_itk(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    np.testing.assert_allclose(affine, scan.header.affine, atol=1e-4)


def test_a_sheared_affine_survives_dicom_and_nifti_but_is_refused_for_itk(tmp_path: Path) -> None:
    sheared = AFFINE.copy()
    sheared[:3, 2] += 0.3 * sheared[:3, 1]
    write_series(tmp_path / "tilted", VALUES, sheared)
    scan = formats.read(tmp_path / "tilted")
    assert any(warning.startswith("gantry tilt") for warning in scan.header.warnings)
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    expected, expected_affine = geometry.to_canonical(VALUES, sheared)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-4)
    write_nifti(tmp_path / "tilted.nii.gz", VALUES, sheared)
    np.testing.assert_allclose(formats.read_header(tmp_path / "tilted.nii.gz").affine, sheared, atol=1e-4)
    with pytest.raises(ValueError, match="sheared"):
        write_itk(tmp_path / "tilted.mha", VALUES, sheared)
