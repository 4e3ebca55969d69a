"""Candidates looked at: copies of an image, other patients, and repetitions of one patient."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from medssl.formats.scan import Scan, ScanHeader
from medssl.phantoms import phantom
from medssl.reduction.agreement import _whole, compare
from medssl.reduction.evenness import evenness
from medssl.reduction.fingerprint import fingerprint_of
from medssl.reduction.hashes import Variant
from medssl.reduction.verify import SAME_IMAGE, SAME_VALUES, Level, verify


def scan(values, affine):
    path = Path("scan.nii.gz")
    header = ScanHeader(
        path=path, paths=(path,), format="nifti", shape=values.shape, affine=affine, dtype=str(values.dtype)
    )
    return Scan(header=header, values=values)


@pytest.fixture(scope="module")
def patients():
    made = [phantom(number, shape=(36, 48, 44), spacing_mm=(7.0, 6.0, 6.0), seed=5) for number in range(3)]
    return [scan(one.values.astype(np.float32), one.affine) for one in made]


def printed(one, file_hash):
    return fingerprint_of(one, id=file_hash, size_bytes=1, mtime_ns=1, file_hash=file_hash)


def changed(one, kind):
    v, affine = one.values, one.header.affine
    if kind == "8-bit":
        return scan(np.clip((v + 1024) / 2000 * 255, 0, 255).astype(np.uint8), affine)
    if kind == "negated":
        return scan(500 - v, affine)
    if kind == "blurred":
        return scan(gaussian_filter(v, 0.7), affine)
    if kind == "other grid":
        small = zoom(v, 0.8, order=1)
        scale = [a / b for a, b in zip(v.shape[::-1], small.shape[::-1], strict=True)]
        return scan(small, affine @ np.diag([*scale, 1.0]))
    if kind == "cut along z":
        return scan(v[9:31], affine)
    if kind == "cut in plane":
        return scan(v[:, 5:44, 4:], affine)
    return scan(np.pad(v, ((0, 3), (7, 0), (2, 5)), constant_values=-1024), affine)


@pytest.mark.parametrize("kind", ["8-bit", "negated", "blurred", "other grid", "cut along z", "cut in plane", "padded"])
def test_a_reexported_image_is_the_same_image(patients, kind):
    copy = changed(patients[0], kind)
    first, second = printed(patients[0], "a"), printed(copy, "b")
    verdict = verify(first, second, (patients[0], copy))
    assert verdict.level is Level.SAME_IMAGE, verdict
    assert verdict.level.is_copy
    assert (verdict.agreement.correlation < 0) == (kind == "negated")
    expected = {"cut along z": (63, 0, 0), "cut in plane": (0, 30, 24), "padded": (0, -42, -12)}.get(kind, (0, 0, 0))
    assert verdict.agreement.shift_mm == pytest.approx(expected, abs=3.5)
    if kind.startswith("cut"):
        assert verdict.agreement.overlap > 0.9


def test_other_patients_are_different():
    # Finer voxels: below about 5 mm there is detail by which two bodies differ.
    made = [phantom(number, shape=(72, 96, 88), spacing_mm=(3.5, 3.0, 3.0), seed=5) for number in range(3)]
    one, *others = [scan(each.values, each.affine) for each in made]
    for other in others:
        verdict = verify(printed(one, "a"), printed(other, "b"), (one, other))
        assert verdict.level is Level.DIFFERENT, verdict
        assert verdict.agreement.score < SAME_IMAGE - 0.3
    known = verify(printed(one, "a"), printed(other, "b"), (one, other), same_patient=True)
    assert known.level is Level.SAME_PATIENT
    assert not known.level.is_copy


def test_the_same_file_and_the_same_array_need_no_look(patients):
    one = printed(patients[0], "a")
    assert verify(one, one).level is Level.SAME_FILE
    again = verify(one, dataclasses.replace(one, file_hash="b"))
    assert (again.level, again.agreement.score) == (Level.SAME_ARRAY, 1.0)
    unseen = verify(one, printed(patients[1], "c"))
    assert (unseen.level, unseen.agreement.score) == (Level.DIFFERENT, 0.0)


def test_a_repetition_of_one_patient_is_no_copy_and_an_8_bit_export_is(patients):
    one = patients[0]
    generator = np.random.default_rng(0)
    again = scan(one.values + generator.normal(0, 80, one.values.shape).astype(np.float32), one.header.affine)
    prints = printed(one, "a"), printed(again, "b")
    assert verify(*prints, (one, again)).level is Level.SAME_IMAGE
    assert verify(*prints, (one, again), same_patient=True).level is Level.RELATED
    export = changed(one, "8-bit")
    assert verify(prints[0], printed(export, "c"), (one, export), same_patient=True).level is Level.SAME_IMAGE


def test_a_turned_scan_agrees_once_it_is_turned_back(patients):
    one = patients[0]
    turned = scan(np.ascontiguousarray(one.values[:, ::-1].transpose(0, 2, 1)), one.header.affine)
    variant = Variant(order=(0, 2, 1), flips=(False, True, False))
    np.testing.assert_array_equal(turned.values.transpose(0, 2, 1)[:, ::-1], one.values)
    assert compare(one, turned, variant=variant).score > 0.99
    assert compare(one, turned).score < SAME_IMAGE


def test_nothing_to_see_is_no_agreement():
    empty = scan(np.zeros((6, 7, 8), dtype=np.float32), np.eye(4))
    assert compare(empty, empty).score == 0.0
    tiny = scan(np.arange(2, dtype=np.float32).reshape(1, 1, 2), np.eye(4))
    assert 0.0 <= compare(tiny, empty).score <= 1.0


def alike(share):
    """Return two scans whose detail correlates by a share, as those of two heads in one protocol may."""
    generator = np.random.default_rng(3)
    common, *own = (gaussian_filter(generator.normal(size=(24, 40, 40)), 0.8) for _ in range(3))
    weights = np.sqrt(share), np.sqrt(1 - share)
    return [scan((1000 * (weights[0] * common + weights[1] * each)).astype(np.float32), np.eye(4)) for each in own]


@pytest.mark.parametrize(
    ("share", "of_two", "of_one"),
    [
        (0.66, Level.DIFFERENT, Level.RELATED),
        (0.71, Level.DIFFERENT, Level.RELATED),  # a function of the other's intensities it is not: no copy
        (0.80, Level.RELATED, Level.RELATED),
    ],
)
def test_strangers_have_to_agree_better_than_scans_of_one_patient(share, of_two, of_one):
    pair = alike(share)
    prints = [printed(one, name) for one, name in zip(pair, "ab", strict=True)]
    verdict = verify(*prints, tuple(pair))
    assert verdict.agreement.score == pytest.approx(share, abs=0.03)
    assert (verdict.level, verify(*prints, tuple(pair), same_patient=True).level) == (of_two, of_one), verdict


def test_a_window_that_leaves_little_detail_is_still_a_copy():
    one, other = alike(0.2)
    low, high = np.percentile(one.values, (90.0, 97.0))
    narrow = scan(np.clip(one.values, low, high), one.header.affine)
    first = printed(one, "a")
    verdict = verify(first, printed(narrow, "b"), (one, narrow))
    assert verdict.level is Level.SAME_IMAGE, verdict
    assert verdict.agreement.score < SAME_IMAGE
    assert verdict.agreement.function > SAME_VALUES
    assert verify(first, printed(other, "c"), (one, other)).level is Level.DIFFERENT


@pytest.mark.parametrize("shift", [(0, 0, 4), (0, 0, -4), (6, 0, 0)])
def test_scans_that_share_nothing_have_no_unevenness(shift):
    one, two = np.random.default_rng(0).random((2, 6, 6, 4)).astype(np.float32)
    assert evenness((one, two), (one, two), shift) == (0.0, 0.0)


def test_padding_says_nothing_even_where_a_few_voxels_are_very_bright(patients):
    values = patients[0].values + 1024
    values[::5, ::7, ::9] *= 30
    padded = np.pad(values, ((4, 5), (20, 3), (9, 9)))
    seen = compare(scan(values, patients[0].header.affine), scan(padded, patients[0].header.affine))
    assert seen.explained > SAME_VALUES
    assert seen.score > 0.9999
    assert seen.unevenness < 2


@pytest.mark.parametrize("shift", [(2.0, -3.5, 4.0), (1.5, -3.4, 4.6), (2.45, -2.6, 3.3)])
def test_a_shift_between_two_voxels_becomes_the_one_that_explains(shift):
    values = np.random.default_rng(0).normal(size=(12, 14, 16)).cumsum(axis=0)
    moved = values[2:, :-3, 4:]  # the second's first voxel lies at (2, -3, 4) of the first
    second = np.pad(moved, ((0, 0), (3, 0), (0, 0)))
    limits = ((values.min(), values.max()),) * 2
    assert _whole(values, second, np.array(shift), limits).tolist() == [2, -3, 4]
