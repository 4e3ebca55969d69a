"""What was told wrong of small bodies, blanked heads, and phases and kernels of one patient."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from medssl.formats.scan import Scan, ScanHeader
from medssl.phantoms import phantom
from medssl.reduction.agreement import compare
from medssl.reduction.explained import explained_of, function_of
from medssl.reduction.fingerprint import fingerprint_of
from medssl.reduction.hashes import Variant
from medssl.reduction.inside import air, independent, inside
from medssl.reduction.verify import (
    EQUAL,
    EVIDENCE,
    EXPLAINED_WHERE_DOUBTFUL,
    SAME_IMAGE,
    SAME_VALUES,
    Level,
    verify,
)

MIRRORED = Variant(order=(0, 1, 2), flips=(False, False, True), negated=False)
SWAPPED = Variant(order=(2, 1, 0), flips=(False, False, False), negated=False)


def scan(values, mm=2.0):
    path = Path("scan.nii.gz")
    affine = np.diag([mm, mm, mm, 1.0])
    header = ScanHeader(
        path=path, paths=(path,), format="nifti", shape=values.shape, affine=affine, dtype=str(values.dtype)
    )
    return Scan(header=header, values=values)


def body(size, generator, common=None, share=0.0):
    """Return an ellipsoid of its own size, place and texture in air, HU; a share of the texture may be a common one."""
    centre = size / 2 + generator.uniform(-0.08, 0.08, 3) * size
    radii = generator.uniform(0.25, 0.42, 3) * size
    places = np.stack(np.meshgrid(*[np.arange(size) + 0.5] * 3, indexing="ij"), -1)
    apart = np.sqrt((((places - centre) / radii) ** 2).sum(-1))
    texture = gaussian_filter(generator.normal(size=(size,) * 3), 1.5)
    texture /= texture.std()
    if common is not None:
        texture = np.sqrt(share) * common + np.sqrt(1 - share) * texture
    cover = np.clip((1 - apart) * radii.mean() + 0.5, 0, 1)
    return np.rint(-1000 + cover * (1040 + 60 * texture) + 10 * generator.normal(size=(size,) * 3)).astype(np.int16)


def looked_at(one, two, *, variant=None, same_patient=False):
    """Return the verdict on two arrays, or two scans."""
    pair = [each if isinstance(each, Scan) else scan(each) for each in (one, two)]
    prints = [
        fingerprint_of(each, id=n, size_bytes=1, mtime_ns=1, file_hash=n) for each, n in zip(pair, "ab", strict=True)
    ]
    return verify(*prints, (pair[0], pair[1]), variant=variant, same_patient=same_patient)


@pytest.mark.parametrize(("size", "count"), [(16, 7), (24, 6), (48, 3)])
@pytest.mark.parametrize("variant", [None, MIRRORED, SWAPPED])
def test_small_bodies_that_share_nothing_are_different(size, count, variant):
    generator = np.random.default_rng(size)
    bodies = [body(size, generator) for _ in range(count)]
    for one, two in itertools.combinations(bodies, 2):
        verdict = looked_at(one, two, variant=variant)
        assert verdict.level is Level.DIFFERENT, verdict


def test_a_weak_common_texture_makes_no_copies():
    generator = np.random.default_rng(0)
    common = gaussian_filter(generator.normal(size=(24,) * 3), 1.5)
    bodies = [body(24, generator, common / common.std(), 0.2) for _ in range(6)]
    levels = {looked_at(*pair).level for pair in itertools.combinations(bodies, 2)}
    assert levels == {Level.DIFFERENT}


@pytest.mark.parametrize("size", [8, 16, 24, 48])
@pytest.mark.parametrize("variant", [None, MIRRORED, SWAPPED])
def test_noise_is_no_copy_of_other_noise(size, variant):
    generator = np.random.default_rng(size)
    noises = [np.rint(100 * generator.normal(size=(size,) * 3)).astype(np.int16) for _ in range(3)]
    for one, two in itertools.combinations(noises, 2):
        assert looked_at(one, two, variant=variant).level is Level.DIFFERENT


@pytest.mark.parametrize("size", [16, 24, 48])
def test_one_outline_makes_no_copies(size):
    generator = np.random.default_rng(1)
    one = body(size, generator)
    outline = gaussian_filter((one > -500).astype(float), 0.7)
    two = np.rint(-1000 + outline * (1040 + 60 * generator.normal(size=one.shape))).astype(np.int16)
    verdict = looked_at(one, two)
    assert verdict.agreement.correlation > 0.9  # as the outlines do
    assert verdict.level is Level.DIFFERENT, verdict


@pytest.mark.parametrize("size", [16, 24, 48])
@pytest.mark.parametrize("kind", ["8-bit", "negated", "noise", "mirrored", "half", "resampled", "padded"])
def test_altered_copies_of_a_small_body_are_found(size, kind):
    one = body(size, np.random.default_rng(2))
    generator = np.random.default_rng(3)
    made, variant = {
        "8-bit": lambda: (np.clip((one + 1350) / 1500 * 255, 0, 255).astype(np.uint8), None),
        "negated": lambda: ((-one).astype(np.int16), None),
        "noise": lambda: ((one + 15 * generator.normal(size=one.shape)).astype(np.float32), None),
        "mirrored": lambda: (np.ascontiguousarray(one[:, :, ::-1]), MIRRORED),
        "half": lambda: (np.ascontiguousarray(one[size // 2 - 1 :]), None),
        "resampled": lambda: (zoom(one.astype(np.float32), 1.25, order=1), None),
        "padded": lambda: (np.pad(one, ((0, 0), (3, 2), (2, 4)), constant_values=-1024), None),
    }[kind]()
    verdict = looked_at(scan(one), scan(made, 2.0 / 1.25 if kind == "resampled" else 2.0), variant=variant)
    # With so few cells torsos of two patients agree as well as a body and its noisy copy, or its copy on another grid.
    small = {("noise", 16): Level.DIFFERENT, ("resampled", 16): Level.RELATED}
    wanted = small.get((kind, size), Level.SAME_IMAGE)
    assert verdict.level is wanted, verdict


@pytest.mark.parametrize("shape", [(10, 14, 14), (12, 16, 16), (16, 20, 20), (24, 24, 24), (24, 32, 32)])
def test_small_torsos_of_several_patients_are_no_copies(shape):
    """Organs and bones lie where they lie: up to 42 % of such pairs had been told as the same image."""
    made = [phantom(number, shape=shape, spacing_mm=(5.0,) * 3, seed=3).values.astype(np.int16) for number in range(8)]
    levels = {looked_at(scan(one, 5.0), scan(two, 5.0)).level for one, two in itertools.combinations(made, 2)}
    assert levels == {Level.DIFFERENT}


@pytest.mark.parametrize(
    ("shape", "seed", "first", "second"),
    [((12, 16, 16), 7, 27, 48), ((12, 16, 16), 7, 15, 48), ((8, 24, 24), 7, 1, 6), ((22, 24, 24), 5, 24, 26)],
)
def test_the_most_alike_small_torsos_are_related_at_most(shape, seed, first, second):
    """The worst of thousands of pairs: they agree by more than one anatomy, and yet their intensities differ."""
    made = [phantom(n, shape=shape, spacing_mm=(5.0,) * 3, seed=seed).values.astype(np.int16) for n in (first, second)]
    verdict = looked_at(*[scan(one, 5.0) for one in made])
    assert verdict.agreement.score > SAME_IMAGE
    assert verdict.agreement.explained < EXPLAINED_WHERE_DOUBTFUL
    assert verdict.level is Level.RELATED


@pytest.mark.parametrize("kind", ["blurred", "sharpened", "much noise"])
def test_copies_where_agreement_is_doubtful_are_told_by_their_intensities(kind):
    one = phantom(0, shape=(12, 16, 16), spacing_mm=(5.0,) * 3, seed=7).values.astype(np.float32)
    made = {
        "blurred": lambda: gaussian_filter(one, 0.65),
        "sharpened": lambda: one + (one - gaussian_filter(one, 0.8)),
        "much noise": lambda: (one + 60 * np.random.default_rng(0).normal(size=one.shape)).astype(np.float32),
    }[kind]()
    verdict = looked_at(scan(one, 5.0), scan(made, 5.0))
    assert verdict.agreement.function < SAME_VALUES
    assert verdict.level is Level.SAME_IMAGE, verdict


@pytest.mark.parametrize("kind", ["8-bit", "noise", "mirrored", "finer"])
def test_copies_of_a_small_torso_are_found(kind):
    one = phantom(0, shape=(16, 20, 20), spacing_mm=(5.0,) * 3, seed=3).values.astype(np.int16)
    generator = np.random.default_rng(0)
    made, mm, variant = {
        "8-bit": lambda: (np.clip((one + 160) / 400 * 255, 0, 255).astype(np.uint8), 5.0, None),
        "noise": lambda: ((one + 15 * generator.normal(size=one.shape)).astype(np.float32), 5.0, None),
        "mirrored": lambda: (np.ascontiguousarray(one[:, :, ::-1]), 5.0, MIRRORED),
        "finer": lambda: (zoom(one.astype(np.float32), 1.25, order=3), 4.0, None),
    }[kind]()
    assert looked_at(scan(one, 5.0), scan(made, mm), variant=variant).level is Level.SAME_IMAGE


def brain(generator, shape=(24, 48, 48)):
    """Return a textured ellipsoid on a background of 0."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    within = (grid**2).sum(axis=0) < 0.85
    texture = gaussian_filter(generator.normal(size=shape), 1.0)
    return np.where(within, 400 + 300 * texture / texture.std(), 0).clip(0).astype(np.int16)


def blanked(values, how):
    """Return a scan with about a quarter of its foreground set to 0, as tools do that take a face or a skull out."""
    result = values.copy()
    if how == "face":
        front = np.argsort(np.where(values > 0, np.arange(values.shape[1])[None, :, None], 999), axis=None)
        result.ravel()[front[: int(0.28 * (values > 0).sum())]] = 0
    elif how == "skull":
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in values.shape], indexing="ij"))
        result[(grid**2).sum(axis=0) > 0.68] = 0
    else:
        result[8:17, 14:34, 14:34] = 0
    return result


@pytest.mark.parametrize("how", ["face", "skull", "hole"])
@pytest.mark.parametrize("same_patient", [False, True])
def test_what_is_bit_equal_on_most_of_the_grid_is_at_least_related(how, same_patient):
    one = brain(np.random.default_rng(4))
    two = blanked(one, how)
    gone = 1 - np.count_nonzero(two) / np.count_nonzero(one)
    assert 0.1 < gone < 0.35
    verdict = looked_at(one, two, same_patient=same_patient)
    assert verdict.level in (Level.SAME_IMAGE, Level.RELATED), verdict
    assert verdict.agreement.equal > EQUAL
    other = looked_at(one, blanked(brain(np.random.default_rng(5)), how))
    assert other.level is Level.DIFFERENT
    assert other.agreement.equal < 0.1


def test_equal_masks_of_two_values_are_not_equal_by_chance():
    one, two = (gaussian_filter(np.random.default_rng(n).normal(size=(16,) * 3), 2) > 0 for n in (0, 1))
    told = explained_of(one.astype(np.uint8), two.astype(np.uint8), ((0.0, 1.0), (0.0, 1.0)))
    assert told.equal == 0.0


@pytest.mark.parametrize("kind", ["kernel", "phase", "contrast"])
def test_kernels_phases_and_contrasts_of_one_patient_are_never_copies(kind):
    generator = np.random.default_rng(6)
    one = body(32, generator).astype(np.float32)
    lung = np.zeros((32,) * 3, dtype=bool)
    lung[8:24, 10:22, 9:14] = lung[8:24, 10:22, 18:23] = True
    one[lung] = -850
    if kind == "kernel":
        first, second = gaussian_filter(one, 0.6), one + (one - gaussian_filter(one, 0.8))
    elif kind == "phase":
        vessels = gaussian_filter(generator.normal(size=one.shape), 1.5) > 0.2
        first, second = one, np.where((one > -100) & vessels, one + 80, one)
    else:
        first, second = one, np.where(one > -100, 1500 - one * 0.6 + 5 * generator.normal(size=one.shape), one)
    noisy = [(each + 4 * generator.normal(size=each.shape)).astype(np.float32) for each in (first, second)]
    verdict = looked_at(*noisy, same_patient=True)
    assert verdict.level in (Level.RELATED, Level.SAME_PATIENT), verdict
    assert verdict.agreement.function < SAME_VALUES
    export = np.clip((noisy[0] + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    assert looked_at(noisy[0], export, same_patient=True).level is Level.SAME_IMAGE


def test_one_patient_on_two_grids_is_related_and_no_copy():
    one = body(32, np.random.default_rng(7)).astype(np.float32)
    two = scan(zoom(one, 1.25, order=1), 1.6)
    assert looked_at(scan(one), two).level is Level.SAME_IMAGE
    assert looked_at(scan(one), two, same_patient=True).level is Level.RELATED


def test_air_is_even_and_reached_from_outside():
    values = np.full((20, 20, 20), -1000.0, dtype=np.float32)
    values[4:16, 4:16, 4:16] = 40
    values[:, 7:10, 7:10] = -850  # open at both ends, as lungs are in a slab
    around = air(values)
    assert around[0, 0, 0]
    assert not around[8:12, 7:10, 7:10].any()
    assert not around[values > 0].any()
    assert inside(values)[8, 8, 8]
    assert not inside(values)[4:16, 4, 4:16].any()
    crop = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    assert not air(crop).any()
    assert inside(crop).all()


@pytest.mark.parametrize("sigma", [0.0, 1.0, 1.5])
def test_evidence_of_strangers_is_that_of_chance(sigma):
    """At a fixed place, scores times the root of the independent cells spread as a standard normal does."""
    generator = np.random.default_rng(8)
    from medssl.reduction.inside import detail_of

    mask = np.ones((16,) * 3, dtype=bool)
    told = []
    for _ in range(120):
        one, two = (detail_of(gaussian_filter(generator.normal(size=(16,) * 3), sigma).astype("f4")) for _ in "ab")
        told.append(np.corrcoef(one.ravel(), two.ravel())[0, 1] * np.sqrt(independent(one, two, mask)))
    assert 0.75 < np.std(told) < 1.25
    assert EVIDENCE > 6


def test_a_function_is_told_from_a_relation():
    generator = np.random.default_rng(9)
    one = generator.normal(size=4000)
    assert function_of(one, np.clip(one, -0.5, 0.2)) > 0.99
    assert function_of(one, -one) > 0.99
    assert function_of(one, np.rint(one * 3)) > 0.99
    assert abs(function_of(one, generator.normal(size=4000))) < 0.05
    assert function_of(one, one + 0.2 * generator.normal(size=4000)) < 0.9
    assert function_of(one, np.zeros(4000)) == 0.0


def test_the_header_is_tried_where_a_blank_hides_the_shift():
    one = brain(np.random.default_rng(10))
    face = blanked(one, "face")
    seen = compare(scan(one), scan(face))
    assert seen.shift_mm == pytest.approx((0, 0, 0), abs=1.0)
    cut = np.ascontiguousarray(face[:, 10:])
    moved = scan(cut)
    moved.header.affine[1, 3] += 20.0
    assert compare(scan(one), moved).shift_mm == pytest.approx((0, 20, 0), abs=1.0)
