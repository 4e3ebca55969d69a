"""Triangles, and points drawn from their surface in proportion to area."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.randomness import numpy_generator
from pointcloud.cloud import Cloud, make_cloud, refusal

__all__ = ["Mesh", "cloud_of_mesh", "joined", "sample_surface", "triangles_of"]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Vertices and the triangles between them.

    Attributes:
        vertices: Float64 (V, 3).
        faces: Int64 (F, 3), rows of ``vertices``, anticlockwise as seen from outside.
        colours: (V, 3) as in ``make_cloud``, or None.
        parts: Int64 (F,), the part of the shape that each face belongs to, or None.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.generic] | None = None
    parts: npt.NDArray[np.int64] | None = None


def joined(meshes: list[Mesh], parts: list[int] | None = None) -> Mesh:
    """Return one mesh of several, without their colours.

    Args:
        meshes: The meshes.
        parts: The part of the shape that each of them is; without it the result has no parts.
    """
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
        parts=None
        if parts is None
        else np.repeat(np.array(parts, dtype=np.int64), [len(mesh.faces) for mesh in meshes]),
    )


def triangles_of(polygons: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Cut polygons into fans of triangles.

    Args:
        polygons: Arrays (count, corners), each of polygons of one number of corners.

    Returns:
        Int64 (F, 3). Polygons of fewer than three corners have no area and give none.
    """
    fans = [np.zeros((0, 3), dtype=np.int64)]
    for block in polygons:
        for corner in range(1, block.shape[1] - 1):
            fans.append(block[:, [0, corner, corner + 1]])
    return np.concatenate(fans).astype(np.int64)


def sample_surface(
    mesh: Mesh, count: int, generator: np.random.Generator, *, path: Path | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw points from the surface, each square unit as likely as any other.

    Args:
        mesh: The triangles.
        count: How many points.
        generator: Where the draws come from.
        path: The mesh's file, for messages.

    Returns:
        Points (count, 3), the face that each lies on (count,), and its weights of that face's corners (count, 3).

    Raises:
        FormatError: A face names a vertex that is not there, or no face has an area; ``DataError`` without a path.
    """
    vertices, faces = mesh.vertices, mesh.faces
    if len(faces) == 0:
        raise refusal(path, f"The mesh has {len(vertices)} vertices and no faces, so there is no surface.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        wrong = int(faces.min() if faces.min() < 0 else faces.max())
        raise refusal(path, f"A face names vertex {wrong}, but there are {len(vertices)}, counted from 0.")
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = 0.5 * np.linalg.norm(across, axis=1)
    area = np.where(np.isfinite(area), area, 0.0)
    total = np.cumsum(area)
    if not total[-1] > 0:
        raise refusal(path, f"None of the {len(faces)} faces has an area, so no points can be drawn from them.")
    face = np.searchsorted(total, generator.random(count) * total[-1], side="right")
    face = np.minimum(face, np.flatnonzero(area)[-1])
    root, along = np.sqrt(generator.random(count)), generator.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], axis=1)
    points: npt.NDArray[np.float64] = np.einsum("nk,nkd->nd", weights, corners[face])
    return points, face.astype(np.int64), weights


def cloud_of_mesh(
    mesh: Mesh,
    *,
    samples: int,
    seed: int,
    item: int = 0,
    unit: str = "unknown",
    path: Path | None = None,
    warnings: tuple[str, ...] = (),
) -> Cloud:
    """Return a cloud drawn from the surface of a mesh, with the normals of the faces.

    Args:
        mesh: The triangles.
        samples: How many points; 0 takes the vertices as they are.
        seed: Decides the points, together with ``item``.
        item: Which cloud of the file.
        unit: Unit of the vertices.
        path: The file, for messages and for the record.
        warnings: What the reader noticed.

    Raises:
        FormatError: The mesh has no surface to draw from; ``DataError`` without a path.
    """
    if samples == 0:
        return make_cloud(mesh.vertices, colours=mesh.colours, unit=unit, path=path, item=item, warnings=warnings)
    points, face, weights = sample_surface(mesh, samples, numpy_generator(seed, item), path=path)
    corners = mesh.vertices[mesh.faces[face]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    colours = None
    if mesh.colours is not None:
        mixed = np.einsum("nk,nkd->nd", weights, mesh.colours[mesh.faces[face]].astype(np.float64))
        colours = mixed if mesh.colours.dtype.kind == "f" else np.round(mixed).astype(np.int64)
    return make_cloud(points, normals=normals, colours=colours, unit=unit, path=path, item=item, warnings=warnings)
