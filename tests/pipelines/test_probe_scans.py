"""The protocols for classes on synthetic patients, probe and few-label: the verb, its files, and who is labelled."""

import json

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, load_encoder, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.evaluate import evaluate

ENCODER = {"name": "unet", "channels": [4, 8]}
ASKED = ["probe.scans.target=diagnosis", "probe.shares=[0.4,1.0]", "probe.draws=3", "probe.how=[linear,knn]"]


def scan(number):
    """Return one of two scans of a patient: the ill are brighter in some slices."""
    patient = number // 2
    ill = patient % 2 == 1
    values = numpy_generator(3, number).normal(300, 60, (10, 18, 17))
    labels = np.zeros(values.shape, dtype=np.int16)
    if ill:
        labels[3:7, 4:13, 4:13] = 1
    values += 500 * labels
    return Item(
        id=f"s{number:02d}", values=values.astype(np.int16), labels=labels, patient=f"p{patient:02d}",
        split="train" if patient < 10 else "test", targets={"diagnosis": "ill" if ill else "well"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "store"
    return store_from_arrays(folder, [scan(n) for n in range(36)], classes={1: "tumour"}).folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        torch.manual_seed(seed)
        encoder = build_encoder(ENCODER)
        card = Card(
            encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
            strides=encoder.strides, window=(8, 16, 16), spacing_mm=(1, 1, 1), modality="CT",
        )  # fmt: skip
        (folder / f"voco-seed{seed}").mkdir()
        save_encoder(encoder, card, folder / f"voco-seed{seed}")
    return [folder / "voco-seed0", folder / "voco-seed1"]


def test_a_class_that_shows_is_read_off_by_both_probes(store, runs, tmp_path):
    outcome = evaluate(runs[0], against=runs[1:], data=store, out=tmp_path / "probe", protocol="probe", overrides=ASKED)
    content = json.loads((tmp_path / "probe/probe.json").read_text())
    rows = {(r["how"], r["labels"], r["arm"]): r for r in content["scores"]}
    assert set(rows) == {(how, n, arm) for how in ("linear", "knn") for n in (4, 10)
                         for arm in ("voco", "random", "majority")}  # fmt: skip
    assert all(len(row["run_means"]) == 2 for (*_, arm), row in rows.items() if arm != "majority")
    assert {rows[how, 10, "majority"]["interval"]["estimate"] for how in ("linear", "knn")} == {0.5}
    assert not any("majority" in (row["arm"], row["baseline"]) for row in content["comparisons"])
    assert rows["linear", 10, "voco"]["interval"]["estimate"] > 0.9
    assert {row.interval.patients for row in outcome.scores} == {8}
    assert len(content["comparisons"]) == 4
    assert {c["folds"] for c in content["chosen"]} == {2, 3}
    lines = (tmp_path / "probe/probe.csv").read_text().splitlines()
    # probes, encoders and the majority; of three draws of 4 patients two differ, and one is of all
    assert len(lines) == 1 + 2 * 5 * (2 + 1)
    assert (tmp_path / "probe/probe.png").stat().st_size > 10_000


def test_slices_are_asked_whether_they_show_a_structure(store, runs, tmp_path):
    outcome = evaluate(
        runs[0], data=store, out=tmp_path / "probe", protocol="probe",
        overrides=["probe.scans.shows=1", "probe.scans.level=slice", "probe.scans.window=[2,16,16]",
                   "probe.sizes=[6]",                    "probe.how=[linear]",
                   "probe.metric=balanced_accuracy"],
    )  # fmt: skip
    assert {(row.metric, row.labels) for row in outcome.scores} == {("balanced_accuracy", 6)}
    assert next(row for row in outcome.scores if row.arm == "voco").interval.estimate > 0.8


def test_named_patients_take_the_place_of_draws(store, runs, tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text("2: [[s00, s02]]\n")
    outcome = evaluate(
        runs[0], data=store, out=tmp_path / "probe", protocol="probe",
        overrides=["probe.scans.target=diagnosis", f"probe.subsets={path}", "probe.how=[knn]"],
    )  # fmt: skip
    assert outcome.table is not None
    assert set(outcome.table.frame.select("labels", "draw").rows()) == {(2, 0)}


def test_a_dry_run_writes_nothing_and_wrong_asks_are_refused(store, runs, tmp_path):
    out = tmp_path / "probe"
    assert evaluate(runs[0], data=store, out=out, protocol="probe", overrides=ASKED, dry_run=True).table is None
    assert not out.exists()
    with pytest.raises(ConfigError, match=r"probe\.scans\.target=NAME"):
        evaluate(runs[0], data=store, out=out, protocol="probe")
    with pytest.raises(DataError, match="split"):
        evaluate(runs[0], data=store, out=out, protocol="probe", overrides=[*ASKED, "split=val"])
    with pytest.raises(ConfigError, match="--shard"):
        evaluate(runs[0], data=store, out=out, protocol="probe", overrides=ASKED, shard="1/2")


def test_runs_of_other_windows_are_probed_where_one_window_is_named(store, runs, tmp_path):
    encoder = load_encoder(runs[0])
    other = tmp_path / "parts-seed0"
    other.mkdir()
    save_encoder(encoder, load_card(runs[0]).model_copy(update={"window": (4, 16, 16)}), other)
    words = [word for word in ASKED if "window" not in word]
    with pytest.raises(ConfigError, match="their window where the settings name none"):
        evaluate(runs[0], data=store, against=[other], out=tmp_path / "a", protocol="probe", overrides=words)
    words += ["probe.scans.window=[8,16,16]"]
    found = evaluate(runs[0], data=store, against=[other], out=tmp_path / "b", protocol="probe", overrides=words)
    assert {"voco", "parts"} <= {row.arm for row in found.scores}


FINE_TUNED = [
    "few_label.recipe=classification_small", "few_label.shares=[0.4]", "few_label.draws=2",
    "few_label.finetune.classification.target=diagnosis", "few_label.finetune.classification.window=[8,16,16]",
    "few_label.finetune.train.steps=2", "few_label.finetune.train.batch_size=2", "few_label.finetune.train.threads=1",
    "few_label.finetune.train.accelerator=cpu", "few_label.finetune.train.checkpoint_every=2",
    "few_label.finetune.train.precision=32-true",
]  # fmt: skip


@pytest.mark.slow
def test_arms_are_fine_tuned_at_shares_and_done_cells_are_kept(store, runs, tmp_path):
    out = tmp_path / "few"
    first = evaluate(runs[0], against=runs[1:], data=store, out=out, protocol="few-label", overrides=FINE_TUNED)
    assert not first.missing
    content = json.loads((out / "few_label.json").read_text())
    assert [(r["how"], r["labels"], r["arm"]) for r in content["scores"]] == [
        ("fine-tuned", 4, "scratch"), ("fine-tuned", 4, "voco"),
    ]  # fmt: skip
    assert [len(r["run_means"]) for r in content["scores"]] == [1, 2]
    assert len(content["comparisons"]) == 1
    cells = sorted((out / "cells").rglob("*.json"))
    assert len(cells) == 3 * 2
    kept = json.loads(cells[0].read_text())["rows"]
    assert len(set(kept["patient"])) == len(set(kept["item"])) == 8
    assert len((out / "few_label.csv").read_text().splitlines()) == 1 + 6
    before = [path.stat().st_mtime_ns for path in cells]
    again = evaluate(runs[0], against=runs[1:], data=store, out=out, protocol="few-label", overrides=FINE_TUNED)
    assert [path.stat().st_mtime_ns for path in cells] == before
    assert again.scores == first.scores
    with pytest.raises(ConfigError, match="another recipe"):
        evaluate(
            runs[0], data=store, out=out, protocol="few-label",
            overrides=[*FINE_TUNED, "few_label.finetune.train.lr=0.5"],
        )  # fmt: skip


def test_a_dry_run_says_the_cells_and_metrics_of_segmenters_are_refused(store, runs, tmp_path):
    out = tmp_path / "few"
    asked = [*FINE_TUNED, "few_label.shares=[0.4,1.0]"]
    outcome = evaluate(runs[0], data=store, out=out, protocol="few-label", overrides=asked, dry_run=True)
    assert len(outcome.missing) == 2 * 2 * 2
    assert {cell.n for cell in outcome.missing} == {4, 10}
    assert not out.exists()
    with pytest.raises(ConfigError, match="metric of segmenters"):
        evaluate(
            runs[0], data=store, out=out, protocol="few-label", overrides=[*FINE_TUNED, "few_label.metric=dice"],
            dry_run=True,
        )  # fmt: skip


def test_named_patients_decide_the_cells(store, runs, tmp_path):
    path = tmp_path / "sets.yaml"
    path.write_text("2: [[s00, s02], [s04, s06], [s08, s10]]\n")
    outcome = evaluate(
        runs[0], data=store, out=tmp_path / "few", protocol="few-label",
        overrides=[*FINE_TUNED, f"few_label.subsets={path}"], dry_run=True,
    )  # fmt: skip
    assert {(cell.n, cell.draw) for cell in outcome.missing} == {(2, 0), (2, 1), (2, 2)}
