"""OFF meshes: the variants of Geomview in text, and the header that ModelNet glues to the numbers ("OFF490 518 0")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats.numbers import reals
from pointcloud.formats.polygons import Polygons, cloud_of_polygons
from pointcloud.formats.text import lines_of
from pointcloud.mesh import Mesh

__all__ = ["read"]

_HEADER = re.compile(r"^(ST)?(C)?(N)?(4)?OFF(.*)$", re.IGNORECASE)
_NO_ROW = "A row is not the numbers of a vertex or a face"


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read an OFF file; a mesh gives points drawn from its faces, a file without faces its vertices.

    Prefixes of the header say what a vertex has: ``N`` a normal, ``C`` a colour of three or four numbers, ``ST`` two
    coordinates of a texture, ``4`` a fourth coordinate, by which the others are divided.

    Raises:
        FormatError: The header is wrong, or the file is shorter than its header says.
    """
    del item
    lines = [words for line in lines_of(path) if (words := line.partition("#")[0].split())]
    header = _HEADER.match(" ".join(lines[0])) if lines else None
    if header is None:
        raise FormatError(path, "The file does not begin with 'OFF': it is not an OFF file.")
    if lines[0][0].startswith("n") and "N" not in lines[0][0][1:].upper() and lines[0][0][1:].isupper():
        raise FormatError(path, "The header is 'nOFF', of any number of dimensions, which is not read.")
    texture, coloured, normals, four, glued = header.groups()
    lines = [glued.split(), *lines[1:]] if glued.strip() else lines[1:]
    if lines and lines[0][0].upper() == "BINARY":
        raise FormatError(path, "The file is a binary OFF, which is not read. Save it as text, or as PLY.")
    vertex_count, face_count = _counts(path, lines)
    rows, lines = lines[1 : 1 + vertex_count], lines[1 + vertex_count :]
    if len(rows) < vertex_count or len(lines) < face_count:
        raise FormatError(
            path,
            f"The header promises {vertex_count} vertices and {face_count} faces; {len(rows) + len(lines)} rows "
            "follow: the file is truncated.",
        )
    warnings = (
        [f"{len(lines) - face_count} lines follow the last face; they are not read."]
        if (len(lines) > face_count)
        else []
    )
    vertices, colours = _vertices(path, rows, bool(four), bool(normals), bool(coloured), bool(texture), warnings)
    polygons, painted = Polygons(), 0
    for words in lines[:face_count]:
        corners = _face(path, words)
        polygons.add(corners)
        painted += len(words) > 1 + len(corners)
    if painted:
        warnings.append(f"The colours of {painted} faces are not read.")
    mesh = Mesh(vertices=vertices, faces=np.zeros((0, 3), np.int64), colours=colours)
    return cloud_of_polygons(mesh, polygons, samples=samples, seed=seed, path=path, warnings=warnings)


def _counts(path: Path, lines: Sequence[list[str]]) -> tuple[int, int]:
    words = lines[0][:2] if lines else []
    if len(words) < 2 or not all(word.isascii() and word.isdecimal() for word in words):
        raise FormatError(path, "The header does not give the numbers of vertices and faces.")
    return int(words[0][:20]), int(words[1][:20])


def _vertices(
    path: Path, rows: list[list[str]], four: bool, normals: bool, coloured: bool, texture: bool, warnings: list[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    if not rows:
        raise FormatError(path, "The cloud has no points.")
    width = len(rows[0])
    places = 4 if four else 3
    least = places + 3 * normals + 2 * texture
    if any(len(words) != width for words in rows):
        raise FormatError(path, f"{_NO_ROW}: the vertices have not all {width} numbers.")
    if width < least + 3 * coloured:
        raise FormatError(path, f"{_NO_ROW}: a vertex has {width} numbers; the header promises {least + 3 * coloured}.")
    try:
        values = reals([word for words in rows for word in words]).reshape(len(rows), width)
    except ValueError:
        raise FormatError(path, f"{_NO_ROW}.") from None
    points = values[:, :3]
    if four:
        with np.errstate(divide="ignore", invalid="ignore"):
            points = points / values[:, 3:4]
    left = width - least
    colours = None
    if coloured and left in (3, 4):
        start = places + 3 * normals
        colours = values[:, start : start + 3]
    elif left:
        warnings.append(f"{left} further numbers of every vertex are not read.")
    if normals:
        warnings.append("The normals of the vertices are not read.")
    return points, colours


def _face(path: Path, words: list[str]) -> list[int]:
    try:
        length = int(words[0])
        corners = [int(word) for word in words[1 : 1 + length]]
    except ValueError:
        corners, length = [], -1
    if length < 0 or len(corners) != length:
        raise FormatError(path, f"{_NO_ROW}: '{' '.join(words)[:60]}'.")
    return corners
