"""What is a DICOM object in order and still no part of a volume: each with its reason, so that all is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medssl.errors import FormatError
from medssl.formats.dicom_header import PixelElement, number

__all__ = ["LABEL_CLASSES", "WANTED_TO_JUDGE", "LabelObjectError", "SetAsideError", "refuse"]

LABEL_CLASSES = {  # classes of objects that label a scan
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",  # a label map
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
}

WANTED_TO_JUDGE = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "SeriesDescription", "Rows", "Columns"),
    *("NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PhotometricInterpretation", "ImagePositionPatient", "PerFrameFunctionalGroupsSequence"),
)
_PROJECTIONS = {"CR", "DX", "MG", "XA", "RF", "PX", "IO"}
_SLICED = {"CT", "MR", "PT", "NM", ""}  # kinds of scan whose slices are believed even without a position
_LOCALISER = re.compile(r"locali[sz]er|scout|survey|topogram|3.?plane|dose report", re.IGNORECASE)
_ALLOCATED = (1, 8, 16, 32, 64)


class SetAsideError(FormatError):
    """A DICOM object that is in order but is no volume: a localiser, a report, a projection, a colour image.

    It is listed so that nobody wonders where it went; it is no fault of the folder. ``paths`` are all the files that
    are spoken of.
    """

    def __init__(self, path: Path, reason: str, paths: tuple[Path, ...] = ()) -> None:
        super().__init__(path, reason)
        self.paths = paths or (path,)


class LabelObjectError(SetAsideError):
    """A SEG or an RTSTRUCT: no scan, but a label of one."""


def refuse(path: Path, dataset: Any, pixels: PixelElement | None) -> None:
    """Raise for what is no slice of a volume, and for files that end before their pixels do.

    Raises:
        SetAsideError: It is no part of a volume.
        FormatError: It is damaged.
        ValueError: A number is none.
    """
    from pydicom.uid import UID

    sop_class = UID(str(dataset.get("SOPClassUID") or ""))
    # Private classes have no name; their numbers say no more than that.
    kind = ("a private class" if sop_class.name == str(sop_class) else sop_class.name) if sop_class else "unknown kind"
    modality = str(dataset.get("Modality") or "")
    meta = getattr(dataset, "file_meta", {})
    if path.name.upper() == "DICOMDIR" or "Directory" in UID(str(meta.get("MediaStorageSOPClassUID") or "")).name:
        raise SetAsideError(path, "This is a DICOM directory, a table of contents of other files.")
    if sop_class in LABEL_CLASSES:
        raise LabelObjectError(path, f"This DICOM object is not a scan but a label of one ({kind}).")
    if "Rows" not in dataset or "Columns" not in dataset:
        if not sop_class or "Image Storage" in kind:
            raise FormatError(path, "The file is not a DICOM file, or ends before its image does.")
        raise SetAsideError(path, f"This DICOM object is not an image ({kind}).")
    if modality == "SEG" or modality.startswith("RT") or "Segmentation" in kind or kind.startswith("RT "):
        raise SetAsideError(path, f"This DICOM object is not a scan ({kind}).")
    image_type = [str(part).upper() for part in dataset.get("ImageType") or []]
    if "LOCALIZER" in image_type or _LOCALISER.search(str(dataset.get("SeriesDescription") or "")):
        raise SetAsideError(path, "This is a localiser (scout) or a dose report, not a volume.")
    palette = str(dataset.get("PhotometricInterpretation") or "").startswith("PALETTE")
    if palette or (number(dataset, "SamplesPerPixel") or 1) > 1:
        raise SetAsideError(path, f"This is a colour image ({kind}); only grey values are read.")
    if "MOSAIC" in image_type:
        raise SetAsideError(
            path, "This is a Siemens mosaic, a volume tiled into one picture. Unfold it, for example with dcm2niix."
        )
    _placed(path, dataset, kind, modality)
    _whole(path, dataset, meta, pixels)


def _placed(path: Path, dataset: Any, kind: str, modality: str) -> None:
    placed = "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    if not placed and modality in _PROJECTIONS:
        raise SetAsideError(path, f"This is a projection ({modality}), not a slice of a volume.")
    if not placed and ("Secondary Capture" in kind or modality not in _SLICED):
        raise SetAsideError(
            path, f"This image ({kind}) has no position in the patient, so it is not a slice of a volume."
        )
    frames = int(number(dataset, "NumberOfFrames") or 1)
    if frames > 1 and "PerFrameFunctionalGroupsSequence" not in dataset:
        raise SetAsideError(path, f"This multi-frame image ({kind}) does not say where its {frames} frames lie.")


def _whole(path: Path, dataset: Any, meta: Any, pixels: PixelElement | None) -> None:
    """Raise where the header contradicts itself, or the file ends before its pixels do."""
    rows, columns = int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)
    allocated = int(number(dataset, "BitsAllocated") or 16)
    stored = int(number(dataset, "BitsStored") or allocated)
    signed = number(dataset, "PixelRepresentation") or 0
    if rows < 1 or columns < 1:
        raise FormatError(path, f"The image has {rows} rows and {columns} columns. Export the file again.")
    if allocated not in _ALLOCATED or not 1 <= stored <= allocated or signed not in (0, 1):
        raise FormatError(
            path,
            f"The header contradicts itself: BitsAllocated {allocated} (allowed: 1, 8, 16, 32, 64), BitsStored "
            f"{stored} (1 to BitsAllocated), PixelRepresentation {signed:g} (0 or 1). "
            "The file is damaged; export it again.",
        )
    if pixels is None:
        raise FormatError(path, "The file ends before its pixels, or has none. Export it again.")
    if pixels.dtype and allocated != {"float32": 32, "float64": 64}[pixels.dtype]:
        raise FormatError(path, f"The pixels are {pixels.dtype}, and BitsAllocated says {allocated}. Export it again.")
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed:
        return
    frames = int(number(dataset, "NumberOfFrames") or 1)
    promised = (frames * rows * columns * allocated + 7) // 8
    if pixels.length is not None and pixels.length < promised:
        raise FormatError(
            path,
            f"The pixels take {pixels.length} bytes, and {frames} x {rows} x {columns} pixels of {allocated} "
            f"bits need {promised}. The header or the file is damaged; export it again.",
        )
    there = path.stat().st_size - pixels.begin
    if pixels.length is not None and there < promised:
        raise FormatError(path, f"The file is truncated: {there} bytes of pixels, {promised} are needed.")
