"""Another voxel size for a scan whose axes stay where they are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from medssl import geometry

__all__ = ["same_spacing", "to_spacing"]

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
_SAME = 1e-3
_BLUR_ABOVE = 1.5
_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


def same_spacing(old: Spacing, new: Spacing) -> bool:
    """Tell whether two voxel sizes differ by less than one part in a thousand on every axis."""
    return all(abs(n / o - 1.0) < _SAME for o, n in zip(old, new, strict=True))


def to_spacing(
    values: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], spacing_mm: Spacing, *, order: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
    """Resample an array to a voxel size.

    Beyond the centres of the outermost voxels the edge is continued, so no rim of fill appears. On axes that shrink by
    more than 1.5 the image is blurred first, to the width of the new voxel, so fine structure does not alias.

    Args:
        values: Array with axes (z, y, x).
        affine: Its affine.
        spacing_mm: New voxel size, (z, y, x).
        order: 0 (labels; the dtype is kept), 1 or 3 (images; float32 is returned, within the range of ``values``).

    Returns:
        The resampled array and its affine.
    """
    from scipy import ndimage

    old = geometry.spacing_mm(affine)
    shape, resized = geometry.resized_grid((values.shape[0], values.shape[1], values.shape[2]), affine, spacing_mm)
    ratio = np.array(spacing_mm) / np.array(old)
    source = values
    if order > 0:
        source = values.astype(np.float32)
        low, high = float(source.min()), float(source.max())
        sigma = [math.sqrt(r * r - 1.0) / _FWHM_PER_SIGMA if r > _BLUR_ABOVE else 0.0 for r in ratio]
        if any(sigma):
            source = ndimage.gaussian_filter(source, sigma, mode="nearest")
    result = ndimage.affine_transform(
        source, ratio, offset=0.5 * (ratio - 1.0), output_shape=shape, order=order, mode="nearest"
    )
    if order > 1:
        np.clip(result, low, high, out=result)  # a cubic spline overshoots at edges
    return result, resized
