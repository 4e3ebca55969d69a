"""Every bad file is refused, or flagged, by name and with its reason."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest

from medssl.errors import DataError, FormatError
from pointcloud.cloud import make_cloud
from pointcloud.formats.reading import count, read
from tests.pointcloud.every_cloud import read_many

POINTS = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
PLY = "ply\nformat {order} 1.0\nelement vertex {rows}\n"
PLY += "property {kind} x\nproperty {kind} y\nproperty {kind} z\n{more}end_header\n"
PCD = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE {kind}\nCOUNT 1 1 1\n"
PCD += "WIDTH {rows}\nHEIGHT 1\nPOINTS {rows}\nDATA {way}\n"
FACE = "element face {n}\nproperty list uchar int vertex_indices\n"


def ply(order="binary_little_endian", rows=12, kind="float", more=""):
    return PLY.format(order=order, rows=rows, kind=kind, more=more).encode()


def pcd(kind="F F F", rows=12, way="binary"):
    return PCD.format(kind=kind, rows=rows, way=way).encode()


def rows(points, between=" "):
    return "".join(between.join(map(str, point)) + "\n" for point in np.asarray(points).tolist()).encode()


def npy(values, **options):
    import io

    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def las_bytes(points):
    import io

    import laspy

    las = laspy.LasData(laspy.LasHeader(point_format=0, version="1.2"))
    if len(points):
        las.x, las.y, las.z = np.asarray(points, dtype=np.float64).T
    file = io.BytesIO()
    las.write(file)
    return file.getvalue()


def stl(faces, promised=None):
    return b"\0" * 80 + struct.pack("<I", faces if promised is None else promised) + b"\0" * 50 * faces


REFUSED = {
    # Nothing, or something else.
    "empty.ply": (b"", "empty"),
    "empty.npz": (b"", "empty"),
    "html.ply": (b"<!doctype html><p>404</p>", "not a PLY|no PLY"),
    "html.pcd": (b"<!doctype html>\n<p>404</p>", "no PCD"),
    "binary.xyz": (bytes(range(256)), "no text"),
    "words.txt": (b"Dear colleague,\nplease find attached\n", "no number|columns"),
    "html.las": (b"<!doctype html><p>404</p>", "LASF"),
    "html.glb": (b"<!doctype html><p>404</p>", "glTF"),
    "html.h5": (b"<!doctype html><p>404</p>", "HDF5"),
    "words.off": (b"solid nothing\n", "'OFF'"),
    "words.obj": (b"Dear colleague,\nregards\n", "no vertices"),
    # Truncated.
    "no_end.ply": (b"ply\nformat ascii 1.0\nelement vertex 3\n", "truncated"),
    "short.ply": (ply() + POINTS.tobytes()[:-1], "truncated"),
    "short_ascii.ply": (ply("ascii") + rows(POINTS[:5]), "truncated"),
    "short_faces.ply": (ply(rows=12, more=FACE.format(n=2)) + POINTS.tobytes() + b"\x03\0\0\0\0", "truncated"),
    "short.pcd": (pcd() + POINTS.tobytes()[:-1], "truncated"),
    "short_ascii.pcd": (pcd(way="ascii") + rows(POINTS[:4]), "truncated"),
    "short_compressed.pcd": (
        pcd(way="binary_compressed") + struct.pack("<II", 200, 144) + b"\x03abcd",
        "damaged|Open3D",
    ),
    "short.pts": (b"13\n" + rows(POINTS), "promises 13"),
    "short.npy": (npy(POINTS)[:-4], "damaged"),
    "short.off": (b"OFF\n12 1 0\n" + rows(POINTS), "promises"),
    "short.stl": (stl(1, promised=5), "truncated"),
    "short.bin": (POINTS.tobytes()[:-3], "whole number of rows"),
    "short.las": (las_bytes(POINTS)[:-30], "damaged|truncated"),
    "half_header.las": (las_bytes(POINTS)[:100], "damaged|truncated"),
    "records.las": (las_bytes(POINTS)[:100] + b"\xff" * 4 + las_bytes(POINTS)[104:], "4294967295 records"),
    "short.glb": (b"glTF" + struct.pack("<II", 2, 5000) + b"\0" * 20, "truncated"),
    "short.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "damaged"),
    # Wrong headers and types.
    "order.ply": (ply("binary_middle_endian") + POINTS.tobytes(), "binary_middle_endian"),
    "kind.ply": (ply(kind="quaternion") + POINTS.tobytes(), "not a PLY|no PLY"),
    "minus.ply": (ply(rows=-4), "negative"),
    "no_vertex.ply": (b"ply\nformat ascii 1.0\nelement leaf 1\nproperty float x\nend_header\n1\n", "vertex"),
    "no_z.ply": (ply("ascii").replace(b"float z", b"float depth") + rows(POINTS), "no column z"),
    "words.ply": (ply("ascii", rows=1) + b"one two three\n", "not the 3 numbers"),
    "kind.pcd": (pcd(kind="F F Q") + POINTS.tobytes(), "no PCD type"),
    "words.pcd": (pcd(way="ascii", rows=1) + b"1 two 3\n", "no number"),
    "way.pcd": (pcd(way="zip") + POINTS.tobytes(), "Allowed"),
    "count.off": (b"OFF\nmany 0 0\n", "numbers of vertices"),
    "text_in_column.xyz": (b"1 2 3\n4 five 6\n", "Line 2: 'five'"),
    "ragged.xyz": (b"1 2 3\n4 5\n", "Line 2 has 2"),
    "two_columns.csv": (b"1,2\n3,4\n", "three columns"),
    "no_normals.xyzn": (rows(POINTS), "promises"),
    "no_z.csv": (b"x,y,label\n1,2,3\n4,5,6\n", "no column z"),
    "complex.npy": (npy(POINTS.astype(complex)), "complex"),
    "strings.npy": (npy(np.array([["1", "2", "3"]])), "type <U1"),
    "volume.npy": (npy(np.zeros((4, 5, 6, 7))), "shape"),
    "flat.npy": (npy(np.zeros(9)), "shape"),
    "pickle.npy": (npy(np.array([{"a": 1}], dtype=object), allow_pickle=True), "Python objects"),
    "bare_pickle.npy": (pickle.dumps([1, 2]), "never opened"),
    "noise.bin": (np.random.default_rng(0).bytes(1600), "no LiDAR|NaN"),
    "nuscenes.bin": (np.c_[POINTS[:8], POINTS[:8, :1], np.arange(8)].astype("<f4").tobytes(), "pcd.bin"),
    "kitti.pcd.bin": (POINTS[:4].tobytes() + b"\0" * 16, "5 float32"),
    # Nothing in it.
    "none.ply": (ply(rows=0), "no points"),
    "none.pcd": (pcd(rows=0), "0 points"),
    "none.npy": (npy(np.zeros((0, 3))), "no points"),
    "none.las": (las_bytes([]), "0 points|no points"),
    "comments.xyz": (b"# nothing\n\n", "no rows"),
    "none.off": (b"OFF\n0 0 0\n", "no points"),
    "none.stl": (stl(0), "0 faces"),
    "none_text.stl": (b"solid a\nendsolid a\n", "0 faces"),
    # Points that are no shape.
    "one.xyz": (b"1 2 3\n", "one point"),
    "one_place.xyz": (b"1 2 3\n" * 9, "one place"),
    "all_nan.npy": (npy(np.full((5, 3), np.nan)), "Every point"),
    "astronomic.npy": (npy(np.array([[0.0, 0, 0], [1e200, 0, 0]])), "span"),
    # Meshes without a surface.
    "flat_faces.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", "has an area"),
    "wrong_index.off": (b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "names vertex 7"),
    "wrong_index.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "names vertex 8"),
    "zero_index.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf -7 2 3\n", "no row of an OBJ"),
    "wrong_index.ply": (
        ply("ascii", rows=3, more=FACE.format(n=1)) + b"0 0 0\n1 0 0\n0 1 0\n3 0 1 5\n",
        "names vertex 5",
    ),
    "vertex.obj": (b"v 1 2\nv 3 4\n", "fewer than three"),
    "bad_number.obj": (b"v 1 2 x\n", "Line 1"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("bad")
    for name, (content, _) in REFUSED.items():
        (made / name).write_bytes(content)
    return made


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(folder, name):
    with pytest.raises(FormatError, match=REFUSED[name][1]) as caught:
        read(folder / name)
    assert str(folder / name) in str(caught.value)


def test_the_rest_of_the_folder_goes_through(folder):
    np.save(folder / "zz_good.npy", POINTS)
    found = list(read_many(sorted(folder.iterdir())))
    good = [each for each in found if not isinstance(each, FormatError)]
    assert len(found) == len(REFUSED) + 1
    assert [cloud.path for cloud in good] == [folder / "zz_good.npy"]


def test_no_such_file_and_folders(tmp_path):
    for name in ("a.ply", "a.npz", "a.h5", "a.las"):
        with pytest.raises(FormatError, match="No such file"):
            read(tmp_path / name)
        (tmp_path / name).mkdir()
        with pytest.raises(FormatError, match="folder"):
            read(tmp_path / name)


def test_archives_of_something_else(tmp_path):
    np.savez(tmp_path / "volume.npz", values=np.zeros((3, 3, 3)), affine=np.eye(4))
    with pytest.raises(FormatError, match="volume is stored"):
        read(tmp_path / "volume.npz")
    np.savez(tmp_path / "objects.npz", points=np.array([None], dtype=object))
    with pytest.raises(FormatError, match="Python objects"):
        count(tmp_path / "objects.npz")
    np.savez(tmp_path / "unit.npz", points=POINTS, unit="furlong")
    with pytest.raises(FormatError, match="furlong"):
        read(tmp_path / "unit.npz")


def test_h5_without_clouds(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["volume"] = np.zeros((3, 3))
    with pytest.raises(FormatError, match="no dataset 'data'"):
        count(tmp_path / "other.h5")
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["data"] = np.zeros((3, 3))
    with pytest.raises(FormatError, match="shape"):
        read(tmp_path / "flat.h5")


FLAGGED = {
    "nan.npy": (npy(np.vstack([POINTS, [[np.nan, 0, 0]]])), "1 of 13 points have NaN"),
    "inf.xyz": (rows(POINTS) + b"inf 0 0\n", "1 of 13 points have NaN or infinite"),
    "twice.npy": (npy(np.vstack([POINTS, POINTS[:3]])), "3 of 15 points repeat"),
    "utm.npy": (npy(POINTS.astype(np.float64) + 4e6), "relative to an offset"),
    "stray.npy": (npy(np.vstack([POINTS, [[1e6, 0, 0]]])), "1 points lie more than"),
    "more.csv": (b"x,y,z,curvature\n0,0,0,1\n1,0,0,2\n", "not read: curvature"),
    "columns.txt": (b"0 0 0 5.5 6.5\n1 1 1 7.5 8.5\n", "not read: column 4, column 5. Name the columns"),
    "tail.ply": (ply() + POINTS.tobytes() + b"tail", "4 bytes follow"),
    "no_faces.off": (b"OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no faces"),
    "no_faces.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
}


@pytest.mark.parametrize("name", FLAGGED)
def test_flagged_by_name(tmp_path, name):
    content, told = FLAGGED[name]
    (tmp_path / name).write_bytes(content)
    cloud = read(tmp_path / name)
    assert np.isfinite(cloud.points).all()
    assert any(told in warning for warning in cloud.warnings), cloud.warnings


def test_clean_clouds_have_no_warnings(tmp_path):
    np.save(tmp_path / "a.npy", POINTS)
    assert read(tmp_path / "a.npy").warnings == ()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"normals": POINTS[:5]}, "normals have shape"),
        ({"labels": np.full(12, 0.5)}, "not whole"),
        ({"colours": np.full((12, 3), -1)}, "colours reach"),
        ({"intensity": np.array(["a"] * 12)}, "intensity have shape"),
        ({"unit": "inch"}, "inch"),
    ],
)
def test_parts_that_do_not_fit(parts, told):
    with pytest.raises(DataError, match=told):
        make_cloud(POINTS, **parts)
