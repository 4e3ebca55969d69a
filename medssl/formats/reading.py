"""Reading a scan, whatever its format."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from medssl.errors import FormatError
from medssl.formats.files import refuse_special
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import FORMATS, format_of, is_scan_name
from medssl.refusing import refusing

__all__ = ["read", "read_header"]

T = TypeVar("T")


def read(path: Path, *, frame: int = 0, paths: Sequence[Path] = (), channel: str = "") -> Scan:
    """Read a scan.

    Args:
        path: The file, or a folder that holds one DICOM series, or slices as pictures.
        frame: Which volume of a 4D image.
        paths: The files of a DICOM series or of a stack of pictures (``ScanHeader.paths``); needed where the folder
            holds more.
        channel: What to take of a picture in colour: "red", "green", "blue" or "luminance"; "" refuses it.

    Raises:
        FormatError: The file is not what its name promises, or the frame does not exist. Nothing else is raised for
            what is wrong with a file.
    """
    path = Path(path)
    if _is_stack(path, paths):
        from medssl.formats.picture_stack import read_stack

        return _guarded(path, lambda: read_stack(path, paths, frame=frame, channel=channel))
    if paths and not is_scan_name(path) and format_of(path) != "image":
        # A folder, or one file, whose name need not end in .dcm.
        from medssl.formats.dicom import read_series, series_of

        return _guarded(path, lambda: read_series(series_of(paths), frame=frame))
    if format_of(path) == "image" and not path.is_dir():
        from medssl.formats import images

        return _guarded(path, lambda: images.read(path, frame=frame, channel=channel))
    return _guarded(path, lambda: _scan(path, frame))


def read_header(path: Path, *, paths: Sequence[Path] = (), channel: str = "") -> ScanHeader:
    """Read what is known of a scan without its voxels.

    Args:
        path: The file, or a folder that holds one DICOM series, or slices as pictures.
        paths: The files of a stack of pictures, or of a DICOM series.
        channel: As for `read`.

    Raises:
        FormatError: The file is not what its name promises.
    """
    path = Path(path)
    if _is_stack(path, paths):
        from medssl.formats.picture_stack import read_stack

        return _guarded(path, lambda: read_stack(path, paths, frame=0, channel=channel).header)
    if paths and not is_scan_name(path) and format_of(path) != "image":
        from medssl.formats.dicom import series_header, series_of

        return _guarded(path, lambda: series_header(series_of(paths)))
    if format_of(path) == "image" and not path.is_dir():
        from medssl.formats import images

        return _guarded(path, lambda: images.read_header(path, channel=channel))
    return _guarded(path, lambda: _header(path))


def _scan(path: Path, frame: int) -> Scan:
    scan: Scan = _reader(path).read(path, frame=frame)
    return scan


def _header(path: Path) -> ScanHeader:
    header: ScanHeader = _reader(path).read_header(path)
    return header


def _is_stack(path: Path, paths: Sequence[Path]) -> bool:
    return bool(paths) and path.is_dir() and all(format_of(Path(one)) == "image" for one in paths)


def _reader(path: Path) -> ModuleType:
    if path.is_dir():
        return importlib.import_module("medssl.formats.dicom")
    row = FORMATS.row_of(path)
    if row is None:
        allowed = ", ".join(FORMATS.suffixes)
        raise FormatError(
            path, f"No reader for the suffix '{path.suffix}'. Allowed: {allowed}, or a folder of DICOM files."
        )
    module: ModuleType = FORMATS.load(row.name)
    return module


def _guarded(path: Path, work: Callable[[], T]) -> T:
    """Do the work; what a library raises over a file becomes the one error that callers know."""
    with refusing(path):
        refuse_special(path)
        return work()
