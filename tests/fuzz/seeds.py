"""A small sound file of every format, made by code: what mutants are made from."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["SEEDS", "Seed", "seed_of"]

_random = np.random.default_rng(7)
VOXELS = _random.integers(-1000, 1500, (6, 7, 8)).astype(np.int16)  # (z, y, x)
REALS = _random.normal(size=(6, 7, 8)).astype(np.float32)
AFFINE = np.array([[1.5, 0, 0, -10], [0, 1.2, 0, 5], [0, 0, 2.5, 3], [0, 0, 0, 1.0]])
POINTS = _random.normal(size=(50, 3)).astype(np.float32)
CORNERS = POINTS[:20]
FACES = np.array([[i, i + 1, i + 2] for i in range(18)], dtype=np.int32)


@dataclass(frozen=True)
class Seed:
    """A sound file.

    Attributes:
        suffix: Of its name; decides the reader.
        content: Its bytes.
        cloud: Whether it is a cloud; else it is a scan.
        beside: Name -> bytes of files that belong to it.
        folder: Whether the scan is the folder that it lies in (a DICOM series).
        text: Whether its numbers are text.
    """

    suffix: str
    content: bytes
    cloud: bool = False
    beside: dict[str, bytes] = field(default_factory=dict)
    folder: bool = False
    text: bool = False


def _nifti(values: npt.NDArray[np.generic], *, packed: bool) -> Seed:
    import nibabel as nib

    content = nib.Nifti1Image(values.transpose(2, 1, 0), AFFINE).to_bytes()
    return Seed(".nii.gz", gzip.compress(content, mtime=0)) if packed else Seed(".nii", content)


def _mgh() -> Seed:
    import nibabel as nib

    return Seed(".mgz", gzip.compress(nib.MGHImage(REALS.transpose(2, 1, 0), AFFINE).to_bytes(), mtime=0))


def _written(suffix: str, write: Callable[[str], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed{suffix}"
        write(str(path))
        return path.read_bytes()


def _itk(suffix: str, *, packed: bool) -> Seed:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(VOXELS)
    image.SetSpacing((1.5, 1.2, 2.5))
    return Seed(suffix, _written(suffix, lambda path: sitk.WriteImage(image, path, useCompression=packed)))


def _npz_scan() -> Seed:
    file = io.BytesIO()
    np.savez_compressed(file, values=VOXELS, affine=AFFINE)
    return Seed(".npz", file.getvalue())


def _picture(kind: str) -> Seed:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((VOXELS[0] % 256).astype(np.uint8)).save(file, format=kind)
    return Seed({"png": ".png", "tiff": ".tif", "bmp": ".bmp", "jpeg": ".jpg"}[kind], file.getvalue())


def _slice(number: int, how: str) -> bytes:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number + 1}"
    one.SeriesInstanceUID, one.StudyInstanceUID, one.PatientID, one.Modality = "1.2.3.5", "1.2.3.6", "P1", "CT"
    one.Rows = one.Columns = 32
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 1, 1
    one.PhotometricInterpretation, one.PixelSpacing, one.SliceThickness = "MONOCHROME2", [1.5, 1.2], 2.5
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 2.5 * number], [1, 0, 0, 0, 1, 0]
    one.InstanceNumber, one.RescaleSlope, one.RescaleIntercept = number + 1, 1, -1024
    values = np.random.default_rng(number).integers(0, 2000, (32, 32)).astype(np.int16)
    one.PixelData = values.tobytes()
    one["PixelData"].VR = "OW"
    if how != "raw":
        one.compress({"rle": RLELossless, "j2k": JPEG2000Lossless}[how], values, generate_instance_uid=False)
    file = io.BytesIO()
    pydicom.dcmwrite(file, one, enforce_file_format=True)
    return file.getvalue()


def _dicom(how: str) -> Seed:
    return Seed(".dcm", _slice(1, how), beside={f"o{n}.dcm": _slice(n, how) for n in (0, 2, 3)}, folder=True)


def _rows(points: npt.NDArray[np.float32], before: str = "") -> str:
    return "".join(before + " ".join(f"{value:.6f}" for value in point) + "\n" for point in points)


def _ply(order: str) -> Seed:
    head = f"ply\nformat {order} 1.0\nelement vertex 50\n" + "".join(f"property float {axis}\n" for axis in "xyz")
    body = _rows(POINTS).encode() if order == "ascii" else POINTS.astype("<f4").tobytes()
    return Seed(".ply", (head + "end_header\n").encode() + body, cloud=True, text=True)


def _ply_mesh() -> Seed:
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 20\nproperty float x\nproperty float y\n"
    head += "property float z\nelement face 18\nproperty list uchar int vertex_indices\nend_header\n"
    faces = b"".join(struct.pack("<Biii", 3, *map(int, face)) for face in FACES)
    return Seed(".ply", head.encode() + CORNERS.astype("<f4").tobytes() + faces, cloud=True, text=True)


def _pcd(way: str, fields: str = "x y z") -> Seed:
    count = len(fields.split())
    head = f"# .PCD v0.7\nVERSION 0.7\nFIELDS {fields}\nSIZE{' 4' * count}\nTYPE{' F' * count}\nCOUNT{' 1' * count}\n"
    head += f"WIDTH 50\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 50\nDATA {way}\n"
    if way == "ascii":
        body = _rows(POINTS).encode()
    elif way == "binary":
        body = POINTS.astype("<f4").tobytes()
    else:
        plain = np.ascontiguousarray(POINTS.T).astype("<f4").tobytes()
        # LZF of nothing but literals: runs of up to 32 bytes, each behind its length.
        runs = [plain[start : start + 32] for start in range(0, len(plain), 32)]
        packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
        body = struct.pack("<II", len(packed), len(plain)) + packed
    return Seed(".pcd", head.encode() + body, cloud=True, text=True)


def _las(suffix: str) -> Seed:
    import laspy

    made = laspy.create(point_format=3, file_version="1.2")
    made.header.scales = [0.001] * 3
    made.x, made.y, made.z = POINTS.T.astype(float)
    made.intensity = np.arange(50, dtype=np.uint16)
    file = io.BytesIO()
    made.write(file, do_compress=suffix == ".laz")
    return Seed(suffix, file.getvalue(), cloud=True)


def _mesh(kind: str) -> Seed:
    triangles = CORNERS[FACES]
    if kind == "off":
        text = f"OFF\n20 18 0\n{_rows(CORNERS)}" + "".join("3 {} {} {}\n".format(*face) for face in FACES)
        return Seed(".off", text.encode(), cloud=True, text=True)
    if kind == "obj":
        text = _rows(CORNERS, "v ") + "".join("f {} {} {}\n".format(*face) for face in FACES + 1)
        return Seed(".obj", text.encode(), cloud=True, text=True)
    if kind == "stl ascii":
        body = "".join(
            f"facet normal 0 0 1\nouter loop\n{_rows(one, 'vertex ')}endloop\nendfacet\n" for one in triangles
        )
        return Seed(".stl", f"solid a\n{body}endsolid a\n".encode(), cloud=True, text=True)
    if kind == "stl":
        faces = b"".join(b"\0" * 12 + one.astype("<f4").tobytes() + b"\0\0" for one in triangles)
        return Seed(".stl", b"\0" * 80 + struct.pack("<I", 18) + faces, cloud=True)
    import trimesh

    content = trimesh.Trimesh(CORNERS, FACES, process=False).export(file_type="glb")
    return Seed(".glb", content, cloud=True, text=True)


def _numpy(suffix: str) -> Seed:
    file = io.BytesIO()
    if suffix == ".npy":
        np.save(file, POINTS)
    else:
        np.savez(file, points=POINTS)
    return Seed(suffix, file.getvalue(), cloud=True, text=suffix == ".npy")


def _hdf5() -> Seed:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made["data"], made["label"] = POINTS[None], np.array([[1]])
    return Seed(".h5", file.getvalue(), cloud=True)


SEEDS: dict[str, Callable[[], Seed]] = {
    "nifti": lambda: _nifti(VOXELS, packed=False),
    "nifti-float": lambda: _nifti(REALS, packed=False),
    "nifti-gz": lambda: _nifti(VOXELS, packed=True),
    "mgz": _mgh,
    "mha": lambda: _itk(".mha", packed=False),
    "mha-packed": lambda: _itk(".mha", packed=True),
    "nrrd": lambda: _itk(".nrrd", packed=False),
    "nrrd-packed": lambda: _itk(".nrrd", packed=True),
    "npz-scan": _npz_scan,
    "png": lambda: _picture("png"),
    "tiff": lambda: _picture("tiff"),
    "bmp": lambda: _picture("bmp"),
    "jpeg": lambda: _picture("jpeg"),
    "dicom": lambda: _dicom("raw"),
    "dicom-rle": lambda: _dicom("rle"),
    "dicom-j2k": lambda: _dicom("j2k"),
    "ply-ascii": lambda: _ply("ascii"),
    "ply": lambda: _ply("binary_little_endian"),
    "ply-mesh": _ply_mesh,
    "pcd-ascii": lambda: _pcd("ascii"),
    "pcd": lambda: _pcd("binary"),
    "pcd-packed": lambda: _pcd("binary_compressed"),
    "las": lambda: _las(".las"),
    "laz": lambda: _las(".laz"),
    "off": lambda: _mesh("off"),
    "obj": lambda: _mesh("obj"),
    "stl": lambda: _mesh("stl"),
    "stl-ascii": lambda: _mesh("stl ascii"),
    "glb": lambda: _mesh("glb"),
    "xyz": lambda: Seed(".xyz", _rows(POINTS).encode(), cloud=True, text=True),
    "npy": lambda: _numpy(".npy"),
    "npz": lambda: _numpy(".npz"),
    "h5": _hdf5,
}
_made: dict[str, Seed] = {}


def seed_of(name: str) -> Seed:
    """Return a sound file; made once in a process."""
    if name not in _made:
        _made[name] = SEEDS[name]()
    return _made[name]
