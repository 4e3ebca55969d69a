"""HDF5 files of many clouds, as ModelNet, ScanObjectNN and ShapeNetPart are given out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError, MedSSLError
from medssl.extras import library
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.colours import bytes_of_colours
from pointcloud.formats.columns import guessed
from pointcloud.formats.files import start_of

__all__ = ["class_name", "count", "read"]

_COLOURS = ("color", "colors", "rgb")
# The labels of points, the first that is there; the names of classes likewise.
_PER_POINT = ("pid", "seg", "mask", "segment", "segmentation", "part", "point_label", "point_labels", "label", "labels")
_NAMES = ("class_names", "classes", "label_names", "shape_names", "names")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def count(path: Path) -> int:
    """Return how many clouds the file holds.

    Raises:
        FormatError: The file is no HDF5, or has no ``data`` of shape (clouds, points, 3).
        MissingDependencyError: h5py is not there.
    """
    with _opened(path) as file:
        return int(_data(path, file).shape[0])


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read one cloud.

    The file holds ``data`` (clouds, points, 3), and may hold ``label`` (one a cloud, or one a point as in the blocks of
    S3DIS), ``normal``, ``color``, and the labels of the points as ``pid`` (ShapeNetPart), ``seg`` or ``mask``
    (ScanObjectNN, where -1 is background). Further columns of ``data`` are read as those of a table without names. What
    else the file holds (``faceId``, labels of text or of another number of clouds) is named in a warning.

    Raises:
        FormatError: The file is no such file, is damaged, or has no cloud ``item``.
        MissingDependencyError: h5py is not there.
    """
    del samples, seed
    with _opened(path) as file:
        data = _data(path, file)
        if not 0 <= item < data.shape[0]:
            raise FormatError(path, f"There is no cloud {item}: the file has {data.shape[0]}, counted from 0.")
        read = {"data"}
        try:
            parts = guessed(np.asarray(data[item]), path)
            warnings = list(parts.pop("warnings"))
            for name in ("label", "labels"):
                if name in file and "label" not in parts and _one_each(file[name], data):
                    number = np.asarray(file[name][item]).reshape(-1)[0]
                    if np.isfinite(number) and number == np.floor(number):
                        parts["label"] = int(number)
                    else:
                        warnings.append(f"Its '{name}' is {number}, which is no whole number, and is not read.")
                    read.add(name)
            for part, names in (("normals", ("normal", "normals")), ("labels", _PER_POINT)):
                there = next((n for n in names if n in file and _fits(file[n], data, part)), None)
                if there is not None:
                    found = np.asarray(file[there][item])
                    parts[part] = found if part == "normals" else found.reshape(-1)
                    read.add(there)
            colours = next((n for n in _COLOURS if n in file and file[n].shape[:2] == data.shape[:2]), None)
            if colours is not None:  # all clouds of a file share one range
                parts["colours"] = bytes_of_colours(np.asarray(file[colours][:]), path)[0][item]
                read.add(colours)
            unread = sorted(n for n in file if n not in read and n not in _NAMES)
        except (OSError, KeyError, ValueError) as error:
            raise FormatError(path, f"Cloud {item} cannot be read ({error}): the file is damaged.") from error
    if unread:
        listed = ", ".join(f"'{name}'" for name in unread)
        warnings.append(f"What these are is not known, or their shape does not fit, so they are not read: {listed}.")
    return make_cloud(path=path, item=item, warnings=tuple(warnings), **parts)


def class_name(path: Path, number: int) -> str:
    """Return the name that the file itself gives the class of this number, "" where it holds no list of names.

    Raises:
        FormatError: The file is damaged.
    """
    with _opened(path) as file:
        for key in _NAMES:
            names = file.get(key)
            if names is not None and getattr(names, "ndim", 0) == 1 and 0 <= number < names.shape[0]:
                word = names[number]
                return word.decode(errors="replace") if isinstance(word, bytes) else str(word)
    return ""


def _one_each(array: Any, data: Any) -> bool:
    """Tell whether an array has one number for each cloud."""
    shape = getattr(array, "shape", ())
    return shape[:1] == data.shape[:1] and array.size == data.shape[0] and array.dtype.kind in "iufb"


def _fits(array: Any, data: Any, part: str) -> bool:
    """Tell whether an array has a row for each point; of labels, one whole number."""
    shape = getattr(array, "shape", ())
    if shape[:2] != data.shape[:2]:
        return False
    return part != "labels" or shape[2:] in ((), (1,))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if start_of(path, 8) != _SIGNATURE:
        raise FormatError(path, "The file does not begin as an HDF5 file does.")
    h5py: Any = library("h5py", purpose="to read .h5 files")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except MedSSLError:
        raise
    except Exception as error:  # a damaged file makes h5py raise of every kind, even where it only lists names
        why = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(path, f"The file is damaged or truncated ({why}).") from error


def _data(path: Path, file: Any) -> Any:
    data = file.get("data")
    if data is None:
        raise FormatError(path, f"There is no dataset 'data'. Found: {', '.join(file) or 'nothing'}.")
    if not hasattr(data, "shape") or len(data.shape) != 3 or data.shape[2] < 3 or data.shape[0] == 0:
        raise FormatError(path, f"'data' has shape {getattr(data, 'shape', None)}; (clouds, points, 3) was expected.")
    if data.dtype.kind not in "iuf":
        raise FormatError(path, f"The coordinates are of type {data.dtype}; only real numbers are read.")
    return data
