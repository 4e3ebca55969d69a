"""A report's answer: computed from the rows, what it is of, which arm is which, chance, and nothing twice."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import yaml

from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.metrics import CLASS_METRICS
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.evaluation.statistics.summary_file import as_json
from medssl.reporting.blocks import Picture, Section, Table
from medssl.reporting.findings import Headline, headline
from medssl.reporting.page import build_page, render_page
from medssl.reporting.reading import gather, kind_of
from medssl.reporting.scored import found_of, summary_of_table
from medssl.workflows.score_files import found_in, write_scores

CLASSES = ("well", "ill")


def cases(seed, gain, count=20):
    """Return the predictions of a classifier; six of ten cases are ill."""
    truth = (np.arange(count) % 5 > 1).astype(int)
    p = 1 / (1 + np.exp(-(gain * (2 * truth - 1) + np.random.default_rng(seed).normal(0, 2, count))))
    owners = tuple(f"p{n}" for n in range(count))
    return ClassPredictions(owners, owners, truth, np.stack([1 - p, p], 1), (p > 0.5).astype(int), CLASSES)


def classified(out, *runs, **content):
    """Write what ``evaluate`` leaves of classifiers."""
    out.mkdir(parents=True, exist_ok=True)
    table = ScoreTable.joined(
        ScoreTable.of_classes(cases(n, 1.5 - n), run=run).as_run(run, labels=8) for n, run in enumerate(runs)
    )
    found = found_in(
        table, [(runs[0], other) for other in runs[1:]], metrics=CLASS_METRICS,
        compared=["auroc", "balanced_accuracy", "brier"], level=0.95, pooled=False,
        change=lambda *_: "pretraining" if "scratch" in runs else "",
    )  # fmt: skip
    said = {"target": "diagnosis", "classes": CLASSES, "split": "test", **content}
    write_scores(found, out, "class_scores.json", kind="classification", unit="patient", metrics=CLASS_METRICS,
                 content=said)  # fmt: skip
    return out


def finetuned(folder, start):
    """Write the settings of a fine-tuning run."""
    folder.mkdir(parents=True)
    said = {
        "transfer": {"run": start, "from_scratch": not start},
        "train": {"steps": 6, "batch_size": 2, "log_every": 50},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(said))
    return folder


def test_the_difference_of_aurocs_leads_with_target_and_arms(tmp_path):
    out = classified(tmp_path / "scored", "pre", "scratch")
    finetuned(tmp_path / "runs/pre", "ct-voco")
    finetuned(tmp_path / "runs/scratch", "")
    found = headline(gather([out]))
    ((_, text),) = found.sentences
    row = next(c for c in json.loads((out / "class_scores.json").read_text())["comparisons"] if c["metric"] == "auroc")
    start = "With 8 labelled patients, pretraining changed AUROC of diagnosis (well, ill) by"
    assert text.startswith(f"{start} {row['difference']['estimate']:+.3f}")
    assert "95 % CI over 20 test patients" in text
    assert f"(p {row['p_holm']:.4f} after Holm's correction for 3 questions)" in text
    (arms,) = found.arms
    assert re.fullmatch(
        r"pre, from the encoder of ct-voco: 0\.\d{3} \[.*\]; scratch, from random initialization: 0\.\d{3} \[.*\]; "
        r"by chance: 0\.500\.", arms,
    )  # fmt: skip


def test_an_arm_alone_is_held_against_chance(tmp_path):
    found = headline(gather([classified(tmp_path / "scored", "pre")]))
    ((verdict, text),) = found.sentences
    assert verdict == ""
    assert text.startswith("With 8 labelled patients, pre reaches AUROC of diagnosis (well, ill) 0.")
    assert "(by chance 0.500)" in text
    assert "on 20 test patients" in text
    page = build_page(gather([tmp_path / "scored"])).html
    row = re.search(r"without learning.*?</tr>", page, re.DOTALL).group()
    cells = dict(re.findall(r'data-head="([^"]+)">([^<]*)<', row))
    assert (cells["AUROC"], cells["accuracy"], cells["balanced accuracy"]) == ("0.500", "0.600", "0.500")
    assert cells["AUPRC"] == "0.600"  # the share of the second class


def test_nothing_is_said_twice(tmp_path):
    both = classified(tmp_path / "both", "pre", "scratch")
    alone = classified(tmp_path / "pre", "pre")
    copy = classified(tmp_path / "copy", "pre", "scratch")
    found = headline(gather([alone, both, copy]))
    assert len(found.sentences) == 1
    assert found.sentences[0][1].startswith("With 8 labelled patients, pretraining changed AUROC")


def test_several_evaluations_are_all_answered_comparisons_first(tmp_path):
    one = classified(tmp_path / "one", "alone", target="grade")
    two = classified(tmp_path / "two", "pre", "scratch")
    found = headline(gather([one, two]))
    assert [bool(verdict) for verdict, _ in found.sentences] == [True, False]
    assert "of grade (well, ill)" in found.sentences[1][1]


def test_runs_of_one_name_are_distinguished_by_where_they_lie(tmp_path):
    for place, start in (("a", "of-a"), ("b", "of-b")):
        classified(tmp_path / place / "scored", "pre", "scratch")
        finetuned(tmp_path / place / "pre", start)
        finetuned(tmp_path / place / "scratch", "")
    table = ScoreTable.of_classes(cases(7, 0.4), run="pre")  # other rows, or the second would be a repeat
    ScoreTable.joined([table, ScoreTable.of_classes(cases(8, 0.2), run="scratch")]).write(
        tmp_path / "b/scored" / SCORES
    )
    found = headline(gather([tmp_path / "a/scored", tmp_path / "b/scored"]))
    assert [re.search(r"encoder of ([\w-]+)", arms).group(1) for arms in found.arms] == ["of-a", "of-b"]


def test_rows_and_summary_say_the_same(tmp_path):
    out = classified(tmp_path, "pre", "scratch")
    content = json.loads((out / "class_scores.json").read_text())
    found = found_of(out, content)
    assert found.table is not None
    assert json.loads(json.dumps(as_json([found.scores, found.comparisons]))) == [
        content["scores"],
        content["comparisons"],
    ]


def test_the_rows_are_believed_and_rows_of_another_evaluation_are_not(tmp_path):
    out = classified(tmp_path, "pre", "scratch")
    content = json.loads((out / "class_scores.json").read_text())
    ScoreTable.joined(
        [ScoreTable.of_classes(cases(0, 3.0), run="pre"), ScoreTable.of_classes(cases(1, 0.0), run="scratch")]
    ).write(out / SCORES)
    assert found_of(out, content).scores[0].interval.estimate != content["scores"][0]["interval"]["estimate"]
    ScoreTable.of_classes(cases(0, 3.0), run="somebody").write(out / SCORES)
    other = found_of(out, content)
    assert other.table is None
    assert "another evaluation" in other.note
    assert other.scores[0].interval.estimate == content["scores"][0]["interval"]["estimate"]
    assert any("another evaluation" in note for note in build_page(gather([out])).html.splitlines())


def test_a_table_of_scores_is_reported_with_and_without_its_summary(tmp_path):
    out = classified(tmp_path, "scratch", "pre")
    assert kind_of(out / SCORES) == ["score-table"]
    assert "of diagnosis (well, ill)" in headline(gather([out / SCORES])).sentences[0][1]
    (out / "class_scores.json").unlink()
    assert kind_of(out) == ["score-table"]
    ((_, text),) = headline(gather([out])).sentences
    assert "pre differs from scratch in AUROC of the classes well and ill by " in text
    assert summary_of_table(out / SCORES)["baseline"] == "scratch"
    build_page(gather([out]))


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_vectors_alone_name_their_run(tmp_path, suffix):
    import polars

    vectors = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    columns = {"id": [f"s{n}" for n in range(5)], "modality": ["CT"] * 5, "run": ["ct-voco"] * 5,
               "target_grade": ["low", "high", "low", "high", "low"]}  # fmt: skip
    if suffix == ".npz":
        np.savez(tmp_path / "v.npz", vectors=vectors, **{name: np.array(found) for name, found in columns.items()})
    else:
        polars.DataFrame({**columns, "vector": vectors.tolist()}).write_parquet(tmp_path / "v.parquet")
    page = build_page(gather([tmp_path / f"v{suffix}"]))
    assert page.headline.sentences == [
        ("", f"v{suffix}: 5 vectors of scans of the encoder of ct-voco. Nothing was scored.")
    ]
    assert "Colours are the grade" in page.html
    assert "3 low, 2 high" in page.html


def test_a_run_shorter_than_its_reports_says_why_there_is_no_curve(tmp_path):
    run = finetuned(tmp_path / "short", "")
    (run / "metrics.jsonl").write_text(json.dumps({"step": 6, "loss": 0.5, "lr": 1e-3}) + "\n")
    page = build_page(gather([run])).html
    assert (
        "No curve of short: its 1 report is of step 6 alone: it was to train for 6 steps, and reports every 50" in page
    )
    assert "train.log_every=1" in page
    rows = "".join(json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in (2, 4, 6))
    (run / "metrics.jsonl").write_text(rows)
    assert "No curve" not in build_page(gather([run])).html


def test_on_a_phone_a_matrix_stays_a_table_and_pictures_keep_to_the_page():
    table = Table(("truth", "called a", "called b"), (("a", "3", "1"), ("b", "0", "4")), caption="calls", matrix=True)
    picture = Picture("data:image/png;base64,AA==", 1400, 300, "views of a batch")
    page = render_page("t", Headline([("", "x")]), [Section("s", "S", [table, picture])])
    assert '<table class="matrix">' in page
    assert 'role="group" aria-label="calls"' in page
    small = page[page.index("@media (max-width:44rem)") :]
    assert "table:not(.matrix) tr { display:block" in small
    assert not re.search(r"[{ ;]tr \{ display:block", small.replace("table:not(.matrix) tr { display:block", ""))
    assert "max-width:min(100%,1400px)" in page
    assert "min-width:34rem" not in page


def test_the_most_frequent_class_is_no_pretrained_arm(tmp_path):
    """A probe shows it beside the others and compares it with none: it is chance, and no answer of its own."""
    out = classified(tmp_path / "probe", "cl", "random", protocol="probe")
    table = ScoreTable.joined(
        ScoreTable.of_classes(cases(n, gain), run=run).as_run(run, labels=8)
        for n, (run, gain) in enumerate({"cl": 1.5, "random": 0.5, "majority": 0.0}.items())
    )
    found = found_in(
        table, [("cl", "random")], metrics=CLASS_METRICS, compared=["auroc"], level=0.95, pooled=False,
        change=lambda *_: "pretraining",
    )  # fmt: skip
    said = {"target": "diagnosis", "classes": CLASSES, "split": "test", "protocol": "probe"}
    write_scores(found, out, "class_scores.json", kind="classification", unit="patient", metrics=CLASS_METRICS,
                 content=said)  # fmt: skip
    told = headline(gather([out]))
    assert len(told.sentences) == 1
    (arms,) = told.arms
    assert arms.startswith("cl, pretrained: ")
    assert "majority" not in str((told.sentences, told.arms))
