"""DICOM files as scanners and programs write them, made with pydicom and not with medssl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SPACING = (3.0, 1.5, 1.0)  # between slices, rows and columns, mm


def uid(*parts: object) -> str:
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def voxels(seed: int = 0, shape: tuple[int, int, int] = (6, 12, 10)) -> np.ndarray:
    return np.random.default_rng(seed).integers(100, 2000, shape).astype(np.int16)


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def image(
    stored: np.ndarray,
    *,
    modality: str = "CT",
    patient: str = "P1",
    series: str = "s",
    instance: object = 0,
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
    cosines: tuple[float, ...] = AXIAL,
    spacing: tuple[float, float, float] = SPACING,
    **tags: Any,
) -> Dataset:
    """Return one slice of these stored numbers; tags by keyword come last, and None takes one away."""
    dataset = Dataset()
    dataset.SOPClassUID = CLASSES[modality]
    dataset.SOPInstanceUID = uid(patient, series, instance)
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = patient, "", "", ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid(patient, "study"), uid(series)
    dataset.FrameOfReferenceUID = uid(patient, "frame")
    dataset.StudyID, dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "1", "20200101", "120000", ""
    dataset.ReferringPhysicianName, dataset.SeriesNumber, dataset.Manufacturer = "", 1, "Maker"
    dataset.PositionReferenceIndicator = ""
    dataset.Modality, dataset.ImageType = modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), list(cosines)
    dataset.SliceThickness, dataset.PixelSpacing = spacing[0], list(spacing[1:])
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    if modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = stored.tobytes()
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def series(
    folder: Path,
    values: np.ndarray,
    *,
    name: str = "s",
    instances: object = "",
    per_slice: Callable[[int], dict[str, Any]] = lambda k: {},
    origin: tuple[float, float, float] = (-20.0, -30.0, 40.0),
    step: tuple[float, float, float] | None = None,
    prefix: str = "",
    syntax: str = ExplicitVRLittleEndian,
    **common: Any,
) -> list[Path]:
    """Write one file a slice; ``per_slice`` gives further tags by the number of the slice."""
    spacing = common.get("spacing", SPACING)
    cosines = np.array(common.get("cosines", AXIAL))
    along = np.array(step) if step else np.cross(cosines[:3], cosines[3:]) * spacing[0]
    paths = []
    for k, plane in enumerate(values):
        tags = {
            "InstanceNumber": k + 1,
            "position": tuple((np.array(origin) + k * along).tolist()),
            **common,
            **per_slice(k),
        }
        dataset = image(plane, series=name, instance=f"{instances}-{k}", **tags)
        paths.append(save(dataset, folder / f"{prefix}{k + 1:03d}.dcm", syntax))
    return paths


def edit(path: Path, change: Callable[[Dataset], Any]) -> None:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


def itk(paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Return the values and the affine (RAS+) that SimpleITK reads from the files of a series, in this order."""
    read = sitk.ReadImage([str(path) for path in paths])
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(read.GetDirection()).reshape(3, 3) @ np.diag(read.GetSpacing())
    matrix[:3, 3] = read.GetOrigin()
    return sitk.GetArrayFromImage(read), np.diag([-1.0, -1, 1, 1]) @ matrix
