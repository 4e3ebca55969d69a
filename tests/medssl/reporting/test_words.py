"""What sentences say of numbers, good and bad, worked out by hand."""

from __future__ import annotations

import pytest

from medssl.evaluation.intervals import Interval
from medssl.evaluation.paired import PairedComparison
from medssl.evaluation.summary import Comparison
from medssl.reporting.words import collapse_sentence, comparison_sentence, comparison_sentences, stopping_sentence


def found(mean, low, high, *, metric="dice", cases=12, p_holm=0.004, n=None):
    interval = Interval(estimate=mean, low=low, high=high, level=0.95, cases=cases)
    result = PairedComparison(median=interval, mean=interval, p=p_holm / 3, above=9, below=3, draw_means=(mean,))
    return Comparison(arm="a", baseline="b", n=n, metric=metric, result=result, p_holm=p_holm)


def test_no_improvement_is_claimed_where_the_test_has_no_p():
    verdict, text = comparison_sentence(found(0.5, 0.2, 0.9, p_holm=float("nan")), change="pretraining")
    assert verdict == "inconclusive"
    assert "not defined" in text
    assert "nan" not in text


def test_an_improvement():
    verdict, text = comparison_sentence(found(0.021, 0.008, 0.033), change="pretraining", labelled=4)
    assert verdict == "better"
    assert text.startswith("With 4 labelled patients, pretraining changed Dice by +0.021 (95 % CI +0.008 to +0.033)")
    assert "12 test patients: an improvement (p after Holm's correction 0.0040)" in text


def test_several_sizes_in_one_sentence():
    better, unclear = found(0.021, 0.008, 0.033, n=1), found(0.004, -0.002, 0.010, n=4)
    verdict, text = comparison_sentences([unclear, better], change="pretraining")
    assert verdict == "better"
    assert text == (
        "With 1 and 4 labelled patients, pretraining changed Dice by +0.021 [+0.008, +0.033], +0.004 [-0.002, +0.010] "
        "(95 % CI) on 12 test patients: an improvement with 1; inconclusive with 4."
    )
    assert comparison_sentences([better, found(0.03, 0.01, 0.05, n=2)], change="x")[1].endswith("improvement at each.")
    assert comparison_sentences([better, found(-0.03, -0.05, -0.01, n=2)], change="x")[0] == "inconclusive"
    assert comparison_sentences([unclear], change="x")[0] == "inconclusive"


def test_a_loss_is_called_a_loss():
    verdict, text = comparison_sentence(found(-0.05, -0.07, -0.03), change="pretraining")
    assert verdict == "worse"
    assert "Pretraining changed Dice by -0.050" in text
    assert "a loss" in text


def test_more_millimetres_are_worse_and_fewer_better():
    assert comparison_sentence(found(1.2, 0.4, 2.0, metric="hd95_mm"), change="x")[0] == "worse"
    verdict, text = comparison_sentence(found(-1.2, -2.0, -0.4, metric="hd95_mm"), change="x")
    assert verdict == "better"
    assert "HD95 by -1.20 mm (95 % CI -2.00 to -0.40)" in text


def test_an_interval_that_holds_zero_is_inconclusive():
    verdict, text = comparison_sentence(found(0.02, -0.01, 0.05), change="pretraining")
    assert verdict == "inconclusive"
    assert "the interval holds 0" in text


def test_the_test_must_confirm_the_interval():
    verdict, text = comparison_sentence(found(0.02, 0.001, 0.05, p_holm=0.09), change="pretraining")
    assert verdict == "inconclusive"
    assert "does not confirm" in text


@pytest.mark.parametrize("cases", [2, 5])
def test_few_patients_settle_nothing(cases):
    verdict, text = comparison_sentence(found(0.2, 0.1, 0.3, cases=cases, p_holm=0.19), change="pretraining")
    assert verdict == "inconclusive"
    assert "fewer than 6" in text


def test_one_patient_has_no_interval():
    nan = float("nan")
    verdict, text = comparison_sentence(found(0.2, nan, nan, cases=1, p_holm=1.0), change="pretraining")
    assert verdict == "inconclusive"
    assert "nan" not in text
    assert "1 test patient;" in text


def test_still_improving():
    points = [(100 * i, 1.0 / i) for i in range(1, 5)] + [(500, 0.1)]
    assert "still improving" in stopping_sentence("reconstruction", points)


def test_best_earlier():
    points = [(i, v) for i, v in enumerate([0.1, 0.3, 0.6, 0.7, 0.5, 0.4, 0.3])]
    text = stopping_sentence("position_accuracy", points)
    assert "best at step 3 (0.7)" in text
    assert "worse afterwards" in text


def test_standing_still():
    points = [(i, v) for i, v in enumerate([1.0, 0.5, 0.3, 0.25, 0.25, 0.2499, 0.25, 0.2499, 0.2499])]
    assert "stood still" in stopping_sentence("reconstruction", points)


def test_nothing_learned():
    points = [(i, v) for i, v in enumerate([0.5, 0.6, 0.7, 0.8])]
    assert "nothing was learned" in stopping_sentence("reconstruction", points)


def test_too_few_probes_and_signals_without_quality():
    assert "too few" in stopping_sentence("dice", [(1, 0.1), (2, 0.2)])
    assert stopping_sentence("spread", [(i, i) for i in range(9)]) == ""
    assert stopping_sentence("unheard_of", [(i, i) for i in range(9)]) == ""


def test_a_part_of_a_joined_method_is_read_as_the_method_is():
    points = [(i, v) for i, v in enumerate([0.1, 0.3, 0.6, 0.7, 0.5, 0.4, 0.3])]
    assert stopping_sentence("contrast_retrieval", points) == stopping_sentence("retrieval", points) != ""


def test_an_unfinished_run_is_said():
    points = [(i, v) for i, v in enumerate([0.5, 0.4, 0.3, 0.2])]
    assert "(of 100 planned)" in stopping_sentence("reconstruction", points, steps=100)


def test_collapse():
    limits = {"train.collapse_spread": 0.05, "train.collapse_rank": 2.0, "train.batch_size": 8}
    assert collapse_sentence({"spread": 0.9, "effective_rank": 6.0}, limits).startswith("No collapse")
    assert "spread of what is compared 0.01, under 0.05" in collapse_sentence({"spread": 0.01}, limits)
    # two windows have a rank of two at most, which is no sign of anything
    few = limits | {"train.batch_size": 2}
    assert collapse_sentence({"spread": 0.9, "effective_rank": 1.0}, few).startswith("No collapse")
    assert collapse_sentence({}, limits) == ""
