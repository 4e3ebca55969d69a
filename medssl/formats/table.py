"""The one table of formats, by suffix: what a file's name promises, and which module reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORMATS", "Format", "format_of", "is_dicom_name", "is_scan_name", "row_of"]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One row of the table.

    Attributes:
        name: What ``ScanHeader.format`` says.
        suffixes: Endings of file names, lower case; the longest that fits decides.
        module: Dotted path of the module whose ``read`` and ``read_header`` serve it, imported when first used.
        one_file: Whether a file is a scan by itself. DICOM is not: its files are gathered by ``find_series``.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    one_file: bool = True


FORMATS = (
    Format(name="nifti", suffixes=(".nii", ".nii.gz"), module="medssl.formats.nifti"),
    Format(name="itk", suffixes=(".mha", ".mhd", ".nrrd", ".nhdr"), module="medssl.formats.itk"),
    Format(name="pair", suffixes=(".hdr", ".img", ".hdr.gz", ".img.gz"), module="medssl.formats.neuro"),
    Format(name="mgh", suffixes=(".mgh", ".mgz"), module="medssl.formats.neuro"),
    Format(name="minc", suffixes=(".mnc",), module="medssl.formats.neuro"),
    Format(name="npz", suffixes=(".npz", ".npy"), module="medssl.formats.arrays"),
    Format(
        name="image",
        suffixes=(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
        module="medssl.formats.images",
    ),
    Format(name="dicom", suffixes=(".dcm", ".dicom", ".ima"), module="medssl.formats.dicom", one_file=False),
)


def row_of(path: Path) -> Format | None:
    """Return the row that the file's suffix names, or None."""
    name = path.name.lower()
    if name.startswith("._"):
        return None  # what macOS leaves beside every file it copies to a foreign disk
    for row in FORMATS:
        if name.endswith(row.suffixes):
            return row
    return None


def format_of(path: Path) -> str | None:
    """Return the name of the format that the file's suffix promises, or None.

    Example:
        >>> format_of(Path("case_01.NII.GZ"))
        'nifti'
    """
    row = row_of(Path(path))
    return row.name if row else None


def is_scan_name(path: Path) -> bool:
    """Tell whether a file of this name should be one scan by itself (no slice of a DICOM series, no plain picture).

    Example:
        >>> is_scan_name(Path("a.nrrd")), is_scan_name(Path("a.dcm"))
        (True, False)
    """
    row = row_of(Path(path))
    return row is not None and row.one_file and row.name != "image"


def is_dicom_name(path: Path) -> bool:
    """Tell whether the suffix says DICOM. DICOM files often have none: ``dicom.find_series`` looks inside those."""
    return format_of(path) == "dicom"
