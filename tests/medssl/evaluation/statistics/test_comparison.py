"""The one comparison: what it estimates from a table of scores, when it says better or worse, and in which words."""

from __future__ import annotations

import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medssl.errors import DataError
from medssl.evaluation.curve import draw_arms
from medssl.evaluation.metrics import METRICS
from medssl.evaluation.score_table import COLUMNS, ScoreTable
from medssl.evaluation.statistics.comparison import compare, scores_of
from medssl.evaluation.statistics.holm import holm
from medssl.evaluation.statistics.summary_file import comparisons_in, scores_in, write_summary
from medssl.evaluation.statistics.wording import (
    TWO_RUNS,
    across,
    comparison_rows,
    header,
    notes_of,
    score_rows,
    sentence,
    sentences,
    told_together,
)

NAN = float("nan")


def table(scores, *, metric="dice", owners=None):
    """Return the table of {(run, labels, draw, seed): scores of patients}."""
    rows = []
    for (run, labels, draw, seed), values in scores.items():
        for number, value in enumerate(values):
            owner = owners[number] if owners else f"p{number:02d}"
            rows.append((run, "", seed, draw, labels, f"case{number:02d}", owner, "organ", metric, float(value), ""))
    return ScoreTable.of_rows(rows)


def cohort(gain=0.05, *, runs=3, draws=4, patients=12, sizes=(1, 4), spread=0.01, metric="dice", seed=0):
    """Return scores of scratch and of a method's runs: patients and draws differ, and the method gains gain / n."""
    rng = np.random.default_rng(seed)
    hard, found = rng.normal(0.6, 0.1, patients), {}
    for n in sizes:
        for draw in range(draws):
            luck = 0.05 * rng.normal()
            found["scratch", n, draw, 0] = hard + luck + spread * rng.normal(size=patients)
            for run in range(runs):
                found[f"voco-seed{run}", n, draw, 0] = hard + luck + gain / n + spread * rng.normal(size=patients)
    return table(found, metric=metric)


def one(own, other, **changes):
    asked = {"metrics": ["dice"], "pooled": False} | changes
    (row,) = compare(table({("a", None, 0, 0): own, ("b", None, 0, 0): other}), [("a", "b")], **asked)
    return row


def test_two_runs_are_compared_as_the_paired_t_test_does():
    rng = np.random.default_rng(0)
    other = rng.normal(0.6, 0.1, 12)
    own = other + rng.normal(0.03, 0.03, 12)
    row, theirs = one(own, other), stats.ttest_rel(own, other)
    assert row.difference.estimate == pytest.approx((own - other).mean())
    assert row.p == row.p_holm == pytest.approx(theirs.pvalue)
    assert (row.above, row.below) == ((own > other).sum(), (own < other).sum())
    assert row.difference.sampled == ("patients",)


def test_what_was_put_in_is_found_over_runs_draws_and_patients():
    rows = compare(cohort(), "scratch", metrics=["dice"])
    assert [(row.arm, row.labels) for row in rows] == [("voco", 1), ("voco", 4)]
    for row, gain in zip(rows, (0.05, 0.0125), strict=True):
        assert row.difference.low < gain < row.difference.high
        assert row.difference.sampled == ("runs", "draws", "patients")
        assert (row.difference.runs, row.difference.draws, row.difference.patients) == (3, 4, 12)
        assert (len(row.run_means), len(row.draw_means), row.pairs) == (3, 4, 12)
    assert rows[0].verdict == "better"
    assert rows[0].ahead == 12


def test_no_p_is_no_finding():
    """The copy that this replaces took NaN for significant: one patient less, and pretraining had helped."""
    row = one(np.full(8, 0.8), np.full(8, 0.7))  # each patient gains exactly as much: nothing to test by
    assert math.isnan(row.p)
    assert math.isnan(row.p_holm)
    assert row.verdict == "inconclusive"
    assert "an interval cannot be computed" in sentence(row)
    assert "nan" not in sentence(row)


def test_equal_runs_are_said_to_be_equal():
    row = one(np.linspace(0.5, 0.9, 9), np.linspace(0.5, 0.9, 9))
    assert (row.verdict, row.difference.estimate) == ("inconclusive", 0.0)
    assert "both score the same" in sentence(row)


def test_p_after_holm_decides_not_p():
    rng = np.random.default_rng(1)
    other = rng.normal(0.6, 0.1, 10)
    arms = {("b", None, 0, 0): other, ("a", None, 0, 0): other + rng.normal(0.015, 0.027, 10)}
    arms |= {(f"x{n}", None, 0, 0): other + rng.normal(0, 0.03, 10) for n in range(6)}
    rows = {row.arm: row for row in compare(table(arms), "b", metrics=["dice"], pooled=False)}
    assert rows["a"].p < 0.05 < rows["a"].p_holm
    assert rows["a"].difference.low > 0
    assert rows["a"].verdict == "inconclusive"
    assert "excludes 0, but the test does not once it is corrected for 7 questions" in sentence(rows["a"])


def test_five_patients_settle_nothing_and_six_lean_on_the_t_distribution():
    other = np.array([0.5, 0.6, 0.7, 0.8, 0.65, 0.72])
    own = other + np.array([0.101, 0.099, 0.1, 0.102, 0.1, 0.098])
    five = one(own[:5], other[:5])
    assert five.p < 0.001
    assert five.verdict == "inconclusive"
    assert "5 patients are too few" in sentence(five)
    rows = compare(
        table({("a", n, 0, 0): own + 0.001 * n for n in (1, 2)} | {("b", n, 0, 0): other for n in (1, 2)}),
        "b", metrics=["dice"], pooled=False,
    )  # fmt: skip
    assert all(row.verdict == "better" for row in rows)
    assert "cannot give p below 0.031, and Holm's first threshold is 0.025" in sentence(rows[0])


@pytest.mark.parametrize("patients", [1, 2])
def test_one_or_two_patients_have_no_interval(patients):
    row = one(np.array([0.8, 0.9])[:patients], np.array([0.7, 0.75])[:patients])
    assert not row.difference.known
    assert "too few for an interval" in sentence(row)
    assert "nan" not in " ".join(comparison_rows([row])[1][0])


def test_more_millimetres_are_worse():
    worse = cohort(2.0, metric="hd95_mm", sizes=(1,), spread=0.2)
    (row,) = compare(worse, "scratch", metrics=["hd95_mm"])
    assert (row.verdict, row.ahead) == ("worse", 0)
    assert "HD95 by +1.9" in sentence(row)
    assert " mm [" in sentence(row)


def test_patients_are_the_unit_and_what_is_not_defined_is_left_out_and_said():
    owners = ["a", "a", "a", *"bcdefgh"]
    own = np.array([0.2, 0.2, 0.2, 0.8, 0.6, 0.7, 0.5, 0.9, NAN, 0.4])
    made = table({("a", None, 0, 0): own, ("b", None, 0, 0): own - 0.1}, owners=owners)
    (score, _) = scores_of(made, metrics=["dice"])
    assert score.interval.patients == 7
    assert score.interval.estimate == pytest.approx(np.mean([0.2, 0.8, 0.6, 0.7, 0.5, 0.9, 0.4]))
    rows = compare(made, [("a", "b")], metrics=["dice"], pooled=False)
    assert rows[0].left_out == 1
    assert "1 patient without a score" in notes_of([score], rows)[1]


def test_structures_are_averaged_in_a_case_and_told_one_by_one():
    rows = [("r", "", 0, 0, None, f"c{n}", f"p{n}", name, "dice", value, "")
            for n in range(4) for name, value in (("x", 1.0 - 0.1 * n), ("y", None if n else 0.4))]  # fmt: skip
    found = {
        score.target: score.interval for score in scores_of(ScoreTable.of_rows(rows), metrics=["dice"], targets=True)
    }
    assert list(found) == ["x", "y", ""]
    assert (found["x"].patients, found["y"].patients) == (4, 1)
    assert found[""].estimate == pytest.approx(np.mean([0.7, 0.9, 0.8, 0.7]))


def test_only_draws_and_seeds_that_all_runs_have_count():
    frame = cohort().frame.filter(~((pl.col("run") == "voco-seed1") & (pl.col("draw") == 2) & (pl.col("labels") == 1)))
    found = {row.labels: row for row in compare(ScoreTable(frame), "scratch", metrics=["dice"])}
    assert (found[1].difference.draws, found[4].difference.draws) == (3, 4)
    none = frame.filter((pl.col("run") != "scratch") | (pl.col("draw") > 3))
    assert compare(ScoreTable(none), "scratch", metrics=["dice"]) == []


def test_runs_that_share_no_case_are_refused():
    rows = [(run, "", 0, 0, None, f"{run}{n}", f"p{n}", "", "dice", 0.5, "") for run in "ab" for n in range(4)]
    with pytest.raises(DataError, match="share no scored case"):
        compare(ScoreTable.of_rows(rows), [("a", "b")], metrics=["dice"])
    with pytest.raises(DataError, match="Nothing was scored"):
        ScoreTable.joined([])


def test_with_one_run_every_table_and_sentence_says_so():
    single = cohort(runs=1)
    rows, scores = compare(single, "scratch", metrics=["dice"]), scores_of(single, metrics=["dice"])
    said = header([row.difference for row in rows])
    assert said == "95 % t interval over draws and patients; one run: variation between runs is not included"
    assert "one run: variation between runs is not included" in header([score.interval for score in scores])
    assert "one run: variation between runs is not included" in sentences(rows)[1]
    many = compare(cohort(), "scratch", metrics=["dice"])
    assert header([row.difference for row in many]) == "95 % t interval over runs, draws and patients"
    assert "luck" not in sentence(many[0])
    alone = one(np.linspace(0.5, 0.8, 9) + 0.01 * np.arange(9) ** 2, np.linspace(0.5, 0.8, 9))
    assert header([alone.difference], unit="cloud").startswith("95 % t interval over clouds; one run")


def test_intervals_see_the_luck_of_a_run_and_of_overlapping_draws():
    alike = compare(cohort(sizes=(1,)), "scratch", metrics=["dice"])[0].difference
    frame = cohort(sizes=(1,)).frame
    luck = (
        pl.when(pl.col("run") == "voco-seed0").then(0.05).when(pl.col("run") == "voco-seed1").then(-0.05).otherwise(0)
    )
    apart = ScoreTable(frame.with_columns(value=pl.col("value") + luck))
    (row,) = compare(apart, "scratch", metrics=["dice"])
    assert row.difference.high - row.difference.low > 5 * (alike.high - alike.low)
    (overlapped,) = compare(cohort(sizes=(1,)), "scratch", metrics=["dice"], overlap={1: 0.5})
    assert overlapped.difference.error > alike.error


def test_several_ways_of_fitting_in_one_sentence():
    row = next(row for row in compare(cohort(), "scratch", metrics=["dice"]) if row.labels == 4)
    rows = [replace(row, how=how, change="pretraining") for how in ("knn", "linear")]
    rows[1] = replace(rows[1], verdict="inconclusive", p_holm=0.3)
    verdict, said = across(rows, of="of the liver")
    assert verdict == "better"
    assert said.startswith("With 4 labelled patients, pretraining changed Dice of the liver by ")
    assert " (knn), " in said
    assert "an improvement by knn (p " in said
    assert said.endswith("; inconclusive by linear (p 0.3000 after Holm's correction for 2 questions).")
    assert across(rows[:1])[1] == sentences(rows[:1])[1]


def test_several_sizes_in_one_sentence():
    rows = [replace(row, change="pretraining") for row in compare(cohort(), "scratch", metrics=["dice"])]
    better, other = rows[0], replace(rows[1], verdict="inconclusive")
    verdict, said = sentences([other, better])
    assert verdict == "better"
    assert said.startswith("With 1 and 4 labelled patients, pretraining changed Dice by +0.047 [+0.040, +0.054], ")
    assert "(95 % CI over 3 pretraining runs, 4 draws and 12 test patients)" in said
    assert "an improvement with 1; inconclusive with 4 (p < 0.0001 and " in said
    assert said.endswith(" after Holm's correction for 2 questions).")
    assert "an improvement at each (p < 0.0001 and < 0.0001 " in sentences([better, replace(better, labels=2)])[1]
    assert sentences([better, replace(better, labels=2, verdict="worse")])[0] == "inconclusive"
    assert len(told_together(rows)) == 1


def test_scores_of_classifiers_go_through_pseudo_values():
    truth = np.arange(40) % 2

    def rows(run, draw, right):
        called = np.where(np.arange(40) < right, truth, 1 - truth)
        return [
            (run, "linear", 0, draw, 5, f"c{n}", f"p{n}", name, metric, float(value), "")
            for n in range(40)
            for number, name in enumerate(("no", "yes"))
            for metric, value in (
                ("probability", 0.9 if called[n] == number else 0.1), ("truth", truth[n] == number),
                ("predicted", called[n] == number),
            )
        ]  # fmt: skip

    made = ScoreTable.of_rows(
        [row for draw in range(3) for row in rows("scratch", draw, 20 + draw)]
        + [row for run in range(2) for draw in range(3) for row in rows(f"m-seed{run}", draw, 32 + draw + run)]
    )
    (row,) = compare(made, "scratch", metrics=["accuracy"])
    assert row.difference.estimate == pytest.approx(0.3125)
    assert row.run_means == pytest.approx((0.3, 0.325))
    assert (row.ahead, row.pairs, row.verdict, row.above) == (6, 6, "better", -1)
    scores = {score.arm: score for score in scores_of(made, metrics=["auroc"])}
    assert scores["scratch"].draw_means == pytest.approx((0.5, 0.525, 0.55))
    assert sentence(row).startswith("With 5 labelled patients, m differs from scratch in accuracy (linear) by +0.31")


def test_a_class_of_a_single_patient_allows_no_interval_of_its_auroc():
    rows = [("r", "", 0, 0, None, f"c{n}", f"p{n}", name, metric, value, "")
            for n in range(8) for number, name in enumerate("ab")
            for metric, value in (("probability", abs(number - n / 9)), ("truth", float((n == 0) == (number == 0))),
                                  ("predicted", float(number)))]  # fmt: skip
    auroc, accuracy = scores_of(ScoreTable.of_rows(rows), metrics=["auroc", "brier"])
    assert math.isfinite(auroc.interval.estimate)
    assert not auroc.interval.known
    assert "without one of the patients" in notes_of([auroc])[0]
    assert accuracy.interval.known


def test_what_is_written_is_read_back_and_other_forms_are_refused_with_the_way_out(tmp_path):
    rows, scores = compare(cohort(), "scratch", metrics=["dice"]), scores_of(cohort(), metrics=["dice", "hd95_mm"])
    rows = [*rows, replace(one(np.full(8, 0.8), np.full(8, 0.7)), labels=None)]
    path = tmp_path / "scores.json"
    write_summary(path, {"scores": scores, "comparisons": rows})
    content = json.loads(path.read_text())
    assert scores_in(content, path) == scores
    again = comparisons_in(content, path)
    assert again[:2] == rows[:2]
    assert math.isnan(again[2].p_holm)
    with pytest.raises(DataError, match=r"scores\.json: scores of an earlier release.*medssl evaluate"):
        comparisons_in({"comparisons": []}, path)
    with pytest.raises(DataError, match="damaged"):
        comparisons_in({"format": 2, "comparisons": [{}]}, path)
    cohort().write(tmp_path / "scores.parquet")
    assert ScoreTable.read(tmp_path / "scores.parquet").frame.equals(cohort().frame)
    pl.DataFrame({"run": ["a"], "dice": [0.5]}).write_parquet(tmp_path / "old.parquet")
    with pytest.raises(DataError, match=r"earlier release.*medssl evaluate"):
        ScoreTable.read(tmp_path / "old.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot be read"):
        ScoreTable.read(tmp_path / "bad.parquet")
    assert tuple(cohort().frame.columns) == COLUMNS


def test_tables_and_figure(tmp_path):
    scores, rows = scores_of(cohort(), metrics=["dice"]), compare(cohort(), "scratch", metrics=["dice"])
    heads, lines = score_rows(scores, baseline="scratch")
    assert heads == ["n", "arm", "Dice", "each run", "draws"]
    assert [line[:2] for line in lines] == [["1", "scratch"], ["1", "voco"], ["4", "scratch"], ["4", "voco"]]
    heads, lines = comparison_rows(rows)
    assert heads == ["n", "run", "against", "metric", "difference", "each run", "ahead", "better", "worse", "p",
                     "p Holm", "verdict"]  # fmt: skip
    assert lines[0][heads.index("verdict")] == "better"
    figure = draw_arms(scores, rows, tmp_path / "few_label.png", against="scratch")
    assert figure.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert [p.name for p in tmp_path.iterdir()] == ["few_label.png"]


def test_every_metric_has_a_function_a_range_and_one_sentence():
    from importlib import import_module

    for name, metric in METRICS.items():
        module, _, function = metric.function.rpartition(".")
        assert callable(getattr(import_module(module), function)), name
        assert metric.low < metric.high
        assert metric.definition.endswith((".", "2."))
        assert metric.sign == (1 if metric.better == "higher" else -1)


FEW = settings(max_examples=30, deadline=None)


@FEW
@given(st.lists(st.floats(0, 1), min_size=6, max_size=12), st.integers(0, 99))
def test_exchanging_the_arms_turns_the_comparison_round(values, seed):
    own = np.array(values)
    other = np.random.default_rng(seed).random(len(own))
    forward, back = one(own, other), one(other, own)
    assert forward.p == pytest.approx(back.p)
    assert (forward.above, forward.below) == (back.below, back.above)
    assert forward.difference.low == pytest.approx(-back.difference.high)
    turned = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    assert forward.verdict == turned[back.verdict]


@FEW
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1) | st.just(NAN), min_size=1, max_size=8))
def test_holm_only_raises_and_does_not_depend_on_the_order(p_values):
    corrected, again = holm(p_values), holm(dict(reversed(p_values.items())))
    assert list(corrected) == list(p_values)
    assert corrected == pytest.approx(again, nan_ok=True)
    for name, p in p_values.items():
        assert math.isnan(corrected[name]) if math.isnan(p) else p <= corrected[name] <= 1


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )


def test_false_alarms_of_the_verdict_stay_below_one_in_twenty():
    """Six questions a table, no effect: in how many tables is any of them called better or worse?"""
    alarms = 0
    for seed in range(60):
        made = cohort(0.0, runs=2, draws=3, patients=8, sizes=(1, 2, 4), spread=0.05, seed=seed)
        alarms += any(row.verdict != "inconclusive" for row in compare(made, "scratch", metrics=["dice"]))
    assert alarms <= 6


def test_an_auroc_of_one_class_is_said_to_be_none_and_two_patients_to_be_few():
    def rows(run, patients, truth):
        for number in range(patients):
            for name, value in (("ill", 0.3), ("well", 0.7)):
                for metric, kept in (("probability", value), ("truth", float(name == truth(number))), ("predicted", 0)):
                    yield (run, "", 0, 0, None, f"c{number}", f"p{number}", name, metric, float(kept), "")

    def asked(patients, truth):
        made = ScoreTable.of_rows([*rows("a", patients, truth), *rows("b", patients, truth)])
        found = compare(made, [("a", "b")], metrics=["auroc"], pooled=False)
        return found[0], notes_of(scores_of(made, metrics=["auroc", "auprc"], pooled=False), found)

    row, notes = asked(20, lambda _: "well")
    assert row.verdict == "inconclusive"
    assert sentence(row) == (
        "Nothing can be said of a and b in AUROC on 20 test patients: inconclusive, because all cases are of one "
        "class, so it is not defined."
    )
    (note,) = notes
    assert note.startswith("AUROC and AUPRC of a and b; AUROC of a against b: all cases are of one class") or (
        note.startswith("AUROC of a, b and a against b; AUPRC of a and b: all cases are of one class")
    )
    _, notes = asked(2, lambda number: ("ill", "well")[number])
    assert any("2 patients are too few for an interval" in note for note in notes)


def test_with_two_runs_tables_and_sentences_say_how_often_their_intervals_hold():
    """As often as `benchmarks/coverage.py` finds it where runs differ most; three runs come near to what is said."""
    simulated = runpy.run_path(str(Path(__file__).parents[4] / "benchmarks/coverage.py"))
    rng, held = np.random.default_rng(7), {}
    for runs in (2, 3):
        pair = simulated["drawn_tables"](rng, "runs differ most", 4000, runs, 8, 30)
        held[runs] = float(simulated["ours"](*pair)[0].mean())
    assert held[2] == pytest.approx(0.88, abs=0.015)
    assert held[3] > 0.915
    assert "88 of 100" in TWO_RUNS
    two, three = (compare(cohort(runs=n), "scratch", metrics=["dice"]) for n in (2, 3))
    assert header([row.difference for row in two]) == f"95 % t interval over runs, draws and patients; {TWO_RUNS}"
    assert f"test patients; {TWO_RUNS})" in sentence(two[0])
    assert "two runs" not in header([row.difference for row in three]) + sentence(three[0])
    rng = np.random.default_rng(0)
    names = [f"{arm}-seed{run}" for arm, runs in (("voco", 3), ("cvrl", 2)) for run in range(runs)]
    made = table({(name, 4, draw, 0): rng.normal(0.6, 0.02, 12) for name in names for draw in range(4)})
    (row,) = compare(made, [("voco", "cvrl")], metrics=["dice"])  # the baseline's two
    assert TWO_RUNS in sentence(row)


def test_draws_that_a_run_has_not_been_through_are_counted():
    frame = cohort().frame.filter(~((pl.col("run") == "voco-seed1") & (pl.col("draw") >= 1) & (pl.col("labels") == 1)))
    found = compare(ScoreTable(frame), "scratch", metrics=["dice"])
    assert [(row.labels, row.difference.draws, row.unfinished) for row in found] == [(1, 1, 3), (4, 4, 0)]
    (note,) = notes_of([], found)
    assert "only over the draws that every run has been through with 1, 3 left out" in note


def test_the_luck_of_the_only_run_of_a_baseline_is_not_passed_over():
    found = {f"{arm}-seed{run}": 0.6 + 0.01 * run for arm, runs in (("voco", 3), ("cvrl", 1)) for run in range(runs)}
    rng = np.random.default_rng(0)
    made = table({(name, 4, draw, 0): rng.normal(mean, 0.02, 12) for name, mean in found.items() for draw in range(4)})
    (row,) = compare(made, [("voco", "cvrl")], metrics=["dice"])
    assert (row.difference.runs, row.baseline_runs) == (3, 1)
    assert "one run of cvrl: variation between runs is not included" in sentence(row)
    (row,) = compare(cohort(sizes=(4,)), "scratch", metrics=["dice"])  # weights are drawn anew with each draw
    assert "luck" not in sentence(row)


def test_old_scores_of_a_run_are_refused_with_the_command_itself(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "run/run.yaml").write_text("data:\n  store: ../store\n")
    for path in (tmp_path / "run", tmp_path / "run/scores.json"):
        with pytest.raises(DataError) as caught:
            scores_in({"runs": {"run": {}, "scratch": {}}, "summary": []}, path)
        command = f"medssl evaluate {tmp_path / 'run'} --data {tmp_path / 'run' / '../store'}"
        assert str(caught.value).endswith(f"Make them again, with --against as before: {command}")
    with pytest.raises(DataError, match="that wrote them again"):
        scores_in({"protocol": "few-label"}, tmp_path / "run")
