"""What sentences say of numbers, good and bad, worked out by hand."""

from __future__ import annotations

from medssl.reporting.prose import collapse_sentence, stopping_sentence


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
    assert "did not change over the last quarter" in stopping_sentence("reconstruction", points)


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
