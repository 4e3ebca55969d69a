"""Images that other libraries hold in memory: nibabel, SimpleITK, MONAI and TorchIO, which know where voxels lie.

Their axes differ (nibabel, MONAI and TorchIO have (x, y, z), arrays here (z, y, x)), so that the bare numbers of one
would be read as a scan that lies on its side. None of these libraries is imported here: an image shows whose it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import ConfigError

Found = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]

NAMES = "nibabel, SimpleITK, MONAI or TorchIO"


def values_and_affine(image: object) -> Found | None:
    """Return the voxels, (z, y, x) or (C, z, y, x), and the affine (4x4, RAS+ mm from (x, y, z) indices) of an image.

    Args:
        image: Anything; None comes back where it is an image of none of these libraries, such as a plain array.

    Raises:
        ConfigError: It has other axes than a scan or a case, or no affine.
    """
    whose = {kind.__module__.split(".")[0]: kind.__name__ for kind in reversed(type(image).__mro__)}
    if "nibabel" in whose and hasattr(image, "dataobj"):
        return _of_xyz(np.asarray(image.dataobj), image.affine, "nibabel")  # type: ignore[attr-defined]
    if whose.get("SimpleITK") == "Image":
        return _of_itk(image)
    if whose.get("monai") == "MetaTensor":
        return _of_monai(image)
    if "torchio" in whose and hasattr(image, "affine"):
        return _of_xyz(np.asarray(image.data), image.affine, "TorchIO")  # type: ignore[attr-defined]
    return None


def _of_xyz(values: npt.NDArray[Any], affine: Any, whose: str) -> Found:
    affine = np.asarray(affine, dtype=np.float64)
    if values.ndim not in (3, 4) or affine.shape != (4, 4):
        raise ConfigError(
            f"An image of {whose} is taken as (x, y, z) or (C, x, y, z) with an affine of 4x4. Got voxels of shape "
            f"{values.shape} and an affine of shape {affine.shape}."
        )
    if values.ndim == 4 and whose == "nibabel":  # frames or channels lie last there
        values = np.moveaxis(values, -1, 0)
    return values.transpose(*range(values.ndim - 3), -1, -2, -3), affine


def _of_monai(image: Any) -> Found:
    if image.pending_operations:
        raise ConfigError("A transform of this MetaTensor was put off (lazy). Apply it first: monai's apply_pending.")
    affine = np.asarray(image.affine, dtype=np.float64)
    space = str(image.meta.get("space", "RAS")).rsplit(".", maxsplit=1)[-1]
    if space not in ("RAS", "LPS"):
        raise ConfigError(f"A MetaTensor whose space is RAS or LPS is taken. Got {space!r}.")
    if space == "LPS" and affine.shape == (4, 4):
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return _of_xyz(image.detach().cpu().as_tensor().numpy(), affine, "MONAI")


def _of_itk(image: Any) -> Found:
    import SimpleITK as sitk  # noqa: N813

    if image.GetDimension() != 3:
        raise ConfigError(f"An image of SimpleITK with 3 axes is taken. Got {image.GetDimension()}.")
    values = sitk.GetArrayFromImage(image)
    affine = geometry.affine_from_itk(image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return (np.moveaxis(values, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else values), affine
