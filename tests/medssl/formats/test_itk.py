"""MetaImage and NRRD: frames, detached data, spaces, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medssl import formats
from medssl.errors import FormatError
from medssl.formats.itk import write_itk

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
VALUES = np.random.default_rng(0).integers(-500, 500, (12, 13, 14)).astype(np.int16)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mhd", ".nhdr"])
def test_frames_of_a_4d_image(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"four{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([VALUES, VALUES + 1, VALUES + 2]), isVector=False), str(path))
    header = formats.read_header(path)
    assert (header.frames, header.shape) == (3, VALUES.shape)
    for frame in range(3):
        np.testing.assert_array_equal(formats.read(path, frame=frame).values, VALUES + frame)
    with pytest.raises(FormatError, match="no frame"):
        formats.read(path, frame=-1)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "float32", "float64"])
def test_types_are_kept(dtype: str, tmp_path: Path) -> None:
    values = (VALUES % 100).astype(dtype)
    write_itk(tmp_path / "t.nrrd", values, AFFINE)
    scan = formats.read(tmp_path / "t.nrrd")
    assert scan.header.dtype == scan.values.dtype.name == dtype
    np.testing.assert_array_equal(scan.values, values)


@pytest.mark.parametrize(("suffix", "data"), [(".mhd", ".raw"), (".nhdr", ".raw")])
def test_detached_data_belong_to_the_scan(suffix: str, data: str, tmp_path: Path) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(path))
    header = formats.read_header(path)
    assert header.paths == (path, path.with_suffix(data))
    path.with_suffix(data).unlink()
    with pytest.raises(FormatError, match=r"'scan\.raw' is missing"):
        formats.read_header(path)


def test_a_nrrd_in_ras_space_lies_where_it_says(tmp_path: Path) -> None:
    header = (
        "NRRD0005\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 14 13 12\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (7,8,9)\nendian: little\nencoding: raw\n\n"
    )
    (tmp_path / "ras.nrrd").write_bytes(header.encode() + VALUES.tobytes())
    scan = formats.read(tmp_path / "ras.nrrd")
    np.testing.assert_array_equal(scan.values, VALUES)
    np.testing.assert_allclose(scan.header.affine, [[2, 0, 0, 7], [0, 3, 0, 8], [0, 0, 4, 9], [0, 0, 0, 1]])
    assert scan.header.orientation == "RAS"
    assert scan.header.warnings == ()


def test_a_nrrd_without_space_says_so(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 14 13 12\nspacings: 2 3 4\nendian: little\nencoding: raw\n\n"
    (tmp_path / "bare.nrrd").write_bytes(header.encode() + VALUES.tobytes())
    found = formats.read_header(tmp_path / "bare.nrrd")
    assert found.warnings[0].startswith("no orientation")
    assert found.spacing_mm == pytest.approx((4.0, 3.0, 2.0))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_voxels_are_refused(suffix: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(path), useCompression=compressed)
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(FormatError) as caught:
        formats.read(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00\x01\x02" * 50, b"NRRD0004\nbroken\n", b"NDims = 3\n"])
def test_wrong_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError) as caught:
        formats.read_header(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert len(caught.value.reason) > 20


def test_colour_is_refused_and_a_flat_image_is_one_slice(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(tmp_path / "c.mha"))
    with pytest.raises(FormatError, match="3 components"):
        formats.read_header(tmp_path / "c.mha")
    sitk.WriteImage(sitk.GetImageFromArray(VALUES[0]), str(tmp_path / "f.mha"))
    flat = formats.read(tmp_path / "f.mha")
    np.testing.assert_array_equal(flat.values, VALUES[:1])
    assert flat.header.warnings[0].startswith("one slice")


def test_only_whole_files_are_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.mha and \.nrrd"):
        write_itk(tmp_path / "a.mhd", VALUES, AFFINE)
    with pytest.raises(ValueError, match="axes"):
        write_itk(tmp_path / "a.mha", VALUES[0], AFFINE)
