"""Arrays in .npy and .npz files, of one cloud or several; never pickled objects."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import UNITS, Cloud, make_cloud
from pointcloud.formats.columns import guessed
from pointcloud.formats.files import size_of, start_of

__all__ = ["BROKEN", "POINTS", "count", "owner", "read"]

# The first that is there.
POINTS = (
    "points", "xyz", "pos", "positions", "coords", "coord", "vertices", "data", "pc", "pcd", "pts", "cloud",
    "point_cloud", "arr_0",
)  # fmt: skip
_PARTS = {
    "normals": ("normals", "normal"),
    "colours": ("colours", "colors", "color", "rgb"),
    "intensity": ("intensity", "intensities", "reflectance"),
    "labels": ("labels", "label", "segment", "seg"),
}
_OWNERS = ("patient", "patients", "subject", "subjects")
_CLASSES = ("label", "labels", "cls", "class", "y")
# numpy reads its header with Python's own tokenizer, so a damaged one can raise what that raises.
BROKEN = (
    OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def count(path: Path) -> int:
    """Return how many clouds the file holds: 1 for an array (N, 3 or more), M for one of (M, N, 3 or more).

    Raises:
        FormatError: The file is no array of points.
    """
    points = _points(path, _load(path))[0]
    return points.shape[0] if points.ndim == 3 else 1


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read one cloud of the file.

    An .npz archive holds ``points`` (or ``xyz``, ``pos``, ``vertices``, ...) and may hold ``normals``, ``colours``,
    ``intensity``, ``labels`` (one a point; or one a cloud, where the points are (clouds, N, 3)), ``unit`` and
    ``offset`` (float64 (3,), added to the points). An .npy file's columns are read as in a text file.

    Raises:
        FormatError: The file is no array of points, or has no cloud ``item``.
    """
    del samples, seed
    arrays = _load(path)
    points, name = _points(path, arrays)
    several = points.ndim == 3
    items = points.shape[0] if several else 1
    if not 0 <= item < items:
        raise FormatError(path, f"There is no cloud {item}: the file has {items}, counted from 0.")
    chosen = points[item] if several else points
    parts = guessed(chosen, path)
    for part, names in _PARTS.items():
        found = next((arrays[n] for n in names if n in arrays and n != name), None)
        if found is None:
            continue
        mine = found[item] if several and found.ndim >= 1 and len(found) == items else found
        if mine.ndim >= 1 and len(mine) == len(chosen):
            parts[part] = mine.reshape(len(chosen)) if mine.shape == (len(chosen), 1) else mine
    if "offset" in arrays:
        parts["points"] = parts["points"].astype(np.float64) + np.asarray(arrays["offset"], dtype=np.float64)
    unit = str(arrays["unit"]) if "unit" in arrays else "unknown"
    if unit not in UNITS:
        raise FormatError(path, f"'unit' is '{unit}'. Allowed: {', '.join(UNITS)}.")
    return make_cloud(path=path, item=item, unit=unit, label=_class(arrays, item, items, name), **parts)


def owner(path: Path, item: int = 0) -> tuple[str, str]:
    """Return whose cloud it is and the name of its class, "" where the archive does not say.

    ``patient`` (or ``subject``) holds one word for each cloud, ``classes`` the names of the numbers in ``label``.

    Raises:
        FormatError: The file is no array of points.
    """
    arrays = _load(path)
    points, name = _points(path, arrays)
    items = points.shape[0] if points.ndim == 3 else 1
    patients = next((arrays[n] for n in _OWNERS if n in arrays and arrays[n].size == items), None)
    patient = str(patients.reshape(-1)[item]) if patients is not None and patients.dtype.kind in "UiuS" else ""
    number, classes = _class(arrays, item, items, name), arrays.get("classes")
    if number is None or classes is None or classes.dtype.kind not in "US" or not 0 <= number < classes.size:
        return patient, ""
    return patient, str(classes.reshape(-1)[number])


def _load(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    size_of(path)
    state = path.stat()
    return _arrays(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)  # the clouds of one archive are read one after another
def _arrays(path: Path, _mtime_ns: int, _size: int) -> dict[str, npt.NDArray[np.generic]]:
    if path.suffix.lower() == ".npz" and not zipfile.is_zipfile(path):
        raise FormatError(path, "The file is no .npz archive, or is truncated.")
    if path.suffix.lower() == ".npy" and start_of(path, 6) != b"\x93NUMPY":
        raise FormatError(path, "The file does not begin as an .npy file does; pickles are never opened.")
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"points": loaded}
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except BROKEN as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FormatError(
            path, f"The file is damaged or holds Python objects, which are never opened ({why})."
        ) from error


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
