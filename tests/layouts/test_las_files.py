"""LAS and LAZ of every point format, each value against laspy, and damage that no checksum tells."""

from __future__ import annotations

import struct

import laspy
import numpy as np
import pytest

from medssl.errors import FormatError, MedSSLError
from pointcloud.formats import las, reading
from pointcloud.formats.reading import read
from tests.pointcloud.every_cloud import read_many

RANDOM = np.random.default_rng(4)
COUNT = 300
POINTS = RANDOM.normal(size=(COUNT, 3)) * [40, 30, 5]


def made(kind=3, points=POINTS, colours=None, extra=(), classes=True, scale=0.001, offsets=None):
    version = "1.2" if kind <= 3 else "1.4"
    header = laspy.LasHeader(point_format=kind, version=version)
    header.scales, header.offsets = [scale] * 3, np.zeros(3) if offsets is None else offsets
    header.add_extra_dims([params for params, _ in extra])
    data = laspy.LasData(header)
    data.x, data.y, data.z = points.T
    data.intensity = np.arange(len(points), dtype=np.uint16) * 200
    if classes:
        data.classification = np.arange(len(points), dtype=np.uint8) % 20
    if "red" in set(header.point_format.dimension_names):
        values = RANDOM.integers(0, 65536, (len(points), 3)) if colours is None else colours
        data.red, data.green, data.blue = values.T.astype(np.uint16)
    for params, values in extra:
        data[params.name] = values
    return data


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize("kind", range(11))
def test_every_point_format(tmp_path, kind, suffix):
    if suffix == ".laz" and kind in (4, 5, 9, 10):
        pytest.skip("wave packets are not compressed by laspy")
    data = made(kind)
    data.write(tmp_path / f"a{suffix}")
    cloud = read(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(cloud.positions(), np.stack([data.x, data.y, data.z], axis=1), atol=2e-5)
    np.testing.assert_array_equal(cloud.intensity, data.intensity)
    np.testing.assert_array_equal(cloud.labels, data.classification)
    if cloud.colours is not None:
        stored = np.stack([data.red, data.green, data.blue], axis=1).astype(float)
        np.testing.assert_array_equal(cloud.colours, np.round(stored / 257))
    assert (cloud.colours is not None) == (kind in (2, 3, 5, 7, 8, 10))
    assert cloud.warnings == ()


def test_extra_dimensions_scaled_named_and_of_several_values(tmp_path):
    labels = RANDOM.integers(0, 2**32, COUNT, dtype=np.uint32)
    scaled = np.round(RANDOM.random(COUNT) * 10, 2)
    extra = [
        (laspy.ExtraBytesParams("Label", "u4"), labels),
        (laspy.ExtraBytesParams("reflectance", "i2", scales=np.array([0.01]), offsets=np.array([5.0])), scaled + 5),
        (laspy.ExtraBytesParams("NormalX", "f4"), np.ones(COUNT)),
        (laspy.ExtraBytesParams("NormalY", "f4"), np.zeros(COUNT)),
        (laspy.ExtraBytesParams("NormalZ", "f4"), np.zeros(COUNT)),
        (laspy.ExtraBytesParams("treeID", "i4"), np.arange(COUNT)),
        (laspy.ExtraBytesParams("eigen", "3f4"), np.ones((COUNT, 3))),
    ]  # fmt: skip
    for suffix in (".las", ".laz"):
        made(6, extra=extra).write(tmp_path / f"a{suffix}")
        cloud = read(tmp_path / f"a{suffix}")
        other = laspy.read(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(cloud.labels, other["Label"])
        assert cloud.labels.max() > 2**31
        np.testing.assert_array_equal(cloud.normals, np.tile([1, 0, 0], (COUNT, 1)))
        assert any("not read: reflectance, treeID, classification" in w for w in cloud.warnings), cloud.warnings
        assert any("several values are not read: eigen" in w for w in cloud.warnings)


def test_a_scaled_extra_dimension_gives_its_true_values(tmp_path):
    true = RANDOM.integers(0, 30, COUNT)
    extra = [(laspy.ExtraBytesParams("label", "u2", scales=np.array([0.5]), offsets=np.array([-2.0])), true)]
    made(3, extra=extra, classes=False).write(tmp_path / "a.las")
    np.testing.assert_array_equal(laspy.read(tmp_path / "a.las")["label"], true)
    np.testing.assert_array_equal(read(tmp_path / "a.las").labels, true)


def test_colours_of_sixteen_bits_of_eight_and_of_none(tmp_path):
    eight = RANDOM.integers(0, 256, (COUNT, 3))
    eight[0] = 255
    for colours, expected, told in ((eight * 257, eight, ""), (eight, eight, "taken for bytes"),
                                    (eight * 0, None, "0 at every point")):  # fmt: skip
        made(2, colours=colours).write(tmp_path / "a.las")
        cloud = read(tmp_path / "a.las")
        assert cloud.colours is None if expected is None else np.array_equal(cloud.colours, expected)
        assert any(told in warning for warning in cloud.warnings) == bool(told)


def test_coordinates_far_from_the_origin_keep_their_millimetres(tmp_path):
    far = POINTS + np.array([512_345.125, 5_412_345.5, 120.0])
    data = made(1, points=far, offsets=[512_000.0, 5_412_000.0, 0.0])
    data.write(tmp_path / "a.laz")
    cloud = read(tmp_path / "a.laz")
    np.testing.assert_allclose(cloud.positions(), np.stack([data.x, data.y, data.z], axis=1), atol=2e-5)
    assert any("relative to an offset" in warning for warning in cloud.warnings)


def test_points_outside_of_the_box_of_the_header_are_said(tmp_path):
    """LAZ has no checksum: bytes that were changed give other points, and the header's box may tell."""
    made(0).write(tmp_path / "a.las")
    raw = bytearray((tmp_path / "a.las").read_bytes())
    at = struct.unpack_from("<I", raw, 96)[0]
    struct.pack_into("<i", raw, at, 2_000_000)
    (tmp_path / "b.las").write_bytes(raw)
    assert any("1 points lie outside of the box" in warning for warning in read(tmp_path / "b.las").warnings)


def test_damage_of_any_two_bytes_is_refused_or_read(tmp_path):
    draw = np.random.default_rng(5)  # its own: what it meets must not hang on the tests before it
    for suffix in (".las", ".laz"):
        made(3).write(tmp_path / f"a{suffix}")
        raw = (tmp_path / f"a{suffix}").read_bytes()
        refused = 0
        for _ in range(150):
            broken = bytearray(raw)
            for at in draw.integers(0, len(raw) if draw.random() < 0.5 else 500, 2):
                broken[at] ^= 1 << draw.integers(0, 8)
            (tmp_path / f"b{suffix}").write_bytes(broken)
            (found,) = read_many([tmp_path / f"b{suffix}"])
            if isinstance(found, FormatError):
                refused += 1
                assert f"b{suffix}" in str(found)
            else:
                assert np.isfinite(found.points).all()
        assert refused > 5


def _field(at, kind, value):
    return lambda raw: struct.pack_into(kind, raw, at, value)


DAMAGE = {
    "a million million points": (".las", _field(107, "<I", 4_000_000_000), "4000000000 points of 34 bytes"),
    "no points": (".las", _field(107, "<I", 0), "0 points"),
    "an unknown point format": (".las", _field(104, "<B", 44), "format 44"),
    "points too short": (".las", _field(105, "<H", 20), "20 bytes; format 3 has 34"),
    "a huge table of chunks": (".laz", None, "chunks for 300 points"),
    "a table elsewhere": (".laz", "table", "table of chunks is at byte"),
    "chunks of no points": (".laz", "chunk", "compression is missing or damaged"),
    "cut off": (".laz", "cut", "truncated|damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_headers_are_held_against_the_file(tmp_path, name):
    suffix, change, told = DAMAGE[name]
    made(3).write(tmp_path / f"a{suffix}")
    raw = bytearray((tmp_path / f"a{suffix}").read_bytes())
    points_at = struct.unpack_from("<I", raw, 96)[0]
    if change is None:
        table = struct.unpack_from("<q", raw, points_at)[0]
        struct.pack_into("<I", raw, table + 4, 2**29)
    elif change == "table":
        struct.pack_into("<q", raw, points_at, 10**12)
    elif change == "chunk":
        struct.pack_into("<I", raw, raw.find(b"laszip encoded") + 52 + 12, 0)
    elif change == "cut":
        del raw[-20:]
    else:
        change(raw)
    (tmp_path / f"b{suffix}").write_bytes(raw)
    with pytest.raises(FormatError, match=told):
        read(tmp_path / f"b{suffix}")


def test_a_panic_of_the_decompressor_is_an_error_of_the_file_and_an_interrupt_is_not(tmp_path, monkeypatch):
    made(3).write(tmp_path / "a.laz")
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    for module, name in ((las, "_columns"), (las, "read")):
        for error, expected in ((panic("capacity overflow"), FormatError), (KeyboardInterrupt(), KeyboardInterrupt),
                                (MemoryError(), FormatError), (OverflowError("large"), FormatError)):  # fmt: skip

            def fail(*_, error=error, **__):
                raise error

            with monkeypatch.context() as patched:
                patched.setattr(module, name, fail)
                with pytest.raises(expected) as caught:
                    reading.read(tmp_path / "a.laz")
            assert isinstance(caught.value, MedSSLError) == (expected is FormatError)
