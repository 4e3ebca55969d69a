"""What moved is told from what was smoothed, also where it was both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medssl.formats.scan import Scan, ScanHeader
from medssl.reduction.agreement import compare
from medssl.reduction.evenness import evenness, matched
from medssl.reduction.inside import detail_of
from medssl.reduction.verify import EXPLAINED, UNEVEN


def scan(values):
    path = Path("scan.nii.gz")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return Scan(
        header=ScanHeader(path=path, paths=(path,), format="nifti", shape=values.shape, affine=affine, dtype="f"),
        values=values.astype(np.float32),
    )


def chest(beat=False):
    """Return a textured body in which a heart lies at rest, or has beaten: a twentieth of it looks otherwise."""
    values = 100 * gaussian_filter(np.random.default_rng(0).normal(size=(24, 48, 48)), 1.0)
    if beat:
        heart = np.zeros(values.shape, dtype=bool)
        heart[8:18, 14:32, 16:34] = True
        other = 100 * gaussian_filter(np.random.default_rng(1).normal(size=values.shape), 1.0)
        values = np.where(heart, 0.4 * values + 0.9 * other, values)
    return values


CHANGES = {
    "as it was": lambda values: values,
    "blurred": lambda values: gaussian_filter(values, 0.8),
    "blurred more": lambda values: gaussian_filter(values, 1.2),
    "noisy": lambda values: values + np.random.default_rng(2).normal(0, 5, values.shape),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_differs_everywhere_and_another_phase_in_one_place(change):
    copy, phase = (compare(scan(chest()), scan(CHANGES[change](chest(beat)))) for beat in (False, True))
    assert copy.unevenness < UNEVEN < phase.unevenness, (copy, phase)
    swapped = compare(scan(CHANGES[change](chest(True))), scan(chest()))
    assert swapped.unevenness > UNEVEN


def test_a_blur_explains_what_no_single_voxel_does():
    seen = compare(scan(chest()), scan(gaussian_filter(chest(), 1.2)))
    assert seen.function < 0.6
    assert seen.explained > 0.9 > EXPLAINED


def test_sharpness_is_matched_by_least_squares():
    generator = np.random.default_rng(3)
    one = detail_of(generator.normal(size=(20, 24, 28)).astype(np.float32))
    made, same = matched(one, -2 * one)
    assert made.shape == (16, 20, 24)
    assert made == pytest.approx(same, abs=1e-4)
    other = detail_of(generator.normal(size=one.shape).astype(np.float32))
    near, other = matched(one, other)
    left = ((other - near) ** 2).sum()
    assert left <= (other**2).sum()
    for factor in (0.9, 1.1):
        assert ((other - factor * near) ** 2).sum() >= left


def test_strangers_gain_next_to_nothing_by_it():
    """Seven weights explain about 7 of the cells that are free."""
    told = []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        fields = [generator.normal(size=(24, 24, 24)).astype(np.float32) for _ in "ab"]
        details = [detail_of(field) for field in fields]
        told.append(evenness((fields[0], fields[1]), (details[0], details[1]), (0, 0, 0)).matched)
    assert np.mean(told) < 20 / 18**3
    assert evenness((fields[0], fields[1]), (details[0], details[1]), (0, 0, 0), match=False).matched == 0.0
