"""Files of scans other than DICOM: brain formats, NIfTI's corners, arrays, and what is passed over."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

import medssl
from medssl import formats
from medssl.errors import DataError, FormatError
from tests.layouts.tree import by_name, index, voxels, write

AFFINE = np.array([[0, -2.0, 0, 5], [1, 0, 0, 3], [0, 0, 3, 7], [0, 0, 0, 1]])
INTS = np.random.default_rng(0).integers(-500, 500, (8, 12, 10)).astype(np.int16)


def patched(path: Path, place: int, kind: str, *values: float) -> Path:
    """Write numbers into the header of a NIfTI file."""
    raw = bytearray(path.read_bytes())
    struct.pack_into(kind, raw, place, *values)
    path.write_bytes(raw)
    return path


def same(path: Path, expected: np.ndarray, affine: np.ndarray) -> formats.ScanHeader:
    scan = formats.read(path)
    np.testing.assert_array_equal(scan.values, expected)
    np.testing.assert_allclose(scan.header.affine, affine, atol=1e-5)
    return scan.header


def test_pairs_freesurfer_and_analyze(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    by_xyz = INTS.transpose()
    nib.save(nib.MGHImage(by_xyz, AFFINE), folder / "a.mgz")
    nib.save(nib.Nifti1Pair(by_xyz, AFFINE), folder / "pair.img")
    nib.save(nib.Nifti2Pair(by_xyz, AFFINE), folder / "PAIR2.img")
    nib.save(nib.AnalyzeImage(by_xyz, np.diag([-1.0, 2, 3, 1])), folder / "old.img")
    for name in ("a.mgz", "pair.hdr", "pair.img", "PAIR2.hdr"):
        same(folder / name, INTS, AFFINE)
    header = same(folder / "old.hdr", INTS, nib.load(folder / "old.hdr").affine)
    assert header.warnings[0].startswith("no orientation")
    rows = by_name(index(folder, "modality=MR"))
    assert sorted(rows) == ["PAIR2.hdr", "a.mgz", "old.hdr", "pair.hdr"]
    assert [Path(name).name for name in rows["pair.hdr"]["paths"]] == ["pair.hdr", "pair.img"]
    nib.save(nib.Nifti1Pair(by_xyz + np.int16(1), AFFINE), folder / "pair.img")
    again = by_name(index(folder, "modality=MR"))["pair.hdr"]
    assert again["content_hash"] != rows["pair.hdr"]["content_hash"]
    (folder / "pair.img").unlink()
    assert "pair.img" in by_name(index(folder, "modality=MR"))["pair.hdr"]["error"]


def test_minc(tmp_path: Path) -> None:
    for name in ("minc1_1_scale.mnc", "minc2_1_scale.mnc"):
        source = Path(nib.__file__).parent / "tests" / "data" / name
        known = nib.load(source)
        scan = formats.read(source)
        np.testing.assert_allclose(scan.values, np.asarray(known.dataobj).transpose(2, 1, 0), rtol=1e-6)
        np.testing.assert_allclose(scan.header.affine, known.affine)


@pytest.mark.parametrize("offset", [0, 1, 348, 351, 352.5, float("nan"), float("inf"), -352])
def test_voxels_that_begin_in_the_header_are_refused(offset: float, tmp_path: Path) -> None:
    path = patched(write(tmp_path / "a.nii", voxels(0)), 108, "<f", offset)
    with pytest.raises(FormatError, match="vox_offset"):
        formats.read(path)


def test_voxels_that_begin_in_an_extension_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(INTS.transpose(), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 400))
    nib.save(image, tmp_path / "a.nii")
    same(tmp_path / "a.nii", INTS, AFFINE)
    patched(tmp_path / "a.nii", 108, "<f", 368)
    with pytest.raises(FormatError, match="extension"):
        formats.read(tmp_path / "a.nii")


@pytest.mark.parametrize(("code", "factor"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (7, 1.0)])
def test_units_of_length(code: int, factor: float, tmp_path: Path) -> None:
    write(tmp_path / "a.nii", voxels(0))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[123] = code
    (tmp_path / "a.nii").write_bytes(raw)
    header = formats.read_header(tmp_path / "a.nii")
    np.testing.assert_allclose(header.spacing_mm, np.array([3.0, 1.5, 1.0]) * factor)
    assert any(note.startswith("unit of length") for note in header.warnings) == (code == 7)


@pytest.mark.parametrize("shape", [(10, 12, 8, 1, 3), (10, 12, 8, 2, 3)])
def test_vectors_colours_and_complex_numbers_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), tmp_path / "v.nii.gz")
    with pytest.raises(FormatError, match="3 components"):
        formats.read(tmp_path / "v.nii.gz")
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(FormatError, match="colour"):
        formats.read(tmp_path / "c.nii")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.complex64), np.eye(4)), tmp_path / "z.nii")
    with pytest.raises(FormatError, match="complex"):
        formats.read(tmp_path / "z.nii")


@pytest.mark.parametrize("dtype", ["int64", "uint64", ">i2", ">f4"])
def test_types_that_few_readers_know(dtype: str, tmp_path: Path) -> None:
    values = (INTS + 600).astype(dtype)
    image = nib.Nifti1Image(values.transpose(), AFFINE, dtype=np.dtype(dtype))
    image.header.set_data_dtype(np.dtype(dtype))
    nib.save(image, tmp_path / "A.NII")
    same(tmp_path / "A.NII", INTS + 600, AFFINE)
    (row,) = index(tmp_path, "modality=MR").rows()
    assert (row["min"], row["p50"]) == (float((INTS + 600).min()), float(np.median(INTS + 600)))


def test_frames_and_labels_are_said(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.stack([INTS.transpose(), INTS.transpose() + 1], axis=-1), AFFINE)
    image.header.set_intent("label")
    (tmp_path / "scans").mkdir()
    nib.save(image, tmp_path / "scans" / "a.nii.gz")
    (row,) = index(tmp_path / "scans").rows()
    assert (row["frames"], row["min"]) == (2, float(INTS.min()))
    assert any(note.startswith("intent") for note in row["notes"])
    findings = medssl.check(tmp_path / "found.parquet", out=tmp_path).findings
    assert [f.what for f in findings if f.kind == "four-dimensional"] == ["2 frames in one file; the first is used"]


@pytest.mark.parametrize("size", [1e-5, 5000.0])
def test_an_absurd_voxel_size_is_an_error(size: float, tmp_path: Path) -> None:
    write(tmp_path / "scans" / "a.nii", voxels(0), (size, 1.0, 1.0))
    index(tmp_path / "scans", "modality=MR")
    result = medssl.check(tmp_path / "found.parquet", out=tmp_path)
    assert ("error", "bad-geometry") in [(f.severity, f.kind) for f in result.findings]


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_a_voxel_size_that_is_none_is_a_finding_and_no_crash(size: float, tmp_path: Path) -> None:
    image = nib.Nifti1Image(INTS.transpose(), None)
    image.set_qform(np.diag([1.0, 2, 3, 1]), code=1)
    image.set_sform(None, code=0)
    (tmp_path / "scans").mkdir()
    nib.save(image, tmp_path / "scans" / "a.nii")
    patched(tmp_path / "scans" / "a.nii", 80, "<f", size)
    (row,) = index(tmp_path / "scans", "modality=MR").rows()
    findings = medssl.check(tmp_path / "found.parquet", out=tmp_path).findings
    assert row["error"] is None
    assert ("negative-voxel-size" if size == -1 else "no-voxel-size") in [finding.kind for finding in findings]


def test_suffixes_do_not_hide_a_copy(tmp_path: Path) -> None:
    write(tmp_path / "scans" / "a.nii", voxels(0))
    write(tmp_path / "scans" / "a.nii.gz", voxels(0))
    rows = list(index(tmp_path / "scans", "modality=MR").rows())
    assert len({row["id"] for row in rows}) == 2
    findings = medssl.check(tmp_path / "found.parquet", out=tmp_path).findings
    assert [f.kind for f in findings if f.kind == "duplicate"] == ["duplicate"]


def test_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    wide = np.concatenate([INTS, INTS + 2], axis=-1)
    np.save(folder / "a.npy", wide)
    np.savez(folder / "b.npz", imgs=INTS + 1, gts=INTS)
    np.save(folder / "features.npy", np.zeros((5, 30)))
    rows = by_name(manifest := index(folder, "modality=MR"))
    assert sorted(rows) == ["b.npz"]
    assert any("'imgs' was taken for the scan; not read: gts" in note for note in rows["b.npz"]["notes"])
    assert rows["b.npz"]["min"] == float(INTS.min() + 1)
    assert any(note.startswith("no voxel size") for note in rows["b.npz"]["notes"])
    assert manifest.notes == ("passed over: 1 .npy, 1 arrays (.npy) beside scans",)
    (folder / "b.npz").unlink()
    (row,) = index(folder, "modality=MR", "fresh=true").rows()
    np.testing.assert_array_equal(formats.read(row["path"]).values, wide)
    assert any(note.startswith("no voxel size") for note in row["notes"])


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    write(folder / "a.nii.gz", voxels(0))
    for name in ("b.vtk", "c.vtk", "d.zip", "e.tar.gz", "f.nii.zst", "shot.png", ".hidden", "._a.nii.gz", "note.txt"):
        (folder / name).write_bytes(b"something")
    (folder / "done").touch()
    (folder / "broken.nii").symlink_to(folder / "nowhere.nii")
    write(tmp_path / "elsewhere" / "far.nii.gz", voxels(1))
    (folder / "far.nii.gz").symlink_to(tmp_path / "elsewhere" / "far.nii.gz")
    (folder / "circle").symlink_to(folder)
    os.mkfifo(folder / "pipe.nii.gz")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind(os.path.relpath(folder / "s.nii"))
        manifest = index(folder, "modality=MR")
    assert sorted(by_name(manifest)) == ["a.nii.gz", "far.nii.gz"]
    said = next(note for note in manifest.notes if note.startswith("passed over"))
    for part in ("2 .vtk", "1 .nii.zst", "1 .tar.gz, 1 .zip (archives: unpack first)", "1 hidden", "1 copies by macOS",
                 "1 broken links", "1 pipes", "1 sockets", "1 links to a folder that was seen already", "1 empty files",
                 "1 pictures beside scans"):  # fmt: skip
        assert part in said, part
    assert ".txt" not in said
    assert any(note.startswith("links out of the folder: 1") for note in manifest.notes)
    findings = medssl.check(tmp_path / "found.parquet", out=tmp_path).findings
    assert any("2 .vtk" in f.what for f in findings)


def ct(seed: int, shape: tuple[int, int, int] = (8, 12, 10)) -> np.ndarray:
    values = np.random.default_rng(seed).normal(40.0, 20.0, shape)
    values[:, :, :4] = -1000.0 + np.random.default_rng(seed).normal(0, 5, (*shape[:2], 4))
    return values.astype(np.float32)


@pytest.mark.parametrize(
    ("name", "other"),
    [("0 to 1", lambda v: (v + 1100) / 1400), ("offset above zero", lambda v: np.rint(v + 1124) + 900 * (v > 60)),
     ("standardised", lambda v: (v + 400) / 300)],
)  # fmt: skip
def test_a_folder_of_ct_is_on_one_scale_or_an_error(name: str, other, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    write(folder / "whole.nii.gz", np.rint(ct(0)).astype(np.int16))
    write(folder / "fractional.nii.gz", ct(1))
    write(folder / "crop.nii.gz", np.rint(ct(2)[:, :, 4:]).astype(np.int16))
    rows = by_name(index(folder, "modality=CT"))
    assert {row["units"] for row in rows.values()} == {"HU"}
    assert not [f for f in medssl.check(tmp_path / "found.parquet", out=tmp_path).findings if f.kind == "mixed-scales"]
    write(folder / "odd.nii.gz", other(ct(3)).astype(np.float32))
    rows = by_name(index(folder, "modality=CT"))
    assert rows["odd.nii.gz"]["units"] == "arbitrary"
    (finding,) = [
        f for f in medssl.check(tmp_path / "found.parquet", out=tmp_path).findings if f.kind == "mixed-scales"
    ]
    assert finding.severity == "error"
    assert "3 in HU" in finding.what
    assert name in finding.what
    assert "odd.nii.gz" in finding.what
    with pytest.raises(DataError, match=r"several scales.*odd\.nii\.gz"):
        medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store", overrides=["workers=1"])
    medssl.cache(tmp_path / "found.parquet", out=tmp_path / "store", overrides=["workers=1", "mixed_scales=true"])


def test_fractional_hu_look_like_ct(tmp_path: Path) -> None:
    write(tmp_path / "scans" / "a.nii.gz", ct(0))
    (row,) = index(tmp_path / "scans").rows()
    assert (row["modality"], row["units"]) == ("CT", "HU")
    assert "modality-inferred" in row["flags"]


def test_readers_name_the_file_and_raise_one_error(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(INTS), str(tmp_path / "a.mha"))
    write(tmp_path / "b.nii", voxels(0))
    for path in (tmp_path / "a.mha", tmp_path / "b.nii"):
        whole = path.read_bytes()
        for cut in (1, 40, 200, 349, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(FormatError) as caught:
                formats.read(path)
            assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("slope", "inter"), [(0.0, 5.0), (float("nan"), 5.0), (float("nan"), float("nan")), (2.0, -7.0)]
)
def test_a_slope_that_is_none_leaves_the_values(slope: float, inter: float, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(INTS.transpose(), AFFINE), tmp_path / "a.nii")
    patched(tmp_path / "a.nii", 112, "<ff", slope, inter)
    expected = np.asarray(nib.load(tmp_path / "a.nii").dataobj).transpose()
    np.testing.assert_array_equal(formats.read(tmp_path / "a.nii").values, expected)
    np.testing.assert_array_equal(expected, INTS * 2 - 7 if slope == 2.0 else INTS)
