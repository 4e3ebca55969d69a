"""Reading a scan, whatever its format."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from medssl.errors import FormatError
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import FORMATS, is_scan_name, row_of

__all__ = ["read", "read_header"]


def _reader(path: Path) -> ModuleType:
    if path.is_dir():
        return importlib.import_module("medssl.formats.dicom")
    row = row_of(path)
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
