"""Which files of a tree are clouds, judged by their names and their first bytes."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError, MissingDependencyError
from medssl.manifest.clouds import Claim
from medssl.pool import isolated
from pointcloud.formats import arrays, hdf5, table
from pointcloud.formats.text import text_of

__all__ = ["claim"]

_LOOK_BYTES, _LOOK_LINES = 1 << 16, 24
_COLUMNS = range(3, 17)
_CAR_REACH_M, _REFLECTANCE = 300.0, 255.0
_TURNS = 0.01  # how far from a rotation the text of one may be
_BETWEEN = re.compile(r"[,;\s]+")


def claim(path: Path) -> Claim:
    """Tell whether a file is a cloud.

    Where the name alone does not say it (``.txt``, ``.npy``, ``.npz``, ``.h5``, ``.bin``), the beginning of the file
    does: columns of numbers, an array of (points, 3) or (clouds, points, 3). What cannot be opened is "damaged".
    """
    row = table.FORMATS.row_of(path)
    if row is None:
        return "other"
    if row.sure:
        return "cloud"
    looks = {"text": _text, "numpy": _numpy, "kitti": _sweep, "h5": _hdf5, "vtk": _polygons}
    try:
        if path.stat().st_size == 0:
            return "damaged" if row.name in {"numpy", "h5"} else "other"
        return looks[row.name](path)
    except MissingDependencyError:
        return "cloud"  # who reads it says what is missing
    except Exception:  # whatever a damaged beginning makes numpy or zipfile raise
        return "damaged"


def _text(path: Path) -> Claim:
    with path.open("rb") as file:
        raw = file.read(_LOOK_BYTES)
    lines = (text_of(raw) or "").splitlines()
    if len(raw) == _LOOK_BYTES:
        lines = lines[:-1]  # cut off in its middle
    rows = [
        _BETWEEN.split(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith(("#", "//"))
    ]
    rows = rows[:_LOOK_LINES]
    if not rows:
        return "other"
    if len(rows) > 1 and len(rows[0]) == 1 and rows[0][0].isdigit():
        rows = rows[1:]  # the number of points
    if {"x", "y", "z"} <= {word.lower() for word in rows[0]}:
        return "cloud"
    if _are_poses(rows):
        return "other"
    numbers = [len(row) in _COLUMNS and all(_is_number(word) for word in row) for row in rows]
    return "cloud" if numbers.count(True) * 2 >= len(rows) else "other"


def _are_poses(rows: list[list[str]]) -> bool:
    """Tell whether lines of text are poses of a scanner or one matrix, which lie beside sweeps and are no points.

    A line of 12 or 16 numbers is a pose where its 3 x 3 part turns and nothing else; one of 7 or 8 numbers where its
    last four are a quaternion of length 1; a file of 3 or 4 lines is a matrix where it has 3 or 4 columns.
    """
    width = len(rows[0])
    if any(len(row) != width or not all(_is_number(word) for word in row) for row in rows):
        return False
    values = np.array(rows, dtype=np.float64)
    if not np.isfinite(values).all():
        return False
    if width in (12, 16):
        turns = values[:, :12].reshape(-1, 3, 4)[:, :, :3]
        rest = (values[:, 12:] == (0, 0, 0, 1)[: width - 12]).all()
        return bool(rest and (np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)) < _TURNS).all())
    if width in (7, 8):
        return bool((np.abs(np.linalg.norm(values[:, -4:], axis=1) - 1) < _TURNS).all())
    if len(values) == 4 and width == 4:
        return bool((values[3] == (0, 0, 0, 1)).all())
    return len(values) == 3 and width in (3, 4)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numpy(path: Path) -> Claim:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            if file.read(6) != b"\x93NUMPY":
                return "damaged"
            file.seek(0)
            return _shape_says(_npy_header(file))
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "values" in names:
                return "other"  # a volume
            if arrays.has_axes(names):
                return "cloud"
            name = next((name for name in arrays.POINTS if name in names), None)
            if name is None:
                return "other"
            with archive.open(f"{name}.npy") as member:
                return _shape_says(_npy_header(member))
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError):
        return "damaged"


def _npy_header(file: object) -> tuple[tuple[int, ...], np.dtype[np.generic]] | None:
    """Return shape and type of what an .npy stream holds; None where its head makes no sense."""
    formats = np.lib.format
    try:
        version = formats.read_magic(file)  # type: ignore[arg-type]
        read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
        shape, _, dtype = read(file)  # type: ignore[arg-type]
    except arrays.BROKEN:
        return None
    return shape, dtype


def _shape_says(header: tuple[tuple[int, ...], npt.DTypeLike] | None) -> Claim:
    if header is None:
        return "damaged"
    shape, dtype = header
    if np.dtype(dtype).hasobject:
        return "damaged"
    fields = np.dtype(dtype).names or ()
    if arrays.has_axes(fields) or set(arrays.POINTS) & {field.lower() for field in fields}:
        return "cloud"
    return "cloud" if len(shape) in {2, 3} and shape[-1] in _COLUMNS else "other"


def _sweep(path: Path) -> Claim:
    """Take bare numbers for a sweep of a LiDAR only where they look it: in metres about the car, with a reflectance."""
    size = path.stat().st_size
    if size % 16:
        return "other"
    with path.open("rb") as file:
        raw = file.read(min(size, 16 * 256))
    rows = np.array(struct.unpack(f"<{len(raw) // 4}f", raw), dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(rows).all():
        return "other"
    near = np.abs(rows[:, :3]).max() < _CAR_REACH_M and len(np.unique(rows[:, :3])) > len(rows)
    return "cloud" if near and rows[:, 3].min() >= 0 and rows[:, 3].max() <= _REFLECTANCE else "other"


def _polygons(path: Path) -> Claim:
    with path.open("rb") as file:
        return "cloud" if b"DATASET POLYDATA" in file.read(_LOOK_BYTES).upper() else "other"


def _hdf5(path: Path) -> Claim:
    try:
        isolated(hdf5.count, path)
    except FormatError as error:
        return "other" if error.reason.startswith(("There is no dataset", "'data' has shape")) else "damaged"
    return "cloud"
