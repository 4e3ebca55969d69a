"""Classifiers on the page: what evaluate wrote is read, told in words, drawn and shown."""

import json

import numpy as np
import pytest

from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.score_table import ScoreTable
from medssl.reporting.class_section import class_section
from medssl.reporting.findings import headline
from medssl.reporting.page import build_page
from medssl.reporting.privacy import Cleaner
from medssl.reporting.reading import gather
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.evaluate import evaluate

CLASSES = ("well", "ill")


def scan(number):
    values = np.random.default_rng(number).normal(300, 60, (6, 18, 17))
    values[2:4, 5:12, 5:12] += 500 * (number % 2)
    return Item(
        id=f"s{number:02d}", values=values.astype(np.int16), patient=f"p{number:02d}", split="test",
        targets={"diagnosis": CLASSES[number % 2]},
    )  # fmt: skip


def run_folder(folder, *, noise, seed=0):
    """Write what finetune leaves of a classifier of 24 scans."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = ["id,patient,split,slice,attended,truth,predicted,p_well,p_ill"]
    for number in range(24):
        truth = number % 2
        p = 1 / (1 + np.exp(-(2.0 * (2 * truth - 1) + noise * rng.normal())))
        lines.append(
            f"s{number:02d},p{number:02d},test,,,{CLASSES[truth]},{CLASSES[int(p >= 0.5)]},{1 - p:.6g},{p:.6g}"
        )
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
    (folder / "decision.json").write_text(json.dumps({"temperature": 1.0, "threshold": 0.5, "cases": 8}))
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    store = store_from_arrays(folder / "store", [scan(n) for n in range(24)])
    good, poor = run_folder(folder / "good", noise=2.0), run_folder(folder / "poor", noise=6.0, seed=1)
    evaluate(good, against=[poor], data=store.folder)
    return folder


def test_scores_are_on_the_page_with_reliability_confusion_and_cases(scored):
    material = gather([scored / "good", scored / "store"])
    section = class_section(material, cases=True, clean=Cleaner(material.places()))
    kinds = [block.kind for block in section.blocks]
    assert kinds.count("overlays") == 2
    assert kinds.count("charts") == 2
    page = build_page(material)
    content = json.loads((scored / "good/class_scores.json").read_text())
    confusion = np.array(content["runs"]["good"]["confusion"])
    assert confusion.sum() == 24
    (table,) = (b for b in section.blocks if getattr(b, "caption", "") == "good: what was called what")
    assert [row[1:3] for row in table.rows] == [[str(n) for n in own] for own in confusion]
    for word in ("Reliability", "ROC curve", "AUROC", "cases right and wrong", "p of the same t", "wrong: "):
        assert word in page.html, word
    assert page.headline.sentences[0][1].startswith("good differs from poor in AUROC of the classes well and ill by +")


def test_examples_are_the_surest_one_a_patient_and_right_ones_come_first(scored):
    examples = json.loads((scored / "good/class_scores.json").read_text())["runs"]["poor"]["examples"]
    right = [case for case in examples if case["truth"] == case["predicted"]]
    wrong = [case for case in examples if case["truth"] != case["predicted"]]
    assert examples == right + wrong
    assert len(right) == 3
    assert 1 <= len(wrong) <= 3
    for group in (right, wrong):
        sure = [case["probability"] for case in group]
        assert sure == sorted(sure, reverse=True)


def test_without_the_store_cases_are_named_as_not_shown(scored):
    material = gather([scored / "good"])
    html = build_page(material).html
    assert "no store that was given holds them" in html


def arms(out, gain):
    """Write the probe of a method's two runs that call ``gain`` more of 40 cases right than random encoders."""
    truth = np.arange(40) % 2
    owners = tuple(f"p{n}" for n in range(40))
    cells = []
    for arm, right in (("random", 20), ("m-seed0", 20 + gain), ("m-seed1", 20 + gain)):
        for draw in range(3):
            predicted = np.where(np.arange(40) < right + draw, truth, 1 - truth)
            cases = ClassPredictions(owners, owners, truth, np.eye(2)[predicted] * 0.8 + 0.1, predicted, CLASSES)
            cells.append(ScoreTable.of_classes(cases, run=arm).as_run(arm, how="linear", labels=5, draw=draw))
    return write_arms(
        ScoreTable.joined(cells), out, name="probe", kind="classification", baseline="random",
        against="random encoders", metric="accuracy", metrics=["accuracy"], level=0.95, unit="patient",
        overlap={5: 0.0}, content={"target": "diagnosis"}, then="",
    )  # fmt: skip


@pytest.mark.parametrize(("gain", "said"), [(16, "an improvement"), (0, "inconclusive, because both score the same")])
def test_a_comparison_at_few_labels_is_told_and_drawn(tmp_path, gain, said):
    found = arms(tmp_path, gain)
    assert found.comparisons[0].difference.runs == 2
    material = gather([tmp_path])
    ((verdict, sentence),) = headline(material).sentences
    assert verdict == ("better" if gain else "inconclusive")
    assert said in sentence
    start = "With 5 labelled patients, pretraining changed accuracy (linear) of diagnosis (well, ill) by"
    assert sentence.startswith(start)
    html = build_page(material).html
    assert "Probes of frozen encoders" in html
    assert "linear: gain over random" in html
    assert "diagnosis: accuracy" in html
