"""Clouds from volumes: the surface of a structure of a label map, or of a volume at a threshold, in mm, RAS+."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import DataError
from pointcloud.cloud import Cloud
from pointcloud.mesh import Mesh, cloud_of_mesh

__all__ = ["cloud_from_labels", "cloud_from_volume", "surface_of"]

_ACROSS = 0.5  # where the surface of a mask runs: half-way between a voxel inside and one outside


def surface_of(values: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], *, level: float) -> Mesh:
    """Return the surface on which a volume equals ``level``, by marching cubes (Lewiner et al. 2003).

    A structure that reaches the edge of the volume is closed there.

    Args:
        values: Real numbers (z, y, x).
        affine: 4x4; maps voxel indices (x, y, z) to mm, RAS+.
        level: In the values' unit; what lies above is inside.

    Returns:
        Vertices in mm, RAS+; faces anticlockwise as seen from outside.

    Raises:
        DataError: The volume is not three-dimensional, or nothing of it lies above ``level``, or all of it is NaN.
    """
    from skimage.measure import marching_cubes

    if values.ndim != 3:
        raise DataError(f"The volume has shape {values.shape}; (z, y, x) was expected.")
    reals = values.astype(np.float32)
    known = np.isfinite(reals)
    if not (known & (reals > level)).any():
        raise DataError(f"No voxel of the volume lies above {level:g}, so there is no surface.")
    least = float(reals[known].min())
    low = least if least < level else level - 1.0
    reals = np.pad(np.where(known, reals, low), 1, constant_values=low)
    marched: Any = marching_cubes(reals, level=level, allow_degenerate=False)
    vertices_zyx, faces = marched[0], marched[1]
    vertices = geometry.to_world(affine, vertices_zyx.astype(np.float64) - 1.0)
    faces = faces.astype(np.int64)
    # Turned axes turn triangles inside out; the volume that a closed surface holds tells by its sign.
    a, b, c = (vertices[faces[:, k]] - vertices.mean(axis=0) for k in range(3))
    if np.einsum("nd,nd->", a, np.cross(b, c)) < 0:
        faces = faces[:, ::-1]
    return Mesh(vertices=vertices, faces=np.ascontiguousarray(faces))


def cloud_from_volume(
    values: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    *,
    level: float,
    samples: int = 2048,
    seed: int = 0,
    path: Path | None = None,
) -> Cloud:
    """Draw points from the surface on which a volume equals ``level``.

    Args:
        values: Real numbers (z, y, x).
        affine: 4x4; maps voxel indices (x, y, z) to mm, RAS+.
        level: In the values' unit, such as 300 HU for bone.
        samples: How many points; 0 takes the vertices of the surface.
        seed: Decides the points.
        path: The volume's file, for the record.

    Raises:
        DataError: See ``surface_of``.
    """
    return cloud_of_mesh(surface_of(values, affine, level=level), samples=samples, seed=seed, unit="mm", path=path)


def cloud_from_labels(
    labels: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    *,
    structure: int,
    samples: int = 2048,
    seed: int = 0,
    smooth_mm: float = 0.0,
    path: Path | None = None,
) -> Cloud:
    """Draw points from the surface of one structure of a label map.

    Args:
        labels: Whole numbers (z, y, x).
        affine: 4x4; maps voxel indices (x, y, z) to mm, RAS+.
        structure: Its number in the label map; the cloud's ``label`` too.
        samples: How many points; 0 takes the vertices of the surface.
        seed: Decides the points, together with ``structure``.
        smooth_mm: Standard deviation of a Gaussian over the mask, which takes the steps of the voxels away; 0 leaves
            them. A structure thinner than this may vanish, which is an error.
        path: The label map's file, for the record.

    Raises:
        DataError: The label map has no such structure, or smoothing left nothing of it.
    """
    from dataclasses import replace

    from scipy import ndimage

    if labels.ndim != 3:
        raise DataError(f"The label map has shape {labels.shape}; (z, y, x) was expected.")
    boxes = ndimage.find_objects((labels == structure).astype(np.uint8))
    if not boxes or boxes[0] is None:
        there = ", ".join(str(value) for value in np.unique(labels)[:20].tolist())
        raise DataError(f"The label map has no structure {structure}. There are: {there}.")
    sigma = [smooth_mm / size for size in geometry.spacing_mm(affine)]
    margin = [int(np.ceil(4 * s)) + 1 for s in sigma]
    mask = np.pad((labels[boxes[0]] == structure).astype(np.float32), [(m, m) for m in margin])
    if smooth_mm > 0:
        mask = ndimage.gaussian_filter(mask, sigma)
        if mask.max() <= _ACROSS:
            raise DataError(
                f"Structure {structure} is thinner than smoothing over {smooth_mm:g} mm leaves. Smooth less."
            )
    origin = tuple(float(box.start - m) for box, m in zip(boxes[0], margin, strict=True))
    placed = geometry.crop_affine(affine, (origin[0], origin[1], origin[2]))
    surface = surface_of(mask, placed, level=_ACROSS)
    cloud = cloud_of_mesh(surface, samples=samples, seed=seed, item=structure, unit="mm", path=path)
    return replace(cloud, label=structure)
