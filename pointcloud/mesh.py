"""Triangles, and points drawn from their surface in proportion to area."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.randomness import numpy_generator
from pointcloud.cloud import Cloud, make_cloud, refusal
from pointcloud.colours import bytes_of_colours

__all__ = ["Mesh", "cloud_of_mesh", "joined", "sample_surface", "strips_of", "triangles_of"]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Vertices and the triangles between them.

    Attributes:
        vertices: Float64 (V, 3).
        faces: Int64 (F, 3), rows of ``vertices``, anticlockwise as seen from outside.
        colours: (V, 3) as in ``make_cloud``, or None.
        intensity: (V,) as in ``make_cloud``, or None.
        labels: (V,) as in ``make_cloud``, or None.
        parts: Int64 (F,), the part of the shape that each face belongs to, or None.
    """

    vertices: npt.NDArray[np.float64]
    faces: npt.NDArray[np.int64]
    colours: npt.NDArray[np.generic] | None = None
    intensity: npt.NDArray[np.generic] | None = None
    labels: npt.NDArray[np.generic] | None = None
    parts: npt.NDArray[np.int64] | None = None


def joined(meshes: list[Mesh], parts: list[int] | None = None) -> Mesh:
    """Return one mesh of several, with their colours where all of them have bytes as colours.

    Args:
        meshes: The meshes.
        parts: The part of the shape that each of them is; without it the result has no parts.
    """
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]),
        colours=np.concatenate([mesh.colours for mesh in meshes if mesh.colours is not None])
        if all(mesh.colours is not None and mesh.colours.dtype == np.uint8 for mesh in meshes)
        else None,
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


def strips_of(strips: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Cut strips into triangles: each vertex after the second makes one with the two before it.

    Args:
        strips: Arrays (length,) of vertices; -1 ends a strip and begins the next.

    Returns:
        Int64 (F, 3), all of them turned as the first of their strip.
    """
    found = [np.zeros((0, 3), dtype=np.int64)]
    for whole in strips:
        for strip in np.split(whole, np.flatnonzero(whole == -1)):
            line = strip[strip != -1]
            if len(line) < 3:
                continue
            triangles = np.stack([line[:-2], line[1:-1], line[2:]], axis=1)
            triangles[1::2] = triangles[1::2, ::-1]
            found.append(triangles)
    return np.concatenate(found)


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

    Colours and intensities are mixed from the corners of the face; a label is that of the nearest corner.

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
    told = list(warnings)
    colours = None
    if mesh.colours is not None:  # before they are mixed: the vertices' own values decide the range
        colours, noticed = bytes_of_colours(mesh.colours, path)
        told.extend(noticed)
    if samples == 0:
        return make_cloud(
            mesh.vertices,
            colours=colours,
            intensity=mesh.intensity,
            labels=mesh.labels,
            unit=unit,
            path=path,
            item=item,
            warnings=tuple(told),
        )
    points, face, weights = sample_surface(mesh, samples, numpy_generator(seed, item), path=path)
    named = mesh.faces[face]
    corners = mesh.vertices[named]
    missing = np.asarray(~np.isfinite(mesh.vertices).all(axis=1))
    lost = int(missing[mesh.faces].any(axis=1).sum())
    if lost:
        told.append(f"{lost} of {len(mesh.faces)} faces have corners that are NaN or infinite and were left out.")
    return make_cloud(
        points,
        normals=np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]),
        colours=None if colours is None else _mixed(weights, colours[named]).round().astype(np.uint8),
        intensity=None if mesh.intensity is None else _mixed(weights, mesh.intensity[named]),
        labels=None if mesh.labels is None else mesh.labels[named[np.arange(len(face)), weights.argmax(axis=1)]],
        unit=unit,
        path=path,
        item=item,
        warnings=tuple(told),
    )


def _mixed(weights: npt.NDArray[np.float64], values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return the weighted mean of what three corners (count, 3, ...) have."""
    mixed: npt.NDArray[np.float64] = np.einsum("nk,nk...->n...", weights, values.astype(np.float64))
    return mixed
