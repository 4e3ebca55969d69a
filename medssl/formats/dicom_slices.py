"""One DICOM file to its slices: one for a plain image, one a frame for a multi-frame image."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from medssl.formats.files import first_bytes, looks_like_text
from medssl.formats.privacy import hashed, kept_fields

__all__ = ["Pixels", "Plane", "SetAsideError", "Slice", "read_slices", "starts_as_dicom"]

Vector = tuple[float, ...]


class SetAsideError(FormatError):
    """A DICOM object that is in order but is no volume: a localiser, a report, a projection, a colour image.

    It is listed so that nobody wonders where it went; it is no fault of the folder.
    """


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The plane that a slice lies in: ``row`` and ``column`` are directions in LPS+, None where the file has none.

    ``spacing`` is (between rows, between columns) in mm, None where the file has none.
    """

    rows: int
    columns: int
    cosines: Vector | None
    spacing: tuple[float, float] | None

    def same(self, other: Plane) -> bool:
        """Tell whether slices of these planes can be stacked."""
        if (self.rows, self.columns) != (other.rows, other.columns):
            return False
        return _near(self.cosines, other.cosines, 5e-3) and _near(self.spacing, other.spacing, 1e-3)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How the stored numbers are to be understood; one for a file."""

    bits: int
    allocated: int
    signed: bool
    inverted: bool
    modality: str
    rescale_type: str

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        """The type that the file's numbers have before rescaling."""
        return np.dtype(f"{'int' if self.signed else 'uint'}{max(8, self.allocated)}")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One plane of voxels in a file.

    Attributes:
        path: The file.
        index: Which frame of the file.
        series: Hash of SeriesInstanceUID, "" where there is none.
        instance: Tells copies of the same slice: hash of SOPInstanceUID, place and order. The identifier alone would
            not do: some programs that remove names give all slices the same one.
        plane: Where and how large it is, position aside.
        position: Centre of the first voxel in LPS+ mm, None where the file has none.
        thickness: Distance to the next slice as the header says it, None where it does not.
        rescale: (slope, intercept), None where the file has none.
        order: What sorts slices of one position: time, trigger, acquisition, echo, instance number, frame.
        pixels: How numbers are stored.
        fields: Header values that may be kept.
    """

    path: Path
    index: int
    series: str
    instance: str
    plane: Plane
    position: Vector | None
    thickness: float | None
    rescale: tuple[float, float] | None
    order: Vector
    pixels: Pixels
    fields: dict[str, str] = field(hash=False)


_ORDER = (
    "TemporalPositionIdentifier",
    "TriggerTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "EchoTime",
    "InstanceNumber",
)
_GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
)
_WANTED = [
    *_ORDER,
    *_GEOMETRY,
    *("SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription"),
    *("ImageType", "Modality", "Manufacturer", "KVP", "ConvolutionKernel", "MagneticFieldStrength", "RepetitionTime"),
    *("InversionTime", "FlipAngle", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("BitsStored", "PixelRepresentation", "PhotometricInterpretation"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]
_PROJECTIONS = {"CR", "DX", "MG", "XA", "RF", "PX", "IO"}
_SLICED = {"CT", "MR", "PT", "NM", ""}  # kinds of scan whose slices are believed even without a position
_LOCALISER = re.compile(r"locali[sz]er|scout|survey|topogram|3.?plane|dose report", re.IGNORECASE)


def starts_as_dicom(path: Path) -> bool:
    """Tell whether the file has DICOM's mark. Files that cannot be opened have none."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_slices(path: Path) -> list[Slice]:
    """Read a file's header and return its slices.

    Raises:
        SetAsideError: The object is no part of a volume.
        FormatError: The file is not DICOM, or is damaged.
    """
    import pydicom

    start = first_bytes(path, 512)
    if start[128:132] != b"DICM" and looks_like_text(start):
        raise FormatError(path, "The file is text, not a DICOM file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd but readable values, of which clinical files are full
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_WANTED)
            _refuse(path, dataset)
            return list(_slices(path, dataset))
    except FormatError:
        raise
    except Exception as error:  # a damaged header raises whatever the parser meets first
        raise FormatError(path, f"The DICOM header is damaged ({type(error).__name__}: {error}).") from error


def _refuse(path: Path, dataset: Any) -> None:
    """Raise for what is no slice of a volume, and for files that end before their pixels do."""
    import pydicom

    sop_class = pydicom.uid.UID(str(dataset.get("SOPClassUID") or ""))
    kind = sop_class.name or "unknown kind"
    modality = str(dataset.get("Modality") or "")
    meta = getattr(dataset, "file_meta", {})
    if "Directory" in pydicom.uid.UID(str(meta.get("MediaStorageSOPClassUID") or "")).name:
        raise SetAsideError(path, "This is a DICOM directory, a table of contents of other files.")
    if "Rows" not in dataset or "Columns" not in dataset:
        if not sop_class or "Image Storage" in kind:
            raise FormatError(path, "The file is not a DICOM file, or ends before its image does.")
        raise SetAsideError(path, f"This DICOM object is no image ({kind}).")
    if modality == "SEG" or modality.startswith("RT"):
        raise SetAsideError(path, f"This DICOM object is no scan ({kind}).")
    image_type = [str(part).upper() for part in dataset.get("ImageType") or []]
    if "LOCALIZER" in image_type or _LOCALISER.search(str(dataset.get("SeriesDescription") or "")):
        raise SetAsideError(path, "This is a localiser (scout) or a dose report, not a volume.")
    palette = str(dataset.get("PhotometricInterpretation") or "").startswith("PALETTE")
    if palette or int(dataset.get("SamplesPerPixel") or 1) > 1:
        raise SetAsideError(path, f"This is a colour image ({kind}); only grey values are read.")
    placed = "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    if not placed and modality in _PROJECTIONS:
        raise SetAsideError(path, f"This is a projection ({modality}), not a slice of a volume.")
    if not placed and ("Secondary Capture" in kind or modality not in _SLICED):
        raise SetAsideError(path, f"This image ({kind}) has no place in the patient, and is no slice of a volume.")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        raise SetAsideError(path, f"This multi-frame image ({kind}) does not say where its {frames} frames lie.")
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None and not syntax.is_compressed:
        promised = frames * int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("BitsAllocated") or 16) // 8
        size = path.stat().st_size
        if size < promised:
            raise FormatError(path, f"The file is truncated: {size} bytes, its pixels alone need {promised}.")


def _slices(path: Path, dataset: Any) -> Iterator[Slice]:
    fields = kept_fields(dataset)
    shared = _groups(dataset.get("SharedFunctionalGroupsSequence"))
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [None])
    instance = str(dataset.get("SOPInstanceUID") or path)
    pixels = Pixels(
        bits=int(dataset.get("BitsStored") or 16),
        allocated=int(dataset.get("BitsAllocated") or 16),
        signed=int(dataset.get("PixelRepresentation") or 0) == 1,
        inverted=str(dataset.get("PhotometricInterpretation") or "") == "MONOCHROME1",
        modality=str(dataset.get("Modality") or "unknown"),
        rescale_type=_rescale_type(dataset, shared),
    )
    for index, frame in enumerate(frames):
        found = {keyword: dataset.get(keyword) for keyword in (*_ORDER, *_GEOMETRY)}
        found |= shared
        if frame is not None:
            found |= _groups([frame])
        slope, intercept = _number(found.get("RescaleSlope")), _number(found.get("RescaleIntercept"))
        spacing = _numbers(found.get("PixelSpacing"), 2)
        position = _numbers(found.get("ImagePositionPatient"), 3)
        order = (*(_number(found.get(keyword)) or 0.0 for keyword in _ORDER), float(index))
        yield Slice(
            path=path,
            index=index,
            series=fields.get("series", ""),
            instance=hashed(f"{instance} {position} {order}"),
            plane=Plane(
                rows=int(dataset.Rows),
                columns=int(dataset.Columns),
                cosines=_numbers(found.get("ImageOrientationPatient"), 6),
                spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
            ),
            position=position,
            thickness=_number(found.get("SpacingBetweenSlices")) or _number(found.get("SliceThickness")),
            rescale=None
            if slope is None and intercept is None
            else (1.0 if slope is None else slope, intercept or 0.0),
            order=order,
            pixels=pixels,
            fields=fields,
        )


def _groups(sequence: Any) -> dict[str, Any]:
    """Return the values we want from functional groups, which hold each macro as a sequence of one item."""
    found: dict[str, Any] = {}
    for item in sequence or []:
        for element in item:
            if element.VR != "SQ" or not element.value:
                continue
            inner = element.value[0]
            for keyword in (*_ORDER, *_GEOMETRY):
                if keyword in inner:
                    found[keyword] = inner.get(keyword)
            for renamed, keyword in (
                ("TemporalPositionIndex", "TemporalPositionIdentifier"),
                ("EffectiveEchoTime", "EchoTime"),
                ("NominalCardiacTriggerDelayTime", "TriggerTime"),
            ):
                if renamed in inner:
                    found[keyword] = inner.get(renamed)
    return found


def _rescale_type(dataset: Any, shared: dict[str, Any]) -> str:
    return str(shared.get("RescaleType") or dataset.get("RescaleType") or "").upper()


def _number(value: Any) -> float | None:
    numbers = _numbers([value], 1)
    return numbers[0] if numbers else None


def _numbers(values: Any, count: int) -> Vector | None:
    """Return ``count`` finite numbers, or None where the file has anything else."""
    if values is None or isinstance(values, str):
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and bool(np.isfinite(numbers).all()) else None


def _near(a: Vector | None, b: Vector | None, tolerance: float) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.allclose(a, b, rtol=0.0, atol=tolerance))
