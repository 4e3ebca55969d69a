"""Writing DICOM series: plain slices or one multi-frame file; for phantoms, tests and exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.writing import atomic_write

__all__ = ["write_multiframe", "write_series"]

_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def write_series(
    folder: Path,
    values: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    *,
    modality: str = "CT",
    patient_id: str = "anonymous",
    name: str = "slice",
    localizer: bool = False,
    transfer_syntax: str = _EXPLICIT_LITTLE_ENDIAN,
    tags: dict[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write one file a slice.

    The same values, affine and identifiers always give the same files, unique identifiers included.

    Args:
        folder: Made where it is missing.
        values: Integers with axes (z, y, x), of a range that fits 16 bits.
        affine: 4x4, RAS+. A shear along z is written as the positions of the slices (gantry tilt).
        modality: "CT" (values are HU) or "MR".
        patient_id: Names the patient and, with ``name``, the study and the series.
        name: Start of the file names; part of the series' identifier.
        localizer: Whether to mark the images as localisers.
        transfer_syntax: UID; a compressed one needs pydicom's plugin that encodes it.
        tags: Further header values by keyword, put in last.

    Returns:
        The files, in the order of the slices.

    Raises:
        ValueError: The values are no integers or do not fit 16 bits.
    """
    folder = Path(folder)
    paths = []
    for index, plane in enumerate(np.asarray(values)):
        dataset = _dataset(values, affine, modality, patient_id=patient_id, name=name, localizer=localizer)
        # The type and offset are chosen from the whole scan, so all slices have the same.
        _put_pixels(dataset, plane[None], np.asarray(values))
        dataset.SOPClassUID = _CLASSES[modality]
        dataset.SOPInstanceUID = _uid(patient_id, name, "instance", index)
        dataset.InstanceNumber = index + 1
        origin = _lps(geometry.crop_affine(affine, (index, 0, 0)))[:3, 3]
        dataset.ImagePositionPatient = [float(v) for v in origin]
        dataset.ImageOrientationPatient = _cosines(affine)
        dataset.PixelSpacing = _pixel_spacing(affine)
        dataset.SliceThickness = geometry.spacing_mm(affine)[0]
        for keyword, value in (tags or {}).items():
            setattr(dataset, keyword, value)
        paths.append(folder / f"{name}-{index + 1:04d}.dcm")
        _save(dataset, paths[-1], transfer_syntax)
    return tuple(paths)


def write_multiframe(
    path: Path,
    values: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    *,
    modality: str = "CT",
    patient_id: str = "anonymous",
    transfer_syntax: str = _EXPLICIT_LITTLE_ENDIAN,
) -> None:
    """Write a volume, or several of them, as one enhanced multi-frame file; see ``write_series``.

    Args:
        path: The file.
        values: Integers with axes (z, y, x) or (frame, z, y, x).
        affine: 4x4, RAS+.
        modality: "CT" (values are HU) or "MR".
        patient_id: Names the patient, the study and the series.
        transfer_syntax: UID.
    """
    from pydicom.dataset import Dataset

    path, values = Path(path), np.asarray(values)
    volumes = values if values.ndim == 4 else values[None]
    dataset = _dataset(volumes[0], affine, modality, patient_id=patient_id, name=path.stem, localizer=False)
    _put_pixels(dataset, volumes.reshape(-1, *volumes.shape[2:]), volumes)
    dataset.SOPClassUID = _ENHANCED[modality]
    dataset.SOPInstanceUID = _uid(patient_id, path.stem, "instance", 0)
    dataset.NumberOfFrames = volumes.shape[0] * volumes.shape[1]

    measures, plane, transformation, shared = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = _pixel_spacing(affine)
    measures.SliceThickness = geometry.spacing_mm(affine)[0]
    plane.ImageOrientationPatient = _cosines(affine)
    transformation.RescaleSlope, transformation.RescaleIntercept = 1, dataset.get("RescaleIntercept", 0)
    transformation.RescaleType = "HU" if modality == "CT" else "US"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [transformation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        if keyword in dataset:
            delattr(dataset, keyword)
    frames = []
    for time in range(volumes.shape[0]):
        for index in range(volumes.shape[1]):
            position, content, frame = Dataset(), Dataset(), Dataset()
            origin = _lps(geometry.crop_affine(affine, (index, 0, 0)))[:3, 3]
            position.ImagePositionPatient = [float(v) for v in origin]
            content.TemporalPositionIndex = time + 1
            content.DimensionIndexValues = [time + 1, index + 1]
            frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
            frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    _save(dataset, path, transfer_syntax)


def _dataset(
    values: npt.NDArray[Any], affine: npt.NDArray[Any], modality: str, *, patient_id: str, name: str, localizer: bool
) -> Any:
    from pydicom.dataset import Dataset

    if modality not in _CLASSES:
        raise ValueError(f"DICOM is written as CT or MR. Got the modality '{modality}'.")
    dataset = Dataset()
    dataset.PatientID, dataset.PatientName = patient_id, ""
    dataset.Modality = modality
    dataset.StudyInstanceUID = _uid(patient_id, "study")
    dataset.SeriesInstanceUID = _uid(patient_id, name, "series")
    dataset.FrameOfReferenceUID = _uid(patient_id, "frame of reference")
    dataset.Manufacturer = "medssl"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if localizer else "AXIAL"]
    return dataset


def _put_pixels(dataset: Any, planes: npt.NDArray[Any], whole: npt.NDArray[Any]) -> None:
    if whole.dtype.kind not in "iub":
        raise ValueError(f"DICOM slices hold integers. Got {whole.dtype.name}: round or scale the values first.")
    low, high = int(whole.min()), int(whole.max())
    intercept = -1024 if dataset.Modality == "CT" and low >= -1024 else 0
    signed = low < intercept
    if (low < -32768 or high > 32767) if signed else high - intercept > 65535:
        raise ValueError(f"DICOM slices hold 16 bits. Got values from {low} to {high}.")
    stored = (planes.astype(np.int64) - intercept).astype(np.int16 if signed else np.uint16)
    dataset.Rows, dataset.Columns = planes.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    # As scanners do: 12 bits where they suffice, which lets a reader keep HU in int16.
    bits = 12 if not signed and high - intercept < 4096 else 16
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    if dataset.Modality == "CT":
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, intercept, "HU"
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def _save(dataset: Any, path: Path, transfer_syntax: str) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    dataset.file_meta = meta
    if UID(transfer_syntax).is_compressed:
        dataset.compress(UID(transfer_syntax), generate_instance_uid=False)
    else:
        meta.TransferSyntaxUID = UID(transfer_syntax)
    with atomic_write(path, suffix=".dcm") as aside:
        dataset.save_as(aside, enforce_file_format=True)


def _uid(*parts: object) -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=["medssl", *(str(part) for part in parts)]))


def _lps(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    origin, spacing, direction = geometry.itk_from_affine(affine)
    result = np.eye(4)
    result[:3, :3] = np.array(direction).reshape(3, 3) * np.array(spacing)
    result[:3, 3] = origin
    return result


def _cosines(affine: npt.NDArray[np.float64]) -> list[float]:
    direction = np.array(geometry.itk_from_affine(affine)[2]).reshape(3, 3)
    return [float(v) for v in (*direction[:, 0], *direction[:, 1])]


def _pixel_spacing(affine: npt.NDArray[np.float64]) -> list[float]:
    _, between_rows, between_columns = geometry.spacing_mm(affine)
    return [between_rows, between_columns]
