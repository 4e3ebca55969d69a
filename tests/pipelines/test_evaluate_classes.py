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
    assert "every patient gives the same value" in capsys.readouterr().err
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


def run_of_five(folder, shown):
    """Write the table of a run of five classes, of which test patients show some; two scans a patient."""
    folder.mkdir()
    names = ["a", "b", "c", "d", "e"]
    rng = np.random.default_rng(5)
    rows, own = [], {}
    for number in range(24):
        patient, truth = number // 2, shown[number // 2 % len(shown)]
        p = rng.dirichlet(np.where(np.array(names) == truth, 2.5, 1.0))
        own.setdefault((f"p{patient}", truth), []).append(p)
        rows.append([f"s{number}", f"p{patient}", "test", "", "", truth, names[p.argmax()], *(f"{v:.9g}" for v in p)])
    with (folder / "predictions.csv").open("w", newline="") as file:
        heads = ["id", "patient", "split", "slice", "attended", "truth", "predicted", *(f"p_{name}" for name in names)]
        csv.writer(file).writerows([heads, *rows])
    (folder / "decision.json").write_text(json.dumps({"temperature": 1.0, "threshold": 0.5, "cases": 5}))
    return folder, own


def test_scores_are_over_the_classes_that_a_split_shows_and_say_so(tmp_path, capsys):
    folder, own = run_of_five(tmp_path / "a", ["a", "c", "d"])
    found = evaluate(folder, data=tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "scores are over 3 of 5 classes: the split 'test' shows no other than a, c, d" in said
    # a patient's probabilities are averaged, and the mean is over the three classes: pairs, counted one by one
    mean = {who: np.mean(p, axis=0) for who, p in own.items()}
    each = []
    for name in ("a", "c", "d"):
        of = [p["abcde".index(name)] for (_, truth), p in mean.items() if truth == name]
        other = [p["abcde".index(name)] for (_, truth), p in mean.items() if truth != name]
        each.append(np.mean([(x > y) + 0.5 * (x == y) for x in of for y in other]))
    assert found.score("a", "auroc").interval.estimate == pytest.approx(np.mean(each), abs=1e-6)
    assert found.score("a", "auroc").interval.patients == 12


def test_what_is_averaged_and_what_the_most_frequent_class_would_score_is_said(tmp_path, capsys):
    folder, _ = run_of_five(tmp_path / "a", ["a", "a", "c", "d"])
    evaluate(folder, data=tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "always naming the most frequent class would be right in 0.500 of cases, and has AUROC 0.5" in said
    assert "those of a patient's cases are averaged where all of them are of one class" in said


def test_all_classes_shown_need_no_word(tmp_path, capsys):
    folder, _ = run_of_five(tmp_path / "a", ["a", "b", "c", "d", "e"])
    evaluate(folder, data=tmp_path)
    assert "scores are over" not in capsys.readouterr().out
