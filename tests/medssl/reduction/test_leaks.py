"""What a split lets through: scans of one patient that look unlike, and every pair of many equal scans."""

from __future__ import annotations

from types import SimpleNamespace

from medssl.reduction.leaks import leaks_of
from medssl.reduction.verify import Level


def row(name, split, patient):
    return {"id": name, "split": split, "patient": patient}


def match(first, second, level=Level.SAME_ARRAY):
    agreement = SimpleNamespace(score=0.9)
    return SimpleNamespace(first=first, second=second, verdict=SimpleNamespace(level=level, agreement=agreement))


def pairs(rows, *matches):
    return [(leak.first, leak.second, leak.level) for leak in leaks_of(rows, SimpleNamespace(matches=matches))]


def test_a_patient_on_two_sides_is_told_though_nobody_compared_the_scans():
    rows = [row("a", "train", "p"), row("b", "test", "p"), row("c", "train", "q"), row("d", "train", "q")]
    (leak,) = leaks_of(rows, SimpleNamespace(matches=()))
    assert (leak.first, leak.second, leak.splits, leak.score) == ("a", "b", ("train", "test"), None)
    assert leak.level == Level.SAME_PATIENT.value


def test_of_equal_scans_every_pair_across_the_sides_is_told():
    """Only neighbours were compared: a with b, b with c, c with d."""
    rows = [row(name, "test" if name in "cd" else "train", name) for name in "abcd"]
    found = pairs(rows, match("a", "b"), match("b", "c"), match("c", "d"))
    assert found == [(first, second, Level.SAME_ARRAY.value) for first in "ab" for second in "cd"]


def test_scans_that_differ_or_have_no_split_are_no_leak():
    rows = [row("a", "train", "p"), row("b", "test", "q"), row("c", "", "p")]
    assert pairs(rows, match("a", "b", Level.DIFFERENT), match("b", "c")) == []
