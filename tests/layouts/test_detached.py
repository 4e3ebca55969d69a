"""MetaImage and NRRD whose voxels lie in files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import medssl
from medssl import formats
from medssl.errors import FormatError
from tests.layouts.tree import by_name, index, voxels

MHD = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 10 12 8\n"
    "ElementSpacing = 1 1.5 3\nElementType = MET_FLOAT\nElementDataFile = "
)
NHDR = (
    "NRRD0004\ntype: float\ndimension: 3\nspace: left-posterior-superior\nsizes: 10 12 8\n"
    "space directions: (1,0,0) (0,1.5,0) (0,0,3)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n"
)


def written(folder: Path, suffix: str, data: str, values: np.ndarray) -> Path:
    """Write a header that is the same for every patient, and the voxels beside it, by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ct.raw").write_bytes(values.astype("<f4").tobytes())
    for number, plane in enumerate(values, 1):
        (folder / f"s{number:03d}.raw").write_bytes(plane.astype("<f4").tobytes())
    rest = "\n".join(f"s{n:03d}.raw" for n in range(1, 9)) + "\n"
    named = {"one": "ct.raw\n", "list": "LIST\n" + rest, "pattern": "s%03d.raw 1 8 1\n"}[data]
    path = folder / f"ct{suffix}"
    path.write_text(MHD + named if suffix == ".mhd" else NHDR + "data file: " + named)
    return path


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("data", ["one", "list", "pattern"])
def test_the_data_are_part_of_the_scan(suffix: str, data: str, tmp_path: Path) -> None:
    for seed in range(4):
        path = written(tmp_path / "scans" / f"patient{seed}", suffix, data, voxels(seed))
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        np.testing.assert_array_equal(formats.read(path).values, values)
        np.testing.assert_array_equal(values, voxels(seed))
    rows = list(index(tmp_path / "scans", "modality=MR").rows())
    assert len({row["file_hash"] for row in rows}) == len({row["content_hash"] for row in rows}) == 4
    assert {len(row["paths"]) for row in rows} == {2 if data == "one" else 9}
    assert all(row["size_bytes"] > voxels(0).nbytes for row in rows)
    assert index(tmp_path / "scans").notes == (("passed over: 32 .raw",) if data == "one" else ("passed over: 4 .raw",))
    findings = medssl.check(tmp_path / "found.parquet", out=tmp_path).findings
    assert not [finding for finding in findings if finding.kind == "duplicate"]


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    written(tmp_path / "scans" / "patient0", ".mhd", "one", voxels(0))
    before = by_name(index(tmp_path / "scans", "modality=MR"))["patient0/ct.mhd"]
    written(tmp_path / "scans" / "patient0", ".mhd", "one", voxels(7))
    after = by_name(index(tmp_path / "scans", "modality=MR"))["patient0/ct.mhd"]
    assert after["content_hash"] != before["content_hash"]
    assert after["p50"] == pytest.approx(np.median(voxels(7)))


@pytest.mark.parametrize(
    "name", ["/etc/hostname", "../outside.raw", "sub/../../outside.raw", "C:\\x.raw", "link.raw", ""]
)
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr", ".mha", ".nrrd"])
def test_data_outside_of_the_folder_are_refused(name: str, suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    (tmp_path / "outside.raw").write_bytes(voxels(0).tobytes())
    (folder / "link.raw").symlink_to(tmp_path / "outside.raw")
    path = folder / f"a{suffix}"
    path.write_text(MHD + name + "\n" if suffix in (".mhd", ".mha") else NHDR + f"data file: {name}\n")
    if not name and suffix in (".nhdr", ".nrrd"):
        pytest.skip("no name means that the voxels follow")
    with pytest.raises(FormatError, match=r"outside|absolute|leads out|names no data"):
        formats.read(path)
    (row,) = index(folder).rows()
    assert row["error"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (MHD.replace("NDims = 3", "NDims = -1") + "LOCAL\n", "NDims"),
        (MHD.replace("DimSize = 10 12 8", "DimSize = 10 12 -8") + "LOCAL\n", "DimSize"),
        (MHD.replace("DimSize = 10 12 8", "DimSize = 99999999 12 8") + "LOCAL\n", "truncated"),
        (MHD.replace("ElementSpacing = 1 1.5 3", "ElementSpacing = 1 nan 3") + "LOCAL\n", "ElementSpacing"),
        (MHD.replace("ElementSpacing = 1 1.5 3", "ElementSpacing = 1 0 3") + "LOCAL\n", "voxel size"),
        (MHD.replace("ElementSpacing = 1 1.5 3", "ElementSpacing = 1 -1.5 3") + "LOCAL\n", "voxel size"),
        (MHD.replace("ElementType", "TransformMatrix = 1e308 0 0 0 1 0 0 0 1\nElementType") + "LOCAL\n", "Transform"),
        (MHD.replace("ElementType", "ElementNumberOfChannels = 3\nElementType") + "LOCAL\n", "3 components"),
        (MHD.replace("MET_FLOAT", "MET_FLOAT_ARRAY") + "LOCAL\n", "MET_FLOAT_ARRAY"),
        (NHDR.replace("(0,0,3)", "(0,0,1e308)") + "\n", "space directions"),
        (NHDR.replace("(0,0,3)", "(0,1.5,0)") + "\n", "parallel"),
        (NHDR.replace("(0,0,3)", "(0,0,0)") + "\n", "voxel size"),
        (NHDR.replace("(0,0,3)", "(0,0,nan)") + "\n", "space directions"),
        (NHDR.replace("sizes: 10 12 8", "sizes: 3 12 8\nkinds: vector domain domain") + "\n", "3 components"),
        (NHDR.replace("sizes: 10 12 8", "sizes: 3 12 8\nkinds: RGB-color domain domain") + "\n", "3 components"),
    ],
)
def test_a_wrong_header_is_refused_before_the_library_reads_it(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.nrrd" if text.startswith("NRRD") else "a.mha")
    path.write_bytes(text.encode() + voxels(0).tobytes())
    with pytest.raises(FormatError, match=reason):
        formats.read(path)
