"""Formats of brain imaging through nibabel: pairs (.hdr/.img, NIfTI or Analyze), FreeSurfer (.mgz) and MINC (.mnc)."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import FormatError
from medssl.formats import nifti
from medssl.formats.files import first_bytes
from medssl.formats.parts import files_of, partner
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["read", "read_header"]

_NO_ORIENTATION = "no orientation: Analyze has no place for it; axes were taken as its convention says (LAS)"


def read_header(path: Path) -> ScanHeader:
    """Read the header.

    Args:
        path: A .mgh, .mgz or .mnc file, or either file of a .hdr/.img pair.

    Raises:
        FormatError: It is no scan of real numbers, or the other file of the pair is missing.
    """
    path = Path(path)
    return _header(path, _opened(path))


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read a file, or one volume of a 4D one.

    Args:
        path: As for `read_header`.
        frame: Which volume along the fourth axis.

    Raises:
        FormatError: It cannot be read, or has no such frame.
    """
    import nibabel

    path = Path(path)
    image = _opened(path)
    header = _header(path, image)
    if not 0 <= frame < header.frames:
        raise FormatError(path, f"There is no frame {frame}: the image has {header.frames}, counted from 0.")
    if isinstance(image, nibabel.Nifti1Pair):
        return nifti.read_opened(path, _pair(path)[1], header, image.dataobj, frame=frame)
    try:
        whole = np.asanyarray(image.dataobj)
        volume = whole.reshape(*header.shape[::-1], header.frames)[..., frame]
        values = np.ascontiguousarray(volume.transpose(2, 1, 0), dtype=header.dtype)
    except Exception as error:  # nibabel, h5py and scipy each raise their own
        raise FormatError(path, f"The voxels cannot be read ({_line(error)}). Copy the file again.") from error
    return Scan(header=header, values=values)


def _opened(path: Path) -> Any:
    import nibabel

    first_bytes(path, 4)
    other = partner(path)
    if other is not None and not other.is_file():
        raise FormatError(path, f"The other file of the pair, '{other.name}', is missing. Copy it to the same folder.")
    if path.name.lower().endswith(".mnc"):
        from nibabel.minc1 import Minc1Image
        from nibabel.minc2 import Minc2Image

        kind: Any = Minc2Image if first_bytes(path, 4)[1:4] == b"HDF" else Minc1Image
    elif other is None:
        kind = nibabel.MGHImage
    else:
        kind = _kind_of_pair(path)
    try:
        return kind.from_filename(str(path), mmap=False)
    except Exception as error:  # nibabel, h5py and scipy each raise their own
        raise FormatError(path, f"This is not a readable file of its kind ({_line(error)}).") from error


def _kind_of_pair(path: Path) -> Any:
    """Return nibabel's class for what the header of a pair holds."""
    import nibabel

    header, _ = _pair(path)
    try:
        with gzip.open(header) if header.name.lower().endswith(".gz") else header.open("rb") as file:
            head = file.read(352)
    except (OSError, EOFError) as error:
        raise FormatError(path, f"The header '{header.name}' cannot be read ({_line(error)}).") from error
    if head[344:348] == b"ni1\0":
        return nibabel.Nifti1Pair
    if head[4:8] == b"ni2\0":
        return nibabel.Nifti2Pair
    if head[:4] not in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"):
        raise FormatError(path, f"The header '{header.name}' is neither NIfTI nor Analyze (348 bytes).")
    return nibabel.Spm99AnalyzeImage


def _header(path: Path, image: Any) -> ScanHeader:
    import nibabel

    files = files_of(path)
    if isinstance(image, nibabel.Nifti1Pair):
        return replace(nifti.header_of(path, image), paths=files)
    shape, dtype = tuple(int(n) for n in image.shape), np.dtype(image.get_data_dtype())
    if dtype.kind not in "iufb":
        raise FormatError(path, f"The voxels are of type {dtype}; only real numbers are read.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    minc = path.name.lower().endswith(".mnc")
    if not 2 <= len(shape) <= (3 if minc else 4) or min(shape) < 1:
        raise FormatError(path, f"The shape is {shape}; a scan has 3 axes{'' if minc else ', or 4 with frames'}.")
    analyze = isinstance(image, nibabel.AnalyzeImage)
    scaled = minc or (analyze and (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0))
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise FormatError(path, "The voxel sizes or directions in the header make no grid. Fix the header.")
    x, y, z = (*shape, 1, 1)[:3]
    placed = not analyze or any(file.suffix.lower() == ".mat" for file in files)  # SPM kept the affine there
    return ScanHeader(
        path=path,
        paths=files,
        format="minc" if minc else "analyze" if analyze else "mgh",
        shape=(z, y, x),
        affine=affine,
        dtype="float64" if scaled and dtype.itemsize > 4 else "float32" if scaled else dtype.newbyteorder("=").name,
        frames=shape[3] if len(shape) > 3 else 1,
        warnings=() if placed else (_NO_ORIENTATION,),
    )


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the header and the voxels of a pair, whichever of the two is given."""
    other = partner(path)
    assert other is not None
    return (path, other) if path.name.lower().endswith((".hdr", ".hdr.gz")) else (other, path)


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
