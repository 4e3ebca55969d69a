"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) through SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError
from medssl.formats.files import first_bytes
from medssl.formats.metaimage import read_metaimage_header
from medssl.formats.nrrd_header import read_nrrd_header
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.text_header import TextHeader
from medssl.writing import atomic_write

__all__ = ["read", "read_header", "write_itk"]

_MAGIC = {".mha": b"=", ".mhd": b"=", ".nrrd": b"NRRD", ".nhdr": b"NRRD"}
_WRITABLE = (".mha", ".nrrd")
_SHEAR = 1e-4


def read_header(path: Path) -> ScanHeader:
    """Read the header of a MetaImage or NRRD file.

    Raises:
        FormatError: The file is not what its suffix says, its data file is missing, or it holds no real numbers.
    """
    return _header(Path(path), *_reader(Path(path)))


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read a MetaImage or NRRD file, or one volume of a 4D one.

    Args:
        path: The file; for .mhd and .nhdr the one that names the data file.
        frame: Which volume along the fourth axis.

    Raises:
        FormatError: The file cannot be read, or has no such frame.
    """
    import SimpleITK as sitk  # noqa: N813

    path = Path(path)
    reader, said = _reader(path)
    header = _header(path, reader, said)
    if not 0 <= frame < header.frames:
        raise FormatError(path, f"There is no frame {frame}: the image has {header.frames}, counted from 0.")
    if reader.GetDimension() == 4:
        reader.SetExtractIndex([0, 0, 0, frame])
        reader.SetExtractSize([*(int(n) for n in reader.GetSize()[:3]), 0])
    try:
        values = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise FormatError(path, f"The voxels cannot be read: {_reason(error)}") from error
    return Scan(header=header, values=values.reshape(header.shape))


def write_itk(path: Path, values_zyx: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """Write a .mha or .nrrd file, compressed, beside its place first and then renamed.

    Args:
        path: Ends in .mha or .nrrd.
        values_zyx: Voxels with axes (z, y, x); bool becomes uint8.
        affine: 4x4, RAS+, without shear: these formats cannot hold one.

    Raises:
        ValueError: The suffix, the shape or the affine cannot be written.
    """
    import SimpleITK as sitk  # noqa: N813

    path, values = Path(path), np.asarray(values_zyx)
    if path.suffix.lower() not in _WRITABLE:
        raise ValueError(f"Written are {' and '.join(_WRITABLE)}. Got '{path.name}'.")
    if values.ndim != 3:
        raise ValueError(f"A scan has axes (z, y, x). Got an array of shape {values.shape}.")
    origin, spacing, direction = geometry.itk_from_affine(affine)
    cosines = np.array(direction).reshape(3, 3)
    if not np.allclose(cosines.T @ cosines, np.eye(3), atol=_SHEAR):
        raise ValueError(
            "The affine is sheared (a tilted gantry), which MetaImage and NRRD cannot hold. Write NIfTI, or resample."
        )
    image = sitk.GetImageFromArray(values.astype(np.uint8) if values.dtype == bool else values)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    with atomic_write(path, suffix=path.suffix.lower()) as aside:
        sitk.WriteImage(image, str(aside), useCompression=True)


def _reader(path: Path) -> tuple[Any, TextHeader]:
    """Return SimpleITK's reader with the header read, and what the header says; it is checked before."""
    import SimpleITK as sitk  # noqa: N813

    start = first_bytes(path, 1024)
    magic = _MAGIC[path.suffix.lower()]
    if not (start.startswith(magic) if magic != b"=" else magic in start.split(b"\n")[0]):
        raise FormatError(path, f"The file does not start as a {path.suffix.lower()} file does.")
    said = read_nrrd_header(path) if magic == b"NRRD" else read_metaimage_header(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    # Named, so that ITK's readers of other formats do not try their luck.
    reader.SetImageIO("NrrdImageIO" if magic == b"NRRD" else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise FormatError(path, f"The header cannot be read: {_reason(error)}") from error
    return reader, said


def _header(path: Path, reader: Any, said: TextHeader) -> ScanHeader:
    dimension = int(reader.GetDimension())
    size = tuple(int(n) for n in reader.GetSize())
    if dimension not in (2, 3, 4) or size != said.size:
        raise FormatError(path, f"The image has {len(said.size)} axes {said.size}; a scan has 3, or 4 with frames.")
    if int(reader.GetNumberOfComponents()) != 1:
        raise FormatError(
            path, f"Each voxel has {reader.GetNumberOfComponents()} components (colour or vectors); one is read."
        )
    dtype = _dtype(path, reader)
    warnings = list(said.warnings)
    origin, spacing = [float(o) for o in reader.GetOrigin()[:3]], [float(s) for s in reader.GetSpacing()[:3]]
    direction = np.eye(3)
    shown = min(dimension, 3)
    direction[:shown, :shown] = np.array(reader.GetDirection()).reshape(dimension, dimension)[:shown, :shown]
    if dimension == 2:
        origin, spacing = [*origin, 0.0], [*spacing, 1.0]
        warnings.append("one slice: the file has two axes; a thickness of 1 mm was taken")
    if not np.isfinite([*origin, *spacing, *direction.ravel()]).all() or min(spacing) <= 0:
        raise FormatError(path, f"The voxel size is {spacing} mm (x, y, z). Fix the header.")
    affine = geometry.affine_from_itk(tuple(origin), tuple(spacing), tuple(direction.ravel().tolist()))
    if path.suffix.lower() in (".nrrd", ".nhdr") and not reader.HasMetaDataKey("NRRD_space"):
        warnings.append("no orientation: the file names no space; LPS was taken")
    return ScanHeader(
        path=path,
        paths=(path, *said.data),
        format="itk",
        shape=((*size, 1)[2], size[1], size[0]),
        affine=affine,
        dtype=dtype,
        frames=size[3] if dimension == 4 else 1,
        warnings=tuple(warnings),
    )


def _dtype(path: Path, reader: Any) -> str:
    import SimpleITK as sitk  # noqa: N813

    names = {
        sitk.sitkUInt8: "uint8",
        sitk.sitkInt8: "int8",
        sitk.sitkUInt16: "uint16",
        sitk.sitkInt16: "int16",
        sitk.sitkUInt32: "uint32",
        sitk.sitkInt32: "int32",
        sitk.sitkUInt64: "uint64",
        sitk.sitkInt64: "int64",
        sitk.sitkFloat32: "float32",
        sitk.sitkFloat64: "float64",
    }
    kind = reader.GetPixelID()
    if kind not in names:
        raise FormatError(path, f"The voxels are of a type that is not read ({sitk.GetPixelIDValueAsString(kind)}).")
    return names[kind]


def _reason(error: BaseException) -> str:
    """Return the last line of ITK's many, without the addresses of its objects."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rpartition("): ")[2]
