"""Text with one point a line: .xyz .xyzn .xyzrgb .xyzi .pts .txt .csv."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import guessed, named
from pointcloud.formats.files import contents

__all__ = ["lines_of", "read"]

# What these suffixes promise after x, y, z.
_ORDER = {".xyzn": ("nx", "ny", "nz"), ".xyzrgb": ("red", "green", "blue"), ".xyzi": ("intensity",)}
_BETWEEN = re.compile(r"[,;\s]+")


def lines_of(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        FormatError: The file is missing, empty, or no text.
    """
    raw = contents(path)
    try:
        return raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise FormatError(path, "This is no text file. Its suffix says it is: look what it really holds.") from None


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a table of points.

    Columns may be parted by commas, semicolons or spaces; lines that begin with # or // are left out, and a first line
    of words names the columns. In a .pts file the first line may be the number of points, which is then checked.

    Raises:
        FormatError: A line is no row of numbers, or the rows differ in length.
    """
    del item, samples, seed  # the file holds one cloud of points
    names, kept, promised = _split(path)
    if not kept:
        raise FormatError(path, "The file has no rows of numbers.")
    values = _numbers(path, kept)
    if promised is not None and promised != len(values):
        raise FormatError(path, f"The first line promises {promised} points; {len(values)} are there.")
    if names is not None:
        if len(names) != values.shape[1]:
            raise FormatError(path, f"The first line names {len(names)} columns, the rows have {values.shape[1]}.")
        return make_cloud(path=path, **named(dict(zip(names, values.T, strict=True)), path))
    return make_cloud(path=path, **guessed(values, path, order=_ORDER.get(path.suffix.lower(), ())))


def _split(path: Path) -> tuple[list[str] | None, list[tuple[int, str]], int | None]:
    """Return the names of the columns, the rows with their line numbers, and the number of points promised."""
    names: list[str] | None = None
    kept: list[tuple[int, str]] = []
    promised = None
    for number, line in enumerate(lines_of(path), start=1):
        row = line.strip()
        if not row or (row.startswith(("#", "//")) and (kept or not _are_names(_fields(row.lstrip("#/ "))))):
            continue
        if not kept and names is None and promised is None:
            fields = _fields(row.lstrip("#/ "))
            if _are_names(fields):
                names = fields
                continue
            if path.suffix.lower() == ".pts" and len(fields) == 1 and fields[0].isdigit():
                promised = int(fields[0])
                continue
        kept.append((number, row))
    return names, kept, promised


def _fields(row: str) -> list[str]:
    return [field.strip("\"'") for field in _BETWEEN.split(row.strip(",; \t")) if field]


def _are_names(fields: list[str]) -> bool:
    lower = [field.lower() for field in fields]
    return len(fields) >= 3 and any(field in ("x", "x_mm", "x_m", "coord_x", "position_x") for field in lower)


def _numbers(path: Path, kept: list[tuple[int, str]]) -> npt.NDArray[np.float64]:
    width = len(_fields(kept[0][1]))
    flat: list[str] = []
    for number, row in kept:
        fields = _fields(row)
        if len(fields) != width:
            raise FormatError(path, f"Line {number} has {len(fields)} columns, the first row has {width}.")
        flat.extend(fields)
    try:
        return np.array(flat, dtype=np.float64).reshape(len(kept), width)
    except ValueError:
        for number, row in kept:
            for field in _fields(row):
                try:
                    float(field)
                except ValueError:
                    raise FormatError(path, f"Line {number}: '{field[:40]}' is no number.") from None
        raise
