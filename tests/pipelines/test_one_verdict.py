"""One set of scores, shown to everybody who speaks of it: evaluate, report and auto say the same words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from medssl.chains.auto_outcome import outcome_of
from medssl.formats.nifti import write_nifti
from medssl.store.index import write_index
from medssl.store.write import write_entry
from medssl.workflows.evaluate import evaluate
from medssl.workflows.report import report

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])
RUN_YAML = """transfer:
  run: runs/masked
  from_scratch: {scratch}
train:
  steps: 4
  batch_size: 2
data:
  store: store
"""


def truth():
    labels = np.zeros((8, 20, 24), np.uint8)
    labels[2:6, 4:14, 4:16] = 1
    return labels


def scored(folder, pretrained, scratch):
    """Return the folder of two runs whose prediction of case i covers so many of the true columns."""
    entries = []
    for number in range(len(pretrained)):
        labels, name = truth(), f"case{number}"
        path = folder / "labels" / f"{name}.nii.gz"
        write_nifti(path, labels, AFFINE)
        record = write_entry(
            folder / "store", name, labels.astype(np.int16), AFFINE, labels, modality="MR", patient=f"p{number}",
            split="test", label_path=str(path),
        )  # fmt: skip
        entries.append(record.entry)
        for run, columns in (("pretrained", pretrained[number]), ("scratch", scratch[number])):
            guess = labels.copy()
            guess[:, :, 4 + columns :] = 0
            write_nifti(folder / "runs" / run / "predictions" / f"{name}.nii.gz", guess, AFFINE)
    write_index(folder / "store", entries, settings={}, classes={0: "background", 1: "organ"})
    for run, started in (("pretrained", "false"), ("scratch", "true")):
        (folder / "runs" / run / "run.yaml").write_text(RUN_YAML.format(scratch=started))
    return folder


@pytest.mark.parametrize(
    ("pretrained", "scratch", "verdict"),
    [
        ([10, 11, 10, 11, 10, 11, 10, 11], [6, 7, 6, 7, 7, 6, 6, 7], "better"),
        ([6, 7, 6, 7, 7, 6, 6, 7], [10, 11, 10, 11, 10, 11, 10, 11], "worse"),
        ([10, 6, 9, 7, 10, 6, 9, 7], [7, 9, 6, 10, 9, 7, 7, 9], "inconclusive"),
        ([9] * 8, [7] * 8, "inconclusive"),  # every patient gains as much: no p, and no p is no finding
        ([10, 11, 10, 11], [6, 7, 6, 7], "inconclusive"),  # four patients settle nothing
        # the interval excludes 0, but three metrics are asked: with raw p pretraining had helped
        ([9, 8, 10, 7, 9, 8], [7, 8, 8, 7, 6, 8], "inconclusive"),
    ],
)
def test_evaluate_report_and_auto_say_the_same_words(tmp_path, capsys, pretrained, scratch, verdict):
    folder = scored(tmp_path, pretrained, scratch)
    evaluate(folder / "runs/pretrained", data=folder / "store", against=[folder / "runs/scratch"],
             overrides=["workers=1"])  # fmt: skip
    printed = capsys.readouterr().out
    page = report(folder / "runs/pretrained", out=folder / "page.html")
    told = outcome_of(folder / "runs/pretrained/scores.json", arm="pretrained", baseline="scratch")
    (sentence,) = page.headline
    assert sentence in printed
    assert sentence in told.sentence
    assert told.facts["verdict"] == page.verdicts[0] == verdict
    assert re.match("Pretraining changed Dice of [a-z]+ by ", sentence)
    rows = json.loads((folder / "runs/pretrained/scores.json").read_text())["comparisons"]
    assert next(row for row in rows if row["metric"] == "dice")["verdict"] == verdict
    if verdict != "inconclusive":
        assert told.facts["p_holm"] < 0.05
    assert "nan" not in sentence


def test_figures_stay_figures_where_a_store_does_not_name_the_files_of_its_scans(tmp_path, monkeypatch):
    """A scan whose file is not known once stood for every "." of the page."""
    monkeypatch.chdir(tmp_path)
    scored(Path(), [10, 11, 10, 11, 10, 11, 10, 11], [6, 7, 6, 7, 7, 6, 6, 7])
    evaluate("runs/pretrained", data="store", against=["runs/scratch"], overrides=["workers=1"])
    page = report("runs/pretrained", "runs/scratch", out="page.html")
    told = outcome_of(Path("runs/pretrained/scores.json"), arm="pretrained", baseline="scratch")
    (sentence,) = page.headline
    assert sentence in told.sentence
    assert re.match(r"Pretraining changed Dice of [a-z]+ by \+0\.2", sentence)
