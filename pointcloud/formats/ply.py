"""PLY: ascii and binary of both byte orders, points and meshes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import named
from pointcloud.formats.files import contents
from pointcloud.mesh import Mesh, cloud_of_mesh, triangles_of

__all__ = ["read"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_END = b"end_header"


@dataclass
class _Element:
    """One kind of row: its name, how many, and (name, type of value, type of count or "") of each property."""

    name: str
    rows: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read a PLY file: its points, or points drawn from its faces where it has any.

    Raises:
        FormatError: The header is wrong, the body is shorter than the header says, or there are no points.
    """
    del item
    raw = contents(path)
    order, elements, start = _header(path, raw)
    if not any(element.name == "vertex" for element in elements):
        raise FormatError(path, "The header has no element 'vertex', so there are no points.")
    if order == "ascii":
        tables, extra = _ascii(path, raw[start:], elements)
    else:
        tables, extra = _binary(path, raw, start, elements, _ORDERS[order])
    vertex = tables["vertex"]
    parts = named({name: column for name, column in vertex.items() if not isinstance(column, list)}, path)
    warnings = parts.pop("warnings")
    if extra:
        warnings = (*warnings, f"{extra} bytes follow the last row; they are not read.")
    faces = tables.get("face", {})
    polygons = next((faces[name] for name in ("vertex_indices", "vertex_index") if name in faces), None)
    if polygons is None or not len(polygons) or samples == 0:
        return make_cloud(path=path, warnings=warnings, **parts)
    mesh = Mesh(
        vertices=parts["points"].astype(np.float64), faces=_triangles(path, polygons), colours=parts.get("colours")
    )
    return cloud_of_mesh(mesh, samples=samples, seed=seed, path=path, warnings=warnings)


def _header(path: Path, raw: bytes) -> tuple[str, list[_Element], int]:
    if not raw.startswith(b"ply"):
        raise FormatError(path, f"The file does not begin with 'ply' but with {raw[:8]!r}: it is no PLY file.")
    at = raw.find(_END)
    end = raw.find(b"\n", at)
    if at < 0 or end < 0:
        raise FormatError(path, "The header has no 'end_header': the file is truncated.")
    order, elements = "", list[_Element]()
    for line in raw[:at].decode("ascii", errors="replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        try:
            if words[0] == "format":
                order = words[1]
            elif words[0] == "element":
                elements.append(_Element(words[1], int(words[2])))
            elif words[0] == "property":
                elements[-1].properties.append(_property(words))
            else:
                raise ValueError(words[0])
        except (IndexError, ValueError, KeyError):
            raise FormatError(path, f"The header has a line that is no PLY: '{line[:60]}'.") from None
    if order not in _ORDERS:
        raise FormatError(path, f"The format is '{order}'. Allowed: {', '.join(_ORDERS)}.")
    if any(element.rows < 0 for element in elements):
        raise FormatError(path, "The header promises a negative number of rows.")
    return order, elements, end + 1


def _property(words: list[str]) -> tuple[str, str, str]:
    if words[1] == "list":
        return words[4], _TYPES[words[3]], _TYPES[words[2]]
    return words[2], _TYPES[words[1]], ""


def _short(path: Path, element: _Element) -> FormatError:
    return FormatError(
        path, f"The file ends before the {element.rows} rows of '{element.name}' that its header promises: truncated."
    )


def _binary(
    path: Path, raw: bytes, at: int, elements: list[_Element], order: str
) -> tuple[dict[str, dict[str, Any]], int]:
    tables: dict[str, dict[str, Any]] = {}
    for element in elements:
        if any(count for _, _, count in element.properties):
            tables[element.name], at = _binary_lists(path, raw, at, element, order)
            continue
        row = np.dtype([(name, order + kind) for name, kind, _ in element.properties])
        if at + row.itemsize * element.rows > len(raw):
            raise _short(path, element)
        block = np.frombuffer(raw, row, element.rows, at)
        at += row.itemsize * element.rows
        tables[element.name] = {
            name: block[name].astype(block[name].dtype.newbyteorder("=")) for name in row.names or ()
        }
    return tables, len(raw) - at


def _binary_lists(path: Path, raw: bytes, at: int, element: _Element, order: str) -> tuple[dict[str, Any], int]:
    """Read rows with lists: at once where every row is as long as the first, row by row elsewhere."""
    if element.rows == 0:
        return {name: [] for name, _, _ in element.properties}, at
    row, lists = _row_of_lists(path, raw, at, element, order)
    if at + row.itemsize * element.rows <= len(raw):
        block = np.frombuffer(raw, row, element.rows, at)
        if all((block[f"count {name}"] == length).all() for name, length in lists.items()):
            table = {name: block[name] if name not in lists else [block[name]] for name, _, _ in element.properties}
            return table, at + row.itemsize * element.rows
    columns: dict[str, Any] = {name: [] for name, _, _ in element.properties}
    for _ in range(element.rows):
        row, _lists = _row_of_lists(path, raw, at, element, order)
        if at + row.itemsize > len(raw):
            raise _short(path, element)
        values = np.frombuffer(raw, row, 1, at)
        at += row.itemsize
        for name in columns:
            columns[name].append(values[name])
    return columns, at


def _row_of_lists(
    path: Path, raw: bytes, at: int, element: _Element, order: str
) -> tuple[np.dtype[Any], dict[str, int]]:
    """Return the layout of the row that begins at a byte, and the length of each of its lists."""
    fields: list[Any] = []
    lists: dict[str, int] = {}
    for name, kind, count in element.properties:
        if count:
            size = np.dtype(count).itemsize
            if at + size > len(raw):
                raise _short(path, element)
            length = int(np.frombuffer(raw, order + count, 1, at)[0])
            if length < 0 or at + size + length > len(raw):
                raise _short(path, element)
            fields += [(f"count {name}", order + count), (name, order + kind, (length,))]
            lists[name] = length
            at += size + length * np.dtype(kind).itemsize
        else:
            fields.append((name, order + kind))
            at += np.dtype(kind).itemsize
    return np.dtype(fields), lists


def _ascii(path: Path, body: bytes, elements: list[_Element]) -> tuple[dict[str, dict[str, Any]], int]:
    lines = [line for line in body.decode("ascii", errors="replace").splitlines() if line.strip()]
    tables: dict[str, dict[str, Any]] = {}
    at = 0
    for element in elements:
        if at + element.rows > len(lines):
            raise _short(path, element)
        rows = lines[at : at + element.rows]
        at += element.rows
        try:
            tables[element.name] = _ascii_rows(rows, element)
        except (ValueError, IndexError):
            raise FormatError(
                path,
                f"A row of '{element.name}' is not the {len(element.properties)} numbers that the header promises.",
            ) from None
    return tables, sum(len(line) for line in lines[at:])


def _ascii_rows(rows: list[str], element: _Element) -> dict[str, Any]:
    split = [row.split() for row in rows]
    if not any(count for _, _, count in element.properties):
        width = len(element.properties)
        if any(len(words) != width for words in split):
            raise ValueError(width)
        values = np.array(split, dtype=np.float64).reshape(len(rows), width)
        return {name: values[:, k].astype(kind) for k, (name, kind, _) in enumerate(element.properties)}
    columns: dict[str, Any] = {name: [] for name, _, _ in element.properties}
    for words in split:
        at = 0
        for name, kind, count in element.properties:
            length = int(words[at]) if count else 1
            at += 1 if count else 0
            if length < 0 or at + length > len(words):
                raise ValueError(length)
            columns[name].append(np.array(words[at : at + length], dtype=np.float64).astype(kind)[None])
            at += length
    return columns


def _triangles(path: Path, polygons: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.int64]:
    blocks = [np.atleast_2d(block) for block in polygons]
    if any(block.dtype.kind not in "iu" for block in blocks):
        raise FormatError(path, "The faces name vertices by numbers that are not whole.")
    by_corners: dict[int, list[npt.NDArray[np.int64]]] = {}
    for block in blocks:
        by_corners.setdefault(block.shape[1], []).append(block.astype(np.int64))
    return triangles_of([np.concatenate(same) for same in by_corners.values()])
