"""What the tables of scores say of empties, unknown voxels, unequal grids and repeated patients."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from medssl.errors import DataError
from medssl.evaluation.metrics import SEGMENTATION_METRICS
from medssl.evaluation.overlap import overlap
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import StructureScore, count_rows, empty_counts, score_case
from medssl.evaluation.surface import image_diagonal_mm, surface_score

NAMES = {1: "liver", 2: "spleen", 3: "kidney", 7: "gland"}


def maps():
    truth = np.zeros((6, 20, 20), np.int16)
    truth[1:5, 2:10, 2:10] = 1
    truth[1:3, 12:16, 12:16] = 2
    prediction = truth.copy()
    prediction[prediction == 2] = 0
    prediction[0, 0, 0] = 3
    return truth, prediction


def scored(truth, prediction, **changes):
    arguments = {"case": "c", "patient": "p", "structures": NAMES, "spacing_mm": (5, 1, 1), "tolerance_mm": 1.0}
    return {s.structure: s for s in score_case(truth, prediction, **(arguments | changes))}


def test_every_kind_of_empty():
    rows = scored(*maps())
    diagonal = math.sqrt(30**2 + 20**2 + 20**2)
    assert (rows["liver"].dice, rows["liver"].hd95_mm, rows["liver"].nsd, rows["liver"].empty) == (1.0, 0.0, 1.0, "")
    for name, lacks in (("spleen", "prediction"), ("kidney", "truth")):
        row = rows[name]
        assert (row.dice, row.iou, row.nsd, row.empty) == (0.0, 0.0, 0.0, lacks)
        assert row.hd95_mm == row.assd_mm == pytest.approx(diagonal)
    gland = rows["gland"]
    assert all(math.isnan(getattr(gland, metric)) for metric in SEGMENTATION_METRICS)
    assert gland.empty == "both"


def test_volumes_in_ml():
    rows = scored(*maps())
    assert rows["liver"].truth_ml == pytest.approx(4 * 8 * 8 * 5 / 1000)
    assert rows["spleen"].prediction_ml == 0.0
    assert rows["spleen"].truth_voxels == 32


def test_unknown_voxels_score_nothing():
    truth, prediction = maps()
    wrong = prediction.copy()
    wrong[5, 15:, 15:] = 1
    hidden = truth.copy()
    hidden[5, 15:, 15:] = -1
    clean, masked = scored(truth, prediction)["liver"], scored(hidden, wrong)["liver"]
    assert scored(truth, wrong)["liver"].dice < 1.0
    assert (masked.dice, masked.hd95_mm) == (clean.dice, clean.hd95_mm)


def test_tolerance_may_differ_by_structure():
    truth, prediction = maps()
    prediction = np.roll(prediction, 2, axis=2)
    tolerances = {"liver": 2.0, "spleen": 1.0, "kidney": 1.0, "gland": 1.0}
    assert scored(truth, prediction, tolerance_mm=tolerances)["liver"].nsd == 1.0
    assert scored(truth, prediction)["liver"].nsd < 1.0


def test_tolerance_includes_distances_that_equal_it():
    truth, prediction = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    truth[..., 1] = prediction[..., 4] = True
    assert surface_score(truth, prediction, spacing_mm=(1, 1, 0.1), tolerance_mm=0.3).nsd == 1.0  # 3 * 0.1 > 0.3


def test_grids_must_agree():
    truth, prediction = maps()
    with pytest.raises(DataError, match="same grid"):
        scored(truth, prediction[1:])
    with pytest.raises(DataError, match="whole numbers"):
        scored(truth, prediction.astype(float))
    with pytest.raises(DataError, match="Voxel size"):
        scored(truth, prediction, spacing_mm=(1, 1))
    with pytest.raises(DataError, match="Voxel size"):
        overlap(truth, prediction, [1], spacing_mm=(0, 1, 1))


def test_unsigned_and_boolean_maps():
    truth, prediction = maps()
    small = overlap(truth.astype(np.uint8), prediction.astype(np.uint8), [1, 2], spacing_mm=(5, 1, 1))
    assert small == overlap(truth, prediction, [1, 2], spacing_mm=(5, 1, 1))
    assert overlap(truth == 1, prediction == 1, [1], spacing_mm=(5, 1, 1))[1].dice == 1.0


def test_diagonal_is_outer_face_to_outer_face():
    assert image_diagonal_mm((1, 1, 1), (3, 4, 12)) == 13.0


def row(case, patient, structure, dice, empty=""):
    return StructureScore(
        case=case, patient=patient, label=1, structure=structure, dice=dice, iou=dice, hd95_mm=10 * (1 - dice),
        assd_mm=1.0, nsd=dice, tolerance_mm=1.0, truth_ml=1.0, prediction_ml=1.0, truth_voxels=1, prediction_voxels=1,
        empty=empty,
    )  # fmt: skip


def test_empties_are_counted_structure_by_structure():
    rows = [row("a", "a", "x", 1.0), row("a", "a", "y", float("nan"), "both"),
            row("b", "b", "x", 0.0, "prediction"), row("b", "b", "y", 0.0, "truth")]  # fmt: skip
    counts = empty_counts(rows)
    assert list(counts) == ["x", "y"]
    assert (counts["x"].missed, counts["y"].absent, counts["y"].invented) == (1, 1, 1)
    assert counts["y"].cases == counts["y"].patients == 2
    heads, table = count_rows(counts)
    assert all(len(line) == len(heads) for line in table)


def test_a_table_holds_every_figure_and_who_lacks_a_structure():
    rows = [row("a1", "a", "x", 1.0), row("a1", "a", "y", float("nan"), "both")]
    frame = ScoreTable.of_structures(rows, run="").as_run("r", labels=4).frame
    assert set(SEGMENTATION_METRICS) < set(frame["metric"])
    lacking = frame.filter((pl.col("metric") == "dice") & (pl.col("target") == "y")).row(0, named=True)
    assert (lacking["value"], lacking["note"], lacking["labels"], lacking["patient"]) == (None, "both", 4, "a")
