"""Wavefront OBJ: vertices, their colours where they have any, and faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats.text import lines_of
from pointcloud.mesh import Mesh, cloud_of_mesh, triangles_of

__all__ = ["read"]

_KNOWN = {"v", "vn", "vt", "vp", "f", "l", "p", "g", "o", "s", "mtllib", "usemtl", "usemap", "maplib"}


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read an OBJ file; a mesh gives points drawn from its faces, a file without faces its vertices.

    Materials and textures are not read, and no file beside it is opened.

    Raises:
        FormatError: A line is no OBJ, or a face names a vertex that is not there.
    """
    del item
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    unknown = 0
    for number, line in enumerate(lines_of(path), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            if words[0] == "v":
                vertices.append([float(word) for word in words[1:]])
            elif words[0] == "f":
                faces.append([_index(word, len(vertices)) for word in words[1:]])
            elif words[0] not in _KNOWN:
                unknown += 1
        except ValueError:
            raise FormatError(path, f"Line {number} is no row of an OBJ file: '{line.strip()[:60]}'.") from None
    if not vertices:
        what = f" {unknown} lines are no OBJ at all." if unknown else ""
        raise FormatError(path, f"The file has no vertices.{what}")
    width = len(vertices[0])
    if width < 3 or any(len(vertex) != width for vertex in vertices):
        raise FormatError(path, "The vertices have not all the same number of coordinates, three or more.")
    table = np.array(vertices)
    by_corners: dict[int, list[list[int]]] = {}
    for face in faces:
        by_corners.setdefault(len(face), []).append(face)
    mesh = Mesh(
        vertices=table[:, :3],
        faces=triangles_of([np.array(block, dtype=np.int64) for corners, block in by_corners.items() if corners]),
        colours=table[:, 3:6] if width >= 6 else None,
    )
    if not faces:
        told = ("The mesh has no faces; its vertices are taken as the points.",)
        return cloud_of_mesh(mesh, samples=0, seed=seed, path=path, warnings=told)
    return cloud_of_mesh(mesh, samples=samples, seed=seed, path=path)


def _index(word: str, known: int) -> int:
    """Return the row of a vertex that a face names; negative numbers count back from the last one read."""
    number = int(word.partition("/")[0])
    return number - 1 if number > 0 else known + number
