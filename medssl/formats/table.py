"""The table of formats of scans, by suffix: what a file's name promises, and which module reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medssl.suffixes import Format, FormatTable

__all__ = ["FORMATS", "ScanFormat", "format_of", "is_dicom_name", "is_scan_name"]


@dataclass(frozen=True, kw_only=True)
class ScanFormat(Format):
    """One format; its module's ``read`` and ``read_header`` serve it.

    Attributes:
        one_file: Whether a file is a scan by itself. DICOM is not: its files are gathered by ``find_series``.
    """

    one_file: bool = True


FORMATS = FormatTable(
    "format",
    (
        ScanFormat(name="nifti", suffixes=(".nii", ".nii.gz"), target="medssl.formats.nifti"),
        ScanFormat(name="itk", suffixes=(".mha", ".mhd", ".nrrd", ".nhdr"), target="medssl.formats.itk"),
        ScanFormat(name="pair", suffixes=(".hdr", ".img", ".hdr.gz", ".img.gz"), target="medssl.formats.neuro"),
        ScanFormat(name="mgh", suffixes=(".mgh", ".mgz"), target="medssl.formats.neuro"),
        ScanFormat(name="minc", suffixes=(".mnc",), target="medssl.formats.neuro"),
        ScanFormat(name="npz", suffixes=(".npz", ".npy"), target="medssl.formats.arrays"),
        ScanFormat(
            name="image",
            suffixes=(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
            target="medssl.formats.images",
        ),
        ScanFormat(name="dicom", suffixes=(".dcm", ".dicom", ".ima"), target="medssl.formats.dicom", one_file=False),
    ),
)


def format_of(path: Path) -> str | None:
    """Return the name of the format that the file's suffix promises, or None.

    Example:
        >>> format_of(Path("case_01.NII.GZ"))
        'nifti'
    """
    return FORMATS.format_of(Path(path))


def is_scan_name(path: Path) -> bool:
    """Tell whether a file of this name should be one scan by itself (no slice of a DICOM series, no plain picture).

    Example:
        >>> is_scan_name(Path("a.nrrd")), is_scan_name(Path("a.dcm"))
        (True, False)
    """
    row = FORMATS.row_of(Path(path))
    return row is not None and row.one_file and row.name != "image"


def is_dicom_name(path: Path) -> bool:
    """Tell whether the suffix says DICOM. DICOM files often have none: ``dicom.find_series`` looks inside those."""
    return format_of(path) == "dicom"
