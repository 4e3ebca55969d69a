"""PCD files as PCL and others write them, each value against pypcd4 and Open3D, and LZF against the C library."""

from __future__ import annotations

import struct
import warnings

import lzf
import numpy as np
import pytest
from pypcd4 import PointCloud

from medssl.errors import FormatError
from pointcloud.formats.lzf import decompress
from pointcloud.formats.reading import read

RANDOM = np.random.default_rng(3)
POINTS = RANDOM.normal(size=(40, 3)).astype("<f4")
LABELS = RANDOM.integers(0, 2**32, 40, dtype=np.uint32)


def pcd(fields, way, *, points=None, more="", width=None, height=1, kinds=str.upper):
    """Return a file of (name, type, values per point or None for padding) fields."""
    count = len(fields[0][2])
    arrays = [np.asarray(values, "<" + kind).reshape(count, -1) for _, kind, values in fields]
    head = f"# .PCD v0.7\n{more}VERSION 0.7\nFIELDS {' '.join(f[0] for f in fields)}\n"
    head += f"SIZE {' '.join(f[1][1] for f in fields)}\nTYPE {' '.join(kinds(f[1][0]) for f in fields)}\n"
    head += f"COUNT {' '.join(str(a.shape[1]) for a in arrays)}\nWIDTH {width or count}\nHEIGHT {height}\n"
    head += f"POINTS {points or count}\nDATA {way}\n"
    if way == "ascii":
        rows = [" ".join(str(v) for a in arrays for v in a[k].tolist()) for k in range(count)]
        return head.encode() + ("\n".join(rows) + "\n").encode()
    if way == "binary":
        return head.encode() + b"".join(a[k].tobytes() for k in range(count) for a in arrays)
    raw = b"".join(a.tobytes() for a in arrays)
    packed = lzf.compress(raw, 2 * len(raw) + 64)
    if packed is None:  # literal runs are valid, and what does not shrink is written so
        packed = b"".join(bytes([len(raw[k : k + 32]) - 1]) + raw[k : k + 32] for k in range(0, len(raw), 32))
    return head.encode() + struct.pack("<II", len(packed), len(raw)) + packed


def xyz(names="xyz", kind="f4"):
    return [(name, kind, POINTS[:, k]) for k, name in enumerate(names)]


WAYS = ["ascii", "binary", "binary_compressed"]


@pytest.mark.parametrize("way", WAYS)
def test_values_equal_those_of_another_reader(tmp_path, way):
    fields = [*xyz(), ("intensity", "f4", POINTS[:, 0] * 3), ("label", "u4", LABELS), ("ring", "u2", LABELS % 64)]
    (tmp_path / "a.pcd").write_bytes(pcd(fields, way))
    cloud = read(tmp_path / "a.pcd")
    other = PointCloud.from_path(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.points, other.numpy(("x", "y", "z")))
    np.testing.assert_array_equal(cloud.intensity, other.numpy(("intensity",))[:, 0])
    np.testing.assert_array_equal(cloud.labels, LABELS)
    assert cloud.labels.max() > 2**31
    assert cloud.warnings == ("Columns that are not read: ring.",)


def test_what_open3d_writes_and_compresses(tmp_path):
    import open3d

    other = open3d.t.geometry.PointCloud(np.repeat(POINTS, 50, axis=0))
    other.point.colors = RANDOM.integers(0, 256, (2000, 3)).astype(np.uint8)
    other.point.normals = np.tile(np.eye(3, dtype=np.float32), (667, 1))[:2000]
    open3d.t.io.write_point_cloud(str(tmp_path / "a.pcd"), other, compressed=True)
    back = open3d.t.io.read_point_cloud(str(tmp_path / "a.pcd"))
    cloud = read(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.points, back.point.positions.numpy())
    np.testing.assert_array_equal(cloud.colours, back.point.colors.numpy())
    np.testing.assert_array_equal(cloud.normals, back.point.normals.numpy())


@pytest.mark.parametrize("way", WAYS)
def test_lower_case_types_and_capital_fields(tmp_path, way):
    colours = RANDOM.integers(0, 256, (40, 3)).astype(np.uint32)
    packed = colours @ np.array([65536, 256, 1], np.uint32)
    fields = [*xyz("XYZ"), ("RGB", "u4", packed), ("Normal_X", "f4", POINTS[:, 0]), ("Normal_Y", "f4", POINTS[:, 1]),
              ("Normal_Z", "f4", POINTS[:, 2])]  # fmt: skip
    (tmp_path / "a.pcd").write_bytes(pcd(fields, way, kinds=str.lower))
    cloud = read(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colours, colours)
    lengths = np.linalg.norm(POINTS, axis=1, keepdims=True)
    np.testing.assert_allclose(cloud.normals, POINTS / lengths, rtol=1e-5)


@pytest.mark.parametrize("way", ["binary", "binary_compressed"])
def test_padding_twice_and_fields_of_several_values(tmp_path, way):
    """Two fields that are both called "_" ended the process once, in the library that decompressed them."""
    pad = RANDOM.integers(0, 255, (40, 4))
    fields = [("_", "u1", pad), *xyz(), ("_", "u1", pad[:, :2]), ("fpfh", "f4", RANDOM.normal(size=(40, 33))),
              ("label", "i4", np.arange(40) - 20)]  # fmt: skip
    (tmp_path / "a.pcd").write_bytes(pcd(fields, way))
    cloud = read(tmp_path / "a.pcd")
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.labels, np.arange(40) - 20)
    assert cloud.warnings == ("Fields of several values are not read: fpfh.",)


@pytest.mark.parametrize("way", WAYS)
def test_colours_packed_in_a_real(tmp_path, way):
    """A real whose bits are a colour: without an opacity in text too, where the bits of NaN would be lost."""
    colours = RANDOM.integers(0, 128, (40, 3)).astype(np.uint32)
    real = (colours @ np.array([65536, 256, 1], np.uint32)).astype("<u4").view("<f4")
    (tmp_path / "a.pcd").write_bytes(pcd([*xyz(), ("rgb", "f4", real)], way))
    other = PointCloud.from_path(tmp_path / "a.pcd")
    np.testing.assert_array_equal(read(tmp_path / "a.pcd").colours, colours)
    np.testing.assert_array_equal(PointCloud.decode_rgb(other.numpy(("rgb",))[:, 0]), colours)
    opaque = (real.view("<u4") | np.uint32(0xFF800000)).view("<f4")  # NaN for every number
    (tmp_path / "b.pcd").write_bytes(pcd([*xyz(), ("rgba", "f4", opaque)], way))
    found = read(tmp_path / "b.pcd")
    if way == "ascii":
        assert found.colours is None
        assert "packed in a real that text does not keep" in found.warnings[0]
    else:
        np.testing.assert_array_equal(found.colours, colours | np.array([128, 0, 0], np.uint32))


def test_an_organised_scan_with_missing_points_and_a_viewpoint(tmp_path):
    holed = POINTS.copy()
    holed[[3, 17, 30]] = np.nan
    fields = [(axis, "f4", holed[:, k]) for k, axis in enumerate("xyz")] + [("label", "u1", np.arange(40))]
    for way in WAYS:
        content = pcd(fields, way, width=8, height=5, more="# made by hand\nVIEWPOINT 1 2 3 0.5 0.5 0.5 0.5\n")
        (tmp_path / "a.pcd").write_bytes(content)
        cloud = read(tmp_path / "a.pcd")
        there = np.delete(np.arange(40), [3, 17, 30])
        np.testing.assert_array_equal(cloud.points, POINTS[there])
        np.testing.assert_array_equal(cloud.labels, there)
        assert any("3 of 40 points have NaN" in warning for warning in cloud.warnings)
        assert any("viewpoint 1 2 3 0.5 0.5 0.5 0.5 is not applied" in warning for warning in cloud.warnings)


def test_old_headers_crlf_and_no_line_of_points(tmp_path):
    text = pcd(xyz(), "ascii").decode().replace("FIELDS", "COLUMNS").replace("POINTS 40\n", "").replace("\n", "\r\n")
    (tmp_path / "a.pcd").write_bytes(text.encode())
    np.testing.assert_array_equal(read(tmp_path / "a.pcd").points, POINTS)


def test_wide_whole_numbers_in_text_keep_their_value(tmp_path):
    labels = np.array([2**62 + 1, *range(39)], np.uint64)
    (tmp_path / "a.pcd").write_bytes(pcd([*xyz(), ("label", "u8", labels)], "ascii"))
    np.testing.assert_array_equal(read(tmp_path / "a.pcd").labels, labels.astype(np.int64))
    labels[0] = 2**64 - 5
    for way in WAYS:
        (tmp_path / "a.pcd").write_bytes(pcd([*xyz(), ("label", "u8", labels)], way))
        with pytest.raises(FormatError, match="A label is 18446744073709551611"):
            read(tmp_path / "a.pcd")


@pytest.mark.parametrize("kind", ["noise", "zeros", "text", "floats", "one"])
def test_lzf_equals_the_library(kind):
    raw = {
        "noise": RANDOM.bytes(5000),
        "zeros": bytes(70000),
        "text": b"".join(b"point %d of many " % k for k in range(3000)),
        "floats": np.repeat(POINTS.T, 300, axis=1).tobytes(),
        "one": b"aaaaaaaaaaaaaaaaaaaab",
    }[kind]
    packed = lzf.compress(raw, 2 * len(raw) + 64)
    assert packed is not None
    assert decompress(packed, len(raw)) == raw == lzf.decompress(packed, len(raw))
    for size in (len(raw) - 1, len(raw) + 1):
        with pytest.raises(ValueError, match=r"of|hold"):
            decompress(packed, size)


def test_damaged_lzf_is_refused_or_gives_what_the_library_gives():
    raw = np.repeat(POINTS.T, 20, axis=1).tobytes() + bytes(500)
    packed = lzf.compress(raw, 2 * len(raw))
    outcomes = set()
    for _ in range(1500):
        broken = bytearray(packed)
        for at in RANDOM.integers(0, len(packed), int(RANDOM.integers(1, 4))):
            broken[at] = RANDOM.integers(0, 256)
        broken = bytes(broken[: int(RANDOM.integers(1, len(broken) + 1))] if RANDOM.random() < 0.3 else broken)
        try:
            mine = decompress(broken, len(raw))
        except ValueError:
            mine = None
        try:
            theirs = lzf.decompress(broken, len(raw))
        except (ValueError, OSError):
            theirs = None
        theirs = theirs if theirs is not None and len(theirs) == len(raw) else None
        assert mine == theirs
        outcomes.add(mine is None)
    assert outcomes == {True, False}


REFUSED = {
    "a million million points": (pcd(xyz(), "binary", width=10**12, points=10**12), "1000000000000 points of 12 bytes"),
    "in text too": (pcd(xyz(), "ascii", width=10**12, points=10**12), "promises 1000000000000 points; 40 rows"),
    "compressed too": (pcd(xyz(), "binary_compressed", width=10**12, points=10**12), "the body 480 bytes"),
    "huge fields": (pcd(xyz(), "binary").replace(b"COUNT 1", b"COUNT 9999999999999"), "points of .* truncated"),
    "a grid of another size": (pcd(xyz(), "binary", width=7), "40 points in a grid of 7"),
    "twice the same field": (pcd(xyz("xyx"), "binary"), "twice: x, y, x"),
    "negative points": (pcd(xyz(), "ascii").replace(b"POINTS 40", b"POINTS -40"), "'-40', which is not a number"),
    "real points": (pcd(xyz(), "ascii").replace(b"POINTS 40", b"POINTS 1e3"), "'1e3', which is not a number"),
    "fields of different numbers": (pcd(xyz(), "ascii").replace(b"SIZE 4 4 4", b"SIZE 4 4"), "differ in length"),
    "cut off": (pcd(xyz(), "ascii")[:-400], "rows follow: truncated|not the 3 values"),
    "cut off within": (pcd(xyz(), "binary_compressed")[:-9], "truncated or damaged"),
    "no sizes": (pcd(xyz(), "binary_compressed").partition(b"DATA")[0] + b"DATA binary_compressed\n\1", "no sizes"),
    "a number that does not fit": (
        pcd([*xyz(), ("label", "u2", np.arange(40))], "ascii").replace(b" 39\n", b" 70000\n"), "no number of type u2"),
    "too many digits": (pcd(xyz(), "ascii").replace(b"POINTS 40", b"POINTS " + b"9" * 5000), "points in a grid"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_right_reason(tmp_path, name):
    content, told = REFUSED[name]
    (tmp_path / "a.pcd").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FormatError, match=told):
            read(tmp_path / "a.pcd")
