"""Labels of one scan carried to another by registration: what people use where no network was trained.

SimpleITK: the centres are laid on each other, an affine transform by mutual information, coarse to fine, and above it a
B-spline deformation. Labels follow by nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Way", "registered_labels"]

Way = Literal["affine", "deformable"]
_BINS, _SHARE = 32, 0.25
_CONTROL_MM = 30.0  # between control points of the deformation


def registered_labels(
    fixed: npt.NDArray[Any],
    moving: npt.NDArray[Any],
    labels: npt.NDArray[np.integer],
    spacings_mm: tuple[Sequence[float], Sequence[float]],
    *,
    way: Way,
    seed: int = 0,
) -> tuple[npt.NDArray[np.int16], str]:
    """Return the labels of the moving scan on the grid of the fixed one, and why a step failed, "" where none did.

    A step that fails, as on scans of hardly more than noise, leaves what was before it.

    Args:
        fixed: Values, (z, y, x).
        moving: Values of the labelled scan, (z, y, x).
        labels: Its labels; what lies beyond it becomes 0, and so does -1.
        spacings_mm: Of both scans, (z, y, x).
        way: "affine", or "deformable" on top of it.
        seed: Of the voxels that the metric is computed on.
    """
    import SimpleITK as sitk  # noqa: N813 - as everybody calls it

    def image(values: npt.NDArray[Any], spacing: Sequence[float]) -> Any:
        found = sitk.GetImageFromArray(values)
        found.SetSpacing([float(v) for v in reversed(spacing)])
        return found

    still, moved = (image(v.astype(np.float32), s) for v, s in zip((fixed, moving), spacings_mm, strict=True))
    start = sitk.CenteredTransformInitializer(
        still, moved, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    transform, why = _registered(sitk, still, moved, start, seed, levels=_levels(fixed.shape))
    if way == "deformable":
        mesh = [max(1, round(n * s / _CONTROL_MM)) for n, s in zip(still.GetSize(), still.GetSpacing(), strict=True)]
        spline = sitk.BSplineTransformInitializer(still, mesh, 3)
        spline, also = _registered(sitk, still, moved, spline, seed, levels=[1], before=transform)
        why = why or also
        transform = sitk.CompositeTransform([transform, spline])
    drawn = image(np.maximum(labels, 0).astype(np.int16), spacings_mm[1])
    found = sitk.Resample(drawn, still, transform, sitk.sitkNearestNeighbor, 0.0, sitk.sitkInt16)
    return np.asarray(sitk.GetArrayFromImage(found), dtype=np.int16), why


def _levels(shape: Sequence[int]) -> list[int]:
    """Return by how much a scan is shrunk, coarse to fine, such that 8 voxels are left along each axis."""
    return [factor for factor in (4, 2) if min(shape) // factor >= 8] + [1]


def _registered(
    sitk: Any, fixed: Any, moving: Any, start: Any, seed: int, *, levels: Sequence[int], before: Any = None
) -> tuple[Any, str]:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SHARE, seed + 1)  # 0 would be the clock
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(levels))
    method.SetSmoothingSigmasPerLevel([0.5 * (level - 1) for level in levels])
    method.SetOptimizerAsGradientDescentLineSearch(
        learningRate=1.0, numberOfIterations=60, convergenceMinimumValue=1e-5
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if before is not None:
        method.SetMovingInitialTransform(before)
    method.SetInitialTransform(start, inPlace=False)
    try:
        return method.Execute(fixed, moving), ""
    except RuntimeError as error:
        return start, str(error).strip().splitlines()[-1].rpartition("): ")[2]
