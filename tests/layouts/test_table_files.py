"""Tables, arrays and archives of points, each value against what numpy wrote."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from medssl.errors import FormatError
from pointcloud.claims import claim
from pointcloud.formats.reading import count, read

RANDOM = np.random.default_rng(6)
POINTS = (RANDOM.integers(-640, 640, (60, 3)) / 8).astype(np.float64)
COLOURS = RANDOM.integers(0, 256, (60, 3))
LABELS = RANDOM.integers(0, 5, 60)
NAMES = ["x", "y", "z", "red", "green", "blue", "label"]
TABLE = np.c_[POINTS, COLOURS, LABELS]


def text(first, between=",", table=TABLE, end="\n"):
    rows = [between.join(f"{v:.6g}" for v in row) for row in table]
    return end.join([*first, *rows, ""])


TABLES = {
    "a.csv": text(["x,y,z,red,green,blue,label"]),
    "capital.csv": text(["X,Y,Z,R,G,B,Label"]),
    "blanks.csv": text([" x , y , z , red , green , blue , label "], " , "),
    "quoted.csv": text(['"x","y","z","red","green","blue","label"']),
    "semicolons.csv": text(["x;y;z;red;green;blue;label"], ";"),
    "trailing.csv": text(["x,y,z,red,green,blue,label,"]).replace("\n", ",\n").replace(",,\n", ",\n"),
    "cloudcompare.txt": text(["//X Y Z R G B Classification", "60"], " "),
    "comment.xyz": text(["# made by hand", "# x y z red green blue label"], " "),
    "count.pts": text(["60", "x y z r g b label"], " "),
    "tabs.asc": text(["x\ty\tz\tred\tgreen\tblue\tlabel"], "\t"),
    "crlf.txt": text(["x y z red green blue label"], " ", end="\r\n"),
    "order.csv": text(["label,blue,green,red,z,y,x"], table=TABLE[:, ::-1]),
    "exponents.xyz": "x y z red green blue label\n" + "\n".join(" ".join(f"{v:.7E}" for v in r) for r in TABLE) + "\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_with_names(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(TABLES[name].encode())
    cloud = read(path)
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colours, COLOURS)
    np.testing.assert_array_equal(cloud.labels, LABELS)
    assert cloud.warnings == ()


def test_a_missing_value_does_not_shift_the_row(tmp_path):
    """``1,,3,4`` was three columns, so that what followed went to the wrong place."""
    rows = [f"{x},{y},{z}" for x, y, z in POINTS.tolist()]
    rows[5] = "1,,3"
    (tmp_path / "a.csv").write_text("\n".join(["x,y,z", *rows]))
    cloud = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(cloud.points, np.delete(POINTS, 5, axis=0))
    assert any("1 of 60 points have NaN" in warning for warning in cloud.warnings)
    (tmp_path / "b.csv").write_text("".join(f"{x},,{y},{z}\n" for x, y, z in POINTS.tolist()))
    with pytest.raises(FormatError, match="Every point has NaN"):
        read(tmp_path / "b.csv")


def test_units_in_the_names_of_the_columns(tmp_path):
    for first, unit in (
        ("x_mm,y_mm,z_mm", "mm"),
        ("X [m],Y [m],Z [m]", "m"),
        ("x(mm),y(mm),z(mm)", "mm"),
        ("x,y,z", "unknown"),
    ):
        (tmp_path / "a.csv").write_text(text([first], table=POINTS))
        cloud = read(tmp_path / "a.csv")
        assert cloud.unit == unit
        np.testing.assert_array_equal(cloud.points, POINTS)
    (tmp_path / "a.csv").write_text(text(["x_mm,y_m,z"], table=POINTS))
    with pytest.raises(FormatError, match="different units"):
        read(tmp_path / "a.csv")


def test_a_column_of_words_is_left_out_and_said(tmp_path):
    rows = [f"{x},{y},{z},{'liver' if k % 2 else 'spleen'},{k}" for k, (x, y, z) in enumerate(POINTS.tolist())]
    (tmp_path / "a.csv").write_text("\n".join(["x,y,z,organ,intensity", *rows, ""]))
    cloud = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.intensity, np.arange(60))
    assert cloud.warnings == ("The column 'organ' is not read: 'spleen' is no number (line 2).",)


@pytest.mark.parametrize(
    ("content", "told"),
    [(text(["61"], " ", POINTS), "promises 61 points; 60"), (text([], " ", POINTS) + "1 2", "Line 61 has 2 columns"),
     ("1 2 3\n4 5 1_0\n", "Line 2: '1_0'"), ("1 2 3\n4 5 \u0663\n", "Line 2: '\u0663'"), ("\u00b2\n1 2 3\n", "Line 2"),
     ("x,y,z\n1,2,3\n4,b,6\n", "Line 3: 'b'"), ("x,y,z,x\n1,2,3,4\n4,5,6,7\n", "twice"),
     ("x y z label\n1 2 3 0.5\n4 5 6 1\n", "not whole"),
     ("x y z label\n1 2 3 nan\n4 5 6 1\n", "1 of 2 points have no label")],
)  # fmt: skip
def test_bad_tables(tmp_path, content, told):
    (tmp_path / "a.xyz").write_text(content, encoding="utf-8")
    with pytest.raises(FormatError, match=told):
        read(tmp_path / "a.xyz")


def fields():
    kinds = [("X", "f8"), ("Y", "f4"), ("Z", "f8"), ("label", "u4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    table = np.zeros(60, kinds)
    for name, column in zip("XYZ", POINTS.T, strict=True):
        table[name] = column
    table["red"], table["green"], table["blue"] = COLOURS.T
    table["label"] = LABELS.astype(np.uint32) + np.uint32(2**31)
    return table


def test_arrays_with_named_fields(tmp_path):
    np.save(tmp_path / "a.npy", fields())
    np.savez(tmp_path / "a.npz", points=fields())
    for name in ("a.npy", "a.npz"):
        cloud = read(tmp_path / name)
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(cloud.colours, COLOURS)
        np.testing.assert_array_equal(cloud.labels, LABELS + 2**31)
        assert count(tmp_path / name) == 1
        assert claim(tmp_path / name) == "cloud"
    blocks = np.zeros(60, [("xyz", "f4", 3), ("rgb", "u1", 3), ("label", "i4"), ("name", "U4")])
    blocks["xyz"], blocks["rgb"], blocks["label"] = POINTS, COLOURS, LABELS
    np.save(tmp_path / "b.npy", blocks)
    cloud = read(tmp_path / "b.npy")
    np.testing.assert_array_equal(cloud.points, POINTS)
    np.testing.assert_array_equal(cloud.colours, COLOURS)
    np.testing.assert_array_equal(cloud.labels, LABELS)


@pytest.mark.parametrize("names", ["xyz", "XYZ"])
def test_an_archive_of_x_y_and_z(tmp_path, names):
    for shape in ((60,), (60, 1), (6, 10)):
        columns = {name: column.reshape(shape) for name, column in zip(names, POINTS.T, strict=True)}
        np.savez(
            tmp_path / "a.npz", **columns, Intensity=LABELS.reshape(shape), labels=LABELS.reshape(shape), unit="mm"
        )
        cloud = read(tmp_path / "a.npz")
        np.testing.assert_array_equal(cloud.points, POINTS)
        np.testing.assert_array_equal(cloud.intensity, LABELS)
        np.testing.assert_array_equal(cloud.labels, LABELS)
        assert (cloud.unit, count(tmp_path / "a.npz"), claim(tmp_path / "a.npz")) == ("mm", 1, "cloud")


def test_what_of_an_archive_is_not_read_is_said(tmp_path):
    np.savez(
        tmp_path / "a.npz", points=POINTS, intensity=np.arange(9), faces=np.zeros((5, 3), int), extra=np.array([None])
    )
    assert read(tmp_path / "a.npz").warnings == (
        "'intensity' has shape (9,), which fits no 60 points; it is not read.",
        "Arrays that are not read: faces, extra.",
    )  # fmt: skip


def test_colours_of_several_clouds_share_one_range(tmp_path):
    """A dark cloud of a file in 16 bits, or of reals to 255, is dark as the others say."""
    for top, kind in ((65535, "u2"), (255, "f4"), (1, "f4")):
        colours = np.zeros((2, 60, 3), kind)
        colours[0], colours[1] = top, top / 257 if top > 255 else top / 255
        np.savez(tmp_path / "a.npz", points=np.stack([POINTS, POINTS]), colors=colours)
        assert (read(tmp_path / "a.npz", item=0).colours == 255).all()
        assert (read(tmp_path / "a.npz", item=1).colours == 1).all()


def npy(head, body=b""):
    head = head.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 3)", "(-4, 3)", "(3, 3, 10**9)", "(99999999999999999999, 3)", "(True, 3)"]
)
def test_heads_that_promise_more_than_the_file_holds(tmp_path, shape):
    content = npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}", POINTS.astype("<f4").tobytes()[:-1])
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", content)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(FormatError, match="damaged"):
            read(tmp_path / name)


def test_an_archive_that_lost_a_byte_is_refused(tmp_path):
    file = io.BytesIO()
    np.savez(file, points=POINTS)
    raw = bytearray(file.getvalue())
    raw[raw.find(b"NUMPY") + 300] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(FormatError, match="CRC"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("label", "number", "said"),
    [
        (np.array([[4], [7]]), 7, ""),
        (np.array([4.0, 7.0]), 7, ""),
        (np.array([1.0, 2.5]), None, "Its 'label' is 2.5, which is no whole number"),
        (np.array([1.0, np.nan]), None, "Its 'label' is nan, which is no whole number"),
        (np.array([b"cup", b"torus"]), None, "are not read: 'label'"),
        (np.array([1, 2, 3]), None, "are not read: 'label'"),
    ],
)
def test_labels_of_h5_that_are_no_classes_are_named_and_not_rounded(tmp_path, label, number, said):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"], file["label"], file["names"] = np.stack([POINTS, POINTS]), label, np.array([b"a", b"b", b"c"])
    cloud = read(tmp_path / "a.h5", item=1)
    np.testing.assert_array_equal(cloud.points, POINTS)
    assert cloud.label == number
    assert said in " ".join(cloud.warnings)
    assert bool(said) == bool(cloud.warnings)


def test_h5_with_a_label_at_every_point_and_colours(tmp_path):
    import h5py

    table = np.stack([np.c_[POINTS, COLOURS], np.c_[POINTS[::-1], COLOURS[::-1]]]).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"], file["label"] = table, np.stack([LABELS, LABELS[::-1]]).astype(np.uint8)
    cloud = read(tmp_path / "a.h5", item=1)
    np.testing.assert_array_equal(cloud.points, POINTS[::-1])
    np.testing.assert_array_equal(cloud.colours, COLOURS[::-1])
    np.testing.assert_array_equal(cloud.labels, LABELS[::-1])
    assert cloud.label is None
