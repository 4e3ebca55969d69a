"""Charts are well-formed, escape what they are told, and put values where they belong."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from medssl.reporting.charts import Marks, Series, interval_chart, line_chart, scatter_chart


def svg_of(text):
    return ElementTree.fromstring(re.match(r"<svg.*?</svg>", text, flags=re.DOTALL).group())


def test_a_line_falls_where_its_values_fall():
    drawn = svg_of(line_chart([Series("loss", [(0, 4.0), (50, 2.0), (100, 1.0)])], what="loss"))
    line = next(e for e in drawn.iter() if e.tag.endswith("polyline"))
    places = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    xs, ys = zip(*places, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[1] - ys[0] == pytest.approx(2 * (ys[2] - ys[1]), abs=0.3)  # the page counts downwards
    assert "loss from 4 at step 0 to 1 at 100" in drawn.attrib["aria-label"]


def test_values_that_are_not_finite_are_left_out():
    assert line_chart([Series("a", [(0, float("nan"))])], what="a") == ""
    drawn = line_chart([Series("a", [(0, 1.0), (1, float("inf")), (2, 1.0)])], what="a")
    assert "nan" not in drawn
    assert "inf" not in drawn.replace("info", "")


def test_a_single_place_makes_no_curve():
    assert line_chart([Series("a", [(300, 1.0)]), Series("b", [(300, 2.0)])], what="a") == ""


def test_names_are_escaped():
    evil = "<script>alert(1)</script>"
    for text in (
        line_chart([Series(evil, [(0, 1.0), (1, 2.0)]), Series("b", [(0, 2.0)])], what=evil),
        scatter_chart([(0, 0, evil, evil), (1, 1, "b", "c")], what=evil, x_name="x", y_name="y"),
        interval_chart([Marks(evil, [(evil, 1.0, 0.5, 1.5, ())])], what=evil, x_name="n"),
    ):
        assert "<script" not in text
        svg_of(text)


def test_intervals_span_their_ends_and_missing_ends_draw_none():
    arms = [Marks("a", [("1", 0.5, 0.4, 0.6, (0.45, 0.55)), ("2", 0.7, float("nan"), float("nan"), ())])]
    drawn = svg_of(interval_chart(arms, what="w", x_name="n", baseline=0.0))
    bars = [e for e in drawn.iter() if e.tag.endswith("line") and "c0" in e.attrib["class"]]
    assert len(bars) == 1
    dots = [e for e in drawn.iter() if e.tag.endswith("circle")]
    assert len(dots) == 2 + 2
    assert interval_chart([], what="w", x_name="n") == ""
