"""A case's channels and label on the store's grid: the voxel size that is wanted, on one of two grids.

* ``spacing``: voxels of that very size, counted from the scan's first face. Its far face moves by up to half a voxel.
  Where voxels grow by more than 1.5 the image is blurred first.
* ``nnunet``: what nnU-Net's own preprocessor makes, so that its predictor sees what the network was trained on. The
  case is cropped to the box of all that is not 0 in any channel, HU are clipped to the store's range, and the box is
  stretched to the nearest whole number of voxels: 32 mm at 1.2 mm become 27 voxels of 1.185. Nothing is blurred.

Reference:
    Isensee et al., "nnU-Net", Nature Methods 2021, arXiv:1904.08128; cropping and resampling of nnunetv2 2.8.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.normalising import nonzero_box
from medssl.store.options import StoreSettings
from medssl.store.resample import same_spacing, to_shape, to_spacing

__all__ = ["regridded"]

Array = npt.NDArray[np.generic]
Affine = npt.NDArray[np.float64]
Spacing = tuple[float, float, float]


def regridded(
    channels: Mapping[str, Array],
    labels: Array | None,
    affine: Affine,
    spacing_mm: Spacing | None,
    settings: StoreSettings,
    *,
    hounsfield: Collection[str],
) -> tuple[dict[str, Array], Array | None, Affine]:
    """Return channels, label and affine on the store's grid.

    Args:
        channels: Arrays (z, y, x) on one grid, in canonical axes.
        labels: The label on it, or None.
        affine: Of the grid.
        spacing_mm: Voxel size that is wanted; None keeps the scan's own.
        settings: Which grid, and how images are interpolated.
        hounsfield: Channels whose values are HU.
    """
    order = 3 if settings.interpolation == "cubic" else 1
    stack = dict(channels)
    if settings.grid == "nnunet":
        first, last = nonzero_box(list(stack.values()))
        box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
        low, high = settings.hu_range
        stack = {name: np.clip(v[box], low, high) if name in hounsfield else v[box] for name, v in stack.items()}
        labels, affine = None if labels is None else labels[box], geometry.crop_affine(affine, first)
        old, own = (last - first for last, first in zip(last, first, strict=True)), geometry.spacing_mm(affine)
        z, y, x = (max(1, round(o / s * n)) for n, o, s in zip(old, own, spacing_mm or own, strict=True))
        if (z, y, x) == next(iter(stack.values())).shape:
            return stack, labels, affine
        resized = {name: to_shape(values, affine, (z, y, x), order=order) for name, values in stack.items()}
        labels = None if labels is None else to_shape(labels, affine, (z, y, x), order=0)[0]
    elif spacing_mm is None or same_spacing(geometry.spacing_mm(affine), spacing_mm):
        return stack, labels, affine
    else:
        resized = {name: to_spacing(values, affine, spacing_mm, order=order) for name, values in stack.items()}
        labels = None if labels is None else to_spacing(labels, affine, spacing_mm, order=0)[0]
    return {name: values for name, (values, _) in resized.items()}, labels, next(iter(resized.values()))[1]
