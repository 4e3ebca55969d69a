"""Resampled scores against scikit-learn on repeated cases, and the table of methods against values made by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from medssl.errors import DataError
from medssl.evaluation.class_arms import ClassCell, arm_rows, compare_arms, gain_rows
from medssl.evaluation.class_resampling import RESAMPLED_METRICS, resampled_scores
from medssl.evaluation.class_summary import ClassPredictions
from medssl.evaluation.classes import class_scores


def predictions(classes=2, *, cases=60, patients=12, seed=0, skill=1.0):
    rng = np.random.default_rng(seed)
    truth = np.arange(cases) % classes
    logits = rng.normal(size=(cases, classes)).round(1) + skill * np.eye(classes)[truth]  # rounded: ties occur
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    owners = tuple(f"p{n:02d}" for n in rng.integers(0, patients, cases))
    return ClassPredictions(
        tuple(f"c{n}" for n in range(cases)), owners, truth, probability, probability.argmax(axis=1),
        tuple(f"k{c}" for c in range(classes)),
    )  # fmt: skip


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("metric", RESAMPLED_METRICS)
def test_a_weighted_score_is_the_score_of_repeated_cases(classes, metric):
    cases = predictions(classes)
    names, owner = np.unique(cases.patients, return_inverse=True)
    weight = np.random.default_rng(1).multinomial(len(names), np.full(len(names), 1 / len(names)), size=20)
    weight = np.concatenate([np.ones((1, len(names))), weight]).astype(int)
    expected = []
    for row in weight:
        rows = np.repeat(np.arange(len(cases)), row[owner])
        expected.append(class_scores(cases.probability[rows], cases.truth[rows], cases.predicted[rows])[metric])
    np.testing.assert_allclose(resampled_scores(cases, metric, weight), expected)


def test_scores_of_everybody_are_those_of_scikit_learn():
    cases = predictions(2)
    everybody = np.ones((1, len(set(cases.patients))))
    ours = {m: resampled_scores(cases, m, everybody)[0] for m in RESAMPLED_METRICS}
    assert ours["auroc"] == pytest.approx(roc_auc_score(cases.truth, cases.probability[:, 1]))
    assert ours["auprc"] == pytest.approx(average_precision_score(cases.truth, cases.probability[:, 1]))
    assert ours["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(cases.truth, cases.predicted))


def test_a_resample_without_a_class_has_no_auroc():
    cases = predictions(2, cases=4, patients=4)
    cases = ClassPredictions(
        cases.keys, ("a", "b", "c", "d"), cases.truth, cases.probability, cases.predicted, cases.classes
    )
    weight = np.array([[4, 0, 0, 0], [0, 2, 2, 0]])
    found = resampled_scores(cases, "auroc", weight)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
    assert np.isnan(resampled_scores(cases, "auprc", weight)[0])


def cells(gain=0.0, *, runs=2, draws=3, spread=0.0):
    """Return cells of scratch and of a method whose runs are ``spread`` apart and ``gain`` ahead, in accuracy."""
    truth = np.arange(40) % 2
    owners = tuple(f"p{n}" for n in range(40))

    def cell(arm, draw, right):
        predicted = np.where(np.arange(40) < right, truth, 1 - truth)
        probability = np.eye(2)[predicted] * 0.8 + 0.1
        found = ClassPredictions(owners, owners, truth, probability, predicted, ("no", "yes"))
        return ClassCell(arm=arm, how="linear", n=5, draw=draw, cases=found)

    result = [cell("scratch", draw, 20 + draw) for draw in range(draws)]
    for run in range(runs):
        result += [
            cell(f"m-seed{run}", draw, int(20 + draw + 40 * (gain + spread * (run - 0.5)))) for draw in range(draws)
        ]
    return result


def test_runs_of_one_method_are_one_row_with_the_mean_of_each():
    table = compare_arms(cells(0.2, spread=0.1), baseline="scratch", metric="accuracy")
    assert [(row.arm, len(row.run_means)) for row in table.scores] == [("scratch", 1), ("m", 2)]
    (row,) = table.comparisons
    assert row.difference.estimate == pytest.approx(0.2)
    assert row.run_means == pytest.approx((0.15, 0.25))
    assert (row.ahead, row.pairs) == (6, 6)
    assert table.scores[0].draw_means == pytest.approx((0.5, 0.525, 0.55))
    assert arm_rows(table)[1][1][2] == "m"
    assert gain_rows(table)[1][0][3] == "scratch"


def test_intervals_know_the_luck_of_a_pretraining_run():
    alike, apart = (compare_arms(cells(0.2, spread=s), baseline="scratch", metric="accuracy") for s in (0.0, 0.3))
    widths = [t.comparisons[0].difference.high - t.comparisons[0].difference.low for t in (alike, apart)]
    assert widths[1] > 1.5 * widths[0]


def test_equal_arms_are_not_told_apart_and_better_ones_are():
    same = compare_arms(cells(0.0), baseline="scratch", metric="accuracy").comparisons[0]
    assert same.difference.estimate == 0
    assert same.p == 1.0
    better = compare_arms(cells(0.35), baseline="scratch", metric="accuracy").comparisons[0]
    assert better.difference.low > 0
    assert better.p < 0.01


def test_holm_runs_over_the_table():
    more = cells(0.1) + [
        ClassCell(arm=c.arm.replace("m-", "k-"), how=c.how, n=c.n, draw=c.draw, cases=c.cases)
        for c in cells(0.05)
        if c.arm != "scratch"
    ]
    found = compare_arms(more, baseline="scratch", metric="accuracy").comparisons
    small, large = sorted(found, key=lambda row: row.p)
    assert small.p_holm == pytest.approx(min(1, 2 * small.p))
    assert large.p_holm == pytest.approx(max(small.p_holm, large.p))


def test_only_shared_draws_are_compared_and_other_cases_are_refused():
    some = [c for c in cells(0.2) if c.arm == "scratch" or c.draw != 1]
    row = compare_arms(some, baseline="scratch", metric="accuracy").comparisons[0]
    assert row.pairs == 4
    odd = cells()
    with pytest.raises(DataError, match="different cases"):
        compare_arms([*odd, ClassCell(arm="x", how="linear", n=5, draw=0, cases=predictions(2))], baseline="scratch")
    with pytest.raises(DataError, match="No classifier"):
        compare_arms([], baseline="scratch")
