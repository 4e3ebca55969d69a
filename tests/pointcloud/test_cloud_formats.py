"""One cloud written in every format reads back equal: each reader is the others' oracle."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from medssl import extras
from medssl.errors import FormatError, MissingDependencyError
from pointcloud.cloud import make_cloud
from pointcloud.formats.reading import count, read
from pointcloud.formats.table import FORMATS, format_of
from tests.pointcloud.every_cloud import read_many

RANDOM = np.random.default_rng(5)
# Eighths up to 8 are exact in decimal text, in float32 and in LAS' scaled whole numbers.
POINTS = (RANDOM.integers(-64, 64, (40, 3)) / 8).astype(np.float32)
NORMALS = np.tile(np.eye(3, dtype=np.float32), (14, 1))[:40]
COLOURS = RANDOM.integers(0, 256, (40, 3)).astype(np.uint8)
INTENSITY = (RANDOM.integers(0, 8, 40) / 8).astype(np.float32)
LABELS = RANDOM.integers(0, 20, 40)


def _rows(*columns):
    return (
        "\n".join(" ".join(f"{v:.6g}" for v in row) for row in np.hstack([c.reshape(40, -1) for c in columns])) + "\n"
    )


def _ply(order):
    kinds = [("x", "f8"), ("y", "f8"), ("z", "f8"), ("nx", "f4"), ("ny", "f4"), ("nz", "f4")]
    kinds += [("red", "u1"), ("green", "u1"), ("blue", "u1"), ("intensity", "f4"), ("label", "i4")]
    names = {"f8": "double", "f4": "float", "u1": "uchar", "i4": "int"}
    header = f"ply\nformat {order} 1.0\ncomment made by a test\nelement vertex 40\n"
    header += "".join(f"property {names[kind]} {name}\n" for name, kind in kinds) + "end_header\n"
    columns = np.hstack([POINTS, NORMALS, COLOURS, INTENSITY[:, None], LABELS[:, None]])
    if order == "ascii":
        return (header + _rows(POINTS, NORMALS, COLOURS, INTENSITY, LABELS)).encode()
    sign = "<" if "little" in order else ">"
    table = np.zeros(40, [(name, sign + kind) for name, kind in kinds])
    for at, (name, _) in enumerate(kinds):
        table[name] = columns[:, at]
    return header.encode() + table.tobytes()


def _pcd(way):
    packed = (COLOURS.astype(np.uint32) * np.array([65536, 256, 1], np.uint32)).sum(axis=1, dtype=np.uint32)
    header = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z normal_x normal_y normal_z rgb intensity label\n"
    header += "SIZE 4 4 4 4 4 4 4 4 4\nTYPE F F F F F F U F I\nCOUNT 1 1 1 1 1 1 1 1 1\nWIDTH 40\nHEIGHT 1\n"
    header += f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 40\nDATA {way}\n"
    if way == "ascii":
        lines = [
            " ".join(f"{v:.6g}" for v in (*p, *n)) + f" {c} {i:.6g} {k}"
            for p, n, c, i, k in zip(POINTS, NORMALS, packed, INTENSITY, LABELS, strict=True)
        ]
        return (header + "\n".join(lines) + "\n").encode()
    parts = [*POINTS.T, *NORMALS.T, packed, INTENSITY, LABELS.astype("<i4")]
    if way == "binary":
        return header.encode() + b"".join(b"".join(part[k].tobytes() for part in parts) for k in range(40))
    raw = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)  # compressed files hold whole columns
    # Literal runs of up to 32 bytes are valid LZF; a reader cannot tell them from what a compressor would write.
    literal = b"".join(bytes([len(raw[k : k + 32]) - 1]) + raw[k : k + 32] for k in range(0, len(raw), 32))
    return header.encode() + struct.pack("<II", len(literal), len(raw)) + literal


def _h5(path):
    import h5py

    with h5py.File(path, "w") as file:
        file["data"] = np.stack([POINTS[::-1], POINTS])
        file["label"] = np.array([[3], [7]], np.uint8)
        file["normal"] = np.stack([NORMALS[::-1], NORMALS])
        file["mask"] = np.stack([LABELS[::-1], LABELS])


def _las(path):
    import laspy

    header = laspy.LasHeader(point_format=2, version="1.2")
    header.scales, header.offsets = np.full(3, 0.125), np.zeros(3)
    las = laspy.LasData(header)
    las.x, las.y, las.z = POINTS.T.astype(np.float64)
    las.red, las.green, las.blue = COLOURS.T.astype(np.uint16) * 257
    las.intensity = (INTENSITY * 8).astype(np.uint16)
    las.classification = LABELS.astype(np.uint8)
    las.write(str(path))


TEXTS = {
    "named.csv": "x,y,z,r,g,b,intensity,label\n" + _rows(POINTS, COLOURS, INTENSITY, LABELS).replace(" ", ","),
    "bare.xyz": _rows(POINTS),
    "a.xyzn": _rows(POINTS, NORMALS),
    "a.xyzrgb": _rows(POINTS, COLOURS),
    "a.xyzi": _rows(POINTS, INTENSITY),
    "a.pts": "40\n" + _rows(POINTS, INTENSITY, COLOURS),
    "modelnet.txt": _rows(POINTS, NORMALS).replace(" ", ","),
    "part.txt": "# a comment\n" + _rows(POINTS, NORMALS, LABELS),
    "colours.txt": _rows(POINTS, COLOURS),
    "vertices.obj": "".join(f"v {x} {y} {z}\n" for x, y, z in POINTS),
    "vertices.off": "OFF\n40 0 0\n" + _rows(POINTS),
    "glued.off": "OFF40 0 0\n" + _rows(POINTS),
}


def written(folder: Path) -> list[Path]:
    """Write the cloud in every format."""
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    for order in ("ascii", "binary_little_endian", "binary_big_endian"):
        (folder / f"{order}.ply").write_bytes(_ply(order))
    for way in ("ascii", "binary", "binary_compressed"):
        (folder / f"{way}.pcd").write_bytes(_pcd(way))
    np.save(folder / "points.npy", POINTS)
    np.save(folder / "with_normals.npy", np.hstack([POINTS, NORMALS]))
    np.savez(folder / "all.npz", points=POINTS, normals=NORMALS, colors=COLOURS, intensity=INTENSITY, labels=LABELS)
    np.savez(folder / "several.npz", points=np.stack([POINTS[::-1], POINTS]), label=np.array([3, 7]))
    np.hstack([POINTS, INTENSITY[:, None]]).astype("<f4").tofile(folder / "kitti.bin")
    ring = np.arange(40, dtype=np.float32)[:, None]
    np.hstack([POINTS, INTENSITY[:, None], ring]).astype("<f4").tofile(folder / "nuscenes.pcd.bin")
    _h5(folder / "modelnet.h5")
    _las(folder / "a.las")
    _las(folder / "a.laz")
    return sorted(folder.iterdir())


def test_one_cloud_in_every_format_reads_back_equal(tmp_path):
    files_made = written(tmp_path)
    assert {format_of(path) for path in files_made} | {"stl", "glb", "vtk", "vtp", "other"} == {
        row.name for row in FORMATS.values()
    }
    for path in files_made:
        cloud = read(path, item=count(path) - 1)
        assert cloud.path == path, path.name
        np.testing.assert_array_equal(cloud.points, POINTS, err_msg=path.name)
        np.testing.assert_array_equal(cloud.offset, np.zeros(3), err_msg=path.name)
        for part, expected in (("normals", NORMALS), ("colours", COLOURS), ("labels", LABELS)):
            found = getattr(cloud, part)
            if found is not None:
                np.testing.assert_array_equal(found, expected, err_msg=f"{path.name} {part}")
        if cloud.intensity is not None:
            scale = 8 if path.suffix in (".las", ".laz") else 1
            np.testing.assert_array_equal(cloud.intensity, INTENSITY * scale, err_msg=path.name)


EXPECTED_PARTS = {
    "ascii.ply": {"normals", "colours", "intensity", "labels"},
    "binary_big_endian.ply": {"normals", "colours", "intensity", "labels"},
    "ascii.pcd": {"normals", "colours", "intensity", "labels"},
    "binary.pcd": {"normals", "colours", "intensity", "labels"},
    "binary_compressed.pcd": {"normals", "colours", "intensity", "labels"},
    "named.csv": {"colours", "intensity", "labels"},
    "bare.xyz": set(),
    "a.pts": {"intensity", "colours"},
    "modelnet.txt": {"normals"},
    "part.txt": {"normals", "labels"},
    "colours.txt": {"colours"},
    "all.npz": {"normals", "colours", "intensity", "labels"},
    "kitti.bin": {"intensity"},
    "nuscenes.pcd.bin": {"intensity"},
    "a.laz": {"colours", "intensity", "labels"},
    "modelnet.h5": {"normals", "labels"},
}


def test_every_part_that_a_file_holds_is_read(tmp_path):
    written(tmp_path)
    for name, expected in EXPECTED_PARTS.items():
        path = tmp_path / name
        cloud = read(path, item=count(path) - 1)
        there = {part for part in ("normals", "colours", "intensity", "labels") if getattr(cloud, part) is not None}
        assert there == expected, name


def test_files_of_several_clouds(tmp_path):
    written(tmp_path)
    for name in ("modelnet.h5", "several.npz"):
        path = tmp_path / name
        assert count(path) == 2
        assert [read(path, item=k).label for k in range(2)] == [3, 7]
        np.testing.assert_array_equal(read(path, item=0).points, POINTS[::-1])
        with pytest.raises(FormatError, match="no cloud 2"):
            read(path, item=2)
    with pytest.raises(FormatError, match="no cloud 1"):
        read(tmp_path / "bare.xyz", item=1)


SQUARE = "OFF\n8 6 0\n" + "".join(f"{x} {y} {z}\n" for x in (0, 2) for y in (0, 2) for z in (0, 2))
FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


def _cubes(folder: Path) -> list[Path]:
    """Write one cube with edges of 2 in every format of meshes."""
    import trimesh

    (folder / "cube.off").write_text(SQUARE + "".join(f"4 {a} {b} {c} {d}\n" for a, b, c, d in FACES))
    (folder / "glued.off").write_text((folder / "cube.off").read_text().replace("OFF\n8", "OFF8"))
    corners = SQUARE.splitlines()[2:]
    obj = "".join(f"v {line}\n" for line in corners)
    obj += "".join("f " + " ".join(f"{k + 1}//1" for k in face) + "\n" for face in FACES[:3])
    obj += "".join("f " + " ".join(str(k - 8) for k in face) + "\n" for face in FACES[3:])
    (folder / "cube.obj").write_text(obj)
    header = "ply\nformat {} 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 7\nproperty list uchar int vertex_indices\nend_header\n"
    # The last square as two triangles, so that rows differ in length.
    uneven = [*FACES[:5], (1, 5, 7), (1, 7, 3)]
    text = header.format("ascii") + "\n".join(corners) + "\n"
    (folder / "ascii.ply").write_text(text + "".join(f"{len(f)} " + " ".join(map(str, f)) + "\n" for f in uneven))
    points = np.array([line.split() for line in corners], dtype="<f4")
    body = b"".join(struct.pack(f"<B{len(f)}i", len(f), *f) for f in uneven)
    (folder / "binary.ply").write_bytes(header.format("binary_little_endian").encode() + points.tobytes() + body)
    mesh = trimesh.load_mesh(folder / "cube.off")
    mesh.export(folder / "cube.stl")
    mesh.export(folder / "text.stl", file_type="stl_ascii")
    scene = trimesh.Scene()
    half = mesh.copy()
    half.apply_translation([-1, -1, -1])
    scene.add_geometry(half, transform=trimesh.transformations.translation_matrix([1, 1, 1]))
    scene.export(folder / "placed.glb")
    return sorted(folder.iterdir())


def test_meshes_are_sampled_by_area_with_a_seed(tmp_path):
    for path in _cubes(tmp_path):
        cloud = read(path, samples=6000, seed=3)
        assert len(cloud) == 6000, path.name
        np.testing.assert_array_equal(cloud.points, read(path, samples=6000, seed=3).points, err_msg=path.name)
        assert not np.array_equal(cloud.points, read(path, samples=6000, seed=4).points), path.name
        near = np.minimum(np.abs(cloud.points), np.abs(cloud.points - 2))
        assert near.min(axis=1).max() < 1e-6, f"{path.name}: a point is not on the cube"
        side = near.argmin(axis=1) * 2 + (cloud.points[np.arange(6000), near.argmin(axis=1)] > 1)
        shares = np.bincount(side, minlength=6) / 6000
        assert np.abs(shares - 1 / 6).max() < 0.03, f"{path.name}: {shares}"
        outward = ((cloud.points - 1) * cloud.normals).sum(axis=1)
        np.testing.assert_allclose(outward, 1.0, atol=1e-5, err_msg=path.name)


def test_vertices_of_a_mesh_on_request(tmp_path):
    _cubes(tmp_path)
    cloud = read(tmp_path / "cube.off", samples=0)
    assert sorted(map(tuple, cloud.points.tolist())) == [(x, y, z) for x in (0, 2) for y in (0, 2) for z in (0, 2)]


def test_large_coordinates_keep_their_shape(tmp_path):
    far = POINTS.astype(np.float64) + np.array([4_500_000.125, 5_600_000.0, 250.0])
    path = tmp_path / "utm.csv"
    path.write_text("x,y,z\n" + "\n".join(f"{x:.3f},{y:.3f},{z:.3f}" for x, y, z in far))
    cloud = read(path)
    np.testing.assert_allclose(cloud.positions(), far, atol=1e-6)
    np.testing.assert_array_equal(np.ptp(cloud.points, axis=0), np.ptp(POINTS, axis=0))
    assert any("offset" in warning for warning in cloud.warnings)


def test_units_are_said_only_where_the_format_says_them(tmp_path):
    written(tmp_path)
    assert read(tmp_path / "kitti.bin").unit == "m"
    assert read(tmp_path / "ascii.ply").unit == "unknown"


def test_names_that_may_be_anything_are_not_taken_for_clouds():
    rows = [FORMATS.row_of(Path(name)) for name in ("a.LAZ", "README.txt", "._a.ply")]
    assert [row is not None and row.sure for row in rows] == [True, False, False]
    with pytest.raises(FormatError, match="Allowed:"):
        read(Path("a.docx"))


def test_a_bad_file_does_not_stop_the_folder(tmp_path):
    (tmp_path / "bad.ply").write_bytes(b"ply\n")
    np.save(tmp_path / "good.npy", POINTS)
    found = list(read_many([tmp_path / "bad.ply", tmp_path / "missing.npz", tmp_path / "good.npy"]))
    assert [isinstance(each, FormatError) for each in found] == [True, True, False]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ModuleNotFoundError("No module named 'open3d'", name="open3d"), r"pip install 'medssl\[points\]'"),
        (OSError("libX11.so.6: cannot open shared object file: No such file"), "apt-get install libx11-6"),
        (ImportError("libodd.so.3: cannot open shared object file"), "no libodd.so.3"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, error, told):
    def absent(name):
        raise error

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=told):
        extras.library("open3d", purpose="to read a file")


def test_rows_stay_together():
    cloud = make_cloud(POINTS, colours=COLOURS, labels=LABELS, intensity=INTENSITY, normals=NORMALS)
    some = cloud.take(np.array([5, 2]))
    assert some.labels is not None
    assert some.colours is not None
    np.testing.assert_array_equal(some.points, POINTS[[5, 2]])
    np.testing.assert_array_equal(some.labels, LABELS[[5, 2]])
    np.testing.assert_array_equal(some.colours, COLOURS[[5, 2]])


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_or_read_but_nothing_else_happens(tmp_path):
    """Cut short, or with bytes changed: a reader may not see it, but never lets a library's error through."""
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir()
    damaged.mkdir()
    written(whole)
    random, refused = np.random.default_rng(11), 0
    for path in _cubes(whole):
        raw = path.read_bytes()
        for round_ in range(8):
            content = bytearray(raw)
            if round_ < 3:
                content = content[: int(len(raw) * random.random())]
            else:
                reach = len(raw) if round_ < 5 else min(len(raw), 300)  # headers more often
                for at in random.integers(0, reach, int(random.integers(1, 5))):
                    content[at] = random.integers(0, 256)
            made = damaged / path.name
            made.write_bytes(content)
            for found in read_many([made], samples=20):
                if isinstance(found, FormatError):
                    assert str(made) in str(found)
                    refused += 1
                else:
                    assert np.isfinite(found.points).all(), path.name
    assert refused > 100


@pytest.mark.parametrize("header", [b"{'descr': '<f4', 'fortran_order': (((", b"{'descr': '<f4'}", b"\xff" * 30])
def test_a_damaged_header_of_numpy(tmp_path, header):
    header = header.ljust(117) + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + POINTS.tobytes())
    with pytest.raises(FormatError, match="damaged"):
        read(path)


@pytest.mark.realdata
def test_organs_of_real_patients(real_data):
    path = real_data / "points" / "head_neck_organs.npz"
    clouds = list(read_many([path]))
    assert len(clouds) == count(path) > 100
    with np.load(path, allow_pickle=False) as arrays:
        assert [cloud.label for cloud in clouds] == arrays["label"].tolist()
        for at in (0, len(clouds) - 1):
            np.testing.assert_allclose(clouds[at].positions(), arrays["points"][at], atol=1e-4)
    assert all(len(cloud) == 1024 for cloud in clouds)
