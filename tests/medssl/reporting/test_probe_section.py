"""Probes of frozen encoders on the page: every figure of probe.json, and none of the machine's paths."""

from __future__ import annotations

import json

import pytest

from medssl.reporting.page import build_page
from medssl.reporting.reading import gather


@pytest.fixture
def folder(tmp_path, found):
    probe = {"protocol": "knn", "balanced_accuracy": 0.7, "chance": 0.25, "chosen": {}}
    tasks = [{"ways": 5, "shots": 10, "accuracies": [0.5, 0.7], "draws": 2}]
    content = found("probe_accuracy", (0.731, 0.61, 0.84), (0.231, 0.1, 0.35), baseline="random", how="knn") | {
        "kind": "probe",
        "protocols": {"knn": "20 nearest neighbours"},
        "settings": {"level": 0.95},
        "encoders": {"mine": {"probes": [probe], "few_shot": tasks}, "random": {"probes": [probe], "few_shot": tasks}},
    }
    (tmp_path / "probe.json").write_text(json.dumps(content))
    return tmp_path


def test_figures_and_their_intervals_are_shown(folder):
    page = build_page(gather([folder])).html
    for text in ("Frozen encoders", "0.731 [0.610, 0.840]", "0.500 (no interval)", "+0.231 [+0.100, +0.350]", "0.0400",
                 "0.600 (0.141)", "always the most frequent class: 0.250", "t interval over clouds", "Paired, by cloud",
                 "accuracy of random: too few", "20 nearest neighbours"):  # fmt: skip
        assert text in page, text
    assert str(folder) not in page


def test_without_few_shot_tasks_and_comparisons_their_tables_are_left_out(folder):
    content = json.loads((folder / "probe.json").read_text())
    content["comparisons"] = []
    content["encoders"] = {"mine": content["encoders"]["mine"] | {"few_shot": []}}
    (folder / "probe.json").write_text(json.dumps(content))
    page = build_page(gather([folder])).html
    assert "Few-shot" not in page
    assert "Paired" not in page
