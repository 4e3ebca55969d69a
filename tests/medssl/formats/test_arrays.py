"""Arrays in .npz: affine or spacing, frames, no pickles, plain refusals."""

from pathlib import Path

import numpy as np
import pytest

from medssl import formats
from medssl.errors import FormatError
from medssl.formats.arrays import write_npz

VALUES = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def test_spacing_serves_where_there_is_no_affine(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=VALUES, spacing_mm=[4.0, 3.0, 2.0])
    header = formats.read_header(tmp_path / "a.npz")
    np.testing.assert_allclose(header.affine, np.diag([2.0, 3.0, 4.0, 1.0]))
    assert header.warnings[0].startswith("no orientation")


def test_nothing_but_values_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=VALUES)
    assert formats.read_header(tmp_path / "a.npz").warnings[0].startswith("no voxel size")


def test_frames_and_byte_order(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", np.stack([VALUES, VALUES * 2]).astype(">i2"), np.eye(4))
    scan = formats.read(tmp_path / "a.npz", frame=1)
    assert scan.header.frames == 2
    assert scan.values.dtype == np.dtype("int16")
    np.testing.assert_array_equal(scan.values, VALUES * 2)
    with pytest.raises(FormatError, match="no frame 2"):
        formats.read(tmp_path / "a.npz", frame=2)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"left": VALUES, "right": VALUES}, "no array 'values'. Found: left, right"),
        ({"values": VALUES[0]}, "has shape"),
        ({"values": VALUES * 1j}, "real numbers"),
        ({"values": VALUES, "affine": np.zeros((4, 4))}, "singular"),
        ({"values": VALUES, "spacing_mm": [1.0, 2.0]}, "three positive sizes"),
        ({"values": VALUES, "spacing_mm": [1.0, 2.0, -1.0]}, "three positive sizes"),
        ({"values": VALUES, "units": "SUV"}, "Allowed: HU, arbitrary"),
    ],
)
def test_wrong_archives_are_refused(arrays: dict, reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(FormatError, match=reason):
        formats.read_header(tmp_path / "a.npz")


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "a.npz", values=np.array([Trap()], dtype=object).reshape(1, 1, 1))
    np.savez(tmp_path / "b.npz", values=VALUES, affine=np.array([Trap()], dtype=object))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(FormatError):
            formats.read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_truncated_and_empty_archives(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", VALUES, np.eye(4))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[:-30])
    with pytest.raises(FormatError, match="truncated"):
        formats.read_header(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(FormatError, match="0 bytes"):
        formats.read_header(tmp_path / "a.npz")
    spoilt = bytearray(content)
    spoilt[60:90] = bytes(30)
    (tmp_path / "a.npz").write_bytes(spoilt)
    with pytest.raises(FormatError):
        formats.read(tmp_path / "a.npz")


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Units"):
        write_npz(tmp_path / "a.npz", VALUES, np.eye(4), units="SUV")
    with pytest.raises(ValueError, match="axes"):
        write_npz(tmp_path / "a.npz", VALUES[0], np.eye(4))
