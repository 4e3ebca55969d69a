"""One scan in memory, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry

__all__ = ["Scan", "ScanHeader", "finite_voxels"]


@dataclass(frozen=True, kw_only=True)
class ScanHeader:
    """What is known of a scan without its voxels.

    Attributes:
        path: The file, or the folder of a DICOM series.
        paths: Every file the scan is made of, in slice order; just ``path`` for a one-file format.
        format: "nifti", "dicom", "itk" or "npz".
        shape: Voxels as (z, y, x).
        affine: 4x4, float64; maps voxel indices (x, y, z) to mm, RAS+.
        dtype: Name of the stored type after rescaling, e.g. "int16".
        frames: Volumes in the file; 1 for a 3D scan. More than one is a 4D image, of which a reader takes one.
        units: "HU" or "arbitrary".
        modality: "CT", "MR", another DICOM modality, or "unknown".
        fields: Header values that may be kept (identifiers hashed, no name, no dates of birth).
        warnings: What a careful reader noticed and a person should know (gaps, duplicate positions, no orientation).
    """

    path: Path
    paths: tuple[Path, ...]
    format: str
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    dtype: str
    frames: int = 1
    units: str = "arbitrary"
    modality: str = "unknown"
    fields: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm, (z, y, x)."""
        return geometry.spacing_mm(self.affine)

    @property
    def orientation(self) -> str:
        """Directions in which x, y and z indices grow, such as "RAS"."""
        return geometry.orientation(self.affine)


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A scan's header and its voxels, ``values`` with axes (z, y, x)."""

    header: ScanHeader
    values: npt.NDArray[np.generic]


def finite_voxels(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell of each voxel whether it is a number that float32 holds, in which all is computed.

    Args:
        values: Floating point numbers of any shape.
    """
    good: npt.NDArray[np.bool_] = np.isfinite(values)
    if values.dtype.itemsize > 4:
        good &= np.abs(values) <= np.finfo(np.float32).max
    return good
