"""Nested few-label draws."""

from __future__ import annotations

import pytest

from medssl.errors import DataError
from medssl.evaluation.draws import labelled_patients

PATIENTS = [f"patient{i:02d}" for i in range(20)]


def test_subsets_of_one_draw_are_nested():
    subsets = {n: labelled_patients(PATIENTS, n, draw=3, seed=11) for n in (8, 1, 4, 2, 20)}
    for small, large in ((1, 2), (2, 4), (4, 8), (8, 20)):
        assert subsets[large][:small] == subsets[small]
    assert sorted(subsets[20]) == PATIENTS


def test_order_and_repeats_do_not_matter():
    once = labelled_patients(PATIENTS, 5, draw=1, seed=2)
    assert labelled_patients([*reversed(PATIENTS), *PATIENTS[:7]], 5, draw=1, seed=2) == once


def test_draws_and_seeds_differ():
    chosen = {labelled_patients(PATIENTS, 4, draw=d, seed=s) for d in range(5) for s in range(2)}
    assert len(chosen) == 10


def test_every_patient_is_drawn_equally_often():
    counts = dict.fromkeys(PATIENTS, 0)
    for draw in range(2000):
        for patient in labelled_patients(PATIENTS, 1, draw=draw):
            counts[patient] += 1
    # binomial(2000, 1/20): mean 100, SD 9.7; six SDs
    assert min(counts.values()) > 42
    assert max(counts.values()) < 158


def test_pinned_so_that_results_stay_comparable():
    assert labelled_patients("abcdefgh", 3, draw=0, seed=0) == ("e", "f", "d")


@pytest.mark.parametrize("n", [0, 21, -1])
def test_impossible_sizes_are_named(n):
    with pytest.raises(DataError, match="1 to 20"):
        labelled_patients(PATIENTS, n, draw=0)


def test_negative_draw():
    with pytest.raises(DataError, match="from 0"):
        labelled_patients(PATIENTS, 1, draw=-1)
