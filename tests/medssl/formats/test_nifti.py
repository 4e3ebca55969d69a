"""NIfTI: what is read, what is refused and why, and that headers are read without voxels."""

import gzip
import os
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl import formats
from medssl.errors import FormatError
from medssl.formats.nifti import read, read_header, write_nifti

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])
VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def save(path: Path, data: np.ndarray, **header) -> Path:
    # With an affine nibabel would set the sform again when it saves.
    own_forms = "set_sform" in header or "set_qform" in header
    image = nibabel.Nifti1Image(data, None if own_forms else AFFINE)
    for name, value in header.items():
        getattr(image.header, name)(*value)
    nibabel.save(image, path)
    return path


def test_a_header_read_touches_no_voxels(tmp_path: Path) -> None:
    path = tmp_path / "big.nii"
    write_nifti(path, VALUES, AFFINE)
    with path.open("r+b") as file:  # a sparse file of 2 GB of voxels: reading them would be seen in memory and time
        file.seek(40)
        file.write(struct.pack("<8h", 3, 1024, 1024, 1024, 1, 1, 1, 1))
        file.truncate(352 + 2 * 1024**3)
    assert read_header(path).shape == (1024, 1024, 1024)


def test_frames_are_counted_and_picked(tmp_path: Path) -> None:
    four = np.stack([VALUES, VALUES + 500, VALUES - 7])
    write_nifti(tmp_path / "four.nii.gz", four, AFFINE)
    header = read_header(tmp_path / "four.nii.gz")
    assert (header.shape, header.frames) == ((4, 5, 6), 3)
    for frame in range(3):
        np.testing.assert_array_equal(read(tmp_path / "four.nii.gz", frame=frame).values, four[frame])
    with pytest.raises(FormatError, match="no frame 3"):
        read(tmp_path / "four.nii.gz", frame=3)


@pytest.mark.parametrize("shape", [(6, 5, 4, 1), (6, 5, 4, 1, 1), (6, 5, 4, 3), (6, 5, 4, 3, 1), (6, 5)])
def test_lone_axes_do_no_harm(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    header = read_header(save(tmp_path / "scan.nii", data))
    assert header.shape == (*reversed(shape[:3]),) if len(shape) > 2 else (1, 5, 6)
    assert header.frames == (3 if 3 in shape[3:] else 1)
    last = read(tmp_path / "scan.nii", frame=header.frames - 1).values
    expected = data.reshape(*(*shape, 1, 1)[:3], -1)[..., -1].transpose(2, 1, 0)
    np.testing.assert_array_equal(last, expected)


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "dtype"),
    [
        ("int16", 1.0, 0.0, "int16"),
        ("uint8", 1.0, -1024.0, "int16"),
        ("uint16", 1.0, -1024.0, "int32"),
        ("int16", 0.5, 3.0, "float32"),
        ("float32", 2.0, 1.0, "float32"),
        ("float64", 1.0, 0.0, "float64"),
    ],
)
def test_slope_and_intercept_are_applied_as_nibabel_does(
    stored: str, slope: float, inter: float, dtype: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "scaled.nii.gz", VALUES.transpose(2, 1, 0).astype(stored), set_data_dtype=(stored,))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:120] = struct.pack("<2f", slope, inter)
    path.write_bytes(gzip.compress(bytes(content)))
    scan = read(path)
    assert scan.header.dtype == scan.values.dtype.name == dtype
    np.testing.assert_allclose(scan.values, nibabel.load(path).get_fdata().transpose(2, 1, 0), rtol=1e-6)


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), AFFINE, header=nibabel.Nifti1Header(endianness=">"))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "big.nii")
    scan = read(tmp_path / "big.nii")
    assert scan.values.dtype == np.dtype("int16")
    np.testing.assert_array_equal(scan.values, VALUES)


def test_nifti_2_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(VALUES.transpose(2, 1, 0), AFFINE), tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read(tmp_path / "two.nii.gz").values, VALUES)


def test_non_finite_voxels_come_as_they_are(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[1, 2, 3], values[0, 0, 0] = np.nan, -np.inf
    write_nifti(tmp_path / "nan.nii.gz", values, AFFINE)
    np.testing.assert_array_equal(read(tmp_path / "nan.nii.gz").values, values)


class TestGeometry:
    def test_qform_serves_where_there_is_no_sform(self, tmp_path: Path) -> None:
        path = save(tmp_path / "q.nii", VALUES, set_sform=(None, 0), set_qform=(AFFINE, 1))
        header = read_header(path)
        np.testing.assert_allclose(header.affine, AFFINE)
        assert header.warnings == ()

    def test_a_degenerate_sform_is_named_and_not_used(self, tmp_path: Path) -> None:
        path = save(tmp_path / "s.nii", VALUES, set_qform=(AFFINE, 1), set_sform=(np.diag([0.0, 0, 0, 1]), 1))
        header = read_header(path)
        np.testing.assert_allclose(header.affine, AFFINE)
        assert "sform degenerate" in header.warnings[0]

    def test_disagreement_is_named_and_the_sform_is_used(self, tmp_path: Path) -> None:
        other = AFFINE.copy()
        other[0, 3] = 30.0
        header = read_header(save(tmp_path / "d.nii", VALUES, set_qform=(other, 1), set_sform=(AFFINE, 1)))
        np.testing.assert_allclose(header.affine, AFFINE)
        assert "disagree" in header.warnings[0]

    @pytest.mark.parametrize("with_qform", [False, True])
    def test_a_sform_of_directions_alone_takes_the_sizes_of_the_header(self, with_qform: bool, tmp_path: Path) -> None:
        flipped = np.diag([-1.0, -1.0, 1.0, 1.0])
        true = flipped @ AFFINE
        path = save(
            tmp_path / "u.nii", VALUES, set_qform=(true, int(with_qform)), set_sform=(flipped, 2)
        )  # the qform sets the sizes even where its code says not to use it
        header = read_header(path)
        np.testing.assert_allclose(header.affine, true)
        assert header.warnings == ("sform without voxel size: the header's 2 x 3 x 4 mm (x, y, z) were taken",)

    def test_other_sizes_in_the_sform_stay_and_are_named(self, tmp_path: Path) -> None:
        path = save(tmp_path / "o.nii", VALUES, set_qform=(AFFINE, 0), set_sform=(np.diag([2.0, 3.0, 5.0, 1.0]), 2))
        header = read_header(path)
        assert header.spacing_mm == (5.0, 3.0, 2.0)
        assert header.warnings[0].startswith("voxel sizes disagree")

    def test_no_form_at_all_is_named(self, tmp_path: Path) -> None:
        header = read_header(save(tmp_path / "n.nii", VALUES, set_qform=(None, 0), set_sform=(None, 0)))
        assert header.warnings[0].startswith("no orientation")

    @pytest.mark.parametrize(("unit", "scale"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), (0, 1.0)])
    def test_other_units_become_mm(self, unit: str, scale: float, tmp_path: Path) -> None:
        path = save(tmp_path / "u.nii", VALUES, set_xyzt_units=(unit,))
        np.testing.assert_allclose(read_header(path).spacing_mm, np.array([4.0, 3.0, 2.0]) * scale, rtol=1e-6)


def noise(path: Path, *, kept: float) -> Path:
    """Write a scan of noise, which does not pack, and keep the first part of the file."""
    write_nifti(path, np.random.default_rng(0).integers(-999, 999, (16, 16, 16)).astype(np.int16), AFFINE)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    return path


class TestRefusals:
    @pytest.mark.parametrize("call", [read, read_header])
    @pytest.mark.parametrize("name", ["cut.nii.gz", "cut.nii"])
    @pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
    def test_truncation_is_found_even_by_the_header_read(self, call, name: str, kept: float, tmp_path: Path) -> None:
        path = noise(tmp_path / name, kept=kept)
        with pytest.raises(FormatError) as caught:
            call(path)
        assert caught.value.path == path

    def test_archives_of_several_members_are_whole(self, tmp_path: Path) -> None:
        path = noise(tmp_path / "whole.nii", kept=1.0)
        content = path.read_bytes()
        packed = tmp_path / "members.nii.gz"
        packed.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:]))
        np.testing.assert_array_equal(read(packed).values, read(path).values)
        packed.write_bytes(gzip.compress(content[:3000]) + gzip.compress(content[3000:-10]))
        with pytest.raises(FormatError, match="truncated: 8534 unpacked bytes where the header promises 8544"):
            read_header(packed)

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.nii.gz", b"", r"empty \(0 bytes\)"),
            ("a.nii", b"", r"empty \(0 bytes\)"),
            ("a.nii.gz", b"<html>log in</html>\n", "text, not a gzip archive"),
            ("a.nii", b"version https://git-lfs\n", "text, not a NIfTI"),
            ("a.nii.gz", bytes(range(128, 255)) * 9, "does not start as a gzip archive"),
            ("a.nii", bytes(range(128, 255)) * 9, "not a readable NIfTI"),
            ("a.nii.gz", gzip.compress(b"hello" * 200, mtime=0), "not a readable NIfTI"),
            ("a.nii", gzip.compress(b"hello" * 200, mtime=0), "Rename it to .nii.gz"),
        ],
    )
    def test_each_kind_of_wrong_file_is_named(self, name: str, content: bytes, reason: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FormatError, match=reason) as caught:
            read_header(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_an_unpacked_file_under_a_packed_name(self, tmp_path: Path) -> None:
        write_nifti(tmp_path / "a.nii", VALUES, AFFINE)
        (tmp_path / "a.nii").rename(tmp_path / "a.nii.gz")
        with pytest.raises(FormatError, match=r"Rename it to \.nii\."):
            read_header(tmp_path / "a.nii.gz")

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FormatError, match="No such file"):
            read_header(tmp_path / "none.nii.gz")
        (tmp_path / "folder.nii").mkdir()
        with pytest.raises(FormatError, match="folder"):
            read_header(tmp_path / "folder.nii")

    def test_permission_denied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "secret.nii.gz"
        write_nifti(path, VALUES, AFFINE)
        path.chmod(0)
        if os.access(path, os.R_OK):  # root may read anything: let opening fail as it does for others

            def refuse(self: Path, *args, **kwargs):
                raise PermissionError(13, "Permission denied", str(self))

            monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(FormatError, match="Permission denied"):
            read_header(path)

    @pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
    def test_complex_and_colour_are_refused(self, dtype, tmp_path: Path) -> None:
        path = save(tmp_path / "odd.nii", np.zeros((3, 3, 3), dtype=dtype))
        with pytest.raises(FormatError, match=r"complex|colour"):
            read_header(path)

    def test_two_axes_beyond_the_third_are_refused(self, tmp_path: Path) -> None:
        path = save(tmp_path / "five.nii", np.zeros((3, 3, 3, 2, 2), dtype=np.int16))
        with pytest.raises(FormatError, match="2 components"):
            read_header(path)


class TestWriting:
    @pytest.mark.parametrize(
        ("values", "dtype", "stored"),
        [
            (VALUES, None, "int16"),
            (VALUES > 3, None, "uint8"),
            (VALUES.astype(np.int64), None, "int32"),
            (VALUES.astype(np.float16), None, "float32"),
            (VALUES.astype(np.float64), np.float32, "float32"),
            (VALUES, np.uint8, "uint8"),
        ],
    )
    def test_types(self, values: np.ndarray, dtype, stored: str, tmp_path: Path) -> None:
        write_nifti(tmp_path / "t.nii.gz", values, AFFINE, dtype=dtype)
        scan = formats.read(tmp_path / "t.nii.gz")
        assert scan.values.dtype.name == stored
        np.testing.assert_array_equal(scan.values, values)

    def test_values_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="do not fit uint8"):
            write_nifti(tmp_path / "t.nii", VALUES * 3, AFFINE, dtype=np.uint8)
        with pytest.raises(ValueError, match="do not fit int32"):
            write_nifti(tmp_path / "t.nii", VALUES.astype(np.int64) * 2**40, AFFINE)
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "t.nii.gz"
        write_nifti(path, VALUES, AFFINE)
        before = path.read_bytes()

        def fail(image, name):
            Path(name).write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr(nibabel, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            write_nifti(path, VALUES + 1, AFFINE)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["t.nii.gz"]


def _with_header(path, *, sform, zooms):
    import nibabel

    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.header.set_zooms(zooms)
    image.header.set_sform(sform, code=2)
    image.header.set_qform(None, code=0)
    image.header.set_zooms(zooms)
    nibabel.save(image, path)


def test_a_sform_of_pure_directions_takes_the_headers_voxel_sizes_as_itk_does(tmp_path):
    import SimpleITK

    path = tmp_path / "cine.nii.gz"
    _with_header(path, sform=np.diag([-1.0, -1.0, 1.0, 1.0]), zooms=(1.5, 1.25, 10.0))
    header = read_header(path)
    assert header.spacing_mm == (10.0, 1.25, 1.5)
    assert header.orientation == "LPS"
    assert any(note.startswith("sform without voxel size") for note in header.warnings)
    assert SimpleITK.ReadImage(str(path)).GetSpacing() == header.spacing_mm[::-1]


def test_other_disagreements_of_sform_and_voxel_sizes_are_told_and_the_sform_rules(tmp_path):
    path = tmp_path / "odd.nii.gz"
    _with_header(path, sform=np.diag([2.0, 2.0, 3.0, 1.0]), zooms=(1.5, 1.25, 10.0))
    header = read_header(path)
    assert header.spacing_mm == (3.0, 2.0, 2.0)
    assert any(note.startswith("voxel sizes disagree") for note in header.warnings)


def test_an_archive_that_unpacks_to_far_more_than_its_header_says_is_left(tmp_path):
    import tracemalloc

    path = tmp_path / "bomb.nii.gz"
    nibabel_bytes = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_bytes()
    with gzip.open(path, "wb", compresslevel=1) as archive:
        archive.write(nibabel_bytes)
        for _ in range(40):
            archive.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(FormatError, match="unpacks to more than"):
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()
