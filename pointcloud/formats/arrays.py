"""Arrays in .npy and .npz files, of one cloud or several; never pickled objects."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import UNITS, Cloud, make_cloud
from pointcloud.colours import bytes_of_colours
from pointcloud.formats.columns import ALIASES, guessed, listed, named
from pointcloud.formats.files import size_of, start_of

__all__ = ["BROKEN", "POINTS", "count", "has_axes", "owner", "read"]

# The first that is there.
POINTS = (
    "points",
    "xyz",
    "pos",
    "positions",
    "coords",
    "coord",
    "vertices",
    "data",
    "pc",
    "pcd",
    "pts",
    "cloud",
    "point_cloud",
    "arr_0",
)
_PARTS = {
    "normals": ("normals", "normal"),
    "colours": ("colours", "colors", "color", "rgb"),
    "intensity": ("intensity", "intensities", "reflectance"),
    "labels": ("labels", "label", "segment", "seg", "semantic", "semantic_label", "sem_label", "point_labels"),
}
_OWNERS = ("patient", "patients", "subject", "subjects")
_CLASSES = ("label", "labels", "cls", "class", "y")
_KNOWN = {
    *POINTS,
    *_OWNERS,
    *_CLASSES,
    "classes",
    "unit",
    "offset",
    *(name for names in _PARTS.values() for name in names),
    *(name for names in ALIASES.values() for name in names),
}
_MOST = 1032  # times that deflate can shrink anything
# numpy reads its header with Python's own tokenizer, so a damaged one can raise what that raises.
BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    TypeError,
    IndexError,
    AttributeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, npt.NDArray[np.generic]]


def count(path: Path) -> int:
    """Return how many clouds the file holds: 1 for an array (N, 3 or more), M for one of (M, N, 3 or more).

    Raises:
        FormatError: The file is no array of points.
    """
    arrays = _load(path)
    if has_axes(arrays):
        return 1
    points = _points(path, arrays)[0]
    return points.shape[0] if points.ndim == 3 else 1


def has_axes(names: Iterable[str]) -> bool:
    """Tell whether the points of an archive, or of an array with named fields, are arrays x, y and z of their own."""
    lower = {name.lower() for name in names}
    return {"x", "y", "z"} <= lower and not lower & set(POINTS)


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read one cloud of the file.

    An .npz archive holds ``points`` (or ``xyz``, ``pos``, ``vertices``, ...), or ``x``, ``y`` and ``z``, and may hold
    ``normals``, ``colours``, ``intensity``, ``labels`` (one a point; or one a cloud, where the points are (clouds, N,
    3)), ``unit`` and ``offset`` (float64 (3,), added to the points). An .npy file's columns are read as in a text file,
    its named fields as the arrays of an archive. Arrays that are not known are named and not loaded.

    Raises:
        FormatError: The file is no array of points, or has no cloud ``item``.
    """
    del samples, seed
    arrays = _load(path)
    axes = has_axes(arrays)
    points, name = (arrays["x"], "x") if axes else _points(path, arrays)
    several = points.ndim == 3 and not axes
    items = points.shape[0] if several else 1
    if not 0 <= item < items:
        raise FormatError(path, f"There is no cloud {item}: the file has {items}, counted from 0.")
    parts = _of_axes(path, arrays) if axes else guessed(points[item] if several else points, path)
    warnings = list(parts.pop("warnings"))
    for part, names in _PARTS.items():
        found = next(((n, arrays[n]) for n in names if n in arrays and n != name), None)
        if found is not None and not (axes and part in parts):
            mine = _fitting(path, part, found[1], item if several else None, items, len(parts["points"]))
            if mine is not None:
                parts[part] = mine
            elif found[0] not in _CLASSES or found[1].size != items:
                shape, points_there = found[1].shape, len(parts["points"])
                warnings.append(f"'{found[0]}' has shape {shape}, which fits no {points_there} points; it is not read.")
    unknown = [each for each in arrays if arrays[each] is _NOT_LOADED]
    if unknown:
        warnings.append(f"Arrays that are not read: {listed(unknown)}.")
    if "offset" in arrays:
        if arrays["offset"].size != 3 or arrays["offset"].dtype.kind not in "iuf":
            raise FormatError(path, f"'offset' has shape {arrays['offset'].shape}; three numbers were expected.")
        offset = arrays["offset"].astype(np.float64).reshape(3)
        parts["points"] = parts["points"].astype(np.float64) + offset
    unit = str(arrays["unit"]) if "unit" in arrays else parts.pop("unit", "unknown")
    if unit not in UNITS:
        raise FormatError(path, f"'unit' is '{unit[:40]}'. Allowed: {', '.join(UNITS)}.")
    label = None if axes else _class(arrays, item, items, name)
    return make_cloud(path=path, item=item, label=label, warnings=tuple(warnings), **parts | {"unit": unit})


def _of_axes(path: Path, arrays: Arrays) -> dict[str, Any]:
    """Return what the arrays x, y, z and those as large as they are say, as ``named`` does."""
    shape = arrays["x"].shape
    fitting = {
        name: array.reshape(-1) for name, array in arrays.items() if array.shape == shape and array.dtype.kind in "iuf"
    }
    return named(fitting, path)


def _fitting(
    path: Path, part: str, found: npt.NDArray[np.generic], item: int | None, items: int, points: int
) -> npt.NDArray[np.generic] | None:
    """Return what an array says of the points of one cloud, None where it says nothing of points."""
    if part == "colours" and found.dtype.kind in "iuf":
        found = bytes_of_colours(found, path)[0]  # all clouds of a file share one range
    mine = found[item] if item is not None and found.ndim >= 1 and len(found) == items else found
    if mine.ndim < 1 or len(mine) != points:
        return None
    return mine.reshape(points) if mine.shape == (points, 1) else mine


def owner(path: Path, item: int = 0) -> tuple[str, str]:
    """Return whose cloud it is and the name of its class, "" where the archive does not say.

    ``patient`` (or ``subject``) holds one word for each cloud, ``classes`` the names of the numbers in ``label``.

    Raises:
        FormatError: The file is no array of points.
    """
    arrays = _load(path)
    if has_axes(arrays):
        items, name = 1, "y"
    else:
        points, name = _points(path, arrays)
        items = points.shape[0] if points.ndim == 3 else 1
    patients = next((arrays[n] for n in _OWNERS if n in arrays and arrays[n].size == items), None)
    patient = str(patients.reshape(-1)[item]) if patients is not None and patients.dtype.kind in "UiuS" else ""
    number, classes = _class(arrays, item, items, name), arrays.get("classes")
    if number is None or classes is None or classes.dtype.kind not in "US" or not 0 <= number < classes.size:
        return patient, ""
    return patient, str(classes.reshape(-1)[number])


def _load(path: Path) -> Arrays:
    size_of(path)
    state = path.stat()
    return _arrays(path, state.st_mtime_ns, state.st_size)


_NOT_LOADED: npt.NDArray[np.generic] = np.zeros(0, np.bool_)


@lru_cache(maxsize=1)  # the clouds of one archive are read one after another
def _arrays(path: Path, _mtime_ns: int, size: int) -> Arrays:
    """Return the arrays by name in lower case; the fields of an array that has some; ``_NOT_LOADED`` for others."""
    archived = path.suffix.lower() == ".npz"
    if archived and not zipfile.is_zipfile(path):
        raise FormatError(path, "The file is not an .npz archive, or is truncated.")
    if not archived and start_of(path, 6) != b"\x93NUMPY":
        raise FormatError(path, "The file does not begin as an .npy file does; pickles are never opened.")
    try:
        if archived:
            found = _archive(path, size)
        else:
            with path.open("rb") as file:
                found = {"points": _array(file, size)}
    except BROKEN as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(
            path, f"The file is damaged or holds Python objects, which are never opened ({why})."
        ) from error
    structured: npt.NDArray[Any] | None = next(
        (array for name, array in found.items() if name in POINTS and array.dtype.names), None
    )
    if structured is not None:
        fields = [name for name in structured.dtype.names or () if structured[name].dtype.kind in "iufb"]
        found |= {"points": _NOT_LOADED} | {name.lower(): structured[name] for name in fields}
        found = {name: array for name, array in found.items() if array.dtype.names is None}
        if "points" not in fields:
            del found["points"]
    return found


def _archive(path: Path, size: int) -> Arrays:
    found: Arrays = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name.lower() not in _KNOWN:
                found[name] = _NOT_LOADED
                continue
            if info.compress_size > size or info.file_size > _MOST * (info.compress_size + 1):
                raise ValueError(f"'{name}' promises {info.file_size} bytes in {info.compress_size}")
            with archive.open(info) as member:
                found[name.lower()] = _array(member, info.file_size)
                member.read(1)  # the end, where the checksum is looked at
    return found


def _array(file: IO[bytes], size: int) -> npt.NDArray[np.generic]:
    """Read an array after its head was held against the bytes that there are."""
    formats = np.lib.format
    version = formats.read_magic(file)
    heads = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    # Version 3 differs from 2 in the encoding of names alone, and numpy offers no function for its head.
    shape, _, dtype = heads[version](file) if version in heads else formats.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("objects")
    promised = math.prod(shape) * dtype.itemsize
    if promised > size or any(side < 0 for side in shape):
        raise ValueError(f"shape {shape} of {dtype} promises {promised} bytes of {size}")
    file.seek(0)
    array: npt.NDArray[np.generic] = formats.read_array(file, allow_pickle=False)
    return array


def _points(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> tuple[npt.NDArray[np.generic], str]:
    name = next((name for name in POINTS if name in arrays), None)
    if name is None:
        hint = " 'values' is how a volume is stored, not a cloud." if "values" in arrays else ""
        raise FormatError(path, f"There is no array 'points'. Found: {', '.join(arrays) or 'nothing'}.{hint}")
    points = arrays[name]
    if points.dtype.kind not in "iuf":
        raise FormatError(path, f"The coordinates are of type {points.dtype}; only real numbers are read.")
    if points.ndim not in (2, 3) or points.shape[-1] < 3 or points.shape[-1] > 16:
        raise FormatError(path, f"'{name}' has shape {points.shape}; (points, 3) or (clouds, points, 3) was expected.")
    if 0 in points.shape:
        raise FormatError(path, "The cloud has no points.")
    return points, name


def _class(arrays: dict[str, npt.NDArray[np.generic]], item: int, items: int, name: str) -> int | None:
    """Return the class of the cloud where an array holds one whole number for each cloud."""
    for known in _CLASSES:
        values = arrays.get(known)
        if values is None or known == name or values.dtype.kind not in "iu" or values.size != items:
            continue
        return int(values.reshape(-1)[item])
    return None
