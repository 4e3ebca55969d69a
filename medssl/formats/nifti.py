"""NIfTI-1 and NIfTI-2 files (.nii, .nii.gz): headers without voxels, single frames of 4D images, atomic writing."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.files import first_bytes, looks_like_text
from medssl.formats.nifti_header import check_offset, intent_notes, size_notes, unit_mm
from medssl.formats.rescale import apply_rescale, rescaled_dtype
from medssl.formats.scan import Scan, ScanHeader
from medssl.writing import atomic_write

__all__ = ["header_of", "read", "read_header", "read_opened", "write_nifti"]

_BROKEN = (
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    OSError,
    ValueError,
    OverflowError,
    struct.error,
    MemoryError,
    KeyError,
    IndexError,
    TypeError,
)
_BEHIND_BYTES = 16 << 20  # what a file may hold behind its voxels
_TRUNCATED = "The file is truncated: {found} where the header promises {promised}. Copy or download it again."
_LEAST_SLOPE = 1e-30


def read_header(path: Path) -> ScanHeader:
    """Read a NIfTI header; the voxels stay on disk.

    Truncation is found all the same: the size that a gzip file states at its end is compared with what the header
    promises, and only where they disagree is the file unpacked to be sure.

    Args:
        path: A .nii or .nii.gz file.

    Raises:
        FormatError: It is not a whole NIfTI file of real numbers with 3 or 4 axes.
    """
    return _open(Path(path))[0]


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read a NIfTI file, or one volume of a 4D one.

    Args:
        path: A .nii or .nii.gz file.
        frame: Which volume along the fourth axis.

    Raises:
        FormatError: The file cannot be read, or has no such frame.
    """
    path = Path(path)
    return read_opened(path, path, *_open(path), frame=frame)


def read_opened(path: Path, voxels: Path, header: ScanHeader, stored_as: Any, *, frame: int) -> Scan:
    """Read the voxels of a file whose header is known.

    Args:
        path: What errors name.
        voxels: The file that holds them; another one for a pair.
        header: The header.
        stored_as: nibabel's account of how they are stored (shape, type, offset, slope, intercept).
        frame: Which volume along the fourth axis.

    Raises:
        FormatError: They cannot be read, or there is no such frame.
    """
    from nibabel.arrayproxy import ArrayProxy

    if not 0 <= frame < header.frames:
        raise FormatError(path, f"There is no frame {frame}: the image has {header.frames}, counted from 0.")
    shape = stored_as.shape
    # Slope 1 and intercept 0 make the proxy give stored values; scaling is done here, so integers stay integers.
    proxy = ArrayProxy(str(voxels), (shape, stored_as.dtype, stored_as.offset, 1.0, 0.0), mmap=False)
    picked = (slice(None),) * min(len(shape), 3) + tuple(frame if axis == 3 else 0 for axis in range(3, len(shape)))
    try:
        stored = np.asarray(proxy[picked])
        by_xyz = stored.reshape(header.shape[::-1], order="F")
        values = apply_rescale(by_xyz, stored_as.slope, stored_as.inter, np.dtype(header.dtype)).transpose(2, 1, 0)
        return Scan(header=header, values=np.ascontiguousarray(values))
    except _BROKEN as error:
        raise FormatError(
            path, f"The voxels cannot be read ({_first_line(error)}). Copy or download the file again."
        ) from error


def write_nifti(
    path: Path, values_zyx: npt.NDArray[Any], affine: npt.NDArray[np.float64], *, dtype: npt.DTypeLike | None = None
) -> None:
    """Write a NIfTI-1 file, beside its place first and then renamed.

    Args:
        path: Ends in .nii or .nii.gz.
        values_zyx: Voxels with axes (z, y, x), or (frame, z, y, x).
        affine: 4x4, voxel indices (x, y, z) to mm, RAS+.
        dtype: Type on disk; that of the values by default, bool as uint8 and 64-bit integers as int32 where they fit.

    Raises:
        ValueError: The array has not 3 or 4 axes, or does not fit the type.
    """
    import nibabel

    path, values = Path(path), np.asarray(values_zyx)
    if values.ndim not in (3, 4):
        raise ValueError(f"A scan has axes (z, y, x) or (frame, z, y, x). Got an array of shape {values.shape}.")
    wanted = np.dtype(dtype) if dtype is not None else _disk_dtype(values)
    if wanted.kind in "iu" and values.size:
        info = np.iinfo(wanted)
        if not np.isfinite(values).all() or values.min() < info.min or values.max() > info.max:
            raise ValueError(f"Values from {values.min()} to {values.max()} do not fit {wanted.name}.")
    order = (2, 1, 0) if values.ndim == 3 else (3, 2, 1, 0)
    image = nibabel.Nifti1Image(values.astype(wanted, copy=False).transpose(order), affine)
    image.header.set_xyzt_units("mm", "sec" if values.ndim == 4 else "unknown")
    image.header.set_slope_inter(1.0, 0.0)
    suffix = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    with atomic_write(path, suffix=suffix) as aside:
        nibabel.save(image, aside)


def _disk_dtype(values: npt.NDArray[Any]) -> np.dtype[np.generic]:
    if values.dtype.kind == "b":
        return np.dtype(np.uint8)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        return np.dtype(np.int32)  # many readers refuse 64-bit integers; the range is checked by the caller
    if values.dtype == np.float16:
        return np.dtype(np.float32)
    return values.dtype


def _open(path: Path) -> tuple[ScanHeader, Any]:
    """Return our header and nibabel's account of how the voxels are stored (offset, type, slope, intercept)."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    _check_start(path)
    check_offset(path)
    try:
        image = nibabel.load(path, mmap=False)
    except (ImageFileError, HeaderDataError, *_BROKEN) as error:
        raise FormatError(path, f"This is not a readable NIfTI file ({_first_line(error)}).") from error
    if not isinstance(image.header, nibabel.Nifti1Header):
        raise FormatError(path, f"This is a {type(image).__name__}, not a NIfTI file.")
    return header_of(path, image), image.dataobj


def header_of(path: Path, image: Any) -> ScanHeader:
    """Return our header of what nibabel opened, a file or a pair.

    Raises:
        FormatError: It holds no scan of real numbers, or ends before its voxels do.
    """
    # The file's own offset, slope and intercept are in the proxy; nibabel clears them from the image's header.
    raw, stored_as = image.header, image.dataobj
    shape = tuple(int(n) for n in stored_as.shape)
    dtype = stored_as.dtype
    if dtype.kind not in "iufb":
        kind = "complex" if dtype.kind == "c" else "colour (RGB)"
        raise FormatError(path, f"The voxels are {kind}; only real numbers are read. Write out a magnitude image.")
    if any(n > 1 for n in shape[4:]):
        count = math.prod(shape[4:])
        raise FormatError(
            path,
            f"Each voxel has {count} components (a vector along the fifth axis; shape {shape}); one is read. "
            "Write them as single files.",
        )
    if len(shape) < 2 or min(shape) < 1:
        raise FormatError(path, f"The shape is {shape} (x, y, z, ...); a scan has 3 axes, or 4 with frames.")
    voxels = Path(stored_as.file_like if isinstance(stored_as.file_like, str) else path)
    _check_size(path, voxels, stored_as.offset + math.prod(shape) * dtype.itemsize)
    affine, warnings = _affine(raw)
    holder = image.file_map.get("header", image.file_map["image"]).filename
    warnings += size_notes(Path(holder or path), shape[:3])
    scale = float(stored_as.slope), float(stored_as.inter)
    if not np.isfinite(scale).all():
        raise FormatError(path, f"The values are scaled by {scale[0]} and {scale[1]}, which is not a valid scale.")
    x, y, z = (*shape, 1, 1)[:3]
    held = rescaled_dtype(np.float64 if dtype.kind == "f" and dtype.itemsize > 8 else dtype, [scale])
    return ScanHeader(
        path=path,
        paths=(path,),
        format="nifti",
        shape=(z, y, x),
        affine=affine,
        dtype=held.name,
        frames=shape[3] if len(shape) > 3 else 1,
        warnings=(*warnings, *_scale_notes(scale[0]), *intent_notes(raw)),
    )


def _check_start(path: Path) -> None:
    """Refuse what is plainly something else, with a reason that says what it is."""
    start = first_bytes(path, 512)
    gzipped = start[:2] == b"\x1f\x8b"
    if path.name.lower().endswith(".gz") and not gzipped:
        if looks_like_text(start):
            raise FormatError(path, "The file is text, not a gzip archive. Was a web page or a pointer downloaded?")
        if start[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"):
            raise FormatError(path, "The file is an unpacked NIfTI file under a .nii.gz name. Rename it to .nii.")
        raise FormatError(path, "The file does not start as a gzip archive does.")
    if not gzipped and looks_like_text(start):
        raise FormatError(path, "The file is text, not a NIfTI file. Was a web page or a pointer downloaded?")
    if gzipped and not path.name.lower().endswith(".gz"):
        raise FormatError(path, "The file is gzip-packed under a .nii name. Rename it to .nii.gz.")


def _check_size(path: Path, voxels: Path, promised: int) -> None:
    """Refuse files that end before their voxels do."""
    size = voxels.stat().st_size
    if not voxels.name.lower().endswith(".gz"):
        if size < promised:
            raise FormatError(path, _TRUNCATED.format(found=f"{size} bytes", promised=promised))
        return
    with voxels.open("rb") as file:
        file.seek(max(0, size - 4))
        stated = struct.unpack("<I", file.read(4).rjust(4, b"\0"))[0]
    if stated == promised % 2**32:
        return
    # Archives of several members state only the last one's size, and some files have bytes after the voxels.
    unpacked, most = 0, promised + max(_BEHIND_BYTES, promised // 8)
    try:
        with gzip.open(voxels) as archive:
            while unpacked <= most and (chunk := archive.read(1 << 22)):
                unpacked += len(chunk)
    except _BROKEN as error:
        raise FormatError(path, f"The gzip archive is truncated or damaged ({error}). Copy it again.") from error
    if unpacked > most:
        raise FormatError(
            path,
            f"The archive unpacks to more than {most} bytes where the header promises {promised}, and was left at "
            "that. It is damaged, or made to fill a disk; save the scan again from its source.",
        )
    if unpacked < promised:
        raise FormatError(path, _TRUNCATED.format(found=f"{unpacked} unpacked bytes", promised=promised))


def _scale_notes(slope: float) -> list[str]:
    """Say of a slope that no scanner writes that other programs take it for none, or overflow."""
    if _LEAST_SLOPE <= abs(slope) <= 1 / _LEAST_SLOPE:
        return []
    return [f"scale: values are multiplied by {slope:g}, as the header says; other programs may take that for no scale"]


def _affine(raw: Any) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the affine in mm and what is doubtful about it: sform, then qform, then voxel sizes alone."""
    from nibabel.spatialimages import HeaderDataError

    warnings: list[str] = []
    candidates: list[npt.NDArray[np.float64]] = []
    for name in ("sform", "qform"):
        try:
            affine, code = getattr(raw, f"get_{name}")(coded=True)
        except (ValueError, ArithmeticError, KeyError, HeaderDataError) as error:
            warnings.append(f"{name} unreadable: {_first_line(error)}")
            continue
        if code == 0 or affine is None:
            continue
        if _is_regular(affine):
            regular = np.asarray(affine, dtype=np.float64)
            if name == "sform":
                regular = _with_voxel_size(regular, np.asarray(raw.get_zooms()[:3], dtype=np.float64), warnings)
            candidates.append(regular)
        else:
            warnings.append(f"{name} degenerate: it is singular or not finite, and was not used")
    if candidates:
        chosen = candidates[0]
        if len(candidates) == 2 and not np.allclose(chosen, candidates[1], atol=1e-2):
            warnings.append("sform and qform disagree: the sform was used")
    else:
        warnings.append("no orientation: neither sform nor qform is set; axes were taken as the file's convention says")
        chosen = np.asarray(raw.get_base_affine(), dtype=np.float64)
        if not _is_regular(chosen):
            warnings.append("no voxel size: 1 mm was taken")
            chosen = np.eye(4)
    factor, doubt = unit_mm(raw)
    warnings += doubt
    if factor != 1.0:
        chosen = chosen.copy()
        chosen[:3] *= factor
    return chosen, warnings


def _with_voxel_size(
    sform: npt.NDArray[np.float64], zooms: npt.NDArray[np.float64], warnings: list[str]
) -> npt.NDArray[np.float64]:
    """Return the sform, with the header's voxel sizes where it has none of its own.

    Some writers leave a sform of pure directions (every column of length 1) beside true voxel sizes; the ACDC cohort
    is the best known. ITK takes directions from the sform and sizes from the header always; here only then.
    """
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    if len(zooms) < 3 or not (np.isfinite(zooms) & (zooms > 0)).all() or np.allclose(sizes, zooms, rtol=2e-3, atol=0):
        return sform
    found = " x ".join(f"{z:g}" for z in zooms)
    if not np.allclose(sizes, 1.0, atol=1e-4):
        warnings.append(f"voxel sizes disagree: the header says {found} mm (x, y, z); those of the sform were used")
        return sform
    warnings.append(f"sform without voxel size: the header's {found} mm (x, y, z) were taken")
    scaled = sform.copy()
    scaled[:3, :3] *= zooms
    return scaled


def _is_regular(affine: npt.NDArray[Any]) -> bool:
    if not np.isfinite(affine).all():
        return False
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if (sizes < 1e-9).any():
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / sizes)) > 1e-3)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
