"""All scans of a patient count, and patients weigh alike however many scans they have."""

from __future__ import annotations

import math

import numpy as np
from medssl.evaluation.paired import average_by_patient


def test_all_scans_of_a_patient_are_averaged_and_missing_scores_are_left_out():
    found = average_by_patient(["a", "b", "a", "a", "c", "c"], [0.2, 0.9, 0.4, 0.9, np.nan, 0.5])
    assert found == {"a": (0.2 + 0.4 + 0.9) / 3, "b": 0.9, "c": 0.5}
    assert math.isnan(average_by_patient(["a", "a"], [np.nan, np.nan])["a"])
