"""Order of slices, padding beyond BitsStored, wide integers, huge values, names that no manifest holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image

from medssl.formats.dicom_pixels import decode
from medssl.formats.reading import read
from medssl.formats.scan import finite_voxels
from medssl.manifest.build import build_manifest
from medssl.store.body import find_body, whole
from medssl.store.options import StoreSettings
from medssl.store.prepare import scale_intensity
from tests.layouts.tree import by_name, index


def _stack(folder: Path, count: int = 5) -> None:
    folder.mkdir(parents=True)
    seed = sum(str(folder).encode())
    for number in range(count):
        values = np.random.default_rng(seed + number).integers(0, 255, (12, 14)).astype(np.uint8)
        Image.fromarray(values).save(folder / f"slice_{number}.png")


def test_patients_and_splits_of_stacks_are_those_of_their_folders(tmp_path: Path) -> None:
    for split, names in (("train", "ab"), ("test", "cd")):
        for name in names:
            _stack(tmp_path / "scans" / split / f"case{name}1" / "images")
    rows = [*by_name(index(tmp_path / "scans")).values()]
    found = {row["patient"]: row["split"] for row in rows}
    assert set(found) == {"casea1", "caseb1", "casec1", "cased1"}
    assert found["casec1"] == found["cased1"] == "test"
    assert "test" not in (found["casea1"], found["caseb1"])


def test_stacks_of_two_sites_are_of_different_patients(tmp_path: Path) -> None:
    for site in ("siteA", "siteB"):
        for number in (1, 2):
            _stack(tmp_path / "scans" / site / f"patient00{number}")
    assert len({row["patient"] for row in by_name(index(tmp_path / "scans")).values()}) == 4


def test_slices_that_change_places_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "scans" / "patient001"
    _stack(folder)
    before = next(index(tmp_path / "scans").rows())
    first, second, aside = folder / "slice_0.png", folder / "slice_1.png", folder / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    after = next(index(tmp_path / "scans").rows())
    assert before["file_hash"] != after["file_hash"]
    assert before["content_hash"] != after["content_hash"]


def test_a_csv_may_name_a_folder_of_slices(tmp_path: Path) -> None:
    _stack(tmp_path / "scans" / "patient001")
    table = tmp_path / "list.csv"
    table.write_text("path,patient\nscans/patient001,someone\n", encoding="utf-8")
    row = next(build_manifest(table, workers=1)[0].rows())
    assert (row["error"], row["patient"], list(row["shape"])) == (None, "someone", [5, 12, 14])


def test_a_folder_out_of_reach_does_not_end_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stack(tmp_path / "scans" / "patient001")
    monkeypatch.chdir(tmp_path / "scans")
    for _ in range(21):
        Path("n" * 200).mkdir()
        monkeypatch.chdir("n" * 200)
    monkeypatch.chdir(tmp_path)
    errors = [row["error"] for row in index(tmp_path / "scans").rows() if row["error"]]
    assert len(errors) == 1
    assert "Shorten" in errors[0]


def test_names_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    _stack(tmp_path / "scans" / "patient001")
    (tmp_path / "scans" / os.fsdecode(b"caf\xe9.nii.gz")).write_bytes(b"0" * 400)
    (tmp_path / "scans" / os.fsdecode(b"d\xff")).mkdir()
    found = index(tmp_path / "scans")
    assert len(found) == 1
    assert any("2 names that are not UTF-8" in note for note in found.notes)


@pytest.mark.parametrize("padding", [63536, 0x1000])
def test_padding_beyond_the_bits_that_are_stored_is_air(tmp_path: Path, padding: int) -> None:
    path = tmp_path / "one.dcm"
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1"
    data.SeriesInstanceUID, data.StudyInstanceUID, data.PatientID, data.Modality = "1.2.3.2", "1.2.3.3", "p", "CT"
    data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 8, 9, 16, 12, 11
    data.PixelRepresentation, data.SamplesPerPixel, data.PhotometricInterpretation = 0, 1, "MONOCHROME2"
    data.PixelSpacing, data.SliceThickness, data.InstanceNumber = [1.0, 1.0], 2.0, 1
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.add_new(0x00280120, "US", padding)
    stored = np.arange(1000, 1072, dtype=np.uint16).reshape(8, 9)
    stored[:2] = padding
    data.PixelData = stored.tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    assert (decode(path) == stored).all()
    values = read(path).values
    assert (values[0, :2] == -1024).all()
    assert (values[0, 2:] == stored[2:].astype(int) - 1024).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int32, np.int64])
def test_wide_integers_are_clipped_before_they_are_narrowed(dtype: type) -> None:
    values: npt.NDArray[np.generic] = np.arange(60).reshape(3, 4, 5).astype(dtype)
    values[0, 0, 0] = np.iinfo(dtype).max
    scaled = scale_intensity(values, whole(values.shape), hounsfield=True, settings=StoreSettings())
    low, high = StoreSettings().hu_range
    expected = [[[max(low, min(high, int(v))) for v in row] for row in plane] for plane in values]
    assert scaled.values.tolist() == expected


def test_one_huge_voxel_moves_no_body() -> None:
    values = np.random.default_rng(1).normal(10.0, 1.0, (24, 30, 28))
    values[6:18, 8:22, 8:20] += 200.0
    plain = find_body(values, hounsfield=False)
    values[2, 2, 2] = 1e38
    assert find_body(values, hounsfield=False) == plain


def test_what_float32_does_not_hold_is_no_number() -> None:
    assert finite_voxels(np.array([1.0, 1e38, 1e300, -1e300, np.inf, np.nan])).tolist() == [True, True] + [False] * 4
