"""``report`` on a store, scored runs and a few-label comparison: what is on the page, and what must never be."""

from __future__ import annotations

import html as html_module
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from medssl.errors import ConfigError, DataError
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import score_case
from medssl.formats.nifti import write_nifti
from medssl.store.index import write_index
from medssl.store.write import write_entry
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.evaluate import evaluate
from medssl.workflows.report import report
from pipelines import console

AFFINE = np.array([[-2.0, 0, 0, 20], [0, 2.0, 0, -10], [0, 0, 3.0, 5], [0, 0, 0, 1]])
CASES = [f"case{i}" for i in range(8)]
EVIL = "<script>alert('x')</script>"
RUN_YAML = """transfer:
  run: '{start}'      # command line
  from_scratch: {scratch}     # command line
segmentation:
  window: [16, 16, 16]       # default
encoder:
  name: unet                 # preset segmentation_small
train:
  steps: {steps}             # file {file}
  batch_size: 2              # default
  seed: 7                    # default
data:
  store: {store}             # command line
  labels: 4                  # command line
"""
PRETRAIN_YAML = """method:
  name: masked               # preset masked_small
encoder:
  name: unet                 # preset masked_small
train:
  steps: 400                 # default
  batch_size: 8              # default
  seed: 3                    # default
  collapse_spread: 0.05      # default
  collapse_rank: 2.0         # default
data:
  store: {store}             # command line
"""


def truth_of(index):
    labels = np.zeros((16, 24, 24), np.int16)
    labels[4:12, 4 : 12 + index % 3, 5:14] = 1
    labels[5:9, 15:20, 6 : 12 + index % 4] = 2
    return labels


def run_folder(folder, text, *, rows, card, transfer=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(text)
    (folder / "environment.json").write_text(
        json.dumps({"command": ["/usr/local/bin/medssl", "train", str(folder)], "python": "3.11.7", "cpus": 2,
                    "versions": {"torch": "2.9"}, "gpus": [], "platform": "Linux", "medssl": "0.1.0"})
    )  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "card.json").write_text(json.dumps(card))
    if transfer:
        (folder / "transfer.json").write_text(json.dumps(transfer))


@pytest.fixture
def cohort(tmp_path):
    """A store, a pretraining run, a run from it and one from scratch with predictions, scored against each other."""
    entries = []
    generator = np.random.default_rng(0)
    for index, case in enumerate([*CASES, EVIL]):
        labels = truth_of(index)
        values = (labels * 60 + generator.normal(0, 15, labels.shape)).astype(np.int16)
        write_nifti(tmp_path / "Jane Doe" / f"{index}.nii.gz", values, AFFINE)
        write_nifti(tmp_path / "labels" / f"{index}.nii.gz", labels, AFFINE)
        record = write_entry(
            tmp_path / "store", case, values, AFFINE, labels, modality="CT", patient=f"p{index}",
            split="test" if case in CASES else "train", source_path=str(tmp_path / "Jane Doe" / f"{index}.nii.gz"),
            label_path=str(tmp_path / "labels" / f"{index}.nii.gz"),
        )  # fmt: skip
        entries.append(record.entry)
        if case in CASES:
            near, far = labels.copy(), np.roll(labels, 2 + index % 2, axis=2)
            near[4, 4, 5 : 6 + index] = 0
            for name, guess in (("pre", near), ("scratch", far)):
                write_nifti(tmp_path / "runs" / name / "predictions" / f"{case}.nii.gz", guess, AFFINE)
    failed = {EVIL + "2": f"{tmp_path}/Jane Doe/2.nii.gz: damaged"}
    write_index(tmp_path / "store", entries, settings={"spacing_mm": [3.0, 2.0, 2.0]}, failed=failed,
                classes={0: "background", 1: "head", 2: "tail"})  # fmt: skip

    held = [{"step": 50 * i, "loss": 1 / i, "lr": 1e-3, "held_out/reconstruction": 1 / i, "held_out/spread": 0.8}
            for i in range(1, 9)]  # fmt: skip
    run_folder(tmp_path / "runs/masked", PRETRAIN_YAML.format(store=tmp_path / "store"), rows=held,
               card={"data": {"scans": 1, "patients": 1, "held_out": 0}, "citation": ["He et al. 2022"]})  # fmt: skip
    rows = [{"step": i, "loss": 2 / i, "part/dice": 1 / i, "part/cross_entropy": 1 / i} for i in range(1, 20)]
    card = {
        "data": {"scans": ["a", "b", "c", "d"], "patients": 4},
        "method": {"classes": {"0": "background", "1": "head"}},
    }
    moved = [{"name": "stem.weight", "status": "matched", "pretrained": [4, 1, 3, 3, 3], "network": [4, 1, 3, 3, 3]},
             {"name": "head.odd", "status": "shape", "pretrained": [4], "network": [8]}]  # fmt: skip
    transfer = {"encoder": {"part": "encoder", "source": str(tmp_path / "runs/masked"), "rows": moved, "share": 0.95}}
    for name, start, scratch in (
        ("pre", tmp_path / "runs/masked", "false"),
        ("scratch", tmp_path / "runs/masked", "true"),
    ):
        text = RUN_YAML.format(
            start=start, scratch=scratch, store=tmp_path / "store", steps=20, file=tmp_path / "my.yaml"
        )
        run_folder(tmp_path / "runs" / name, text, rows=rows, card=card, transfer=transfer if name == "pre" else None)
    (tmp_path / "runs/pre/predictions/predictions.json").write_text("{}")
    evaluate(
        tmp_path / "runs/pre", data=tmp_path / "store", against=[tmp_path / "runs/scratch"], overrides=["workers=1"]
    )
    return tmp_path


def few_label(folder, arms=(("scratch", 2), ("masked", 1))):
    """Write few_label.json as ``evaluate`` does, from scored maps."""
    cells = []
    for arm, shift in arms:
        for n in (1, 4):
            for draw in range(2):
                rows = []
                for index, case in enumerate(CASES):
                    guess = np.roll(truth_of(index), shift + draw * (index % 2) - (n == 4), axis=2)
                    rows += score_case(truth_of(index), guess, case=case, patient=f"p{index}",
                                       structures={1: "head", 2: "tail"}, spacing_mm=(3, 2, 2),
                                       tolerance_mm=1.0)  # fmt: skip
                cells.append(ScoreTable.of_structures(rows, run=arm).as_run(arm, draw=draw, labels=n))
    return write_arms(
        ScoreTable.joined(cells), folder, name="few_label", kind="segmentation", baseline="scratch", against="scratch",
        metric="dice", metrics=["dice"], level=0.95, unit="patient", overlap={}, content=
        {"settings": {"level": 0.95}, "missing": [], "failed": {}},
        then="",
    )  # fmt: skip


class Reader(HTMLParser):
    """Collects what a page holds, and whether every element is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read_page(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_the_whole_page(cohort):
    few_label(cohort / "few")
    result = report(cohort / "runs/pre", cohort / "runs/scratch", cohort / "few", out=cohort / "r.html")
    assert result.sections == ("evaluation", "finetuning", "pretraining", "data", "record")
    reader = read_page(result.path)
    source = result.path.read_text(encoding="utf-8")
    # nothing is fetched from anywhere
    loaded = [value for _, name, value in reader.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert loaded
    assert all(value.startswith(("data:", "#")) for value in loaded)
    assert "http://" not in source
    assert "https://" not in source
    assert "url(" not in source
    assert "@import" not in source
    assert "script" not in reader.tags
    # nothing of the machine or of a name in its paths
    assert str(cohort) not in source
    assert "Jane" not in source
    assert not re.search(r"(?<![\w<.])/(?:home|tmp|usr|root|data|work)/", html_module.unescape(source))
    # a scan's id that is code is text
    assert "<script>" not in source
    assert "<script>alert('x')</script>" in "".join(reader.text)
    # every picture speaks
    pictures = reader.tags.count("img")
    told = [value for tag, name, value in reader.attributes if tag == "img" and name == "alt" and value]
    assert pictures == len(told) > 0
    for part in (
        "head.odd",
        "He et al. 2022",
        "directed 95th percentiles",
        "best: case",
        "worst: case",
        "median: case",
    ):
        assert part in "".join(reader.text)


def test_the_headline_is_that_of_the_scores(cohort):
    alone = report(cohort / "runs/pre", out=cohort / "r.html", overrides=["follow=false"])
    content = json.loads((cohort / "runs/pre/scores.json").read_text())
    found = next(c for c in content["comparisons"] if c["metric"] == "dice")
    mean = found["difference"]
    numbers = (f"by {mean['estimate']:+.3f} [{mean['low']:+.3f}, {mean['high']:+.3f}] (95 % CI over 8 test patients; "
               "one run: variation between runs is not included)")  # fmt: skip
    assert alone.headline[0].startswith(
        f"With 4 labelled patients, pretraining changed Dice of head and tail {numbers}: an improvement"
    )
    both = report(cohort / "runs/pre", out=cohort / "r.html")  # the one that it was compared with is found beside it
    assert both.headline[0] == alone.headline[0]
    assert f"{found['p_holm']:.4f}" in both.headline[0] or "< 0.0001" in both.headline[0]
    assert both.verdicts == ("better",)
    assert both.headline[0] in "".join(read_page(both.path).text)


def test_the_headline_of_a_few_label_comparison(cohort):
    found = few_label(cohort / "few")
    result = report(cohort / "few", out=cohort / "few.html")
    assert result.sections == ("evaluation", "pretraining", "data", "record")  # the run that is compared lies beside
    page = (cohort / "few.html").read_text()
    assert "masked, pretrained by masked: " in page
    assert "scratch, from random initialization: " in page
    (sentence,) = result.headline
    assert sentence.startswith("With 1 and 4 labelled patients, pretraining changed Dice of head and tail by ")
    for comparison in found.comparisons:
        mean = comparison.difference
        assert f"{mean.estimate:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]" in sentence


def test_several_pretraining_runs_are_told_as_one(cohort):
    few_label(cohort / "few", arms=(("scratch", 2), ("masked-seed0", 1), ("masked-seed1", 1)))
    result = report(cohort / "few", out=cohort / "few.html")
    (sentence,) = result.headline
    assert sentence.startswith("With 1 and 4 labelled patients, pretraining changed Dice of head and tail by +")
    assert "over 2 pretraining runs, 2 draws" in sentence
    assert "masked, pretrained (masked-seed0 and masked-seed1): " in (cohort / "few.html").read_text()
    assert "t interval over runs, draws and patients" in (cohort / "few.html").read_text()


def test_other_differences_of_the_runs_are_said(cohort, capsys):
    path = cohort / "runs/scratch/run.yaml"
    path.write_text(path.read_text().replace("steps: 20", "steps: 10"))
    report(cohort / "runs/pre", cohort / "runs/scratch", out=cohort / "r.html")
    assert "differ in more than their start: train.steps: 20 and 10" in capsys.readouterr().err
    assert "train.steps: 20 and 10" in (cohort / "r.html").read_text()


@pytest.mark.parametrize(
    ("given", "sections"),
    [
        (["store"], ("data", "record")),
        (["runs/masked"], ("pretraining", "record")),
        (["runs/pre"], ("evaluation", "finetuning", "record")),
        (["runs/pre/scores.json"], ("evaluation", "record")),
    ],
)
def test_sections_follow_their_material(cohort, given, sections):
    result = report(*(cohort / name for name in given), out=cohort / "r.html", overrides=["follow=false", "pictures=1"])
    assert result.sections == sections
    read_page(result.path)


def test_pretraining_alone_promises_nothing(cohort):
    result = report(cohort / "runs/masked", out=cohort / "r.html", overrides=["follow=false"])
    assert "Whether it helps a task is not known" in result.headline[0]
    text = "".join(read_page(result.path).text)
    assert "Held-out reconstruction error went from 1 at step 50 to 0.125 at step 400" in text


def test_a_map_of_embeddings(cohort):
    vectors = np.random.default_rng(1).normal(size=(9, 12)).astype(np.float32)
    np.savez(cohort / "runs/masked/embeddings.npz", vectors=vectors, id=np.array([*CASES, EVIL]),
             modality=np.array(["CT"] * 9), split=np.array(["test"] * 8 + ["train"]))  # fmt: skip
    report(cohort / "runs/masked", out=cohort / "r.html", overrides=["follow=false"])
    reader = read_page(cohort / "r.html")
    assert "9 vectors of 12 numbers" in "".join(reader.text)
    assert "<script>" not in (cohort / "r.html").read_text()
    left = np.linalg.svd(vectors - vectors.mean(0))[1] ** 2
    assert f"{left[:2].sum() / left.sum():.0%} of the variance" in "".join(reader.text)


def test_a_lost_source_is_drawn_from_the_store(cohort):
    for path in (cohort / "Jane Doe").iterdir():
        path.unlink()
    report(cohort / "runs/pre", out=cohort / "r.html")
    assert "worst: case" in "".join(read_page(cohort / "r.html").text)


def test_dry_run_writes_nothing_and_json_says_everything(cohort, capsys):
    result = report(cohort / "runs/pre", out=cohort / "r.html", dry_run=True)
    assert result.path is None
    assert not (cohort / "r.html").exists()
    capsys.readouterr()
    with console.speaking(console.Manner(as_json=True)):
        report(cohort / "runs/pre", out=cohort / "r.html")
    said = json.loads(capsys.readouterr().out)
    assert said["written"] == [str(cohort / "r.html")]
    assert "evaluation" in said["sections"]
    assert said["headline"][0]["verdict"] == "better"


def test_what_is_no_material_is_named(cohort):
    with pytest.raises(DataError, match="is not there"):
        report(cohort / "nothing", out=cohort / "r.html")
    with pytest.raises(DataError, match="none of these"):
        report(cohort / "labels", out=cohort / "r.html")
    with pytest.raises(DataError, match="Nothing to report on"):
        report(out=cohort / "r.html")
    with pytest.raises(ConfigError, match=r"\.html"):
        report(cohort / "store", out=cohort / "r.pdf")
