"""A task that the project does not have, added as CONTRIBUTING says: a file, a row of a domain, a row of a metric.

Neither `evaluate` nor the few-label protocol nor the report is touched for it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from medssl.domains.task import Labels, RunScores, Task
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.evaluation.metrics import METRICS, Metric
from medssl.evaluation.score_table import ScoreTable
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays
from medssl.table import Row
from medssl.volumes import VOLUMES
from medssl.workflows.evaluate import evaluate
from medssl.workflows.evaluate_settings import EvaluateSettings
from medssl.workflows.few_label import few_label
from medssl.workflows.report import report
from medssl.workflows.score_files import Scored

ENCODER = {"name": "unet", "channels": [4, 8]}


class Brightness(Task):
    """How bright a scan is: runs hold brightness.json, and the store knows the truth."""

    name = "classification"  # the place that it takes in this test
    kind = "brightness"
    noun = "scan"
    maker = "photometer"
    wanted = "scans"
    summary = "brightness_scores.json"
    metrics = ("brightness_error",)
    metric = "brightness_error"

    def labels(self, store, recipe, *, group=""):
        return Labels(class_of=lambda _: "scan", asked="brightness", facts={"target": "brightness"})

    def claims(self, run):
        return (run / "brightness.json").is_file()

    def test_set(self, data, settings, runs=()):
        store = VOLUMES.open(data)
        split = settings.split or "test"
        return {e.id: (e.patient, truth_of(int(e.id[1:]))) for e in store.entries if e.split == split}

    def described(self, test, run):
        return f"{len(test)} scans"

    def score(self, run, test, progress=lambda _: None):
        found = json.loads((run / "brightness.json").read_text())
        if not found.keys() & test.keys():
            raise DataError(f"{run}: no scan of the split was measured.")
        rows = [(item, patient, abs(found[item] - truth)) for item, (patient, truth) in test.items() if item in found]
        items, patients, values = zip(*rows, strict=True)
        table = ScoreTable.of_values(values, items, patients, run="", metric=self.metric)
        return RunScores(table=table, items=len(rows), failed={i: "not measured" for i in test if i not in found})

    def key(self, of):
        return [of.recipe["train"]["steps"], [e.id for e in of.entries], sorted(of.draws.sets.items())]


def truth_of(number):
    return float(100 + 10 * number)


@pytest.fixture
def house(tmp_path, monkeypatch):
    toy = Row(name="classification", target="tests.pipelines.test_toy_task.Brightness")
    monkeypatch.setitem(VOLUMES.tasks, "classification", toy)
    monkeypatch.setitem(METRICS, "brightness_error", Metric(
        name="brightness_error", words="error of brightness", better="lower", definition="|measured - true|.",
        function="tests.pipelines.test_toy_task.Brightness", high=float("inf"),
    ))  # fmt: skip
    items = [
        Item(id=f"s{n}", values=np.full((8, 8, 8), int(truth_of(n)), np.int16), patient=f"p{n}",
             split="train" if n < 4 else "test")
        for n in range(12)
    ]  # fmt: skip
    store_from_arrays(tmp_path / "store", items, classes={})
    encoder = build_encoder(ENCODER)
    card = Card(encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
                strides=encoder.strides, window=(8, 8, 8), spacing_mm=(1, 1, 1), modality="CT")  # fmt: skip
    (tmp_path / "pretrained").mkdir()
    save_encoder(encoder, card, tmp_path / "pretrained")
    return tmp_path


def measured(folder, error, ids=range(4, 12)):
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).uniform(0.5, 1.5, 12)
    (folder / "brightness.json").write_text(json.dumps({f"s{n}": truth_of(n) + error * noise[n] for n in ids}))
    return folder


def test_evaluate_scores_it_and_compares(house, capsys):
    good, poor = measured(house / "good", 1.0), measured(house / "poor", 5.0)
    found = evaluate(good, data=house / "store", against=[poor])
    assert isinstance(found, Scored)
    assert found.score("good", "brightness_error").interval.estimate < 1.5
    (row,) = found.comparisons
    assert (row.arm, row.baseline, row.verdict) == ("good", "poor", "better")  # lower is better: its Metric says so
    assert json.loads((good / "brightness_scores.json").read_text())["kind"] == "brightness"
    assert "8 scans; 2 runs: good, poor" in capsys.readouterr().out
    some = evaluate(measured(house / "some", 1.0, ids=range(4, 9)), data=house / "store")
    assert some.failed == {"some": {"s9": "not measured", "s10": "not measured", "s11": "not measured"}}
    (house / "empty").mkdir()
    with pytest.raises(ConfigError, match="no photometer predicted here"):
        evaluate(good, data=house / "store", against=[house / "empty"])


def test_few_labels_compare_it_as_any_other_task(house, capsys):
    def train(run, *, out, ids, from_scratch, **_):
        measured(out, (8.0 if from_scratch else 4.0) / len(ids))

    words = ["few_label.sizes=[1,2]", "few_label.draws=3", "few_label.finetune.task=classification"]

    def compare(*more):
        settings = resolve(EvaluateSettings, overrides=[*words, *more]).settings
        return few_label(
            [house / "pretrained"], data=house / "store", out=house / "few", settings=settings, train=train
        )

    found = compare()
    assert isinstance(found, Scored)
    assert found.score("scratch", "brightness_error", how="fine-tuned", labels=1).interval.estimate > 4
    assert {row.verdict for row in found.comparisons} == {"better"}
    assert "brightness; arms scratch, pretrained" in capsys.readouterr().out
    assert compare().scores == found.scores
    assert "12 runs, 12 done already" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="another recipe"):
        compare("few_label.finetune.train.steps=7")
    report(house / "few", out=house / "report.html")
    assert "error of brightness" in (house / "report.html").read_text()
