"""Pretraining runs pooled: grouping by name, the right difference, intervals that see the luck of a run."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.errors import DataError
from medssl.evaluation.few_label import Cell, CellResult
from medssl.evaluation.intervals import hierarchical_bootstrap
from medssl.evaluation.pooling import crossed_bootstrap, pool_pretraining_runs, pooled_rows
from medssl.evaluation.scoring import StructureScore

GAINS = {"scratch": 0.0, "voco-seed0": 0.05, "voco-seed1": 0.01, "voco-seed2": 0.03, "lonely-seed0": 0.5, "plain": 0.2}


def score(case, dice):
    return StructureScore(
        case=case, patient=case, label=1, structure="organ", dice=dice, iou=dice / (2 - dice), hd95_mm=1.0,
        assd_mm=0.5, nsd=dice, tolerance_mm=1.0, truth_ml=1.0, prediction_ml=1.0, truth_voxels=9, prediction_voxels=9,
        empty="",
    )  # fmt: skip


def cells(*, draws=4, lacking=()):
    return [
        CellResult(
            cell=Cell(arm=arm, n=n, draw=draw, seed=0),
            key="k",
            scores=tuple(score(f"case{i}", 0.5 + 0.01 * i + 0.02 * draw + gain / n) for i in range(6)),
            seconds=1.0,
        )
        for arm, gain in GAINS.items()
        for n in (1, 2)
        for draw in range(draws)
        if (arm, draw) not in lacking
    ]


def test_runs_of_one_method_are_pooled_and_single_ones_are_not():
    pooled = pool_pretraining_runs(cells(), baseline="scratch")
    assert [(row.method, row.n) for row in pooled] == [("voco", 1), ("voco", 2)]
    assert pooled[0].mean.estimate == pytest.approx(0.03)
    assert pooled[1].mean.estimate == pytest.approx(0.015)
    assert pooled[0].run_means == pytest.approx((0.05, 0.01, 0.03))
    assert (pooled[0].better, pooled[0].pairs) == (12, 12)
    assert pooled_rows(pooled)[1][0] == ("1", "voco", "+0.030 [+0.010, +0.050]", "+0.050, +0.010, +0.030", "12/12")


def test_only_draws_that_all_have_done_count():
    pooled = pool_pretraining_runs(cells(lacking={("voco-seed1", 3), ("scratch", 0)}), baseline="scratch")
    assert pooled[0].pairs == 3 * 2
    assert pool_pretraining_runs(cells(lacking={("scratch", d) for d in range(4)}), baseline="scratch") == ()


def test_the_interval_sees_what_all_draws_of_a_run_share():
    draw = np.random.default_rng(0)
    luck = np.array([-0.05, 0.0, 0.05])[:, None, None]
    values = 0.02 + luck + draw.normal(0, 0.002, (3, 5, 30))
    pooled = crossed_bootstrap(values)
    blind = hierarchical_bootstrap(values.mean(axis=0))
    assert pooled.high - pooled.low > 10 * (blind.high - blind.low)
    assert pooled.estimate == pytest.approx(values.mean())


def test_without_luck_of_the_run_it_agrees_with_the_interval_over_draws_and_patients():
    values = np.random.default_rng(1).normal(0.02, 0.05, (1, 6, 40))
    pooled, known = crossed_bootstrap(values), hierarchical_bootstrap(values[0])
    assert pooled.low == pytest.approx(known.low, abs=0.002)
    assert pooled.high == pytest.approx(known.high, abs=0.002)


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.zeros((0, 1, 1)), np.full((2, 2, 2), np.nan)])
def test_what_cannot_be_pooled_is_refused(values):
    with pytest.raises(DataError, match="pretraining run, draw and patient"):
        crossed_bootstrap(values)
