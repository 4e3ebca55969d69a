"""Arrays in .npz files: ``values`` and either ``affine`` or ``spacing_mm``, never pickled objects."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.files import first_bytes
from medssl.formats.scan import Scan, ScanHeader
from medssl.writing import written_aside

__all__ = ["read", "read_header", "write_npz"]

_UNITS = ("HU", "arbitrary")
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def read_header(path: Path) -> ScanHeader:
    """Read everything but the voxels.

    The file holds ``values`` with axes (z, y, x) or (frame, z, y, x), and ``affine`` (4x4, RAS+) or ``spacing_mm``
    (z, y, x; the axes are then taken to grow to the right, to the front and upwards), and may hold the strings
    ``units`` ("HU" or "arbitrary") and ``modality``.

    Raises:
        FormatError: The file is no such archive.
    """
    path = Path(path)
    first_bytes(path, 4)
    if not zipfile.is_zipfile(path):
        raise FormatError(path, "The file is no .npz archive, or is truncated.")
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
            if "values" not in arrays.files:
                raise FormatError(
                    path, f"There is no array 'values'. Found: {', '.join(arrays.files) or 'nothing'}. Save one."
                )
            shape, dtype = _array_header(archive, "values")
            small = {name: arrays[name] for name in arrays.files if name in _SMALL}
    except _BROKEN as error:
        raise FormatError(path, f"The archive is damaged or holds Python objects ({error}).") from error
    if dtype.kind not in "iufb":
        raise FormatError(path, f"The voxels are of type {dtype}; only real numbers are read.")
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise FormatError(path, f"'values' has shape {shape}; axes are (z, y, x) or (frame, z, y, x).")
    affine, warnings = _affine(path, small)
    units = str(small.get("units", "arbitrary"))
    if units not in _UNITS:
        raise FormatError(path, f"'units' is '{units}'. Allowed: {', '.join(_UNITS)}.")
    z, y, x = shape[-3:]
    return ScanHeader(
        path=path,
        paths=(path,),
        format="npz",
        shape=(z, y, x),
        affine=affine,
        dtype=dtype.newbyteorder("=").name,
        frames=shape[0] if len(shape) == 4 else 1,
        units=units,
        modality=str(small.get("modality", "unknown")),
        warnings=warnings,
    )


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read an archive, or one volume of a 4D one; see ``read_header``.

    Raises:
        FormatError: The file is no such archive, or has no such frame.
    """
    path = Path(path)
    header = read_header(path)
    if not 0 <= frame < header.frames:
        raise FormatError(path, f"There is no frame {frame}: the image has {header.frames}, counted from 0.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = arrays["values"]
    except _BROKEN as error:
        raise FormatError(path, f"The voxels cannot be read ({error}). Copy the file again.") from error
    volume = values[frame] if values.ndim == 4 else values
    return Scan(header=header, values=np.ascontiguousarray(volume, dtype=header.dtype))


def write_npz(
    path: Path,
    values_zyx: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    *,
    units: str = "arbitrary",
    modality: str = "unknown",
) -> None:
    """Write an archive that ``read`` takes, beside its place first and then renamed.

    Args:
        path: Ends in .npz.
        values_zyx: Voxels with axes (z, y, x) or (frame, z, y, x).
        affine: 4x4, RAS+.
        units: "HU" or "arbitrary".
        modality: Such as "CT" or "MR".

    Raises:
        ValueError: The units are unknown or the array has not 3 or 4 axes.
    """
    values = np.asarray(values_zyx)
    if units not in _UNITS:
        raise ValueError(f"Units are {' or '.join(_UNITS)}. Got '{units}'.")
    if values.ndim not in (3, 4):
        raise ValueError(f"A scan has axes (z, y, x) or (frame, z, y, x). Got an array of shape {values.shape}.")
    with written_aside(Path(path), suffix=".npz") as aside:
        np.savez_compressed(
            aside, values=values, affine=affine, units=np.array(units), modality=np.array(modality), allow_pickle=False
        )


_SMALL = ("affine", "spacing_mm", "spacing", "units", "modality")


def _array_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = parse(member)
    return tuple(int(n) for n in shape), dtype


def _affine(path: Path, small: dict[str, Any]) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    if "affine" in small:
        affine = np.asarray(small["affine"], dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise FormatError(path, f"'affine' has shape {affine.shape} or is singular; a regular 4x4 is needed.")
        return affine, ()
    spacing = small.get("spacing_mm", small.get("spacing"))
    if spacing is None:
        return np.eye(4), ("no voxel size: neither 'affine' nor 'spacing_mm' is there; 1 mm was taken",)
    sizes = np.asarray(spacing, dtype=np.float64).ravel()
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise FormatError(path, f"'spacing_mm' is {spacing}; three positive sizes (z, y, x) are needed.")
    return np.diag([*sizes[::-1], 1.0]), ("no orientation: there is no 'affine'; RAS was taken",)
