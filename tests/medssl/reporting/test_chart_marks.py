"""Series are told apart without colour, and what a chart shows can be saved."""

from __future__ import annotations

import csv
import io
import re
from itertools import pairwise
from urllib.parse import unquote

from medssl.reporting.chart_data import data_link
from medssl.reporting.chart_marks import dot, line_class, swatch
from medssl.reporting.charts import Marks, Series, interval_chart, line_chart, scatter_chart


def saved(chart: str) -> list[list[str]]:
    """Return the rows of the CSV that a chart's link holds."""
    link = re.search(r'href="data:text/csv;charset=utf-8,([^"]*)"', chart)
    assert link, chart[-300:]
    return list(csv.reader(io.StringIO(unquote(link.group(1)))))


def test_thirty_two_series_differ_and_neighbours_differ_in_both():
    names = [line_class(i) for i in range(32)]
    assert len(set(names)) == 32
    for one, next_ in pairwise(names):
        assert all(a != b for a, b in zip(one.split(), next_.split(), strict=True))


def test_points_have_four_shapes_about_their_place():
    drawn = [dot(i, 10, 20, 4) for i in range(4)]
    assert drawn[0].startswith("<circle")
    corners = [re.search(r'points="([^"]*)"', text).group(1).split() for text in drawn[1:]]
    assert [len(c) for c in corners] == [4, 3, 4]
    for own in corners:
        xs = [float(c.split(",")[0]) for c in own]
        assert abs(sum((min(xs), max(xs))) / 2 - 10) < 0.11
        assert max(xs) - min(xs) < 12


def test_titles_are_escaped():
    assert "<b>" not in dot(1, 0, 0, 1, title="<b>")


def test_legends_of_lines_show_their_dashes():
    chart = line_chart([Series(f"s{i}", [(0, 0), (1, i)]) for i in range(9)], what="nine")
    for i in range(9):
        assert chart.count(f'class="line {line_class(i)}"') == 2  # the line and its sign
    assert "polygon" in swatch(1, line=False)


def test_what_charts_show_can_be_saved():
    rows = saved(line_chart([Series("a", [(0, 0.125), (50, 0.5)])], what="x"))
    assert rows == [["series", "step", "value"], ["a", "0", "0.125"], ["a", "50", "0.5"]]
    rows = saved(scatter_chart([(1, 2, "g", "case, 1")], what="x", x_name="p", y_name="q"))
    assert rows == [["p", "q", "group", "name"], ["1", "2", "g", "case, 1"]]
    rows = saved(interval_chart([Marks("arm", [("4", 0.5, 0.4, 0.6, [0.45, 0.55])])], what="x", x_name="labels"))
    assert rows[1] == ["arm", "4", "0.5", "0.4", "0.6", "0.45 0.55"]


def test_words_are_no_formulas_and_long_charts_bring_no_table():
    rows = saved(data_link(("name",), [("=HYPERLINK(1)",), ("<script>",)]))
    assert rows[1:] == [["'=HYPERLINK(1)"], ["<script>"]]
    assert "<script>" not in data_link(("name",), [("<script>",)])
    assert data_link(("x", "y"), [(1.0, 2.0)] * 10_001) == ""
    assert data_link(("x",), []) == ""
