"""Another voxel size for a scan whose axes stay where they are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from medssl import geometry

__all__ = ["onto_grid", "same_spacing", "to_shape", "to_spacing"]

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]
_SAME = 1e-3
_BLUR_ABOVE = 1.5
_FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))


def same_spacing(old: Spacing, new: Spacing) -> bool:
    """Tell whether two voxel sizes differ by less than one part in a thousand on every axis.

    Example:
        >>> same_spacing((5.0, 0.7, 0.7), (5.001, 0.7, 0.7)), same_spacing((5.0, 0.7, 0.7), (5.0, 0.8, 0.8))
        (True, False)
    """
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
    shape, resized = geometry.resized_grid((values.shape[0], values.shape[1], values.shape[2]), affine, spacing_mm)
    ratio = np.array(spacing_mm) / np.array(geometry.spacing_mm(affine))
    return _resampled(values, shape, ratio, order=order, blur=True), resized


def to_shape(
    values: npt.NDArray[np.generic], affine: npt.NDArray[np.float64], shape: Triple, *, order: int
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
    """Stretch an array to a shape, its outer faces where they were, as nnU-Net does; never blurred.

    Args:
        values: Array with axes (z, y, x).
        affine: Its affine.
        shape: New shape, (z, y, x).
        order: As `to_spacing` has it.

    Returns:
        The resampled array and its affine.
    """
    ratio = np.array(values.shape) / np.array(shape)
    resized = geometry.crop_affine(affine, tuple((0.5 * (ratio - 1.0)).tolist()))
    resized[:3, :3] = affine[:3, :3] * ratio[::-1]
    return _resampled(values, shape, ratio, order=order, blur=False), resized


def _resampled(
    values: npt.NDArray[np.generic], shape: Triple, ratio: npt.NDArray[np.float64], *, order: int, blur: bool
) -> npt.NDArray[np.generic]:
    """Return values on voxels ``ratio`` times as large, the outer faces of the first ones together."""
    from scipy import ndimage

    source = values
    if order > 0:
        plain = values.astype(np.float32)
        low, high = float(plain.min()), float(plain.max())
        source = _blurred(plain, ratio) if blur else plain
    result: npt.NDArray[np.generic] = ndimage.affine_transform(
        source, ratio, offset=0.5 * (ratio - 1.0), output_shape=shape, order=order, mode="nearest"
    )
    if order > 1:
        np.clip(result, low, high, out=result)  # a cubic spline overshoots at edges
    return result


def onto_grid(
    values: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    shape: Triple,
    target: npt.NDArray[np.float64],
    *,
    fill: float,
) -> npt.NDArray[np.generic]:
    """Bring an image to the grid of another one, by linear interpolation; float32.

    As in `to_spacing` it is blurred first on axes whose voxels grow by more than 1.5.

    Args:
        values: Array with axes (z, y, x), in canonical axes.
        affine: Its affine.
        shape: Shape (z, y, x) of the other image, in canonical axes.
        target: The other's affine.
        fill: Value where the image does not reach.
    """
    ratio = np.array(geometry.spacing_mm(target)) / np.array(geometry.spacing_mm(affine))
    source = _blurred(values.astype(np.float32), ratio)
    return geometry.resample_to_grid(source, affine, shape, target, order=1, fill=fill)


def _blurred(source: npt.NDArray[np.float32], ratio: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Blur an image to the width of new voxels, on axes where they are more than 1.5 times as large."""
    from scipy import ndimage

    sigma = [math.sqrt(r * r - 1.0) / _FWHM_PER_SIGMA if r > _BLUR_ABOVE else 0.0 for r in ratio]
    blurred: npt.NDArray[np.float32] = ndimage.gaussian_filter(source, sigma, mode="nearest") if any(sigma) else source
    return blurred
