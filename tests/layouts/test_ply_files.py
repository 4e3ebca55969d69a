"""PLY files as programs write them, each value against plyfile."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from medssl.errors import FormatError
from pointcloud.formats.reading import read

RANDOM = np.random.default_rng(7)
POINTS = RANDOM.normal(size=(9, 3)).astype("f4")
XYZ = "property float x\nproperty float y\nproperty float z\n"
FACES = [(0, 1, 2), (3, 4, 5, 6), (1, 2, 3), (2, 3, 4, 5, 6)]
FACE = "element face 4\nproperty list uchar int vertex_indices\n"


def table(*columns: tuple[str, str], rows: int = 9) -> np.ndarray:
    made = np.zeros(rows, list(columns))
    for k, (name, kind) in enumerate(columns):
        made[name] = POINTS[:rows, "xyz".index(name)] if name in "xyz" else (
            RANDOM.normal(size=rows) if kind[0] == "f" else RANDOM.integers(0, 100, rows) + k)  # fmt: skip
    return made


def save(path, elements, *, text=False, order="<"):
    PlyData(elements, text=text, byte_order="=" if text else order).write(str(path))
    return path


def oracle(path):
    rows = PlyData.read(str(path))["vertex"]
    return np.stack([np.asarray(rows[axis], np.float64) for axis in "xyz"], axis=1)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4", "u1", "u2", "u4", "i1"])
def test_types_and_orders(tmp_path, text, order, kind):
    rows = table(("label", "u4"), ("z", kind), ("x", kind), ("y", kind), ("intensity", "f4"))
    for axis in "xyz":
        rows[axis] = RANDOM.integers(0, 100, 9)
    path = save(tmp_path / "a.ply", [PlyElement.describe(rows, "vertex")], text=text, order=order)
    cloud = read(path)
    np.testing.assert_array_equal(cloud.points, oracle(path))
    np.testing.assert_array_equal(cloud.labels, rows["label"])
    np.testing.assert_allclose(cloud.intensity, rows["intensity"], rtol=1e-6)


NAMES = ["char", "uchar", "short", "ushort", "int", "uint", "float", "double",
         "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_both_names_of_every_type(tmp_path, name):
    head = "ply\nformat ascii 1.0\nelement vertex 3\n"
    head += "".join(f"property {name} {axis}\n" for axis in "xyz") + "end_header\n"
    (tmp_path / "a.ply").write_text(head + "1 2 3\n4 5 6\n7 8 10\n")
    np.testing.assert_array_equal(read(tmp_path / "a.ply").points, [[1, 2, 3], [4, 5, 6], [7, 8, 10]])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("way", ["ascii", "binary_little_endian"])
def test_line_ends_and_comments(tmp_path, end, way):
    head = f"ply\nformat {way} 1.0\ncomment before end_header comes the end\nobj_info num_cols 9\n"
    head += f"element vertex 9\n{XYZ}comment end_header\nend_header\n"
    body = POINTS.astype("<f4").tobytes() if way != "ascii" else (
        "".join(" ".join(map(repr, p)) + end for p in POINTS.tolist()).encode())  # fmt: skip
    path = tmp_path / "a.ply"
    path.write_bytes(head.replace("\n", end).encode() + body)
    np.testing.assert_array_equal(read(path).points, POINTS)
    assert read(path).warnings == ()


def test_a_binary_body_that_begins_like_a_line_end(tmp_path):
    points = np.frombuffer(b"\n\n\n\x41" * 9, "<f4").reshape(3, 3) + np.eye(3, dtype="f4") * 7
    points[0, 0] = np.frombuffer(b"\n\r\n\x42", "<f4")[0]
    for end in ("\n", "\r\n", "\r"):
        head = f"ply\nformat binary_little_endian 1.0\nelement vertex 3\n{XYZ}end_header\n".replace("\n", end)
        (tmp_path / "a.ply").write_bytes(head.encode() + points.astype("<f4").tobytes())
        np.testing.assert_array_equal(read(tmp_path / "a.ply").points, points)


def uneven(faces):
    rows = np.empty(len(faces), [("flags", "u1"), ("vertex_indices", object), ("area", "f4")])
    for row, face in zip(rows, faces, strict=True):
        row["flags"], row["vertex_indices"], row["area"] = len(face), np.array(face, "i4"), 0.5
    return PlyElement.describe(rows, "face", len_types={"vertex_indices": "u1"}, val_types={"vertex_indices": "i4"})


def listed_points(way):
    """Return a file of points whose lists of varying length come before x, and between y and z."""
    head = f"ply\nformat {way} 1.0\nelement vertex 9\nproperty list uchar ushort seen_in\nproperty float x\n"
    head += "property double y\nproperty list uint double near\nproperty float z\nproperty short label\nend_header\n"
    rows = [(list(range(k % 4)), *POINTS[k].tolist(), [0.5] * (k % 3), k - 4) for k in range(9)]
    if way == "ascii":
        lines = [[len(seen), *seen, x, y, len(near), *near, z, label] for seen, x, y, z, near, label in rows]
        return head.encode() + "".join(" ".join(map(str, line)) + "\n" for line in lines).encode()
    order = "<" if "little" in way else ">"
    return head.encode() + b"".join(
        struct.pack(f"{order}B{len(seen)}HfdI{len(near)}dfh", len(seen), *seen, x, y, len(near), *near, z, label)
        for seen, x, y, z, near, label in rows
    )


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("way", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_lists_of_varying_length_among_the_points(tmp_path, way):
    path = tmp_path / "a.ply"
    path.write_bytes(listed_points(way))
    cloud = read(path)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.points, oracle(path))
    np.testing.assert_array_equal(cloud.labels, np.arange(9) - 4)
    assert any("seen_in, near" in warning for warning in cloud.warnings)


@pytest.mark.parametrize(("text", "order"), [(True, "="), (False, "<"), (False, ">")])
def test_faces_before_the_points_and_of_any_number_of_corners(tmp_path, text, order):
    """A lone face of each set is sampled, so its points lie within its own corners and nowhere else."""
    vertices = PlyElement.describe(table(("x", "f4"), ("y", "f4"), ("z", "f4")), "vertex")
    for chosen in FACES:
        path = save(tmp_path / "a.ply", [uneven([chosen, (0, 0, 0)]), vertices], text=text, order=order)
        np.testing.assert_allclose(read(path, samples=0).points, oracle(path), rtol=1e-6)
        cloud = read(path, samples=200)
        corners = oracle(path)[list(chosen)]
        fan = [corners[[0, k, k + 1]] for k in range(1, len(chosen) - 1)]
        assert np.min([outside(cloud.points, triangle) for triangle in fan], axis=0).max() < 1e-5
        assert any("flags, area" in warning for warning in cloud.warnings)


def outside(points, triangle):
    """Return how far points lie from a triangle's plane, or beyond its edges in weights."""
    a, edges = triangle[0], np.stack([triangle[1] - triangle[0], triangle[2] - triangle[0]], axis=1)
    weights, *_ = np.linalg.lstsq(edges, (points - a).T, rcond=None)
    away = np.linalg.norm((points - a).T - edges @ weights, axis=0)
    return away + np.maximum(0, -weights.min(axis=0)) + np.maximum(0, weights.sum(axis=0) - 1)


def test_strips_of_triangles(tmp_path):
    """A plane square of two triangles in one strip, and a restart: every normal points up, no area is lost."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0], [1, 2, 0]], "f4")
    rows = np.zeros(6, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    for k, axis in enumerate("xyz"):
        rows[axis] = corners[:, k]
    strip = np.empty(1, [("vertex_indices", object)])
    strip[0]["vertex_indices"] = np.array([0, 1, 2, 3, -1, 2, 3, 4, 5], "i4")
    strips = PlyElement.describe(strip, "tristrips", len_types={"vertex_indices": "i4"})
    for text in (True, False):
        path = save(tmp_path / "a.ply", [PlyElement.describe(rows, "vertex"), strips], text=text)
        cloud = read(path, samples=4000)
        np.testing.assert_allclose(cloud.normals, np.tile([0, 0, 1.0], (4000, 1)), atol=1e-6)
        shares = np.histogram2d(*cloud.points[:, :2].T, bins=(2, 4), range=((0, 1), (0, 2)))[0] / 4000
        assert np.abs(shares - 1 / 8).max() < 0.02


def test_empty_elements_and_elements_that_are_not_read(tmp_path):
    vertices = PlyElement.describe(table(("x", "f4"), ("y", "f4"), ("z", "f4"), ("alpha", "u1")), "vertex")
    edges = PlyElement.describe(np.array([(0, 1), (1, 2)], [("vertex1", "i4"), ("vertex2", "i4")]), "edge")
    for text in (True, False):
        path = save(tmp_path / "a.ply", [uneven([]), edges, vertices], text=text)
        cloud = read(path)
        np.testing.assert_allclose(cloud.points, oracle(path), rtol=1e-6)
        assert any("2 rows of the element 'edge' are not read" in w for w in cloud.warnings)
        assert any("not read: alpha" in w for w in cloud.warnings)


def test_labels_and_intensities_of_a_mesh_go_to_the_points_drawn_from_it(tmp_path):
    """Meshes with a class at every vertex, as ScanNet gives them out, had no classes once they were sampled."""
    corners = np.array([(0, 0, 0), (4, 0, 0), (0, 4, 0), (10, 0, 5), (14, 0, 5), (10, 4, 5)], float)
    rows = np.zeros(6, [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"),
                        ("label", "u2"), ("intensity", "f4")])  # fmt: skip
    for k, axis in enumerate("xyz"):
        rows[axis] = corners[:, k]
    rows["label"], rows["red"], rows["intensity"] = [7] * 3 + [9] * 3, [250] * 3 + [0] * 3, [0.5] * 3 + [2] * 3
    path = save(tmp_path / "a.ply", [PlyElement.describe(rows, "vertex"), uneven([(0, 1, 2), (3, 4, 5)])])
    cloud = read(path, samples=500)
    high = cloud.points[:, 2] > 1
    assert 150 < high.sum() < 350
    np.testing.assert_array_equal(cloud.labels, np.where(high, 9, 7))
    np.testing.assert_array_equal(cloud.colours[:, 0], np.where(high, 0, 250))
    np.testing.assert_allclose(cloud.intensity, np.where(high, 2.0, 0.5), rtol=1e-6)


def test_a_gaussian_splat_gives_its_centres_and_plain_colours(tmp_path):
    extra = ["opacity", "scale_0", "scale_1", "rot_0", *(f"f_rest_{k}" for k in range(45))]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *extra]
    rows = table(*((name, "f4") for name in names))
    rows["nx"] = rows["ny"] = rows["nz"] = 0
    path = save(tmp_path / "a.ply", [PlyElement.describe(rows, "vertex")])
    cloud = read(path)
    np.testing.assert_allclose(cloud.points, oracle(path), rtol=1e-6)
    plain = np.stack([0.5 + 0.28209479177387814 * rows[f"f_dc_{k}"] for k in range(3)], axis=1)
    np.testing.assert_array_equal(cloud.colours, np.round(np.clip(plain, 0, 1) * 255))
    assert cloud.normals is None
    assert any("opacity" in w and "and 37 more" in w for w in cloud.warnings)


HEAD = "ply\nformat ascii 1.0\nelement vertex {}\n{}end_header\n"
REFUSED = {
    "negative count": (HEAD.format(-3, XYZ), "negative number of rows"),
    "a million million": (HEAD.format(10**12, XYZ) + "1 2 3\n", "1000000000000 rows of 'vertex'"),
    "twice the same name": (HEAD.format(1, XYZ + "property float x\n") + "1 2 3 4\n", "twice: x, y, z, x"),
    "twice the same element": (HEAD.format(1, XYZ + "element vertex 1\n" + XYZ) + "1 2 3\n" * 2, "element twice"),
    "nothing in it": (HEAD.format(2, XYZ + "element camera 5\n") + "1 2 3\n" * 7, "5 rows of 'camera' with nothing"),
    "a row too long": (HEAD.format(1, XYZ) + "1 2 3 4\n", "not the 3 numbers"),
    "too large for its type": (HEAD.format(1, XYZ + "property uchar red\n") + "1 2 4 300\n", "300 does not fit"),
    "no whole label": (HEAD.format(2, XYZ + "property int label\n") + "1 2 3 4\n1 2 4 1.5\n", "1.5 does not fit"),
    "digits of another script": (HEAD.format(2, XYZ) + "1 2 \u0663\n1 2 4\n", "not the 3 numbers"),
    "a thousand with a line": (HEAD.format(2, XYZ) + "1 2 1_000\n1 2 4\n", "not the 3 numbers"),
    "real lengths": (HEAD.format(1, XYZ + "property list float int n\n") + "1 2 3 0\n", "no PLY"),
    "no end": ("ply\nformat ascii 1.0\ncomment end_header\nelement vertex 1\n" + XYZ + "1 2 3\n", "no PLY"),
    "corners that are no list": (
        HEAD.format(3, XYZ + "element face 1\nproperty int vertex_indices\n") + "0 0 0\n1 0 0\n0 1 0\n2\n", "no list"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_right_reason(tmp_path, name):
    content, told = REFUSED[name]
    (tmp_path / "a.ply").write_text(content, encoding="utf-8")
    with pytest.raises(FormatError, match=told):
        read(tmp_path / "a.ply")


def test_binary_promises_are_held_against_the_size(tmp_path):
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex 3\n{XYZ}"
    body = np.eye(3, dtype="<f4").tobytes()
    lists = {
        "element face 1000000000000\nproperty list uchar int vertex_indices\n": struct.pack("<Biii", 3, 0, 1, 2),
        "element face 1\nproperty list uint int vertex_indices\n": struct.pack("<Iiii", 4_000_000_000, 0, 1, 2),
        "element face 2\nproperty list uchar int vertex_indices\n": struct.pack("<BiiiB", 3, 0, 1, 2, 3),
    }
    for more, rest in lists.items():
        (tmp_path / "a.ply").write_bytes((head + more + "end_header\n").encode() + body + rest)
        with pytest.raises(FormatError, match=r"rows of 'face'.*truncated"):
            read(tmp_path / "a.ply")
    negative = head + "element face 1\nproperty list char int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_bytes(negative.encode() + body + struct.pack("<biii", -3, 0, 1, 2))
    with pytest.raises(FormatError, match="has -3 values"):
        read(tmp_path / "a.ply")


def test_every_order_of_the_elements(tmp_path):
    vertices = PlyElement.describe(table(("x", "f4"), ("y", "f4"), ("z", "f4")), "vertex")
    edges = PlyElement.describe(np.array([(0, 1)], [("vertex1", "i4"), ("vertex2", "i4")]), "edge")
    for elements in itertools.permutations([vertices, edges, uneven(FACES)]):
        path = save(tmp_path / "a.ply", list(elements))
        np.testing.assert_allclose(read(path, samples=0).points, oracle(path), rtol=1e-6)
