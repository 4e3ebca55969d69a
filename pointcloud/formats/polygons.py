"""Faces of text formats, gathered row by row, to a mesh or to the vertices where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from pointcloud.cloud import Cloud
from pointcloud.mesh import Mesh, cloud_of_mesh, triangles_of

__all__ = ["NO_FACES", "Polygons", "cloud_of_polygons"]

NO_FACES = "The mesh has no faces; its vertices are taken as the points."
_MOST = 2**62


@dataclass
class Polygons:
    """Faces by their number of corners; those of fewer than three are counted alone."""

    by_corners: dict[int, list[Sequence[int]]] = field(default_factory=dict)
    thin: int = 0

    def add(self, corners: Sequence[int]) -> None:
        """Take a face, its corners counted from 0.

        Raises:
            ValueError: A number is larger than any vertex has.
        """
        if any(abs(corner) > _MOST for corner in corners):
            raise ValueError(max(corners))
        if len(corners) < 3:
            self.thin += 1
        else:
            self.by_corners.setdefault(len(corners), []).append(corners)


def cloud_of_polygons(
    vertices: Mesh, polygons: Polygons, *, samples: int, seed: int, path: Path, warnings: Sequence[str]
) -> Cloud:
    """Return points drawn from the faces, or the vertices where there are no faces.

    Args:
        vertices: The vertices and what is known of each; its faces are not looked at.
        polygons: The faces.
        samples: As for ``cloud_of_mesh``.
        seed: As for ``cloud_of_mesh``.
        path: The file.
        warnings: What the reader noticed.

    Raises:
        FormatError: A face names a vertex that is not there, or no face has an area.
    """
    faces = triangles_of([np.array(block, dtype=np.int64) for block in polygons.by_corners.values()])
    told = list(warnings)
    if polygons.thin:
        told.append(f"{polygons.thin} faces have fewer than three corners and were left out.")
    if not len(faces):
        told.append(NO_FACES)
        samples = 0
    elif faces.min() < 0 or faces.max() >= len(vertices.vertices):
        wrong = int(faces.min() if faces.min() < 0 else faces.max())
        raise FormatError(path, f"A face names vertex {wrong}, but there are {len(vertices.vertices)}, counted from 0.")
    mesh = Mesh(vertices=vertices.vertices, faces=faces, colours=vertices.colours)
    return cloud_of_mesh(mesh, samples=samples, seed=seed, path=path, warnings=tuple(told))
