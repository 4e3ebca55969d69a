"""Reading clouds, whatever their format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from medssl.errors import FormatError
from medssl.refusing import refusing
from pointcloud.cloud import Cloud
from pointcloud.formats.table import FORMATS, CloudFormat

__all__ = [
    "SAMPLES",
    "VERSION",
    "count",
    "read",
]

SAMPLES = 8192
# Format -> what its header says where it is text; nothing where it always is.
_MAY_BE_TEXT = {"xyz": b"", "text": b"", "obj": b"", "off": b"", "ply": b"format ascii", "pcd": b"DATA ascii"}
_UNFINISHED = "The last line has no end: if the file was cut off there, its last number is too short."
VERSION = 5  # raised where a file comes to be read otherwise: manifests and stores then read it again


def _row(path: Path) -> CloudFormat:
    row = FORMATS.row_of(path)
    if row is None:
        allowed = ", ".join(FORMATS.suffixes)
        raise FormatError(path, f"No reader of clouds for the suffix '{path.suffix}'. Allowed: {allowed}.")
    return row


def _module(row: CloudFormat) -> ModuleType:
    module: ModuleType = FORMATS.load(row.name)
    return module


def count(path: Path) -> int:
    """Return how many clouds a file holds: 1 for most formats, any number for .npy, .npz and .h5.

    Raises:
        FormatError: The file is not what its name promises.
    """
    path = Path(path)
    row = _row(path)
    with refusing(path):
        return int(_module(row).count(path)) if row.several else 1


def read(path: Path, *, item: int = 0, samples: int = SAMPLES, seed: int = 0) -> Cloud:
    """Read a cloud.

    Args:
        path: The file.
        item: Which cloud of the file, counted from 0.
        samples: Points to draw from the surface of a mesh; 0 takes its vertices. A file of points is read whole.
        seed: Decides which points of a surface are drawn.

    Raises:
        FormatError: The file is not what its name promises, holds no cloud, or no cloud ``item``.
        MissingDependencyError: A library that reads this format is missing or cannot be loaded.
    """
    path = Path(path)
    row = _row(path)
    if item < 0 or (item > 0 and not row.several):
        raise FormatError(path, f"There is no cloud {item}: the file has 1, counted from 0.")
    if samples < 0:
        raise ValueError(f"samples is {samples}; 0 or more was expected.")
    with refusing(path):
        cloud: Cloud = _module(row).read(path, item=item, samples=samples, seed=seed)
        if row.name in _MAY_BE_TEXT and _is_unfinished(path, row):
            cloud = replace(cloud, warnings=(*cloud.warnings, _UNFINISHED))
    return cloud


def _is_unfinished(path: Path, row: CloudFormat) -> bool:
    """Tell whether a file of text stops in the middle of a line: cut off there, its last number reads as another."""
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(-min(2, len(start)), 2)
        end = file.read(2)  # UTF-16 takes two bytes for a character
    mark = _MAY_BE_TEXT[row.name]
    return (not mark or mark in start) and not set(end) & set(b"\n\r")
