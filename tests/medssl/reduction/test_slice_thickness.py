"""A series passed on with fewer slices is the same image, whichever of the two has more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.formats.scan import Scan, ScanHeader
from medssl.phantoms import phantom
from medssl.reduction.agreement import compare
from medssl.reduction.slice_thickness import Thicker, thick_slices, thicker


def test_thicker_wants_one_axis_and_a_whole_number():
    assert thicker((1, 2, 2), (3.01, 2, 2)) == Thicker(second=True, axis=0, times=3)
    assert thicker((1, 2, 2), (1, 2, 1)) == Thicker(second=False, axis=2, times=2)
    for other in [(1, 2, 2), (2.5, 2, 2), (2, 4, 2), (9, 2, 2)]:
        assert thicker((1, 2, 2), other) is None


@pytest.mark.parametrize("truth", [0, 1, 3, -1, -4])
def test_the_ways_hold_the_right_one_of_the_means_and_of_the_picks(truth):
    # The other's first slice begins at thin slice `truth`; before 0 it lies outside.
    slices = np.arange(24.0)[:, None, None] * np.ones((1, 2, 2))
    means, picks = [], []
    for number, (made, first) in enumerate(thick_slices(slices, 0, 3, truth + 0.6)):
        (means if number < 3 else picks).append(made[:, 0, 0] + 3.0 * first)
    # Slice i of the other is slice first + i of these, and shows what is in the middle of its three: truth + 1 + 3 i.
    expected = truth + 1.0
    assert any(np.allclose(way - 3.0 * np.arange(len(way)), expected) for way in means)
    assert any(np.allclose(way - 3.0 * np.arange(len(way)), expected) for way in picks)


def scan_of(values, affine):
    path = Path("scan.nii.gz")
    header = ScanHeader(
        path=path, paths=(path,), format="nifti", shape=values.shape, affine=affine, dtype=str(values.dtype)
    )
    return Scan(header=header, values=values)


def parts(how, scan):
    values, affine = scan.values, scan.affine.copy()
    means = values[1:65].reshape(32, 2, *values.shape[1:]).mean(axis=1)
    made = means if how == "means" else values[5:70:2]
    affine[:3, 2] *= 2
    return made, affine


@pytest.mark.parametrize("how", ["means", "picked"])
@pytest.mark.parametrize("thick_first", [False, True])
def test_one_is_a_function_of_the_other(how, thick_first):
    made = phantom(0, modality="CT", shape=(72, 64, 60), spacing_mm=(4.0, 4.5, 4.5), seed=2)
    thick, affine = parts(how, made)
    one, two = scan_of(made.values, made.affine), scan_of(thick, affine)
    pair = (two, one) if thick_first else (one, two)
    seen = compare(*pair)
    assert seen.explained is not None
    assert seen.explained > 0.999
    assert seen.score > 0.999
    assert seen.unevenness < 5
