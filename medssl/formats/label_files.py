"""Writing a map of a scan in the format that the scan came in, on its grid: NIfTI, MetaImage, NRRD or DICOM SEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DiskError, MissingDependencyError
from medssl.formats.itk import write_itk
from medssl.formats.nifti import write_nifti

__all__ = ["MapSource", "map_suffix", "write_map"]

_ITK = {".nrrd": ".nrrd", ".nhdr": ".nrrd", ".mha": ".mha", ".mhd": ".mha"}
_NIFTI = ".nii.gz"
_SEG = ".dcm"


@dataclass(frozen=True)
class MapSource:
    """The scan that a map belongs to.

    Attributes:
        path: Its file, or the folder of its series.
        paths: All its files.
        format: Its format, as ``ScanHeader.format`` has it.
        affine: 4x4, RAS+ mm from (x, y, z) indices.
    """

    path: Path
    paths: tuple[Path, ...]
    format: str
    affine: npt.NDArray[np.float64]


def map_suffix(path: Path, kind: str, *, labels: bool = True) -> str:
    """Return the ending of the file of a map: what the scan came in, where that can hold it, else NIfTI.

    Args:
        path: The scan's file.
        kind: The scan's format.
        labels: Whether the map is one of labels; others have no place in a DICOM SEG.

    Example:
        >>> map_suffix(Path("a.nhdr"), "itk"), map_suffix(Path("s"), "dicom"), map_suffix(Path("a.png"), "image")
        ('.nrrd', '.dcm', '.nii.gz')
    """
    if kind == "dicom":
        return _SEG if labels else _NIFTI
    return _ITK.get(path.suffix.lower(), _NIFTI) if kind == "itk" else _NIFTI


def write_map(
    stem: Path,
    values_zyx: npt.NDArray[Any],
    source: MapSource,
    names: Mapping[int, str] | None = None,
    members: Mapping[int, Sequence[int]] | None = None,
) -> tuple[Path, str]:
    """Write a map of labels, or of real numbers, beside its place first and then renamed.

    Args:
        stem: The file without its ending.
        values_zyx: On the grid of the source, (z, y, x).
        source: The scan.
        names: Label value -> name; None for real numbers.
        members: Label value -> all values that belong to that structure, where structures are regions that overlap.

    Returns:
        The file, and why it is NIfTI where the scan is not; "" where it is what the scan came in.
    """
    suffix = map_suffix(source.path, source.format, labels=names is not None)
    path, why = stem.with_name(stem.name + suffix), ""
    try:
        if suffix == _SEG and names is not None:
            from medssl.formats.dicom_seg_write import write_seg

            write_seg(path, values_zyx, source.paths, source.affine, names, members)
            return path, ""
        if suffix != _NIFTI:
            write_itk(path, values_zyx, source.affine)
            return path, ""
    except DiskError:
        raise
    except (ValueError, MissingDependencyError) as error:
        why = f"written as NIfTI, not as {'DICOM SEG' if suffix == _SEG else suffix}: {' '.join(str(error).split())}"
    path = stem.with_name(stem.name + _NIFTI)
    write_nifti(path, values_zyx, source.affine)
    return path, why
