"""Distances between the surfaces of two masks, in mm: HD95, surface Dice and the average distance.

Tools that print the same names mean different things; differences above 100 mm have been reported. Here:

* The surface of a mask is its set of border voxels: voxels that a face-neighbour outside the mask touches. What lies
  outside the image counts as outside the mask. Distances run between voxel centres, with the voxel size in mm; every
  border voxel weighs the same (surfel-area weighting, as of DeepMind's surface-distance, is not used).
* HD95 is the larger of the two directed 95th percentiles (linear interpolation), as MONAI takes it; medpy pools both
  directions first, which lets a far false positive vanish.
* Surface Dice (NSD) at a tolerance is the share of all border voxels, of both masks, that lie within the tolerance of
  the other mask's border (Nikolov et al., arXiv:1809.04430, with border voxels in place of surfels).
* ASSD is the mean of the distances of all border voxels of both masks.
* A structure that neither mask has scores NaN and is left out of means. One that only one of them has is punished, not
  left out: HD95 and ASSD are the image's diagonal in mm, NSD is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SurfaceScore", "border", "image_diagonal_mm", "surface_distances_mm", "surface_score"]

Mask = npt.NDArray[np.bool_]
Distances = npt.NDArray[np.float64]

# Distances are sums of squares of floats: a tolerance of 0.3 mm must include three voxels of 0.1 mm.
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class SurfaceScore:
    """Surface distances of one structure.

    Attributes:
        hd95_mm: The larger of the two directed 95th percentiles, mm.
        assd_mm: Average symmetric surface distance, mm.
        nsd: Surface Dice at the tolerance, in [0, 1].
        tolerance_mm: The tolerance of ``nsd``.
    """

    hd95_mm: float
    assd_mm: float
    nsd: float
    tolerance_mm: float


def border(mask: Mask) -> Mask:
    """Return the voxels of a mask that touch, face to face, a voxel outside it or the image's edge.

    Args:
        mask: Boolean array of any number of axes.
    """
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(0, -2), slice(2, None)):
            where = [slice(1, -1)] * mask.ndim
            where[axis] = neighbour
            inner &= padded[tuple(where)]
    return mask & ~inner


def image_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Return the length of an image's diagonal, outer face to outer face: what a missing structure is charged.

    Example:
        >>> image_diagonal_mm((3, 4), (1.0, 1.0))
        5.0
    """
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm)))


def surface_distances_mm(truth: Mask, prediction: Mask, *, spacing_mm: Sequence[float]) -> tuple[Distances, Distances]:
    """Return the distance of every border voxel of each mask to the nearest border voxel of the other.

    A k-d tree over the border voxels: exact like a distance transform, and several times as fast on organs, since
    only borders are visited.

    Args:
        truth: Boolean array, not empty.
        prediction: Boolean array of the same shape, not empty.
        spacing_mm: Voxel size in mm, in the order of the axes.

    Returns:
        Distances in mm from the truth's border to the prediction's, and from the prediction's to the truth's.
    """
    from scipy.spatial import KDTree

    box = _joint_box(truth, prediction)
    spacing = np.asarray(spacing_mm, dtype=float)
    points = [np.argwhere(border(mask[box])) * spacing for mask in (truth, prediction)]
    # Voxels of a grid are spread evenly, so the trees gain nothing from being balanced.
    trees = [KDTree(p, balanced_tree=False, compact_nodes=False) for p in points]
    to_prediction, _ = trees[1].query(points[0])
    to_truth, _ = trees[0].query(points[1])
    return to_prediction, to_truth


def surface_score(
    truth: Mask, prediction: Mask, *, spacing_mm: Sequence[float], tolerance_mm: float, diagonal_mm: float | None = None
) -> SurfaceScore:
    """Score the surfaces of two masks of one structure; see the module for the definitions.

    Args:
        truth: Boolean array, 2D or 3D.
        prediction: Boolean array of the same shape.
        spacing_mm: Voxel size in mm, in the order of the axes.
        tolerance_mm: Distance within which a border voxel counts as right, >= 0.
        diagonal_mm: What a missing structure is charged; the masks' own diagonal where None. Give it when the masks
            were cut out of a larger image.
    """
    in_truth, in_prediction = bool(truth.any()), bool(prediction.any())
    if not (in_truth and in_prediction):
        if in_truth == in_prediction:
            far, nsd = float("nan"), float("nan")
        else:
            far = image_diagonal_mm(truth.shape, spacing_mm) if diagonal_mm is None else diagonal_mm
            nsd = 0.0
        return SurfaceScore(hd95_mm=far, assd_mm=far, nsd=nsd, tolerance_mm=tolerance_mm)

    directed = surface_distances_mm(truth, prediction, spacing_mm=spacing_mm)
    total = sum(len(d) for d in directed)
    within = sum(int((d <= tolerance_mm + _ROUNDING).sum()) for d in directed)
    return SurfaceScore(
        hd95_mm=max(float(np.percentile(d, 95)) for d in directed),
        assd_mm=sum(float(d.sum()) for d in directed) / total,
        nsd=within / total,
        tolerance_mm=tolerance_mm,
    )


def _joint_box(first: Mask, second: Mask) -> tuple[slice, ...]:
    """Return the smallest box that holds both masks; borders and distances inside it are those of the whole image."""
    either = first | second
    box = []
    for axis in range(either.ndim):
        others = tuple(a for a in range(either.ndim) if a != axis)
        occupied = np.flatnonzero(either.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)
