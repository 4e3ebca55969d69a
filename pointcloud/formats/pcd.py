"""PCD, the point cloud library's format: ascii and binary here, binary_compressed through Open3D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import named
from pointcloud.formats.files import contents, library

__all__ = ["read"]

_WAYS = ("ascii", "binary", "binary_compressed")
_NORMAL_NAMES = {"normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}
_HEADER_WORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


def read(path: Path, *, item: int = 0, samples: int = 0, seed: int = 0) -> Cloud:
    """Read a PCD file.

    A point that an organised scan marks as missing (NaN) is left out and counted. ``rgb`` packed in a float is
    unpacked.

    Raises:
        FormatError: The header is wrong, or the body is shorter than the header says.
        MissingDependencyError: The file is compressed, and Open3D is not there or cannot be loaded.
    """
    del item, samples, seed
    raw = contents(path)
    header, start = _header(path, raw)
    fields, points = _fields(path, header), _number(path, header, "POINTS")
    way = header["DATA"][0]
    if points == 0:
        raise FormatError(path, "The header promises 0 points.")
    if way == "binary_compressed":
        columns = _compressed(path, points)
    else:
        columns = _unpacked(_body(path, raw[start:], fields, points, way))
    parts = named({_NORMAL_NAMES.get(name, name): column for name, column in columns.items()}, path)
    return make_cloud(path=path, **parts)


def _header(path: Path, raw: bytes) -> tuple[dict[str, list[str]], int]:
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = raw.find(b"\n", at)
        line = raw[at : end if end >= 0 else len(raw)]
        words = line.decode("ascii", errors="replace").split()
        if words and not words[0].startswith("#"):
            if words[0] not in _HEADER_WORDS or len(words) < 2:
                raise FormatError(path, f"The header has a line that is no PCD: {bytes(line[:40])!r}.")
            header[words[0]] = words[1:]
        if end < 0:
            break
        at = end + 1
    for word in ("FIELDS", "SIZE", "TYPE", "POINTS", "DATA"):
        if word not in header:
            raise FormatError(path, f"The header has no line {word}: it is no PCD file, or truncated.")
    if header["DATA"][0] not in _WAYS:
        raise FormatError(path, f"DATA is '{header['DATA'][0]}'. Allowed: {', '.join(_WAYS)}.")
    return header, at


def _number(path: Path, header: dict[str, list[str]], word: str) -> int:
    try:
        number = int(header[word][0])
    except ValueError:
        number = -1
    if number < 0:
        raise FormatError(path, f"{word} is '{header[word][0]}', which is no number of points.")
    return number


def _fields(path: Path, header: dict[str, list[str]]) -> list[tuple[str, str, int]]:
    """Return (name, numpy type, values) of each field."""
    names = header["FIELDS"]
    counts = header.get("COUNT", ["1"] * len(names))
    if not len(names) == len(header["SIZE"]) == len(header["TYPE"]) == len(counts):
        raise FormatError(path, "FIELDS, SIZE, TYPE and COUNT of the header differ in length.")
    fields = []
    for at, (name, size, kind, count) in enumerate(zip(names, header["SIZE"], header["TYPE"], counts, strict=True)):
        code = {"F": "f", "I": "i", "U": "u"}.get(kind, "") + size
        if code not in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8") or not count.isdigit():
            raise FormatError(
                path, f"Field '{name}' has type {kind}, size {size}, count {count}, which is no PCD type."
            )
        # Padding is called "_", any number of times.
        fields.append((name if name != "_" else f"_ {at}", "<" + code, int(count)))
    return fields


def _body(path: Path, body: bytes, fields: list[tuple[str, str, int]], points: int, way: str) -> npt.NDArray[np.void]:
    row = np.dtype([(name, kind, (count,)) if count != 1 else (name, kind) for name, kind, count in fields])
    if way == "binary":
        if len(body) < row.itemsize * points:
            raise FormatError(
                path,
                f"The header promises {points} points of {row.itemsize} bytes; {len(body)} bytes follow: truncated.",
            )
        return np.frombuffer(body, row, points)
    lines = [line.split() for line in body.decode("ascii", errors="replace").splitlines() if line.strip()]
    if len(lines) < points:
        raise FormatError(path, f"The header promises {points} points; {len(lines)} rows follow: truncated.")
    values = np.zeros(points, row)
    starts = np.cumsum([0, *(count for _, _, count in fields)])
    if any(len(line) != starts[-1] for line in lines[:points]):
        raise FormatError(path, f"A row has not the {starts[-1]} values that the header promises.")
    for (name, kind, count), start in zip(fields, starts, strict=False):
        if count == 1 and not name.startswith("_ "):
            try:
                values[name] = np.array([line[start] for line in lines[:points]], dtype=np.dtype(kind))
            except (ValueError, OverflowError):
                raise FormatError(path, f"A value of field '{name}' is no number of type {kind[1:]}.") from None
    return values


def _unpacked(values: npt.NDArray[np.void]) -> dict[str, npt.NDArray[np.generic]]:
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name in values.dtype.names or ():
        column = np.ascontiguousarray(values[name])
        if column.ndim > 1 or name.startswith("_ "):
            continue
        if name in ("rgb", "rgba") and column.dtype.itemsize == 4:
            packed = column.view(np.uint32)
            for shift, colour in ((16, "red"), (8, "green"), (0, "blue")):
                columns[colour] = ((packed >> np.uint32(shift)) & np.uint32(255)).astype(np.uint8)
        else:
            columns[name] = column
    return columns


def _compressed(path: Path, points: int) -> dict[str, npt.NDArray[np.generic]]:
    open3d: Any = library("open3d", install="open3d", purpose="to read compressed PCD files")
    try:
        with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
            cloud = open3d.t.io.read_point_cloud(str(path))
        arrays = {name: cloud.point[name].numpy() for name in cloud.point}
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise FormatError(path, f"Open3D cannot read it ({str(error).splitlines()[0][:120]}).") from error
    found = len(arrays.get("positions", ()))
    # Open3D answers a damaged file with an empty cloud and no error.
    if found != points:
        raise FormatError(path, f"The header promises {points} points; Open3D found {found}: the body is damaged.")
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name, names in (("positions", "xyz"), ("normals", ("nx", "ny", "nz")), ("colors", ("red", "green", "blue"))):
        if name in arrays:
            columns.update(zip(names, arrays.pop(name).T, strict=False))
    columns.update({name: values.reshape(found) for name, values in arrays.items() if values.size == found})
    return columns
