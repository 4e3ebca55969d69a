"""All scans of a patient count, and patients weigh alike however many scans they have."""

from __future__ import annotations

import pytest

from medssl.evaluation.metrics import metric_of
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.grid import cells_of, grids_of

NAN = float("nan")


def test_all_scans_of_a_patient_are_averaged_and_missing_scores_are_left_out():
    owners, values = ["a", "b", "a", "a", "c", "c", "d", "d"], [0.2, 0.9, 0.4, 0.9, NAN, 0.5, NAN, NAN]
    items = [f"scan{number}" for number in range(len(owners))]
    table = ScoreTable.of_values(values, items, owners, run="r", metric="dice")
    grids = grids_of(list(cells_of(table, metric_of("dice"), how="", labels=None).values()))
    assert grids is not None
    (grid,) = grids
    assert (grid.patients, grid.left_out) == (("a", "b", "c"), 1)
    assert grid.values[0, 0].tolist() == pytest.approx([(0.2 + 0.4 + 0.9) / 3, 0.9, 0.5])
    assert grid.score == pytest.approx((0.5 + 0.9 + 0.5) / 3)
