"""All scans of a patient count, and patients weigh alike however many scans they have."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluation.metrics import metric_of
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.grid import cells_of, grids_of


def test_all_scans_of_a_patient_are_averaged_and_missing_scores_are_left_out():
    owners = ["a", "b", "a", "a", "c", "c", "d"]
    values = [0.2, 0.9, 0.4, 0.9, np.nan, 0.5, np.nan]
    rows = [
        ("run", "", 0, 0, None, f"case{place}", owner, "organ", "dice", value, "")
        for place, (owner, value) in enumerate(zip(owners, values, strict=True))
    ]
    cells = cells_of(ScoreTable.of_rows(rows), metric_of("dice"), how="", labels=None)
    (grid,) = grids_of([cells["run"]])
    assert grid.patients == ("a", "b", "c")
    assert grid.values.ravel() == pytest.approx([(0.2 + 0.4 + 0.9) / 3, 0.9, 0.5])
    assert grid.left_out == 1
    assert grid.score == pytest.approx(np.mean([0.5, 0.9, 0.5]))
