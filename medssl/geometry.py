"""Where voxels lie: the only file that converts between axis conventions.

Arrays have axes (z, y, x), and so has everything that counts voxels: shape, spacing_mm, window, origin, box.
An affine maps voxel indices in the order (x, y, z) to points (x, y, z) in mm, RAS+, as in NIfTI.
DICOM and ITK speak LPS+; only the functions here turn one into the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "CREDIBLE_MM",
    "affine_from_itk",
    "beyond_mm",
    "canonical_axes",
    "crop_affine",
    "itk_from_affine",
    "orientation",
    "resample_to_grid",
    "resized_grid",
    "spacing_mm",
    "to_canonical",
    "to_index",
    "to_world",
]

CREDIBLE_MM = (0.001, 1000.0)  # no scanner's voxel is smaller or larger

Affine = npt.NDArray[np.float64]
Triple = tuple[int, int, int]
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NEGATIVE, _POSITIVE = "LPI", "RAS"
_TIE = 1e-6  # direction cosines this close are equal: files round them
_EDGE = 1e-3  # voxels; rounding must not turn the last row of a grid of equal extent into filling


def spacing_mm(affine: Affine) -> tuple[float, float, float]:
    """Return the voxel size in mm as (z, y, x)."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(z), float(y), float(x)


def canonical_axes(affine: Affine) -> tuple[Triple, Triple]:
    """Return, for each array axis (x, y, z), the world axis it is nearest to and the sign it runs in.

    Each world axis is used once: the largest direction cosine is matched first, so oblique scans are unambiguous. At
    45 degrees, where two axes are as near, the axis stays where it is; a turned scan is so never turned again.
    """
    directions = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    strength = np.abs(directions) + _TIE * np.eye(3)
    world, sign = [0, 0, 0], [1, 1, 1]
    for _ in range(3):
        row, column = np.unravel_index(int(np.argmax(strength)), (3, 3))
        world[column] = int(row)
        sign[column] = 1 if directions[row, column] >= 0 else -1
        strength[row, :] = -1.0
        strength[:, column] = -1.0
    return (world[0], world[1], world[2]), (sign[0], sign[1], sign[2])


def orientation(affine: Affine) -> str:
    """Return the directions in which the x, y and z indices grow, such as "RAS" or "LPS".

    Example:
        >>> orientation(np.eye(4))
        'RAS'
    """
    world, sign = canonical_axes(affine)
    return "".join((_POSITIVE if s > 0 else _NEGATIVE)[w] for w, s in zip(world, sign, strict=True))


def to_canonical(values: npt.NDArray[np.generic], affine: Affine) -> tuple[npt.NDArray[np.generic], Affine]:
    """Turn an array so that x, y, z grow towards right, anterior and superior, without resampling.

    Args:
        values: Array with axes (z, y, x).
        affine: Its affine.

    Returns:
        A view of the values and the affine of the turned array; every voxel keeps its place in the world.
    """
    world, sign = canonical_axes(affine)
    shape_xyz = values.shape[::-1]
    turned = np.eye(4)
    turned[:3, :3] = 0.0
    for old in range(3):
        turned[old, world[old]] = sign[old]
        if sign[old] < 0:
            turned[old, 3] = shape_xyz[old] - 1
    by_xyz = values.transpose(2, 1, 0)
    by_xyz = by_xyz[tuple(slice(None, None, s) for s in sign)]
    order = [world.index(axis) for axis in range(3)]
    return by_xyz.transpose(order).transpose(2, 1, 0), affine @ turned


def to_world(affine: Affine, index_zyx: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the points (x, y, z) in mm, RAS+, of voxel indices (z, y, x), both of shape (..., 3).

    Example:
        >>> to_world(np.diag([1.0, 2.0, 3.0, 1.0]), [1, 1, 0]).tolist()
        [0.0, 2.0, 3.0]
    """
    index = np.asarray(index_zyx, dtype=np.float64)[..., ::-1]
    result: npt.NDArray[np.float64] = index @ affine[:3, :3].T + affine[:3, 3]
    return result


def to_index(affine: Affine, points_mm: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the voxel indices (z, y, x), not rounded, of points (x, y, z) in mm, RAS+, both of shape (..., 3)."""
    from_origin = np.asarray(points_mm, dtype=np.float64) - affine[:3, 3]
    result: npt.NDArray[np.float64] = (from_origin @ np.linalg.inv(affine[:3, :3]).T)[..., ::-1]
    return result


def crop_affine(affine: Affine, origin: tuple[float, float, float]) -> Affine:
    """Return the affine of an array that starts at voxel ``origin`` (z, y, x) of the old one.

    Example:
        >>> crop_affine(np.diag([1.0, 2.0, 3.0, 1.0]), (1, 0, 5))[:3, 3].tolist()
        [5.0, 0.0, 3.0]
    """
    moved = affine.copy()
    moved[:3, 3] = (affine @ np.array([origin[2], origin[1], origin[0], 1.0]))[:3]
    return moved


def beyond_mm(shape: Triple, affine: Affine, other_shape: Triple, other_affine: Affine) -> float:
    """Return how far, in mm, a grid reaches beyond another one at its farthest corner; 0 where it lies inside.

    Args:
        shape: Of the grid, (z, y, x).
        affine: Its affine.
        other_shape: Of the one that should hold it.
        other_affine: Its affine.
    """
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape], indexing="ij")).reshape(3, 8).T
    places = to_index(other_affine, to_world(affine, ends))
    low, high = np.full(3, -0.5), np.array(other_shape) - 0.5
    over = np.maximum(np.maximum(low - places, places - high), 0.0) * np.array(spacing_mm(other_affine))
    return float(np.linalg.norm(over, axis=1).max())


def resized_grid(shape: Triple, affine: Affine, spacing: tuple[float, float, float]) -> tuple[Triple, Affine]:
    """Return shape and affine of a grid of the same extent with another voxel size.

    The outer faces of the first voxels coincide, so the extent is kept to within half a new voxel.

    Args:
        shape: Old shape (z, y, x).
        affine: Old affine.
        spacing: New voxel size in mm, (z, y, x).
    """
    old = spacing_mm(affine)
    new_shape = tuple(max(1, round(n * o / s)) for n, o, s in zip(shape, old, spacing, strict=True))
    scale_xyz = np.array(spacing[::-1]) / np.array(old[::-1])
    resized = affine.copy()
    resized[:3, :3] = affine[:3, :3] * scale_xyz
    first = 0.5 * (scale_xyz - 1.0)
    resized[:3, 3] = (affine @ np.append(first, 1.0))[:3]
    return (new_shape[0], new_shape[1], new_shape[2]), resized


def resample_to_grid(
    values: npt.NDArray[np.generic],
    affine: Affine,
    target_shape: Triple,
    target_affine: Affine,
    *,
    order: int,
    fill: float,
) -> npt.NDArray[np.generic]:
    """Resample an array onto another grid of the same world.

    Args:
        values: Array (z, y, x) on the grid of ``affine``.
        affine: Its affine.
        target_shape: Shape (z, y, x) of the result.
        target_affine: Affine of the result.
        order: Spline order: 0 for labels, 1 or 3 for images.
        fill: Value outside the source. A voxel reaches half its size from its centre: in the outer half of the outer
            voxels the value of the edge is taken.

    Returns:
        Array of ``target_shape`` and of the dtype of ``values``.
    """
    from scipy import ndimage

    between = np.linalg.inv(affine) @ target_affine
    matrix_zyx = between[:3, :3][::-1, ::-1]
    offset_zyx = between[:3, 3][::-1]
    # scipy's own filling starts at the centres of the outer voxels, which would put a rim around every finer grid.
    result: npt.NDArray[np.generic] = ndimage.affine_transform(
        values, matrix_zyx, offset=offset_zyx, output_shape=target_shape, order=order, mode="nearest"
    )
    ends = np.array([0, 0, 0]), np.array(target_shape) - 1
    corners = np.array(np.meshgrid(*zip(*ends, strict=True), indexing="ij")).reshape(3, 8)
    places = matrix_zyx @ corners + offset_zyx[:, None]
    for axis, length in enumerate(values.shape):
        low, high = -0.5 - _EDGE, length - 0.5 + _EDGE
        if places[axis].min() >= low and places[axis].max() <= high:
            continue
        along = [matrix_zyx[axis, k] * np.arange(n, dtype=np.float32) for k, n in enumerate(target_shape)]
        place = along[0][:, None, None] + along[1][:, None] + along[2] + np.float32(offset_zyx[axis])
        result[(place < low) | (place > high)] = fill
    return result


def affine_from_itk(
    origin_lps: tuple[float, ...], spacing_xyz: tuple[float, ...], direction: tuple[float, ...]
) -> Affine:
    """Return the RAS+ affine of an ITK image (origin and direction in LPS+, spacing as (x, y, z), row-major)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(direction, dtype=float).reshape(3, 3) * np.array(spacing_xyz, dtype=float)
    affine[:3, 3] = origin_lps
    result: Affine = _LPS @ affine
    return result


def itk_from_affine(
    affine: Affine,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return (origin_lps, spacing_xyz, direction) of an RAS+ affine, as SimpleITK takes them."""
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    return tuple(lps[:3, 3].tolist()), tuple(spacing.tolist()), tuple(direction.ravel().tolist())
