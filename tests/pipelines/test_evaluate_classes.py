import csv
import json

import numpy as np
import pytest

from medssl.domains.class_task import read_predictions
from medssl.errors import ConfigError, DataError
from medssl.workflows.evaluate import evaluate


def run(folder, noise, *, slices=1):
    """Write the table of a run of ten patients with two scans each, and five more in validation."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    (folder / "decision.json").write_text(json.dumps({"temperature": 1.0, "threshold": 0.5, "cases": 5}))
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "patient", "split", "slice", "attended", "truth", "predicted", "p_no", "p_yes"])
        for number in range(30):
            patient, split = number // 2, "test" if number < 20 else "val"
            for place in range(slices):
                truth = (patient + (place if slices > 1 else 0)) % 2
                p = 1 / (1 + np.exp(-(4 * truth - 2 + noise * rng.normal())))
                words = ["no", "yes"]
                writer.writerow(
                    [f"s{number}", f"p{patient}", split, place if slices > 1 else "", "",
                     "" if number == 19 else words[truth], words[int(p >= 0.5)], f"{1 - p:.6g}", f"{p:.6g}"]
                )  # fmt: skip
    return folder


def test_runs_are_scored_by_patient_and_compared(tmp_path, capsys):
    good, poor = run(tmp_path / "good", 0.5), run(tmp_path / "poor", 6.0)
    found = evaluate(good, data=tmp_path, against=[poor])
    auroc = found.score("good", "auroc").interval
    assert auroc.estimate == 1.0
    assert auroc.patients == 10
    assert not auroc.known  # all in order, so nothing is spread: [1.000, 1.000] would claim certainty
    assert "no spread" in capsys.readouterr().err
    assert {row.metric for row in found.comparisons} == {"auroc", "balanced_accuracy", "brier"}
    content = json.loads((good / "class_scores.json").read_text())
    assert np.array(content["runs"]["good"]["confusion"]).sum() == 10
    assert content["kind"] == "classification"


def test_slices_of_two_classes_stay_slices_of_their_patients(tmp_path):
    cases, decision = read_predictions(run(tmp_path / "a", 1.0, slices=4), "test")
    assert len(cases) == 19 * 4
    assert cases.by_patient(decision) is cases
    found = evaluate(tmp_path / "a", data=tmp_path, overrides=["split=val"])
    assert found.score("a", "auroc").interval.patients == 5


def test_what_is_wrong_is_said(tmp_path):
    good = run(tmp_path / "good", 0.5)
    with pytest.raises(DataError, match="split 'train'"):
        evaluate(good, data=tmp_path, overrides=["split=train"])
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="no classifier"):
        evaluate(good, data=tmp_path, against=[tmp_path / "other"])
    (good / "predictions.csv").write_text("id\nx\n")
    with pytest.raises(DataError, match="not a table of predicted classes"):
        evaluate(good, data=tmp_path)


def test_scores_that_one_class_cannot_give_are_said_to_be_none(tmp_path, capsys):
    folder = run(tmp_path / "a", 0.3)
    path = folder / "predictions.csv"
    rows = list(csv.reader(path.open(newline="", encoding="utf-8")))
    place = rows[0].index("truth")
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([rows[0], *(row for row in rows[1:] if row[place] == rows[1][place])])
    found = evaluate(folder, data=tmp_path)
    assert np.isnan(found.score("a", "auroc").interval.estimate)
    said = capsys.readouterr()
    assert "not defined" in said.out
    assert "of one class" in said.err + said.out
    assert json.loads((folder / "class_scores.json").read_text())["runs"]["a"]["roc"] == []
