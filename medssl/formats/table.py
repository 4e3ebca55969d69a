"""Which reader reads which file: the one table of formats, by suffix."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from medssl.errors import FormatError
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["FORMATS", "Format", "format_of", "is_dicom_name", "is_scan_name", "read", "read_header"]


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
    Format(name="npz", suffixes=(".npz",), module="medssl.formats.arrays"),
    Format(name="dicom", suffixes=(".dcm", ".dicom", ".ima"), module="medssl.formats.dicom", one_file=False),
)


def _row(path: Path) -> Format | None:
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
    row = _row(Path(path))
    return row.name if row else None


def is_scan_name(path: Path) -> bool:
    """Tell whether a file of this name should be one scan by itself (so not a slice of a DICOM series).

    Example:
        >>> is_scan_name(Path("a.nrrd")), is_scan_name(Path("a.dcm"))
        (True, False)
    """
    row = _row(Path(path))
    return row is not None and row.one_file


def is_dicom_name(path: Path) -> bool:
    """Tell whether the suffix says DICOM. DICOM files often have none: ``dicom.find_series`` looks inside those."""
    return format_of(path) == "dicom"


def _reader(path: Path) -> ModuleType:
    if path.is_dir():
        return importlib.import_module("medssl.formats.dicom")
    row = _row(path)
    if row is None:
        allowed = ", ".join(suffix for known in FORMATS for suffix in known.suffixes)
        raise FormatError(
            path, f"No reader for the suffix '{path.suffix}'. Allowed: {allowed}, or a folder of DICOM files."
        )
    return importlib.import_module(row.module)


def read(path: Path, *, frame: int = 0, paths: Sequence[Path] = ()) -> Scan:
    """Read a scan.

    Args:
        path: The file, or a folder that holds one DICOM series.
        frame: Which volume of a 4D image.
        paths: The files of a DICOM series (``ScanHeader.paths``); needed where the folder holds several series.

    Raises:
        FormatError: The file is not what its name promises, or the frame does not exist.
    """
    path = Path(path)
    if paths and not is_scan_name(path):  # a folder, or one file, whose name need not end in .dcm
        from medssl.formats.dicom import read_series, series_of

        return read_series(series_of(paths), frame=frame)
    scan: Scan = _reader(path).read(path, frame=frame)
    return scan


def read_header(path: Path) -> ScanHeader:
    """Read what is known of a scan without its voxels.

    Args:
        path: The file, or a folder that holds one DICOM series.

    Raises:
        FormatError: The file is not what its name promises.
    """
    path = Path(path)
    header: ScanHeader = _reader(path).read_header(path)
    return header
