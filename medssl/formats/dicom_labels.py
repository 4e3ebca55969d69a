"""DICOM objects that label a scan, SEG and RTSTRUCT: which scan they mean, which structures they name, their voxels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medssl.errors import FormatError
from medssl.formats.dicom_aside import LABEL_CLASSES
from medssl.formats.dicom_header import starts_as_dicom
from medssl.formats.dicom_rtstruct import read_rtstruct, roi_names
from medssl.formats.dicom_seg import read_seg, segment_names
from medssl.formats.privacy import hashed
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import format_of, is_dicom_name
from medssl.refusing import refusing

__all__ = ["LabelReference", "is_label_object", "label_reference", "names_of", "read_label_object"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LabelReference:
    """What a label says of the scan that it labels; identifiers as hashes.

    Attributes:
        kind: "SEG" or "RTSTRUCT".
        patient: PatientID; "" where there is none.
        series: SeriesInstanceUID of the series that it names.
        frames_of_reference: FrameOfReferenceUID.
        images: SOPInstanceUID of the images that it names.
        structures: Names of its structures.
    """

    kind: str
    patient: str
    series: frozenset[str]
    frames_of_reference: frozenset[str]
    images: frozenset[str]
    structures: tuple[str, ...]


def is_label_object(path: Path) -> bool:
    """Tell whether a file is a SEG or an RTSTRUCT, by what it says itself."""
    if not path.is_file() or not (is_dicom_name(path) or (format_of(path) is None and starts_as_dicom(path))):
        return False
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"])
        return str(dataset.get("SOPClassUID") or "") in LABEL_CLASSES
    except Exception:  # what cannot be read is no label that could be; the reader says why
        return False


def label_reference(path: Path) -> LabelReference:
    """Return which scan a label means.

    Raises:
        FormatError: It is none, or is damaged.
    """

    def found(dataset: Any, kind: str) -> LabelReference:
        names = segment_names(dataset) if kind == "SEG" else roi_names(dataset)
        series = {str(item.get("SeriesInstanceUID") or "") for item in _items(dataset, "ReferencedSeriesSequence")}
        series |= {str(item.get("SeriesInstanceUID") or "") for item in _items(dataset, "RTReferencedSeriesSequence")}
        images = {
            str(item.get("ReferencedSOPInstanceUID") or "")
            for name in ("ReferencedInstanceSequence", "SourceImageSequence", "ContourImageSequence")
            for item in _items(dataset, name)
        }
        frames = {str(dataset.get("FrameOfReferenceUID") or "")}
        for item in _items(dataset, "ReferencedFrameOfReferenceSequence"):
            frames.add(str(item.get("FrameOfReferenceUID") or ""))
        return LabelReference(
            kind=kind,
            patient=hashed(str(dataset.get("PatientID") or "")),
            series=_hashes(series),
            frames_of_reference=_hashes(frames),
            images=_hashes(images),
            structures=tuple(sorted(set(names.values()))),
        )

    return _with(path, found, pixels=False)


def names_of(path: Path) -> tuple[str, ...]:
    """Return the names of the structures of a label, sorted; each once.

    Raises:
        FormatError: It is no label, or is damaged.
    """
    return label_reference(path).structures


def read_label_object(path: Path, image: ScanHeader | None, classes: Mapping[int, str] | None) -> Scan:
    """Read a SEG or an RTSTRUCT as a label map; see ``dicom_seg`` and ``dicom_rtstruct``.

    Args:
        path: The file.
        image: The scan that it labels; None where it is not at hand, which an RTSTRUCT cannot do without.
        classes: Label value -> name; None, or nothing, numbers the names of this file.

    Raises:
        FormatError: It cannot be read, or does not lie on the scan.
    """

    def read(dataset: Any, kind: str) -> Scan:
        return (read_seg if kind == "SEG" else read_rtstruct)(path, dataset, image, classes or None)

    return _with(path, read, pixels=True)


def _with(path: Path, use: Callable[[Any, str], T], *, pixels: bool) -> T:
    with refusing(path):
        return _used(path, use, pixels=pixels)


def _used(path: Path, use: Callable[[Any, str], T], *, pixels: bool) -> T:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
            kind = LABEL_CLASSES.get(str(dataset.get("SOPClassUID") or ""))
            if kind is None:
                raise FormatError(path, "This is neither a DICOM SEG nor an RTSTRUCT.")
            return use(dataset, kind)
    except (FormatError, OSError, MemoryError, RecursionError):
        raise
    except Exception as error:  # a damaged file raises whatever is met first
        raise FormatError(path, f"The DICOM label is damaged ({type(error).__name__}: {error}).") from error


def _items(dataset: Any, keyword: str) -> Iterator[Any]:
    """Yield the items of a sequence, wherever below a dataset it stands."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or []:
                if element.keyword == keyword:
                    yield item
                yield from _items(item, keyword)


def _hashes(identifiers: set[str]) -> frozenset[str]:
    return frozenset(hashed(one) for one in identifiers if one.strip())
