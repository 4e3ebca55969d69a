"""Scores of a task without a section of its own are shown like all others; those of earlier forms are refused."""

from __future__ import annotations

import json

import polars
import pytest

from medssl.errors import DataError
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.reporting.page import build_page
from medssl.reporting.reading import gather


def test_probes_of_an_earlier_release_are_refused_with_the_way_to_make_them_anew(tmp_path, found):
    content = found("accuracy", (0.731, 0.61, 0.84), (0.231, 0.1, 0.35), baseline="random", how="knn")
    (tmp_path / "probe.json").write_text(json.dumps(content | {"kind": "probe", "encoders": {"mine": {"probes": []}}}))
    with pytest.raises(DataError, match=r"earlier release.*Run the medssl evaluate command that wrote them again"):
        build_page(gather([tmp_path]))


def test_rows_alone_of_any_metric_that_is_known_make_a_page(tmp_path):
    frames = [
        ScoreTable.of_values([v, v + 1, v + 2], list("abc"), list("abc"), run=run, metric="landmark_mm").frame
        for run, v in (("mine", 2.0), ("other", 7.0))
    ]
    ScoreTable(polars.concat(frames)).write(tmp_path / SCORES)
    page = build_page(gather([tmp_path / SCORES])).html
    assert "landmark error" in page
    assert "3.00" in page
    assert "8.00" in page
    assert str(tmp_path) not in page
