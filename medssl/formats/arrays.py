"""Arrays in .npz files (``values``, and ``affine`` or ``spacing_mm``) and in .npy files; never pickled objects."""

from __future__ import annotations

import math
import re
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.array_headers import ARRAY_HEADERS
from medssl.errors import FormatError
from medssl.formats.files import first_bytes
from medssl.formats.scan import Scan, ScanHeader
from medssl.writing import atomic_write

__all__ = ["read", "read_header", "write_npz"]

_UNITS = ("HU", "arbitrary")
# numpy reads its header with Python's own tokenizer, so a damaged one can raise what that raises.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    AttributeError,
    UnicodeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def read_header(path: Path) -> ScanHeader:
    """Read everything but the voxels.

    An .npz file holds ``values`` with axes (z, y, x) or (frame, z, y, x), and ``affine`` (4x4, RAS+) or ``spacing_mm``
    (z, y, x; the axes are then taken to grow to the right, to the front and upwards), and may hold the strings
    ``units`` ("HU" or "arbitrary") and ``modality``. Where ``values`` is missing and one array can be meant, it is
    taken and named in the warnings. An .npy file is the array alone.

    Raises:
        FormatError: The file is no such array or archive.
    """
    return _opened(Path(path))[0]


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read a file, or one volume of a 4D one; see ``read_header``.

    Raises:
        FormatError: The file is no such array or archive, or has no such frame.
    """
    path = Path(path)
    header, name = _opened(path)
    if not 0 <= frame < header.frames:
        raise FormatError(path, f"There is no frame {frame}: the image has {header.frames}, counted from 0.")
    try:
        if name is None:
            values = np.load(path, allow_pickle=False)
        else:
            with np.load(path, allow_pickle=False) as arrays:
                values = arrays[name]
        volume = values[frame] if values.ndim == 4 else values
        return Scan(header=header, values=np.ascontiguousarray(volume, dtype=header.dtype))
    except _BROKEN as error:
        raise FormatError(path, f"The voxels cannot be read ({_line(error)}). Copy the file again.") from error


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
    with atomic_write(Path(path), suffix=".npz") as aside:
        np.savez_compressed(
            aside, values=values, affine=affine, units=np.array(units), modality=np.array(modality), allow_pickle=False
        )


def _opened(path: Path) -> tuple[ScanHeader, str | None]:
    """Return the header, and the name of the array in its archive; None for an .npy file."""
    first_bytes(path, 4)
    small: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    name: str | None = None
    try:
        if path.name.lower().endswith(".npy"):
            with path.open("rb") as file:
                shape, dtype = _npy_header(file)
                held = path.stat().st_size - file.tell()
            _whole(path, shape, dtype, held)
        else:
            if not zipfile.is_zipfile(path):
                raise FormatError(path, "The file is not an .npz archive, or is truncated.")
            with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
                name, warnings = _chosen(path, archive, arrays.files)
                with archive.open(f"{name}.npy") as member:
                    shape, dtype = _npy_header(member)
                _whole(path, shape, dtype, archive.getinfo(f"{name}.npy").file_size)
                for key in arrays.files:
                    if key in _SMALL and archive.getinfo(f"{key}.npy").file_size < _SMALL_BYTES:
                        small[key] = arrays[key]
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(path, f"The archive is damaged or holds Python objects ({_line(error)}).") from error
    if dtype.kind not in "iufb":
        raise FormatError(path, f"The voxels are of type {dtype}; only real numbers are read.")
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise FormatError(path, f"'{name or 'array'}' has shape {shape}; axes are (z, y, x) or (frame, z, y, x).")
    affine, doubts = _affine(path, small)
    units = str(small.get("units", "arbitrary"))
    if units not in _UNITS:
        raise FormatError(path, f"'units' is '{units[:40]}'. Allowed: {', '.join(_UNITS)}.")
    z, y, x = shape[-3:]
    plain = dtype.newbyteorder("=")
    header = ScanHeader(
        path=path,
        paths=(path,),
        format="npz" if name else "npy",
        shape=(z, y, x),
        affine=affine,
        dtype="float64" if plain.kind == "f" and plain.itemsize > 8 else plain.name,
        frames=shape[0] if len(shape) == 4 else 1,
        units=units,
        modality=str(small.get("modality", "unknown"))[:16],
        warnings=(*doubts, *warnings),
    )
    return header, name


def _chosen(path: Path, archive: zipfile.ZipFile, files: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return which array of an archive is the scan, and a warning where that was to be guessed."""
    if "values" in files:
        return "values", ()
    found: list[str] = []
    for name in files:
        if name not in _SMALL and f"{name}.npy" in archive.namelist():
            with archive.open(f"{name}.npy") as member:
                shape, dtype = _npy_header(member)
            if len(shape) in (3, 4) and dtype.kind in "iufb":
                found.append(name)
    images = [name for name in found if not _LABEL_WORDS.search(name)]
    known = [name for name in _KNOWN if name in images]
    chosen = known[0] if known else images[0] if len(images) == 1 else ""
    if not chosen:
        raise FormatError(
            path,
            f"There is no array 'values'. Found: {', '.join(files[:12]) or 'nothing'}. Save the scan as 'values', "
            "with axes (z, y, x).",
        )
    rest = [name for name in files if name != chosen and name not in _SMALL]
    others = f"; not read: {', '.join(rest[:8])}" if rest else ""
    return chosen, (f"array: '{chosen}' was taken for the scan{others}",)


def _whole(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], held: int) -> None:
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > held:
        raise FormatError(path, f"The file is truncated: {held} bytes of voxels where {wanted} are promised.")


_SMALL = ("affine", "spacing_mm", "spacing", "units", "modality")
_SMALL_BYTES = 1 << 16
_KNOWN = ("image", "img", "imgs", "volume", "vol", "data", "scan", "ct", "mr", "array", "arr_0")  # the first there
_LABEL_WORDS = re.compile(r"label|mask|seg|gt|annot|target", re.I)


def _npy_header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with ARRAY_HEADERS:
        version = np.lib.format.read_magic(file)
        parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = parse(file)
    return tuple(int(n) for n in shape), dtype


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _affine(path: Path, small: dict[str, Any]) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    if "affine" in small:
        try:
            affine = np.asarray(small["affine"], dtype=np.float64)
        except (ValueError, TypeError):
            raise FormatError(path, "'affine' holds no numbers; a regular 4x4 is needed.") from None
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise FormatError(path, f"'affine' has shape {affine.shape} or is singular; a regular 4x4 is needed.")
        return affine, ()
    spacing = small.get("spacing_mm", small.get("spacing"))
    if spacing is None:
        return np.eye(4), (
            "no voxel size: the file says none ('affine' or 'spacing_mm' in an .npz does); 1 mm was taken",
        )
    try:
        sizes = np.asarray(spacing, dtype=np.float64).ravel()
    except (ValueError, TypeError):
        raise FormatError(path, "'spacing_mm' holds no numbers; three positive sizes (z, y, x) are needed.") from None
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or (sizes <= 0).any():
        raise FormatError(path, f"'spacing_mm' is {spacing}; three positive sizes (z, y, x) are needed.")
    return np.diag([*sizes[::-1], 1.0]), ("no orientation: there is no 'affine'; RAS was taken",)
