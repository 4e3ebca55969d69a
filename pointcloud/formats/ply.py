"""PLY: ascii and binary of both byte orders, points and meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud, make_cloud
from pointcloud.formats.columns import named
from pointcloud.formats.files import contents
from pointcloud.formats.ply_rows import Element, Group, Table, ascii_tables, binary_tables
from pointcloud.mesh import Mesh, cloud_of_mesh, strips_of, triangles_of

__all__ = ["read"]

_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_CORNERS = ("vertex_indices", "vertex_index")


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read a PLY file: its points, or points drawn from its faces and strips of triangles where it has any.

    Lines of the header may end in LF, CR LF or CR. Elements and properties may come in any order; those that are not
    read are named in a warning.

    Raises:
        FormatError: The header is wrong, the body is shorter than the header says, or there are no points.
    """
    del item
    raw = contents(path)
    order, elements, start = _header(path, raw)
    if not any(element.name == "vertex" for element in elements):
        raise FormatError(path, "The header has no element 'vertex', so there are no points.")
    if order == "ascii":
        tables, extra = ascii_tables(path, raw[start:], elements)
    else:
        tables, extra = binary_tables(path, raw, start, elements, _ORDERS[order])
    parts = named(_one_a_point(tables["vertex"]), path)
    warnings = [*parts.pop("warnings"), *_unread(elements)]
    if extra:
        what = "lines" if order == "ascii" else "bytes"
        warnings.append(f"{extra} {what} follow the last row; they are not read.")
    faces = np.concatenate([_faces(path, tables.get("face", {})), _strips(path, tables.get("tristrips", {}))])
    if not len(faces) or samples == 0:
        promised = sum(element.rows for element in elements if element.name in ("face", "tristrips"))
        if promised and not len(faces):
            warnings.append(
                f"None of {promised} faces has three corners: the mesh has no faces; its vertices are taken."
            )
        return make_cloud(path=path, warnings=tuple(warnings), **parts)
    mesh = Mesh(
        vertices=parts["points"].astype(np.float64),
        faces=faces,
        colours=parts.get("colours"),
        intensity=parts.get("intensity"),
        labels=parts.get("labels"),
    )
    return cloud_of_mesh(
        mesh, samples=samples, seed=seed, unit=parts.get("unit", "unknown"), path=path, warnings=tuple(warnings)
    )


def _header(path: Path, raw: bytes) -> tuple[str, list[Element], int]:
    """Return the order of bytes, what the file holds, and where its body begins."""
    between = b"\r" if raw[:4] == b"ply\r" and raw[4:5] != b"\n" else b"\n"
    if not raw.startswith(b"ply") or raw[3 : raw.find(between)].strip():
        raise FormatError(path, f"The file does not begin with 'ply' but with {raw[:8]!r}: it is not a PLY file.")
    order, elements = "", list[Element]()
    at = raw.find(between) + 1
    while True:
        end = raw.find(between, at)
        if at == 0 or end < 0:
            raise FormatError(path, "The header has no 'end_header': the file is truncated.")
        line = raw[at:end].decode("ascii", errors="replace")
        at = end + 1
        words = line.split()
        if words == ["end_header"]:
            break
        if not words or words[0] in ("comment", "obj_info"):
            continue
        try:
            if words[0] == "format":
                order = words[1]
            elif words[0] == "element":
                elements.append(Element(words[1], int(words[2])))
            elif words[0] == "property":
                elements[-1].properties.append(_property(words))
            else:
                raise ValueError(words[0])
        except (IndexError, ValueError, KeyError):
            raise FormatError(path, f"The header has a line that is no PLY: '{line[:60]}'.") from None
    if order not in _ORDERS:
        raise FormatError(path, f"The format is '{order}'. Allowed: {', '.join(_ORDERS)}.")
    _check(path, elements)
    return order, elements, at


def _check(path: Path, elements: list[Element]) -> None:
    names = [element.name for element in elements]
    if len(set(names)) < len(names):
        raise FormatError(path, f"The header names an element twice: {', '.join(names)}.")
    for element in elements:
        if element.rows < 0:
            raise FormatError(path, f"The header promises a negative number of rows of '{element.name}'.")
        own = [name for name, _, _ in element.properties]
        if len(set(own)) < len(own):
            raise FormatError(path, f"The header names a property of '{element.name}' twice: {', '.join(own)[:200]}.")
        if element.rows and not own:
            raise FormatError(
                path, f"The header promises {element.rows} rows of '{element.name}' with nothing in them."
            )


def _property(words: list[str]) -> tuple[str, str, str]:
    if words[1] == "list":
        if _TYPES[words[2]][0] == "f":
            raise ValueError(words[2])  # no list has 2.5 values
        return words[4], _TYPES[words[3]], _TYPES[words[2]]
    return words[2], _TYPES[words[1]], ""


def _one_a_point(table: Table) -> dict[str, npt.NDArray[np.generic]]:
    return {name: column for name, column in table.items() if not isinstance(column, list)}


def _unread(elements: list[Element]) -> list[str]:
    """Return what the file holds beside points, faces and their corners."""
    told = []
    for element in elements:
        if not element.rows:
            continue
        lists = [name for name, _, count in element.properties if count]
        if element.name in ("face", "tristrips"):
            columns = [name for name, _, _ in element.properties if name not in _CORNERS]
            if columns:
                told.append(f"Columns of the element '{element.name}' that are not read: {', '.join(columns)}.")
        elif element.name != "vertex":
            told.append(f"The {element.rows} rows of the element '{element.name}' are not read.")
        elif lists:
            told.append(f"Lists of the points that are not read: {', '.join(lists)}.")
    return told


def _faces(path: Path, table: Table) -> npt.NDArray[np.int64]:
    by_corners: dict[int, list[npt.NDArray[np.int64]]] = {}
    for _, block in _corners(path, table):
        by_corners.setdefault(block.shape[1], []).append(block)
    return triangles_of([np.concatenate(same) for same in by_corners.values()])


def _strips(path: Path, table: Table) -> npt.NDArray[np.int64]:
    return strips_of([row for _, block in _corners(path, table) for row in block])


def _corners(path: Path, table: Table) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return the lists of vertices, as whole numbers."""
    groups: Any = next((table[name] for name in _CORNERS if name in table), [])
    if not isinstance(groups, list):
        raise FormatError(path, "'vertex_indices' is no list, so the faces have no corners.")
    whole: list[Group] = groups
    if any(block.dtype.kind not in "iu" for _, block in whole):
        raise FormatError(path, "The faces name vertices by numbers that are not whole.")
    return [(rows, block.astype(np.int64)) for rows, block in whole]
