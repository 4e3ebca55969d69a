"""The facts of one scan: intensities against numpy, hashes that see contents, labels that fit or do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl import geometry
from medssl.formats.arrays import write_npz
from medssl.formats.nifti import write_nifti
from medssl.manifest.describe import content_hash, describe, file_hash, intensity_facts
from medssl.manifest.sources import Source

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 400), st.sampled_from(["int16", "uint8", "float32", "int32", "bool"]))
def test_percentiles_are_numpys(seed, size, dtype):
    values = (np.random.default_rng(seed).normal(0, 60, size)).astype(dtype)
    facts, _ = intensity_facts(values.reshape(1, 1, -1))
    expected = np.percentile(values.astype(float), (0.5, 50, 99.5))
    assert np.allclose([facts["p005"], facts["p50"], facts["p995"]], expected, rtol=1e-6, atol=1e-6)
    assert (facts["min"], facts["max"]) == (values.min(), values.max())


def test_values_that_are_no_numbers_are_counted_and_left_out():
    values = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    values[0, 0, :3] = np.nan
    values[9, 9, 9] = -np.inf
    facts, flags = intensity_facts(values)
    assert facts["nonfinite"] == 4
    assert facts["max"] == 998
    assert "nonfinite" in flags
    facts, flags = intensity_facts(np.full((2, 2, 2), np.nan))
    assert facts == {"nonfinite": 8}
    assert flags == ["nonfinite"]


def test_clues_of_the_voxels():
    assert "constant" in intensity_facts(np.full((3, 3, 3), 7))[1]
    assert "looks-like-ct" in intensity_facts(noise(6, 6, 6))[1]
    assert "looks-like-ct" in intensity_facts(noise(6, 6, 6) + 0.5)[1]  # resampled
    assert "looks-like-ct" not in intensity_facts(noise(6, 6, 6) * 4.1 + 0.3)[1]  # a phase, say
    patches = np.zeros((20, 20, 20), np.uint8)
    patches[4:15, 4:15, 2:18] = 3
    assert "looks-like-labels" in intensity_facts(patches)[1]
    assert "looks-like-labels" not in intensity_facts(np.abs(noise(20, 20, 20)))[1]


@settings(max_examples=20, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.integers(0, 99))
def test_content_hash_is_that_of_the_voxels_in_the_world(order, signs, seed):
    affine = np.eye(4)
    affine[:3, :3] = (np.diag(signs) @ np.eye(3)[order]) * 2.0
    values = noise(3, 4, 5, seed=seed)
    turned, upright = geometry.to_canonical(values, affine)
    assert content_hash(values, affine) == content_hash(np.ascontiguousarray(turned).astype(np.float64), upright)
    other = values.copy()
    other[1, 2, 3] += 1
    assert content_hash(other, affine) != content_hash(values, affine)


def test_content_hash_tells_shapes_apart_and_takes_all_nans_and_zeros_as_one():
    eye = np.eye(4)
    assert content_hash(np.zeros((2, 3, 4)), eye) != content_hash(np.zeros((4, 3, 2)), eye)
    assert content_hash(np.array([[[0.0, np.nan]]]), eye) == content_hash(np.array([[[-0.0, -np.nan]]]), eye)


def test_the_same_scan_in_another_container_has_the_same_content_and_another_file_hash(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", noise(5, 6, 7), AFFINE)
    write_npz(tmp_path / "a.npz", noise(5, 6, 7), affine=AFFINE)
    one, two = (describe(Source(path=tmp_path / name, relative=name)) for name in ("a.nii.gz", "a.npz"))
    assert one["content_hash"] == two["content_hash"]
    assert one["file_hash"] != two["file_hash"]
    assert (one["shape"], one["spacing_mm"], one["orientation"]) == ([5, 6, 7], [3.0, 2.0, 2.0], "RAS")
    assert one["error"] is None


def test_hash_of_several_files_does_not_see_names(tmp_path):
    for name, text in (("a", "x"), ("b", "y"), ("c", "y"), ("d", "x")):
        (tmp_path / name).write_text(text)
    assert file_hash([tmp_path / "a", tmp_path / "b"]) == file_hash([tmp_path / "c", tmp_path / "d"])
    assert file_hash([tmp_path / "a"]) != file_hash([tmp_path / "b"])


def label_row(tmp_path, values, affine=AFFINE, depth="full"):
    write_nifti(tmp_path / "i.nii.gz", np.abs(noise(6, 7, 8)), AFFINE)
    write_nifti(tmp_path / "l.nii.gz", values, affine)
    source = Source(path=tmp_path / "i.nii.gz", relative="i.nii.gz", label_path=tmp_path / "l.nii.gz")
    return describe(source, depth)


def test_a_label_that_fits(tmp_path):
    values = np.zeros((6, 7, 8), np.uint8)
    values[2:4, 2:5, 3:6] = 2
    row = label_row(tmp_path, values)
    assert row["flags"] == []
    assert (row["label_values"], row["label_voxels"]) == ([0, 2], [6 * 7 * 8 - 18, 18])


def test_a_label_in_another_axis_order_on_the_same_grid_fits(tmp_path):
    flipped = AFFINE.copy()
    flipped[0, 0], flipped[0, 3] = -2.0, 2.0 * 7
    assert label_row(tmp_path, np.ones((6, 7, 8), np.uint8), flipped)["flags"] == []


@pytest.mark.parametrize("depth", ["full", "header"])
def test_labels_on_another_grid(tmp_path, depth):
    assert "label-shape-differs" in label_row(tmp_path, np.ones((6, 7, 9), np.uint8), depth=depth)["flags"]
    moved = AFFINE.copy()
    moved[2, 3] = 5.0
    row = label_row(tmp_path, np.ones((6, 7, 8), np.uint8), moved, depth)
    assert row["flags"] == ["label-affine-differs"]
    assert "5.00 mm" in row["notes"][0]


def test_labels_that_are_none(tmp_path):
    assert label_row(tmp_path, np.zeros((6, 7, 8), np.uint8))["flags"] == ["label-empty"]
    assert label_row(tmp_path, np.full((6, 7, 8), 0.5, np.float32))["flags"] == ["label-non-integer"]
    (tmp_path / "l.nii.gz").write_text("no")
    source = Source(path=tmp_path / "i.nii.gz", relative="i.nii.gz", label_path=tmp_path / "l.nii.gz")
    row = describe(source)
    assert row["flags"] == ["label-unreadable"]
    assert row["error"] is None


def test_what_cannot_be_read_is_a_row_with_a_reason(tmp_path, monkeypatch):
    (tmp_path / "t.nii.gz").write_text("<html>")
    assert "text" in describe(Source(path=tmp_path / "t.nii.gz", relative="t"))["error"]
    assert describe(Source(path=tmp_path / "none.nii.gz", relative="n"))["error"]
    write_nifti(tmp_path / "a.nii.gz", noise(5, 6, 7), AFFINE)

    def fail(kind):
        def reader(*_args, **_kwargs):
            raise kind("boom")

        return reader

    for kind, words in ((PermissionError, "Permission denied"), (MemoryError, "memory"), (KeyError, "KeyError")):
        monkeypatch.setattr("medssl.manifest.describe.read", fail(kind))
        assert words in describe(Source(path=tmp_path / "a.nii.gz", relative="a"))["error"]
