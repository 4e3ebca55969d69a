"""STL, OBJ, OFF, GLB and glTF as programs write them, each vertex and corner against trimesh."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import trimesh

from medssl.errors import FormatError
from pointcloud.formats import gltf
from pointcloud.formats.reading import read

RANDOM = np.random.default_rng(2)
BOX = trimesh.creation.box((2, 3, 4))
TRIANGLES = np.asarray(BOX.triangles, "<f4")
COLOURS = RANDOM.integers(0, 256, (8, 3))


def on_the_box(cloud, count=600):
    """Tell whether points lie on the box, as many on a side as its area says, with normals that point outward."""
    assert len(cloud) == count
    away = np.abs(np.abs(cloud.points) - np.array([1, 1.5, 2]))
    assert away.min(axis=1).max() < 1e-5
    shares = np.bincount(away.argmin(axis=1), minlength=3) / count
    assert np.abs(shares - np.array([12, 8, 6]) / 26).max() < 0.08
    assert ((cloud.points * cloud.normals).sum(axis=1) > 0.9).all()
    return True


def stl_text(head="solid box", words=str, number="{:.6f}".format):
    lines = [head]
    for triangle in TRIANGLES.tolist():
        lines += ["  facet normal 0 0 0", "    outer loop"]
        lines += [f"      vertex {' '.join(number(v) for v in corner)}" for corner in triangle]
        lines += ["    endloop", "  endfacet"]
    return words("\n".join([*lines, "endsolid box", ""]))


def stl_binary(head=b"", attribute=0, promised=None):
    rows = b"".join(bytes(12) + t.tobytes() + struct.pack("<H", attribute) for t in TRIANGLES)
    return head.ljust(80, b" ")[:80] + struct.pack("<I", len(TRIANGLES) if promised is None else promised) + rows


STL = {
    "text": stl_text().encode(),
    "upper case": stl_text(words=str.upper).encode(),
    "a long first line": stl_text(head="solid " + "exported by a program with much to say " * 60).encode(),
    "facets later than expected": stl_text(head="solid a\n" + "\n" * 3000).encode(),
    "exponents": stl_text(number="{:+.7E}".format).encode(),
    "crlf": stl_text().replace("\n", "\r\n").encode(),
    "cr": stl_text().replace("\n", "\r").encode(),
    "a vertex in its name": stl_text(head="solid facet vertex 1 2 3").encode(),
    "blanks within words": stl_text().replace("endfacet", "end facet").replace("endsolid", "end solid").encode(),
    "binary": stl_binary(),
    "binary that begins with solid": stl_binary(b"solid facet endsolid made by a program"),
    "binary that begins with SOLID": stl_binary(b"SOLID"),
}


@pytest.mark.parametrize("name", STL)
def test_stl(tmp_path, name):
    (tmp_path / "a.stl").write_bytes(STL[name])
    corners = read(tmp_path / "a.stl", samples=0)
    np.testing.assert_array_equal(corners.points, TRIANGLES.reshape(-1, 3))
    other = trimesh.load_mesh(io.BytesIO(STL["binary"]), file_type="stl", process=False)
    np.testing.assert_array_equal(corners.points.reshape(-1, 3, 3), other.triangles)
    assert on_the_box(read(tmp_path / "a.stl", samples=600))


BAD_STL = {
    "cut in text": (STL["text"][:-300], "no 'endsolid'"),
    "a facet lost its end": (STL["text"].replace(b"  endfacet\n", b"", 1), "12 facets, 11 ends"),
    "a vertex is lost": (STL["text"].replace(b"      vertex -1.000000 -1.500000 -2.000000\n", b"", 1), "35 vertices"),
    "a number is lost": (STL["text"].replace(b"-1.500000 ", b"", 1), "not three numbers"),
    "no number": (STL["text"].replace(b"-1.500000", b"-1.5OOO", 1), "not three numbers"),
    "cut in bytes": (STL["binary"][:-1], "12 faces of 50 bytes; 599"),
    "four thousand million": (stl_binary(promised=2**32 - 1), "4294967295 faces"),
}


@pytest.mark.parametrize("name", BAD_STL)
def test_bad_stl(tmp_path, name):
    content, told = BAD_STL[name]
    (tmp_path / "a.stl").write_bytes(content)
    with pytest.raises(FormatError, match=told):
        read(tmp_path / "a.stl")


def test_what_of_stl_is_not_read_is_counted(tmp_path):
    (tmp_path / "a.stl").write_bytes(stl_binary(attribute=31) + b"tail")
    told = read(tmp_path / "a.stl", samples=9).warnings
    assert told == ("4 bytes follow the last face; they are not read.",
                    "The attributes of 12 faces (mostly colours) are not read.")  # fmt: skip
    broken = TRIANGLES.copy()
    broken[3, 1, 2] = np.nan
    content = stl_binary().replace(TRIANGLES[3].tobytes(), broken[3].tobytes())
    (tmp_path / "a.stl").write_bytes(content)
    assert any("1 of 12 faces have corners that are NaN" in w for w in read(tmp_path / "a.stl", samples=9).warnings)


def obj(vertex="v {x} {y} {z}", face="f {a} {b} {c}", count=8, between="\n"):
    lines = ["# made by hand", "mtllib none.mtl", "o box"]
    for k, ((x, y, z), (r, g, b)) in enumerate(zip(BOX.vertices.tolist(), COLOURS.tolist(), strict=True)):
        lines.append((vertex if k < count else "v {x} {y} {z}").format(x=x, y=y, z=z, r=r / 255, g=g / 255, b=b / 255))
    lines += ["vn 0 0 1", "vt 0 0"]
    lines += [face.format(a=a + 1, b=b + 1, c=c + 1, n=a - 8, o=b - 8, p=c - 8) for a, b, c in BOX.faces.tolist()]
    return between.join([*lines, ""])


OBJ = {
    "plain": (obj(), False),
    "negative": (obj(face="f {n} {o} {p}"), False),
    "with textures and normals": (obj(face="f {a}/1/1 {b}/1/1 {c}/1/1"), False),
    "with normals alone": (obj(face="f {a}//1 {b}//1 {c}//1"), False),
    "continued": (obj(vertex="v {x} \\\n {y}\\\n{z}", face="f {a} {b} \\\n{c}"), False),
    "a weight of one": (obj(vertex="v {x} {y} {z} 1.0"), False),
    "coloured": (obj(vertex="v {x} {y} {z} {r} {g} {b}"), True),
    "coloured with opacity": (obj(vertex="v {x} {y} {z} {r} {g} {b} 1"), True),
    "comments behind": (obj(vertex="v {x} {y} {z} # a corner"), False),
    "crlf": (obj(between="\r\n"), False),
}


@pytest.mark.parametrize("name", OBJ)
def test_obj(tmp_path, name):
    text, coloured = OBJ[name]
    (tmp_path / "a.obj").write_bytes(text.encode())
    cloud = read(tmp_path / "a.obj", samples=0)
    other = trimesh.load_mesh(io.StringIO(OBJ["plain"][0]), file_type="obj", process=False, maintain_order=True)
    np.testing.assert_array_equal(cloud.points, BOX.vertices)
    np.testing.assert_array_equal(np.unique(cloud.points, axis=0), np.unique(other.vertices, axis=0))
    assert on_the_box(read(tmp_path / "a.obj", samples=600))
    assert (cloud.colours is not None) == coloured
    if coloured:
        np.testing.assert_array_equal(cloud.colours, COLOURS)


def test_obj_says_what_it_leaves_out(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(obj(vertex="v {x} {y} {z} {r} {g} {b}", count=5))
    cloud = read(path, samples=0)
    np.testing.assert_array_equal(cloud.points, BOX.vertices)
    assert cloud.colours is None
    assert any("5 of 8 vertices have a colour" in warning for warning in cloud.warnings)
    path.write_text(obj(vertex="v {x} {y} {z} 0.5", count=3) + "l 1 2 3\np 4\nf 1 2\nhello\n")
    assert read(path, samples=9).warnings == (
        "3 vertices have weights other than 1, which are not read.", "1 lines are no OBJ and were not read.",
        "Lines, points and curved shapes are not read: 2 lines.",
        "1 faces have fewer than three corners and were left out.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [("f 0 1 2", "Line 26"), ("f -9 1 2", "Line 26"), ("f 1 2 1_0", "Line 26"), ("f 1 2 99", "names vertex 98"),
     ("f 1 2 99999999999999999999", "Line 26"), ("v 1 2", "Line 26"), ("v 1 2 x", "Line 26"), ("f 1 2 a", "Line 26")],
)  # fmt: skip
def test_bad_obj(tmp_path, line, told):
    (tmp_path / "a.obj").write_text(obj() + line + "\n")
    with pytest.raises(FormatError, match=told):
        read(tmp_path / "a.obj")


def off(head="OFF\n8 12 18", tail="", face=""):
    rows = [f"{x} {y} {z}{tail.format(r=r, g=g, b=b)}" for (x, y, z), (r, g, b) in
            zip(BOX.vertices.tolist(), COLOURS.tolist(), strict=True)]  # fmt: skip
    return "\n".join([head, *rows, *(f"3 {a} {b} {c}{face}" for a, b, c in BOX.faces.tolist()), ""])


OFF = {
    "plain": off(),
    "lower case": off("off\n8 12 18"),
    "counts behind": off("OFF 8 12 18"),
    "counts glued": off("OFF8 12 18"),
    "lower case and glued": off("off8 12 18"),
    "no edges": off("OFF\n8 12"),
    "comments": off("# made by hand\nOFF # here\n\n# counts\n8 12 18 # of all\n", face=" # side"),
    "COFF": off("COFF\n8 12 18", tail=" {r} {g} {b} 255"),
    "coff, three": off("coff 8 12 18", tail=" {r} {g} {b}"),
    "NOFF": off("NOFF\n8 12 18", tail=" 0 0 1"),
    "CNOFF": off("CNOFF\n8 12 18", tail=" 0 0 1 {r} {g} {b} 255"),
    "STOFF": off("STOFF\n8 12 18", tail=" 0.5 0.5"),
    "STCN4OFF": off("STCN4OFF\n8 12 18", tail=" 1 0 0 1 {r} {g} {b} 255 0.5 0.5"),
    "4OFF": off("4OFF\n8 12 18", tail=" 1"),
    "colours of faces": off(face=" 255 0 0"),
    "crlf": off().replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", OFF)
def test_off(tmp_path, name):
    (tmp_path / "a.off").write_bytes(OFF[name].encode())
    cloud = read(tmp_path / "a.off", samples=0)
    other = trimesh.load_mesh(io.StringIO(OFF["plain"]), file_type="off", process=False)
    np.testing.assert_array_equal(cloud.points, other.vertices)
    assert on_the_box(read(tmp_path / "a.off", samples=600))
    if name in ("COFF", "coff, three", "CNOFF", "STCN4OFF"):
        np.testing.assert_array_equal(cloud.colours, COLOURS)
    assert any("12 faces are not read" in w for w in cloud.warnings) == (name == "colours of faces")


def test_off_divides_by_the_fourth_coordinate_and_takes_colours_of_reals(tmp_path):
    (tmp_path / "a.off").write_text("4OFF\n3 1 0\n2 0 0 2\n0 4 0 4\n0 0 1 0.5\n3 0 1 2\n")
    np.testing.assert_array_equal(read(tmp_path / "a.off", samples=0).points, [[1, 0, 0], [0, 1, 0], [0, 0, 2]])
    (tmp_path / "b.off").write_text("COFF\n3 0 0\n2 0 0 1 0 0 1\n0 4 0 0.5 0.25 0 1\n0 0 1 0 1 1.000001 1\n")
    np.testing.assert_array_equal(read(tmp_path / "b.off").colours, [[255, 0, 0], [128, 64, 0], [0, 255, 255]])


@pytest.mark.parametrize(
    ("text", "told"),
    [(OFF["plain"][:-20], "truncated|no row|not the numbers"),
     (off("OFF\n1000000000000 12 0"), "follow: the file is truncated"),
     (off("OFF\n8 -12 0"), "numbers of vertices"), (off("OFF BINARY\n8 12 0"), "binary OFF"),
     (off("nOFF\n3\n8 12 0"), "nOFF"), (off().replace("3 0", "x 0", 1), "not the numbers"),
     (off("COFF\n8 12 0"), "promises 6"), (off().replace("3 0 3 2", "9 0 3 2", 1), "not the numbers"),
     (off().replace("3 1", "-3 1", 1), "not the numbers"), ("OFF", "numbers of vertices")],
)  # fmt: skip
def test_bad_off(tmp_path, text, told):
    (tmp_path / "a.off").write_text(text)
    with pytest.raises(FormatError, match=told):
        read(tmp_path / "a.off")


def changed(raw, change):
    """Return a GLB whose description was changed."""
    size = struct.unpack_from("<I", raw, 12)[0]
    tree = json.loads(raw[20 : 20 + size])
    change(tree)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    rest = raw[20 + size :]
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A) + text + rest


def scene(*others):
    made = trimesh.Scene()
    moved = BOX.copy()
    moved.apply_translation([-5, 0, 0])
    made.add_geometry(moved, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    for other in others:
        made.add_geometry(other)
    return made


POINTS = RANDOM.normal(size=(30, 3))


def test_points_and_lines_beside_surfaces_are_counted(tmp_path):
    line = trimesh.load_path(np.array([[0, 0, 0], [9.0, 9, 9], [9, 0, 9]]))
    scene(trimesh.PointCloud(POINTS), line).export(tmp_path / "a.glb")
    cloud = read(tmp_path / "a.glb", samples=600)
    assert on_the_box(cloud)
    assert cloud.unit == "m"
    assert any("1 parts of 30 points lie beside" in warning for warning in cloud.warnings)
    assert any("parts are lines and were left out" in warning for warning in cloud.warnings)


def test_points_alone_with_their_colours(tmp_path):
    colours = RANDOM.integers(0, 256, (30, 4)).astype(np.uint8)
    trimesh.Scene(trimesh.PointCloud(POINTS, colors=colours)).export(tmp_path / "a.glb")
    cloud = read(tmp_path / "a.glb")
    np.testing.assert_allclose(cloud.points, POINTS, atol=1e-6)
    np.testing.assert_array_equal(cloud.colours, colours[:, :3])


def test_colours_of_vertices(tmp_path):
    coloured = trimesh.Trimesh(BOX.vertices, BOX.faces, vertex_colors=np.c_[COLOURS, np.full(8, 255)], process=False)
    coloured.export(tmp_path / "a.glb")
    cloud = read(tmp_path / "a.glb", samples=0)
    np.testing.assert_array_equal(cloud.points, BOX.vertices)
    np.testing.assert_array_equal(cloud.colours, COLOURS)
    wide = changed((tmp_path / "a.glb").read_bytes(), _sixteen_bits)
    assert gltf.described(tmp_path / "a.glb", wide, "glb").coloured is False


def _sixteen_bits(tree):
    tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]["componentType"] = 5123


def _draco(tree):
    part = tree["meshes"][0]["primitives"][0]
    part["extensions"] = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    del tree["accessors"][part["attributes"]["POSITION"]]["bufferView"]


def _fan(tree):
    tree["meshes"][0]["primitives"][0]["mode"] = 6


def _normalised(tree):
    place = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    place |= {"componentType": 5122, "normalized": True}


@pytest.mark.parametrize(
    ("change", "told"),
    [(_draco, "compressed with Draco"), (_fan, r"fans of triangles \(mode 6\)"),
     (_normalised, "stored with normalised whole numbers")],
)  # fmt: skip
def test_parts_that_cannot_be_read_are_counted_or_refused(tmp_path, monkeypatch, change, told):
    monkeypatch.setattr(gltf.importlib.util, "find_spec", lambda name: None)
    other = trimesh.creation.icosphere()
    other.apply_translation([50, 0, 0])
    path = tmp_path / "a.glb"
    raw = trimesh.Scene([other, BOX]).export(file_type="glb")
    path.write_bytes(changed(raw, change))
    cloud = read(path, samples=600)
    assert on_the_box(cloud)
    assert any(f"1 parts are {told}".replace("\\", "") in w and "left out" in w for w in cloud.warnings)
    path.write_bytes(changed(BOX.export(file_type="glb"), change))
    with pytest.raises(FormatError, match=f"1 parts are {told}.*not read"):
        read(path)


def test_gltf_with_a_file_beside_it_and_nothing_from_elsewhere(tmp_path):
    for name, content in trimesh.exchange.gltf.export_gltf(scene()).items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "model.gltf"
    assert on_the_box(read(path, samples=600))
    good = json.loads(path.read_text())
    for uri, told in (("../x.bin", "outside of its folder"), ("/etc/hosts", "outside"), ("gone.bin", "is missing"),
                      ("https://a.b/c.bin", "outside")):  # fmt: skip
        good["buffers"][0]["uri"] = uri
        path.write_text(json.dumps(good))
        with pytest.raises(FormatError, match=told):
            read(path)


def test_no_file_is_passed_over_in_silence(tmp_path):
    for name in ("a.e57", "a.vtp", "a.3mf", "a.dae", "a.x3d"):
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(FormatError, match=r"are not read. Save .* as .*PLY"):
            read(tmp_path / name)
