"""Scores of parts on the page: every figure of part_scores.json, the picture, and none of the machine's paths."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medssl.errors import DataError
from medssl.reporting.page import build_page
from medssl.reporting.reading import gather
from pointcloud.part_examples import PartExample, draw_part_examples, part_colours


@pytest.fixture
def folder(tmp_path, found):
    content = found("instance_miou", (0.512, 0.41, 0.61), (0.05, 0.01, 0.09), baseline="scratch") | {
        "kind": "parts",
        "split": "test",
        "clouds": {"cup": 4, "lamp": 3},
        "parts": {"0": "handle", "4": "shade", "9": "of no cloud here"},
        "definitions": {"class_miou": "mean over classes"},
        "runs": {"mine": {"by_class": {"cup": 0.71, "lamp": 0.31}, "by_part": {"0": 0.83, "4": 0.27}},
                 "scratch": {"by_class": {"cup": 0.66}, "by_part": {"0": 0.64}}},
    }  # fmt: skip
    (tmp_path / "part_scores.json").write_text(json.dumps(content))
    return tmp_path


def test_figures_and_their_intervals_are_shown(folder):
    page = build_page(gather([folder])).html
    for text in ("Parts of clouds", "0.512 [0.410, 0.610]", "+0.050 [+0.010, +0.090]", "0.0400", "0.710", "0.310",
                 '<td data-head="part">shade', "0.270", "0.640", "t interval over clouds; one run: variation between",
                 "Paired, by cloud", "7 test clouds", "mean over classes",
                 "mine differs from scratch in mean IoU of shapes by +0.050", "split &#39;test&#39;"):  # fmt: skip
        assert text in page, text
    assert "of no cloud here" not in page
    assert str(folder) not in page
    assert "true and predicted parts" not in page


def test_scores_of_earlier_releases_are_refused_with_the_way_out(folder):
    content = json.loads((folder / "part_scores.json").read_text())
    del content["format"]
    (folder / "part_scores.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="medssl evaluate command that wrote them again"):
        build_page(gather([folder]))


def test_the_picture_is_shown_where_there_is_one(folder):
    points = np.random.default_rng(0).normal(size=(60, 3))
    truth = np.arange(60) % 3 + 10
    one = PartExample(title="cup, IoU 0.50", points=points, truth=truth, predicted={"mine": np.full(60, 11)})
    names = {10: "rim", 11: "handle", 12: "<base>"}
    draw_part_examples([one, one], folder / "part_examples.png", names)
    colours = part_colours([one], names)
    assert [name for name, _ in colours.values()] == ["rim", "handle", "<base>"]
    assert len({colour for _, colour in colours.values()}) == 3
    content = json.loads((folder / "part_scores.json").read_text())
    shown = {"parts_shown": [name for name, _ in colours.values()]}
    (folder / "part_scores.json").write_text(json.dumps(content | shown))
    page = build_page(gather([folder / "part_scores.json"])).html
    assert "clouds with their true parts and those of mine and scratch: rim, handle and &lt;base&gt;" in page


def test_the_pictures_colours_are_those_of_the_legend(folder):
    """A part has one colour in every cloud of the picture, whatever other parts the cloud has."""
    first = PartExample(title="a", points=np.random.default_rng(0).normal(size=(60, 3)), truth=np.arange(60) % 2,
                        predicted={"mine": np.full(60, 1)})  # fmt: skip
    second = PartExample(title="b", points=first.points, truth=np.full(60, 1), predicted={"mine": np.full(60, 2)})
    colours = part_colours([first, second], {0: "x", 1: "y", 2: "z"})
    assert list(colours) == [0, 1, 2]
    assert [name for name, _ in colours.values()] == ["x", "y", "z"]
    assert part_colours([second], {})[1][0] == "1"
