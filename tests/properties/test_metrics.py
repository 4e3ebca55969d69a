"""Laws of the metrics, on random masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medssl.evaluation.overlap import overlap
from medssl.evaluation.scoring import score_case
from medssl.evaluation.surface import border, surface_score

FEW = settings(max_examples=30, deadline=None)
masks = st.tuples(*[hnp.arrays(bool, (5, 6, 4))] * 2)
spacings = st.tuples(*[st.floats(0.3, 9.0)] * 3)


def same(first, second):
    np.testing.assert_allclose(first, second, atol=1e-9)


def numbers(pair, spacing, tolerance=1.0):
    score = surface_score(*pair, spacing_mm=spacing, tolerance_mm=tolerance)
    return [score.hd95_mm, score.assd_mm, score.nsd]


@FEW
@given(masks, spacings)
def test_symmetric_in_truth_and_prediction(pair, spacing):
    same(numbers(pair, spacing), numbers(pair[::-1], spacing))
    forward, back = (overlap(a.astype(int), b.astype(int), [1], spacing_mm=spacing)[1] for a, b in (pair, pair[::-1]))
    same([forward.dice, forward.iou], [back.dice, back.iou])


@FEW
@given(masks, spacings, st.integers(0, 2))
def test_flips_and_turned_axes_change_nothing(pair, spacing, axis):
    same(numbers(pair, spacing), numbers([np.flip(m, axis) for m in pair], spacing))
    turned = [m.transpose(2, 0, 1) for m in pair]
    same(numbers(pair, spacing), numbers(turned, (spacing[2], spacing[0], spacing[1])))


@FEW
@given(masks, st.floats(0.2, 5.0))
def test_distances_scale_with_the_voxel_size(pair, factor):
    one, scaled = numbers(pair, (1, 2, 3)), numbers(pair, (factor, 2 * factor, 3 * factor), tolerance=factor)
    same([one[0] * factor, one[1] * factor, one[2]], scaled)


@FEW
@given(masks, spacings)
def test_surface_dice_grows_with_the_tolerance(pair, spacing):
    grown = [numbers(pair, spacing, t)[2] for t in (0.0, 1.0, 3.0, 1000.0)]
    if all(m.any() for m in pair):
        assert grown == sorted(grown)
        assert grown[-1] == 1.0


@FEW
@given(hnp.arrays(bool, (5, 6, 4)), spacings)
def test_a_mask_against_itself(mask, spacing):
    if mask.any():
        same(numbers((mask, mask), spacing), [0, 0, 1])
        assert overlap(mask.astype(int), mask.astype(int), [1], spacing_mm=spacing)[1].dice == 1.0


@FEW
@given(masks)
def test_dice_follows_from_iou(pair):
    score = overlap(pair[0].astype(int), pair[1].astype(int), [1], spacing_mm=(1, 1, 1))[1]
    if score.empty != "both":
        assert score.dice == pytest.approx(2 * score.iou / (1 + score.iou))


@FEW
@given(hnp.arrays(bool, (5, 6, 4)))
def test_border_is_inside_and_holds_every_outer_voxel(mask):
    edge = border(mask)
    assert not (edge & ~mask).any()
    padded = np.pad(mask, 1)
    for index in np.argwhere(mask):
        around = [padded[tuple(index + 1 + step)] for step in np.vstack([np.eye(3, dtype=int), -np.eye(3, dtype=int)])]
        assert edge[tuple(index)] == (not all(around))


@FEW
@given(st.tuples(*[hnp.arrays(np.int16, (5, 6, 4), elements=st.integers(0, 4))] * 2))
def test_cutting_each_structure_out_changes_no_score(pair):
    scores = score_case(
        *pair, case="c", patient="p", structures={1: "a", 3: "b", 9: "c"}, spacing_mm=(2, 1, 1), tolerance_mm=1.0
    )
    for score in scores:
        whole = surface_score(pair[0] == score.label, pair[1] == score.label, spacing_mm=(2, 1, 1), tolerance_mm=1.0)
        same([score.hd95_mm, score.assd_mm, score.nsd], [whole.hd95_mm, whole.assd_mm, whole.nsd])
    assert scores[-1].empty == "both"
