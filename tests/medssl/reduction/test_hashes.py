"""Fingerprints of one scan: what they withstand, and what their stored coefficients can tell without the scan."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medssl.formats.scan import Scan, ScanHeader
from medssl.phantoms import phantom
from medssl.reduction import grids, hashes
from medssl.reduction.fingerprint import Failure, Target, fingerprint, fingerprint_of
from medssl.reduction.hashes import Variant


def scan(values, affine, units="HU"):
    path = Path("scan.nii.gz")
    header = ScanHeader(
        path=path,
        paths=(path,),
        format="nifti",
        shape=values.shape,
        affine=affine,
        dtype=str(values.dtype),
        units=units,
    )
    return Scan(header=header, values=values)


def taken(values, affine, units="HU"):
    return fingerprint_of(scan(values, affine, units), id="a", size_bytes=1, mtime_ns=1, file_hash="f")


@pytest.fixture(scope="module")
def patients():
    return [phantom(number, shape=(40, 48, 44), spacing_mm=(7.0, 6.0, 6.0), seed=5) for number in range(4)]


def apart(first, second, which="field"):
    return hashes.distance(hashes.bits(getattr(first, which)), hashes.bits(getattr(second, which)))


@pytest.mark.parametrize(("length", "blocks"), [(7, 3), (5, 9), (12, 12), (1, 4), (64, 32)])
def test_block_means_are_integrals_of_a_step_function(length, blocks):
    generator = np.random.default_rng(length)
    values = generator.normal(size=(3, length, 2)).astype(np.float32)
    edges = np.sort(generator.uniform(0, length, blocks + 1))
    fine = np.repeat(values.astype(float), 1, axis=1)
    running = np.concatenate([np.zeros((3, 1, 2)), np.cumsum(fine, axis=1)], axis=1)
    at = np.stack([[np.interp(edges, np.arange(length + 1), running[i, :, j]) for j in range(2)] for i in range(3)])
    expected = np.diff(at, axis=-1) / np.diff(edges)
    found = grids.block_means(values, 1, edges).transpose(0, 2, 1)
    np.testing.assert_allclose(found * np.diff(edges), expected * np.diff(edges), atol=1e-5)


def test_half_of_the_bits_are_set_and_the_last_one_never():
    block = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    code = hashes.bits(hashes.coefficients(block))
    assert code.shape == (8,)
    assert sum(int(word).bit_count() for word in code) == pytest.approx(255, abs=2)
    assert int(code[-1]) >> 63 == 0


def test_every_variant_of_the_coefficients_is_that_of_the_turned_block():
    block = np.random.default_rng(1).normal(size=(32, 32, 32)).astype(np.float32)
    stored = hashes.coefficients(block)
    variants = hashes.all_variants()
    assert len(set(variants)) == 96
    assert variants[0] == Variant()
    for variant in variants[::5]:
        turned = block.transpose(variant.order)
        turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in variant.flips)]
        expected = hashes.coefficients(-turned if variant.negated else turned)
        np.testing.assert_allclose(hashes.turned(stored, variant), expected, atol=2e-3, err_msg=variant.name())


def test_a_constant_block_has_no_bits():
    block = np.full((32, 32, 32), 1234.5, dtype=np.float32)
    assert not hashes.bits(hashes.coefficients(block)).any()
    assert not hashes.plane_bits(np.full((2, 16, 16), -7.0, dtype=np.float32)).any()


def test_a_box_of_the_foreground_follows_the_body_and_not_the_sign():
    field = np.zeros((20, 30, 40), dtype=np.float32)
    field[4:15, 10:22, 8:33] = 100.0
    for sign in (1, -1):
        box = grids.foreground_box(grids.foreground(sign * field))
        assert box == ((4.0, 15.0), (10.0, 22.0), (8.0, 33.0))


@pytest.mark.parametrize("kind", ["8-bit", "intercept", "float", "noise", "half resolution", "negated"])
def test_a_reexported_scan_lies_nearer_than_any_other_patient(patients, kind):
    one = patients[0]
    values = one.values.astype(np.float64)
    affine = one.affine
    if kind == "8-bit":
        values = np.clip((values + 1024) / 2000 * 255, 0, 255).astype(np.uint8)
    elif kind == "intercept":
        values = values * 0.5 + 700
    elif kind == "noise":
        values = values + np.random.default_rng(0).normal(0, 20, values.shape)
    elif kind == "half resolution":
        values, affine = values.reshape(20, 2, 24, 2, 22, 2).mean(axis=(1, 3, 5)), affine @ np.diag([2, 2, 2, 1])
    elif kind == "negated":
        values = -values
    copy = taken(values, affine, "HU" if kind in ("float", "noise", "half resolution") else "arbitrary")
    if kind == "negated":
        copy = dataclasses.replace(
            copy,
            field=hashes.turned(copy.field, Variant(negated=True)),
            box=hashes.turned(copy.box, Variant(negated=True)),
        )
    original = taken(one.values, one.affine)
    others = [taken(other.values, other.affine) for other in patients[1:]]
    for which in ("field", "box"):
        nearest = min(apart(original, other, which) for other in others)
        assert apart(original, copy, which) < min(70, 0.6 * nearest), nearest


def test_padding_moves_the_hash_of_the_field_and_not_that_of_the_box(patients):
    one = patients[1]
    padded = np.pad(one.values, ((0, 0), (10, 5), (3, 9)), constant_values=-1024)
    first, second = taken(one.values, one.affine), taken(padded, one.affine)
    assert apart(first, second, "box") < 60 < apart(first, second, "field")


def test_a_flip_without_a_header_is_found_from_the_coefficients(patients):
    one = patients[2]
    first, second = taken(one.values, one.affine), taken(one.values[:, :, ::-1], one.affine)
    assert apart(first, second) > 100
    variants = hashes.all_variants(negated=False)
    codes = hashes.bits(np.stack([hashes.turned(second.field, variant) for variant in variants]))
    found = [hashes.distance(hashes.bits(first.field), code) for code in codes]
    assert variants[int(np.argmin(found))] == Variant(flips=(False, False, True))
    assert min(found) < 10


def test_orientation_in_the_file_changes_nothing_but_the_file(patients):
    one = patients[3]
    turn = np.array([[0, -1, 0, 47], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])  # new (x, y) -> old (x, y)
    affine = one.affine @ np.linalg.inv(turn)
    turned = one.values.transpose(0, 2, 1)[:, :, ::-1]
    first, second = taken(one.values, one.affine), taken(np.ascontiguousarray(turned), affine)
    assert first.content_hash == second.content_hash
    np.testing.assert_array_equal(first.field, second.field)
    np.testing.assert_array_equal(first.slices, second.slices)
    np.testing.assert_array_equal(first.point_codes, second.point_codes)


def test_slices_of_a_scan_cut_along_z_are_a_part_of_the_whole(patients):
    one = patients[0]
    whole, part = taken(one.values, one.affine), taken(one.values[8:32], one.affine)
    n = len(part.slices)
    assert n == 24
    means = [np.bitwise_count(whole.slices[k : k + n] ^ part.slices).mean() for k in range(len(whole.slices) - n + 1)]
    assert int(np.argmin(means)) == 8
    assert min(means) < 2 < np.median(means)


def test_points_of_a_cut_scan_are_those_of_the_whole_moved_by_the_cut():
    one = phantom(0, shape=(60, 80, 76), spacing_mm=(4.2, 3.6, 3.6), seed=5)
    whole, part = taken(one.values, one.affine), taken(one.values[4:52, 12:, :68], one.affine)
    apart = np.bitwise_count(whole.point_codes[:, None] ^ part.point_codes[None])
    first, second = np.nonzero((apart <= 8) & (whole.points[:, None, 0] == part.points[None, :, 0]))
    cells_mm = 2.0 ** whole.points[first, :1]
    moved_mm = (whole.points[first, 1:] - part.points[second, 1:]) * cells_mm / 4
    # Places are counted from the middle, which a cut moves by half of what it takes, to the side that it leaves.
    expected = np.array([(4 - 8) / 2 * 4.2, 12 / 2 * 3.6, -8 / 2 * 3.6])
    right = np.abs(moved_mm - expected).max(axis=1) <= cells_mm[:, 0]
    assert np.count_nonzero(right) >= 15
    assert np.count_nonzero(right) > 0.5 * len(right)  # few go wrong, and those not all in one way


def test_strange_values_are_no_reason_to_fail():
    values = np.full((5, 9, 8), np.nan, dtype=np.float32)
    assert not hashes.bits(taken(values, np.eye(4)).field).any()
    values[1, 2:5, 3:6] = np.array([1.0, np.inf, -np.inf])
    assert np.isfinite(list(taken(values, np.eye(4)).statistics.values())).all()
    assert taken(np.ones((1, 1, 1), dtype=np.int16), np.eye(4)).shape == (1, 1, 1)


def test_a_damaged_file_is_a_failure_with_a_reason(tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"this is no scan")
    outcome = fingerprint(Target(id="bad", path=str(bad)))
    assert isinstance(outcome, Failure)
    assert outcome.size_bytes == 15
    assert outcome.reason
    gone = fingerprint(Target(id="gone", path=str(tmp_path / "gone.nii.gz")))
    assert isinstance(gone, Failure)


def test_points_of_a_small_scan_lie_on_its_voxels_and_a_cut_shares_them():
    noise = np.random.default_rng(4).normal(size=(64, 64, 64))
    whole = (ndimage.gaussian_filter(noise, 5) * 40000).astype(np.int16)
    cut = whole[4:44, 8:48, 4:44]
    prints = [taken(values, np.eye(4), units="") for values in (whole, cut)]
    for one in prints:
        assert set(one.points[:, 0]) == {0, 1}  # cells of 1 and 2 mm; 40 voxels used to be cut to halves
    first, second = (one.point_codes for one in prints)
    apart = np.bitwise_count(first[:, None] ^ second[None])
    assert (apart.min(axis=0) <= 8).sum() >= 6
