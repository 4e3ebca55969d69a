"""What the tables of scores say of empties, unknown voxels, unequal grids and repeated patients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medssl.errors import DataError
from medssl.evaluation.intervals import bootstrap_mean, bootstrap_statistic, hierarchical_bootstrap
from medssl.evaluation.overlap import overlap
from medssl.evaluation.paired import average_by_patient, paired_comparison, wilcoxon_p
from medssl.evaluation.scoring import DEFINITIONS, StructureScore, score_case
from medssl.evaluation.summary import METRICS, compare_runs, patient_scores, summarise_structures
from medssl.evaluation.surface import image_diagonal_mm, surface_score
from medssl.evaluation.wording import structure_rows

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
    assert all(math.isnan(getattr(gland, metric)) for metric in METRICS)
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


def test_overlap_alone():
    row = scored(*maps(), surfaces=False)["liver"]
    assert row.dice == 1.0
    assert math.isnan(row.hd95_mm)


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


def test_intervals_leave_nan_out_and_admit_ignorance():
    assert bootstrap_mean([0.5, float("nan"), 0.7]).cases == 2
    assert bootstrap_mean([0.5, float("nan"), 0.7]).estimate == pytest.approx(0.6)
    alone = bootstrap_mean([0.5])
    assert alone.estimate == 0.5
    assert math.isnan(alone.low)
    with pytest.raises(DataError, match="no case"):
        bootstrap_mean([float("nan")])
    with pytest.raises(DataError, match="level"):
        bootstrap_mean([1, 2], level=95)
    with pytest.raises(DataError, match="bca"):
        bootstrap_mean([1, 2], method="bayes")


def test_intervals_of_constants_are_points():
    for method in ("percentile", "bca"):
        interval = bootstrap_statistic([0.8] * 5, lambda v: np.median(v, axis=-1), method=method)
        assert (interval.low, interval.high) == (0.8, 0.8)


def test_interval_of_the_mean_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap_mean(generator.normal(0.7, 0.1, 40), resamples=400, seed=trial)
        hits += interval.low <= 0.7 <= interval.high
    assert 175 <= hits <= 199  # about 0.94 of 200; binomial SD 3.4


def test_hierarchical_bootstrap_leaves_out_what_is_missing():
    scores = np.array([[0.5, np.nan, 0.7, np.nan], [0.6, 0.8, np.nan, np.nan]])
    interval = hierarchical_bootstrap(scores)
    assert interval.cases == 3
    assert interval.draws == 2
    assert interval.estimate == pytest.approx(np.mean([0.55, 0.8, 0.7]))
    assert 0.5 <= interval.low <= interval.high <= 0.8 + 1e-12
    with pytest.raises(DataError, match="median"):
        hierarchical_bootstrap(scores, statistic="mode")


def test_more_draws_narrow_the_interval():
    generator = np.random.default_rng(2)
    scores = generator.normal(0, 0.1, (24, 1)) + generator.normal(0, 0.01, (1, 50))
    few, many = hierarchical_bootstrap(scores[:6]), hierarchical_bootstrap(scores)
    assert many.high - many.low < few.high - few.low


def test_wilcoxon_of_nothing_and_of_equals():
    assert wilcoxon_p([0.0, 0.0]) == 1.0
    with pytest.raises(DataError, match="both arms"):
        paired_comparison([float("nan")])


def test_average_by_patient_with_missing_scores():
    means = average_by_patient(["a", "a", "b", "c"], [1.0, float("nan"), float("nan"), 3.0])
    assert means["a"] == 1.0
    assert math.isnan(means["b"])
    with pytest.raises(ValueError, match=r"shorter|longer"):
        average_by_patient(["a"], [1.0, 2.0])


def row(case, patient, structure, dice, empty=""):
    return StructureScore(
        case=case, patient=patient, label=1, structure=structure, dice=dice, iou=dice, hd95_mm=10 * (1 - dice),
        assd_mm=1.0, nsd=dice, tolerance_mm=1.0, truth_ml=1.0, prediction_ml=1.0, truth_voxels=1, prediction_voxels=1,
        empty=empty,
    )  # fmt: skip


def test_patient_scores_average_structures_then_cases():
    nan = float("nan")
    rows = [row("a1", "a", "x", 1.0), row("a1", "a", "y", 0.0), row("a2", "a", "x", 1.0), row("a2", "a", "y", nan),
            row("b1", "b", "x", 0.4), row("b1", "b", "y", 0.6)]  # fmt: skip
    assert patient_scores(rows, "dice") == {"a": 0.75, "b": 0.5}


def test_summary_counts_empties_and_ends_with_the_mean():
    rows = [row("a", "a", "x", 1.0), row("a", "a", "y", float("nan"), "both"),
            row("b", "b", "x", 0.0, "prediction"), row("b", "b", "y", 0.0, "truth")]  # fmt: skip
    by_name = {s.structure: s for s in summarise_structures(rows)}
    assert list(by_name) == ["x", "y", "mean"]
    assert (by_name["x"].missed, by_name["y"].absent, by_name["y"].invented) == (1, 1, 1)
    assert by_name["y"].intervals["dice"].cases == 1
    assert by_name["mean"].intervals["dice"].estimate == pytest.approx(0.5)
    heads, table = structure_rows(list(by_name.values()))
    assert all(len(line) == len(heads) for line in table)
    with pytest.raises(DataError, match="No case"):
        summarise_structures([])


def test_runs_are_compared_on_shared_patients_with_holm_over_all():
    good = [row(f"c{i}", f"p{i}", "x", 0.8 + 0.01 * i) for i in range(10)]
    poor = [row(f"c{i}", f"p{i}", "x", 0.6 + 0.02 * i) for i in range(2, 12)]
    compared = compare_runs({"good": good, "poor": poor}, [("good", "poor")], metrics=("dice", "hd95_mm"))
    assert [c.metric for c in compared] == ["dice", "hd95_mm"]
    dice, distance = compared
    assert dice.result.above == 8
    assert dice.result.p == pytest.approx(2 / 2**8)
    assert dice.p_holm == pytest.approx(2 * dice.result.p)
    assert distance.result.below == 8  # distances fall where the run is better
    with pytest.raises(DataError, match="share no patient"):
        compare_runs({"a": good[:1], "b": poor[-1:]}, [("a", "b")])


def test_every_metric_is_defined():
    assert set(METRICS) <= set(DEFINITIONS)
