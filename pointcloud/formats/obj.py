"""Wavefront OBJ: vertices, their colours where they have any, and faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats.numbers import are_numbers, reals
from pointcloud.formats.polygons import Polygons, cloud_of_polygons
from pointcloud.formats.text import lines_of
from pointcloud.mesh import Mesh

__all__ = ["read"]

_PASSED = {
    "vn",
    "vt",
    "g",
    "o",
    "s",
    "mtllib",
    "usemtl",
    "usemap",
    "maplib",
    "mg",
    "bevel",
    "c_interp",
    "d_interp",
    "lod",
    "shadow_obj",
    "trace_obj",
}
_SHAPES = {
    "l",
    "p",
    "vp",
    "curv",
    "curv2",
    "surf",
    "deg",
    "cstype",
    "bmat",
    "step",
    "parm",
    "trim",
    "hole",
    "scrv",
    "sp",
    "end",
    "con",
}


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read an OBJ file; a mesh gives points drawn from its faces, a file without faces its vertices.

    A line that ends in a backslash goes on in the next. A vertex may have a weight (``x y z w``) or a colour
    (``x y z r g b``); where some have a colour and others none, no colour is read, and a warning counts them.
    Materials and textures are not read, and no file beside it is opened. The format has no counts, so a file that is
    cut off at the end of a line looks like a smaller one.

    Raises:
        FormatError: A line is no OBJ, or a face names a vertex that is not there.
    """
    del item
    rows: dict[int, list[list[str]]] = {}  # vertices by how many numbers they have
    places: dict[int, list[int]] = {}
    numbered: list[int] = []  # the line of each vertex
    polygons, others = Polygons(), Counter[str]()
    for number, line in _logical(lines_of(path)):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "v":
            if len(words) < 4:
                raise FormatError(path, f"Line {number} is a vertex of fewer than three numbers: '{line[:60]}'.")
            rows.setdefault(len(words) - 1, []).append(words[1:])
            places.setdefault(len(words) - 1, []).append(len(numbered))
            numbered.append(number)
        elif words[0] in ("f", "fo"):  # fo is what old files call a face
            try:
                polygons.add([_index(word, len(numbered)) for word in words[1:]])
            except ValueError:
                raise FormatError(path, f"Line {number} is no row of an OBJ file: '{line.strip()[:60]}'.") from None
        elif words[0] not in _PASSED:
            others[words[0] if words[0] in _SHAPES else ""] += 1
    if not numbered:
        what = f" {others['']} lines are no OBJ at all." if others[""] else ""
        raise FormatError(path, f"The file has no vertices.{what}")
    warnings: list[str] = []
    vertices, colours = _vertices(path, rows, places, numbered, warnings)
    unknown = others.pop("", 0)
    if unknown:
        warnings.append(f"{unknown} lines are no OBJ and were not read.")
    if others:
        warnings.append(f"Lines, points and curved shapes are not read: {others.total()} lines.")
    mesh = Mesh(vertices=vertices, faces=np.zeros((0, 3), np.int64), colours=colours)
    return cloud_of_polygons(mesh, polygons, samples=samples, seed=seed, path=path, warnings=warnings)


def _logical(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Yield lines with what follows a backslash at their end, and the number of their first."""
    begun, first = "", 0
    for number, line in enumerate(lines, start=1):
        first = first if begun else number
        stripped = line.rstrip()
        if stripped.endswith("\\"):
            begun += stripped[:-1] + " "
            continue
        yield first, begun + line
        begun = ""
    if begun:
        yield first, begun


def _vertices(
    path: Path,
    rows: dict[int, list[list[str]]],
    places: dict[int, list[int]],
    numbered: list[int],
    warnings: list[str],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    known = len(numbered)
    points = np.empty((known, 3))
    colours = np.full((known, 3), np.nan)
    coloured = 0
    for width, block in rows.items():
        try:
            values = reals([word for words in block for word in words]).reshape(len(block), width)
        except ValueError:
            at = next(at for at, words in enumerate(block) if not are_numbers(words))
            line = numbered[places[width][at]]
            raise FormatError(
                path, f"Line {line} is a vertex that is no row of numbers: '{' '.join(block[at])[:60]}'."
            ) from None
        points[places[width]] = values[:, :3]
        if width == 4 and (values[:, 3] != 1).any():
            warnings.append(f"{int((values[:, 3] != 1).sum())} vertices have weights other than 1, which are not read.")
        elif width in (6, 7):
            colours[places[width]] = values[:, 3:6]
            coloured += len(block)
            if width == 7:
                warnings.append(f"The seventh number of {len(block)} vertices (their opacity) is not read.")
        elif width > 4:
            warnings.append(f"{width - 3} further numbers of {len(block)} vertices are not read.")
    if 0 < coloured < known:
        warnings.append(f"{coloured} of {known} vertices have a colour and the others none, so colours are not read.")
    return points, colours if coloured == known else None


def _index(word: str, known: int) -> int:
    """Return the row of a vertex that a face names; negative numbers count back from the last one read.

    Raises:
        ValueError: The word is no number, or 0, or counts back beyond the first.
    """
    if not word.isascii() or "_" in word:
        raise ValueError(word)
    number = int(word.partition("/")[0])
    row = number - 1 if number > 0 else known + number
    if number == 0 or row < 0:
        raise ValueError(word)
    return row
