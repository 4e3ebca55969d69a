"""OFF meshes, with the header that ModelNet glues to the numbers ("OFF490 518 0") too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.formats.text import lines_of
from pointcloud.mesh import Mesh, cloud_of_mesh, triangles_of

__all__ = ["read"]


def read(path: Path, *, item: int = 0, samples: int = 8192, seed: int = 0) -> Cloud:
    """Read an OFF file; a mesh gives points drawn from its faces, a file without faces its vertices.

    Raises:
        FormatError: The header is wrong, or the file is shorter than its header says.
    """
    del item
    lines = [line.partition("#")[0].strip() for line in lines_of(path)]
    lines = [line for line in lines if line]
    if not lines or not lines[0].startswith(("OFF", "COFF", "NOFF", "CNOFF")):
        raise FormatError(path, "The file does not begin with 'OFF': it is no OFF file.")
    glued = lines[0].partition("OFF")[2].strip()
    lines = [glued, *lines[1:]] if glued else lines[1:]
    try:
        vertex_count, face_count = (int(word) for word in lines[0].split()[:2])
        if vertex_count < 0 or face_count < 0:
            raise ValueError(vertex_count)
    except (ValueError, IndexError):
        raise FormatError(path, "The header does not give the numbers of vertices and faces.") from None
    if len(lines) < 1 + vertex_count + face_count:
        raise FormatError(
            path,
            f"The header promises {vertex_count} vertices and {face_count} faces; {len(lines) - 1} rows follow.",
        )
    try:
        rows = [line.split()[:3] for line in lines[1 : 1 + vertex_count]]
        vertices = np.array(rows, dtype=np.float64).reshape(vertex_count, 3)
        by_corners: dict[int, list[list[int]]] = {}
        for line in lines[1 + vertex_count : 1 + vertex_count + face_count]:
            words = line.split()
            corners = [int(word) for word in words[1 : 1 + int(words[0])]]
            if len(corners) != int(words[0]):
                raise ValueError(line)
            by_corners.setdefault(len(corners), []).append(corners)
    except (ValueError, IndexError):
        raise FormatError(path, "A row is not the numbers of a vertex or a face.") from None
    faces = triangles_of([np.array(block, dtype=np.int64) for corners, block in by_corners.items() if corners > 0])
    mesh = Mesh(vertices=vertices, faces=faces)
    if face_count == 0:
        return cloud_of_mesh(mesh, samples=0, seed=seed, path=path, warnings=_no_faces())
    return cloud_of_mesh(mesh, samples=samples, seed=seed, path=path)


def _no_faces() -> tuple[str, ...]:
    return ("The mesh has no faces; its vertices are taken as the points.",)
