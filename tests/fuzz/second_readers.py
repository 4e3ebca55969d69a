"""What another program reads from the same file: its values and, for some scans, their voxel size."""

from __future__ import annotations

import gzip
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Read", "difference", "second"]

Read = tuple[npt.NDArray[Any], tuple[float, ...] | None]
_MOST = 1 << 24
_ITK_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8", "short": "i2", "int16": "i2", "unsigned short": "u2", "ushort": "u2",
    "uchar": "u1", "float": "f4", "double": "f8", "int": "i4",
}  # fmt: skip


def second(name: str, path: Path) -> Read | None:
    """Read a file by other means than medssl does; None where there are none, or they refuse it."""
    family = name.partition("-")[0]
    readers = {
        "nifti": _by_itk, "png": _picture, "tiff": _picture, "bmp": _picture, "dicom": _by_itk, "mgz": _mgh,
        "mha": _mha, "nrrd": _nrrd, "npz": _npz, "ply": _ply, "pcd": _pcd, "las": _las, "off": _trimesh, "obj": _obj,
        "stl": _trimesh, "xyz": _text, "npy": _npz, "h5": _hdf5,
    }  # fmt: skip
    if family not in readers:
        return None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return readers[family](path)
    except Exception:
        return None


def difference(name: str, mine: Read, other: Read) -> str:
    """Return how two readings differ; "" where they agree."""
    values, size = mine
    theirs, their_size = other
    if name.startswith("dicom"):  # a slice of the series: which, the series says
        return "" if any(_same(plane, np.squeeze(theirs)) for plane in values) else "no slice is like it"
    if values.ndim == 2 and theirs.ndim == 2 and values.shape[1] == 3:
        values, theirs = _rows(values, name), _rows(theirs[np.isfinite(theirs).all(axis=1)], name)
    else:
        theirs = theirs.reshape(values.shape) if theirs.size == values.size else theirs
    if values.shape != theirs.shape:
        return f"shape {values.shape}, and the second reader's is {theirs.shape}"
    if name.startswith("nifti"):  # the second reader makes 0 of what is no number
        values, theirs = (np.nan_to_num(one, nan=0, posinf=0, neginf=0) for one in (values, theirs))
    if not _same(values, theirs):
        return "other values"
    if size is not None and their_size is not None and not np.allclose(size, their_size, rtol=2e-3):
        return f"voxel size {size}, and the second reader's is {their_size}"
    return ""


def _rows(points: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return points in an order that does not depend on the reader; corners of a surface once."""
    rounded = np.asarray(points, dtype=np.float64)
    if name.startswith(("stl", "obj", "glb")):
        return np.unique(rounded.astype(np.float32), axis=0)
    return rounded[np.lexsort(rounded.T[::-1])]


def _same(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> bool:
    if one.shape != two.shape:
        return False
    left, right = np.asarray(one, np.float64), np.asarray(two, np.float64)
    scale = np.abs(right[np.isfinite(right)]).max(initial=1.0)
    return bool(np.allclose(left, right, rtol=2e-5, atol=2e-6 * scale, equal_nan=True))


def _by_itk(path: Path) -> Read | None:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if np.prod([float(n) for n in reader.GetSize()]) > _MOST:
        return None
    image = reader.Execute()
    values = sitk.GetArrayFromImage(image)
    return values, tuple(image.GetSpacing()[::-1]) if values.ndim == 3 and path.name.endswith((".nii", ".gz")) else None


def _picture(path: Path) -> Read | None:
    from PIL import Image

    with Image.open(path) as picture:
        # This reader takes white for 0 as it stands, and a bit for 255.
        if picture.mode == "1" or getattr(picture, "tag_v2", {}).get(262, 1) == 0:
            return None
    found = _by_itk(path)
    if found is None or found[0].ndim == 2:
        return found
    grey = found[0][..., :1]  # this reader makes colours of a palette of greys
    return (grey[..., 0], None) if found[0].shape[-1] in (3, 4) and (found[0][..., :3] == grey).all() else None


def _mgh(path: Path) -> Read | None:
    raw = gzip.decompress(path.read_bytes())
    _, *shape, frames, kind, _ = struct.unpack_from(">7i", raw)
    if frames != 1 or min(shape) < 1 or np.prod(shape, dtype=float) > _MOST:
        return None
    values = np.frombuffer(raw, {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2"}[kind], int(np.prod(shape)), 284)
    return values.reshape(shape, order="F").transpose(2, 1, 0), None


def _mha(path: Path) -> Read | None:
    raw = path.read_bytes()
    head, body = raw.split(b"ElementDataFile = LOCAL\n", 1)
    said = dict(line.split(" = ", 1) for line in head.decode("latin-1").splitlines() if " = " in line)
    if said.get("CompressedData", "False") != "False" or said.get("BinaryDataByteOrderMSB", "False") != "False":
        return None
    shape = [int(n) for n in said["DimSize"].split()][::-1]
    straight = said["TransformMatrix"] == "1 0 0 0 1 0 0 0 1"  # along other axes it is no matter of one field
    size = tuple(float(n) for n in said["ElementSpacing"].split()[::-1]) if straight else None
    return np.frombuffer(body, _ITK_TYPES[said["ElementType"]], int(np.prod(shape))).reshape(shape), size


def _nrrd(path: Path) -> Read | None:
    head, body = path.read_bytes().split(b"\n\n", 1)
    said = dict(line.split(": ", 1) for line in head.decode("latin-1").splitlines() if ": " in line)
    if said["encoding"] != "raw" or said.get("endian", "little") != "little":
        return None
    shape = [int(n) for n in said["sizes"].split()][::-1]
    return np.frombuffer(body, _ITK_TYPES[said["type"]], int(np.prod(shape))).reshape(shape), None


def _npz(path: Path) -> Read | None:
    found = np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        found = found["values"] if "values" in found.files else found["points"]
    return (found, None) if found.ndim in (2, 3) else None


def _ply(path: Path) -> Read | None:
    from plyfile import PlyData

    corners = PlyData.read(str(path))["vertex"]
    return np.stack([np.asarray(corners[axis], np.float64) for axis in "xyz"], axis=1), None


def _pcd(path: Path) -> Read | None:
    from pypcd4 import PointCloud

    return PointCloud.from_path(path).numpy(("x", "y", "z")).astype(np.float64), None


def _las(path: Path) -> Read | None:
    raw = path.read_bytes()
    (begin,), (kind, width), (count,) = (
        struct.unpack_from(code, raw, place) for code, place in (("<I", 96), ("<BH", 104), ("<I", 107))
    )
    if kind & 0x80:
        return None
    numbers = struct.unpack_from("<6d", raw, 131)
    axes = [np.ndarray((count,), "<i4", raw, begin + 4 * axis, (width,)) for axis in range(3)]
    return np.stack(axes, axis=1) * np.array(numbers[:3]) + np.array(numbers[3:]), None


def _trimesh(path: Path) -> Read | None:
    import trimesh

    found = trimesh.load(str(path), process=False, force="mesh")
    return np.asarray(found.vertices, np.float64), None


def _obj(path: Path) -> Read | None:
    rows = [line.split()[1:4] for line in path.read_text("utf-8").splitlines() if line.split()[:1] == ["v"]]
    return np.array(rows, dtype=np.float64), None


def _text(path: Path) -> Read | None:
    return np.loadtxt(path, ndmin=2)[:, :3], None


def _hdf5(path: Path) -> Read | None:
    import h5py

    with h5py.File(path, "r") as file:
        return np.asarray(file["data"][0], np.float64)[:, :3], None
