"""One DICOM file to its slices: one for a plain image, one a frame for a multi-frame image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from medssl.formats.dicom_aside import WANTED_TO_JUDGE, SetAsideError, refuse
from medssl.formats.dicom_contrast import SAID_BY, contrast_of
from medssl.formats.dicom_header import PixelElement, Vector, near, number, numbers, read_dataset, starts_as_dicom
from medssl.formats.privacy import ALLOWED, hashed, kept_fields
from medssl.refusing import refusing

__all__ = ["MARKS", "RANKED", "Pixels", "Plane", "SetAsideError", "Slice", "read_slices", "starts_as_dicom"]


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
        return near(self.cosines, other.cosines, 5e-3) and near(self.spacing, other.spacing, 1e-3)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How the stored numbers are to be understood; one for a file.

    ``floating`` is "float32" or "float64" where pixels are floating point, else "". ``padding`` is the range of stored
    values that mark what was not imaged, None where the header names none.
    """

    bits: int
    allocated: int
    high: int
    signed: bool
    inverted: bool
    modality: str
    rescale_type: str
    floating: str = ""
    padding: tuple[int, int] | None = None

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        """The type that the file's numbers have before rescaling."""
        return np.dtype(self.floating or f"{'int' if self.signed else 'uint'}{max(8, self.allocated)}")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One plane of voxels in a file.

    Attributes:
        path: The file.
        index: Which frame of the file.
        owner: Hash of the patient and the study; identifiers of series that several share are no sign of one scan.
        series: Hash of SeriesInstanceUID, "" where there is none.
        sop: Hash of SOPInstanceUID, by which labels refer to a slice.
        instance: Tells copies of the same slice: hash of SOPInstanceUID, place and order. The identifier alone would
            not do: some programs that remove names give all slices the same one.
        plane: Where and how large it is, position aside.
        position: Centre of the first voxel in LPS+ mm, None where the file has none.
        thickness: SliceThickness in mm, None where it is missing.
        between: Distance to the next slice as the header says it, without sign; None where it does not.
        number: InstanceNumber, None where it is missing or no number.
        rescale: Slope and intercept, None where the file has none.
        order: What sorts slices of one position: time, trigger, b-value, acquisition, echo, instance number, frame.
        marks: Values of ``MARKS`` and ``RANKED`` that tell acquisitions apart.
        pixels: How numbers are stored.
        fields: Header values that may be kept.
        notes: What a person should know of this file's numbers.
    """

    path: Path
    index: int
    owner: str
    series: str
    sop: str
    instance: str
    plane: Plane
    position: Vector | None
    thickness: float | None
    between: float | None
    number: float | None
    rescale: tuple[float, float] | None
    order: Vector
    pixels: Pixels
    marks: dict[str, str] = field(hash=False, default_factory=dict)
    fields: dict[str, str] = field(hash=False, default_factory=dict)
    notes: tuple[str, ...] = ()


_ORDER = (
    "TemporalPositionIdentifier",
    "TriggerTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "EchoTime",
    "InstanceNumber",
)
# What tells images of one place apart, the plainest first. None of them may hold words that a person typed.
MARKS = (
    *("SeriesNumber", "StackID", "ImageType", "AcquisitionNumber", "TemporalPositionIdentifier", "EchoNumbers"),
    *("EchoTime", "DiffusionBValue", "DiffusionGradientOrientation", "InversionTime", "FlipAngle", "RepetitionTime"),
    *("ConvolutionKernel", "KVP", "NominalPercentageOfCardiacPhase"),
)
# These differ from slice to slice: not their values but their order at each place tells times apart.
RANKED = ("TriggerTime", "AcquisitionTime", "ContentTime")
_GEOMETRY = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
)
_PER_FRAME = tuple(dict.fromkeys((*_ORDER, *_GEOMETRY, *MARKS, *RANKED)))
_RENAMED = (  # of the macros of multi-frame images -> of single slices
    ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("EffectiveEchoTime", "EchoTime"),
    ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    ("FrameAcquisitionNumber", "AcquisitionNumber"),
    ("FrameType", "ImageType"),
)
_SIEMENS_B, _PHILIPS_B = 0x0019100C, 0x20011003
_PHILIPS_SLOPE = 0x2005100E
_WANTED: list[str | int] = [
    *dict.fromkeys((*WANTED_TO_JUDGE, *_PER_FRAME, *ALLOWED)),
    *("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "SharedFunctionalGroupsSequence"),
    *(keyword for keyword in SAID_BY if keyword not in WANTED_TO_JUDGE),
]
_WANTED_TAGS = [_SIEMENS_B, _PHILIPS_B, _PHILIPS_SLOPE]


def read_slices(path: Path) -> list[Slice]:
    """Read a file's header and return its slices.

    Raises:
        SetAsideError: The object is no part of a volume.
        FormatError: The file is not DICOM, or is damaged.
    """
    with refusing(path):
        return _read_slices(path)


def _read_slices(path: Path) -> list[Slice]:
    try:
        dataset, element = read_dataset(path, [*_WANTED, *_WANTED_TAGS])
        refuse(path, dataset, element)
        assert element is not None
        return list(_slices(path, dataset, element))
    except (FormatError, OSError, MemoryError, RecursionError):
        raise
    except Exception as error:  # a damaged header raises whatever the parser meets first
        raise FormatError(path, f"The DICOM header is damaged ({type(error).__name__}: {error}).") from error


def _slices(path: Path, dataset: Any, element: PixelElement) -> Iterator[Slice]:
    fields = kept_fields(dataset)
    shared = _groups(dataset.get("SharedFunctionalGroupsSequence"))
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [None])
    promised = int(number(dataset, "NumberOfFrames") or 1)
    if len(frames) != promised:
        raise ValueError(f"NumberOfFrames is {promised}, and {len(frames)} frames are described")
    uid = str(dataset.get("SOPInstanceUID") or path)
    common = {keyword: value for keyword in _PER_FRAME if (value := dataset.get(keyword)) not in (None, "")}
    if (b := _private_b(dataset)) is not None:
        common.setdefault("DiffusionBValue", b)
    pixels = _pixels(dataset, element, _rescale_type(dataset, shared))
    notes = _notes(dataset)
    for index, frame in enumerate(frames):
        found = common | shared
        if frame is not None:
            found |= _groups([frame])
        slope, intercept = number(found, "RescaleSlope"), number(found, "RescaleIntercept")
        spacing = numbers(found, "PixelSpacing", 2)
        position = numbers(found, "ImagePositionPatient", 3)
        between = number(found, "SpacingBetweenSlices", strict=False)
        order = (*(number(found, keyword, strict=False) or 0.0 for keyword in _ORDER), float(index))
        contrast = contrast_of(dataset, found)
        told = {"contrast": contrast.name, "contrast_rule": contrast.rule} if contrast.name else {}
        yield Slice(
            path=path,
            index=index,
            owner=_owner(dataset, fields),
            series=fields.get("series", ""),
            sop=hashed(uid),
            instance=hashed(f"{uid} {position} {order}"),
            plane=Plane(
                rows=int(dataset.Rows),
                columns=int(dataset.Columns),
                cosines=_cosines(found),
                spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
            ),
            position=position,
            thickness=number(found, "SliceThickness", strict=False),
            between=abs(between) if between else None,  # negative in nuclear medicine; positions say which way
            number=number(found, "InstanceNumber", strict=False),
            rescale=None
            if slope is None and intercept is None
            else (1.0 if slope is None else slope, intercept or 0.0),
            order=order,
            pixels=pixels,
            marks={name: _word(found[name]) for name in (*MARKS, *RANKED) if found.get(name) not in (None, "")},
            fields=fields | told,
            notes=notes,
        )


def _pixels(dataset: Any, element: PixelElement, rescale_type: str) -> Pixels:
    allocated = int(number(dataset, "BitsAllocated") or 16)
    bits = int(number(dataset, "BitsStored") or allocated)
    high = number(dataset, "HighBit", strict=False)
    signed = int(number(dataset, "PixelRepresentation") or 0) == 1
    return Pixels(
        bits=bits,
        allocated=allocated,
        high=bits - 1 if high is None or not bits - 1 <= high < allocated else int(high),
        signed=signed,
        inverted=str(dataset.get("PhotometricInterpretation") or "") == "MONOCHROME1",
        modality=str(dataset.get("Modality") or "unknown"),
        rescale_type=rescale_type,
        floating=element.dtype,
        padding=None if element.dtype else _padding(dataset, allocated, signed),
    )


def _padding(dataset: Any, allocated: int, signed: bool) -> tuple[int, int] | None:
    values = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = number(dataset, keyword, strict=False)
        if value is not None:
            # Writers disagree on whether the value is signed; the bits are the same.
            whole = int(value) & ((1 << allocated) - 1)
            values.append(whole - (1 << allocated) if signed and whole >> (allocated - 1) else whole)
        elif not values:
            return None
    return min(values), max(values)


def _owner(dataset: Any, fields: dict[str, str]) -> str:
    # Without an identifier the name and the date of birth tell patients apart; only the hash of them is compared.
    person = fields.get("patient") or f"{dataset.get('PatientName') or ''}|{dataset.get('PatientBirthDate') or ''}"
    return hashed(f"{person}|{fields.get('study', '')}")


def _cosines(found: dict[str, Any]) -> Vector | None:
    cosines = numbers(found, "ImageOrientationPatient", 6)
    if cosines is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1.0) for length in lengths) > 0.05 or abs(float(row @ column)) > 0.05:
        raise ValueError(f"ImageOrientationPatient is {cosines}, which are no two directions at a right angle")
    return cosines


def _private_b(dataset: Any) -> float | None:
    for tag in (_SIEMENS_B, _PHILIPS_B):
        if tag in dataset:
            value = number({"b": dataset[tag].value}, "b", strict=False)
            if value is not None:
                return value
    return None


def _notes(dataset: Any) -> tuple[str, ...]:
    notes = []
    if _PHILIPS_SLOPE in dataset and str(dataset.get("Modality") or "") == "MR":
        notes.append(
            "display values: a scale of Philips' own is not applied, so that values of two series do not compare"
        )
    units = str(dataset.get("Units") or "")
    if str(dataset.get("Modality") or "") in ("PT", "NM") and units:
        notes.append(f"units: the values are in {_word(units)}; no SUV is computed")
    return tuple(notes)


def _word(value: Any) -> str:
    parts = [value] if isinstance(value, str | int | float) or not hasattr(value, "__iter__") else list(value)
    return "/".join(str(part) for part in parts)[:64]


def _groups(sequence: Any) -> dict[str, Any]:
    """Return the values we want from functional groups, which hold each macro as a sequence of one item."""
    found: dict[str, Any] = {}
    for item in sequence or []:
        for element in item:
            if element.VR != "SQ" or not element.value:
                continue
            inner = element.value[0]
            for keyword in _PER_FRAME:
                if inner.get(keyword) not in (None, ""):
                    found[keyword] = inner.get(keyword)
            for renamed, keyword in _RENAMED:
                if renamed in inner:
                    found[keyword] = inner.get(renamed)
            directions = inner.get("DiffusionGradientDirectionSequence") or []
            if directions and "DiffusionGradientOrientation" in directions[0]:
                found["DiffusionGradientOrientation"] = directions[0].get("DiffusionGradientOrientation")
            parts = [inner.get("ComplexImageComponent"), found.get("ImageType")]
            if parts[0]:
                found["ImageType"] = [*([parts[1]] if isinstance(parts[1], str) else parts[1] or []), parts[0]]
    return found


def _rescale_type(dataset: Any, shared: dict[str, Any]) -> str:
    return str(shared.get("RescaleType") or dataset.get("RescaleType") or "").upper()
