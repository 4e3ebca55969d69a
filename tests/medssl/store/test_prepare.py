"""From a file to its place in the store: turning, resampling, scaling, boxes, labels, and what is mended or refused."""

import numpy as np
import pytest
from scipy import ndimage

from medssl import geometry
from medssl.errors import FormatError, UnfitError
from medssl.formats.nifti import write_nifti
from medssl.store.body import find_body
from medssl.store.options import StoreSettings
from medssl.store.prepare import Job, prepare, scale_intensity
from medssl.store.read import open_array
from medssl.store.resample import to_spacing

LPS_AFFINE = np.array([[-2.0, 0, 0, 50], [0, -2.0, 0, 40], [0, 0, 3.0, -10], [0, 0, 0, 1.0]])


def job(path, label=None, *, modality="CT", spacing=None, **settings):
    return Job(
        id="case", path=str(path), paths=(str(path),), modality=modality,
        units="HU" if modality == "CT" else "arbitrary",
        patient="p", split="train", label_path=None if label is None else str(label), spacing_mm=spacing, key="k" * 64,
        voxels=0, settings=StoreSettings(**settings),
    )  # fmt: skip


def torso(shape=(24, 40, 36)):
    """A body of 40 HU with a brighter organ, a thin table under it, in air."""
    z, y, x = np.indices(shape)
    values = np.full(shape, -1000, dtype=np.int16)
    body = ((y - 18) / 11.0) ** 2 + ((x - 18) / 14.0) ** 2 < 1
    values[body] = 40
    labels = (body & ((y - 18) ** 2 + (x - 14) ** 2 < 16) & (z > 8)).astype(np.uint8)
    values[labels == 1] = 160
    values[:, 36:38, 2:34] = 200
    return values, labels, body


def stored(folder, record):
    return open_array(folder / record.entry.file)[:], record.entry


def test_integer_hu_come_back_bit_for_bit_in_canonical_order(tmp_path):
    values = np.random.default_rng(0).integers(-1024, 3072, (7, 8, 9)).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", values, LPS_AFFINE)
    found, entry = stored(tmp_path, prepare(tmp_path, job(tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(found, values[:, ::-1, ::-1])
    assert geometry.orientation(np.array(entry.affine)) == "RAS"
    assert entry.spacing_mm == (3.0, 2.0, 2.0)
    np.testing.assert_array_equal(entry.source_affine, LPS_AFFINE)
    assert (entry.scale, entry.slope, entry.intercept, entry.fill) == ((-1000.0, 1000.0), 1.0, 0.0, -1024)


def test_hu_are_clipped_and_not_wrapped(tmp_path):
    values = np.array([[[-3000, -1024, 0, 3071, 32767]]], dtype=np.int16)
    scaled = scale_intensity(values, ((0, 0, 0), values.shape), hounsfield=True, settings=StoreSettings())
    assert scaled.values.tolist() == [[[-1024, -1024, 0, 3071, 3071]]]
    wide = scale_intensity(
        np.array([[[70_000.6, -70_000.0, 1.5]]]), ((0, 0, 0), (1, 1, 3)), hounsfield=True, settings=StoreSettings()
    )
    assert wide.values.tolist() == [[[3071, -1024, 2]]]


def test_mr_of_any_unit_is_scaled_by_its_own_percentiles(tmp_path):
    generator = np.random.default_rng(0)
    faint = generator.gamma(2.0, 40.0, (20, 20, 20)) + 100
    write_nifti(tmp_path / "a.nii.gz", faint.astype(np.float32), np.eye(4))
    write_nifti(tmp_path / "b.nii.gz", (faint * 12_345).astype(np.float32), np.eye(4))
    a, entry_a = stored(tmp_path, prepare(tmp_path, job(tmp_path / "a.nii.gz", modality="MR")))
    b, entry_b = stored(tmp_path, prepare(tmp_path, job(tmp_path / "b.nii.gz", modality="MR")))
    assert np.abs(a.astype(int) - b).max() <= 1
    assert entry_b.slope / entry_a.slope == pytest.approx(12_345, rel=1e-4)
    (z0, y0, x0), (z1, y1, x1) = entry_a.body_box
    inside = a[z0:z1, y0:y1, x0:x1]
    np.testing.assert_allclose(np.percentile(inside, (0.5, 99.5)), entry_a.scale, atol=3)
    np.testing.assert_allclose(a * entry_a.slope + entry_a.intercept, faint, atol=entry_a.slope)
    assert entry_a.fill == a.min()


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_constant_scan_is_kept(tmp_path, modality):
    write_nifti(tmp_path / "a.nii.gz", np.full((4, 5, 6), 7, dtype=np.int16), np.eye(4))
    with pytest.raises(UnfitError, match="the value 7") as refused:
        prepare(tmp_path, job(tmp_path / "a.nii.gz", modality=modality))
    assert refused.value.kind == "constant"
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", modality=modality, accept=("constant",)))
    found, entry = stored(tmp_path, record)
    np.testing.assert_allclose(found * entry.slope + entry.intercept, 7.0)
    assert entry.body_box == ((0, 0, 0), (4, 5, 6))
    assert ("constant" in record.flags) == (modality == "MR")


def test_voxels_that_are_not_finite_are_filled_and_said(tmp_path):
    values = np.random.default_rng(0).normal(100, 10, (8, 8, 8)).astype(np.float32)
    values[0, 0, :3] = [np.nan, np.inf, -np.inf]
    write_nifti(tmp_path / "a.nii.gz", values, np.eye(4))
    with pytest.raises(UnfitError, match=r"3 voxels .* accept=\[nonfinite\]"):
        prepare(tmp_path, job(tmp_path / "a.nii.gz", modality="MR"))
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", modality="MR", accept=("nonfinite",)))
    found, entry = stored(tmp_path, record)
    assert record.flags == ("nonfinite-3",)
    lowest = values[np.isfinite(values)].min()
    np.testing.assert_allclose(found[0, 0, :3] * entry.slope + entry.intercept, lowest, atol=entry.slope)
    ct = prepare(tmp_path, job(tmp_path / "a.nii.gz", accept=("nonfinite",)))
    assert stored(tmp_path, ct)[0][0, 0, :3].tolist() == [-1024] * 3
    write_nifti(tmp_path / "b.nii.gz", np.full((3, 3, 3), np.nan, dtype=np.float32), np.eye(4))
    with pytest.raises(FormatError, match="No voxel is finite"):
        prepare(tmp_path, job(tmp_path / "b.nii.gz"))


def test_the_body_is_boxed_without_the_table():
    values, _, body = torso()
    low, high = find_body(values, hounsfield=True)
    rows = [np.flatnonzero(body.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    np.testing.assert_allclose(low, [r[0] for r in rows], atol=1)
    np.testing.assert_allclose(high, [r[-1] + 1 for r in rows], atol=1)


def test_the_body_of_an_mr_in_a_wide_noisy_margin_is_boxed():
    generator = np.random.default_rng(0)
    values = np.abs(generator.normal(0, 8, (60, 80, 80)))
    values[20:45, 25:60, 30:70] += 300
    values[30, 40, 40] = 50_000  # one voxel that shines
    low, high = find_body(values, hounsfield=False)
    np.testing.assert_allclose(low, (20, 25, 30), atol=2)
    np.testing.assert_allclose(high, (45, 60, 70), atol=2)


def test_large_scans_are_boxed_to_one_coarse_block():
    values = np.full((250, 300, 280), -1000, dtype=np.int16)
    values[60:200, 90:210, 50:230] = 30
    low, high = find_body(values, hounsfield=True)
    np.testing.assert_allclose(low, (60, 90, 50), atol=4)
    np.testing.assert_allclose(high, (200, 210, 230), atol=4)


def test_resampling_keeps_the_world_and_the_rim(tmp_path):
    z, y, x = np.indices((12, 14, 16)).astype(np.float64)
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    ramp = 100 + 3 * (2 * x) + 2 * (2 * y) + (4 * z)  # linear in mm
    for spacing in [(2.0, 1.0, 1.0), (5.0, 3.0, 2.5)]:
        for order in (1, 3):
            found, resized = to_spacing(ramp, affine, spacing, order=order)
            grid = np.indices(found.shape).reshape(3, -1)
            points = resized[:3, :3] @ grid[::-1] + resized[:3, 3:]
            wanted = (100 + 3 * points[0] + 2 * points[1] + points[2]).reshape(found.shape)
            middle = tuple(slice(3, -3) for _ in range(3))
            np.testing.assert_allclose(found[middle], wanted[middle], rtol=0.01)
            assert found.min() >= ramp.min() - 1e-3  # no rim of fill, no overshoot
            assert found.max() <= ramp.max() + 1e-3
    again, _ = to_spacing(ramp, affine, (4.0, 2.0, 2.0), order=1)
    np.testing.assert_allclose(again, ramp, rtol=1e-6)


def test_downsampling_does_not_alias():
    x = np.arange(96)
    stripes = np.broadcast_to(np.where(x % 4 < 2, 100.0, -100.0), (8, 8, 96))  # 4 mm period
    found, _ = to_spacing(stripes, np.eye(4), (1.0, 1.0, 3.0), order=1)
    bare = ndimage.affine_transform(stripes, [1, 1, 3.0], offset=[0, 0, 1.0], output_shape=(8, 8, 32), order=1)
    assert np.abs(found[..., 3:-3]).max() < 0.35 * np.abs(bare[..., 3:-3]).max()


def test_labels_travel_with_the_image_and_take_the_nearest_voxel(tmp_path):
    values, labels, _ = torso()
    write_nifti(tmp_path / "a.nii.gz", values, LPS_AFFINE)
    write_nifti(tmp_path / "l.nii.gz", labels, LPS_AFFINE)
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", tmp_path / "l.nii.gz", spacing=(1.5, 1.0, 1.0)))
    found = open_array(tmp_path / record.entry.label_file)[:]
    image = open_array(tmp_path / record.entry.file)[:]
    assert found.shape == image.shape == (48, 80, 72)
    assert set(np.unique(found)) == {0, 1}
    assert found.sum() == labels.sum() * 8
    assert abs(float(np.median(image[found == 1])) - 160) <= 1
    assert record.class_voxels[1] == found.sum()


def test_labels_on_another_grid_are_brought_over_and_said(tmp_path):
    values, labels, _ = torso()
    write_nifti(tmp_path / "a.nii.gz", values, np.diag([2.0, 2, 3, 1]))
    coarse, coarse_affine = to_spacing(labels, np.diag([2.0, 2, 3, 1]), (3.0, 4.0, 4.0), order=0)
    write_nifti(tmp_path / "l.nii.gz", coarse, coarse_affine)
    refused = prepare(tmp_path, job(tmp_path / "a.nii.gz", tmp_path / "l.nii.gz"))
    assert refused.entry.label_file is None
    assert "label-shape-differs" in refused.label_refused
    assert "accept=[label-shape-differs]" in refused.label_refused
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", tmp_path / "l.nii.gz", accept=("label-shape-differs",)))
    assert record.flags == ("labels-resampled",)
    found = open_array(tmp_path / record.entry.label_file)[:] == 1
    truth = labels == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8
    far = np.diag([2.0, 2, 3, 1])
    far[:3, 3] = 5000
    write_nifti(tmp_path / "far.nii.gz", labels, far)
    far_off = prepare(tmp_path, job(tmp_path / "a.nii.gz", tmp_path / "far.nii.gz", accept=("label-affine-differs",)))
    assert "lie outside the scan case" in far_off.label_refused
    assert far_off.entry.label_path is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full((24, 40, 36), 0.4, dtype=np.float32), "no whole numbers"),
        (np.full((24, 40, 36), 70_000, dtype=np.int32), "70000"),
        (np.full((24, 40, 36), np.nan, dtype=np.float32), "not finite"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, labels, words):
    write_nifti(tmp_path / "a.nii.gz", torso()[0], np.eye(4))
    write_nifti(tmp_path / "l.nii.gz", labels, np.eye(4))
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", tmp_path / "l.nii.gz"))
    assert record.label_refused.startswith("label-non-integer: ")
    assert words in record.label_refused
    assert record.entry.label_file is None


def test_cropping_keeps_the_world_and_every_label(tmp_path):
    values, labels, body = torso()
    labels = labels.copy()
    labels[2, 37, 30] = 2  # on the table, outside the body
    affine = np.diag([2.0, 2, 3, 1])
    write_nifti(tmp_path / "a.nii.gz", values, affine)
    write_nifti(tmp_path / "l.nii.gz", labels, affine)
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", tmp_path / "l.nii.gz", crop=True, crop_margin_mm=2.0))
    entry = record.entry
    found = open_array(tmp_path / entry.file)[:]
    assert found.size < values.size
    assert entry.source_shape == values.shape
    start = np.rint(np.linalg.inv(affine) @ np.array(entry.affine)[:, 3])[:3][::-1].astype(int)
    z, y, x = (slice(a, a + n) for a, n in zip(start, found.shape, strict=True))
    np.testing.assert_array_equal(found, values[z, y, x])
    assert record.class_voxels[2] == 1
    low, high = entry.body_box
    assert all(0 <= a < b <= n for a, b, n in zip(low, high, found.shape, strict=True))
    boxed = body[z, y, x][low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    assert boxed.sum() >= 0.98 * body.sum()


def test_one_frame_of_a_film_is_taken_and_said(tmp_path):
    film = np.stack([np.full((4, 5, 6), 10 * i, dtype=np.int16) for i in range(3)])
    film[:, 0, 0, 0] = -50
    write_nifti(tmp_path / "a.nii.gz", film, np.eye(4))
    record = prepare(tmp_path, job(tmp_path / "a.nii.gz", frame=2))
    assert record.flags == ("frame-2-of-3",)
    assert open_array(tmp_path / record.entry.file)[1, 1, 1] == 20
    with pytest.raises(FormatError, match="no frame 5"):
        prepare(tmp_path, job(tmp_path / "a.nii.gz", frame=5))
