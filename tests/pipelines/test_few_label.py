"""The few-label protocol as a verb: with a pretended trainer for its book-keeping, and once with real fine-tuning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from medssl.command import Command
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, save_encoder
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.evaluation.draws import labelled_patients
from medssl.formats.nifti import write_nifti
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.index import write_index
from medssl.store.write import write_entry
from medssl.workflows import events
from medssl.workflows.arms import digest
from medssl.workflows.evaluate import evaluate
from medssl.workflows.evaluate_settings import EvaluateSettings
from medssl.workflows.few_label import few_label, overrides_of
from medssl.workflows.result import Result
from pipelines import console

AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -10], [0, 0, 2.0, 5], [0, 0, 0, 1]])
ENCODER = {"name": "unet", "channels": [4, 8]}
FORMER_KEYS = {"segmentation": "a41da704ef3de249", "classification": "898caab408b22584"}


def scan_of(index):
    generator = np.random.default_rng(index)
    labels = np.zeros((16, 16, 16), np.uint8)
    z, y, x = generator.integers(2, 7, 3)
    labels[z : z + 7, y : y + 7, x : x + 6] = 1
    labels[z : z + 5, y : y + 4, x + 6 : x + 9] = 2
    values = 2000 + 6000 * (labels == 1) + 12000 * (labels == 2) + generator.normal(0, 400, labels.shape)
    return values.astype(np.int16), labels


def make_store(folder, *, train=6, test=4):
    entries = []
    for index in range(train + test):
        case, split = f"case{index:02d}", "train" if index < train else "test"
        values, labels = scan_of(index)
        write_nifti(folder / "labels" / f"{case}.nii.gz", labels, AFFINE)
        record = write_entry(
            folder / "store", case, values, AFFINE, labels, modality="MR", patient=f"patient{index:02d}", split=split,
            label_path=str(folder / "labels" / f"{case}.nii.gz"),
        )  # fmt: skip
        entries.append(record.entry)
    write_index(folder / "store", entries, settings={}, classes={1: "head", 2: "tail"})
    return folder / "store"


def make_run(folder, *, seed=0, encoder=ENCODER):
    import torch

    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_encoder(encoder)
    card = Card(
        encoder=encoder, in_channels=1, channels=network.channels, strides=network.strides, window=(16, 16, 16),
        scale=(0.0, 16384.0), spacing_mm=(2.0, 1.5, 1.5), modality="MR",
    )  # fmt: skip
    save_encoder(network, card, folder)
    return folder


@pytest.fixture
def house(tmp_path):
    make_store(tmp_path)
    make_run(tmp_path / "runs/voco")
    return tmp_path


def test_scans_that_have_classes_alone_are_classified_as_finetune_would(tmp_path, capsys):
    items = [
        Item(id=f"s{n}", values=np.full((16, 16, 16), n, np.int16), patient=f"p{n}",
             targets={"grade": ("high", "low")[n % 2]}, split="train" if n < 8 else "test")
        for n in range(12)
    ]  # fmt: skip
    store_from_arrays(tmp_path / "store", items, classes={})
    told = {"data": tmp_path / "store", "out": tmp_path / "few", "protocol": "few-label", "dry_run": True}
    words = ["few_label.sizes=[2]", "few_label.draws=1"]
    evaluate(make_run(tmp_path / "voco"), overrides=words, **told)
    said = capsys.readouterr().out
    assert "grade (high, low); arms scratch, voco; n = 2 of 8 labelled patients" in said
    # what was tried is what the last line runs
    assert said.splitlines()[-1].endswith("--protocol few-label 'few_label.sizes=[2]' few_label.draws=1")
    with pytest.raises(ConfigError, match=r"no label maps to segment by.*Take few_label.finetune.task=classification"):
        evaluate(tmp_path / "voco", overrides=[*words, "few_label.finetune.task=segmentation"], **told)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_cells_of_earlier_releases_are_kept(house, monkeypatch, task):
    """The keys are those of the release before encoders pooled and optimisers had AMSGrad."""
    from medssl.workflows import few_label as module

    made = []
    monkeypatch.setattr(module, "digest", lambda *parts: made.append(digest(*parts)) or made[-1])
    words = ["few_label.sizes=[1,2]", "few_label.draws=2", f"few_label.finetune.task={task}"]
    shows = ["few_label.finetune.classification.shows=2"] if task == "classification" else []
    told = {"data": house / "store", "out": house / "few", "protocol": "few-label", "dry_run": True}
    evaluate(house / "runs/voco", overrides=[*words, *shows], **told)
    evaluate(house / "runs/voco", overrides=[*words, *shows, "few_label.finetune.train.amsgrad=true"], **told)
    assert made[0] == FORMER_KEYS[task]
    assert made[len(made) // 2] != made[0]  # the first of the second call


class Pretended:
    """In place of ``finetune``: knows the truth and shifts it, by a voxel for scratch at n = 1, else not at all."""

    def __init__(self):
        self.calls = []

    def __call__(self, run, *, data, out, overrides, from_scratch, ids, predict, **_):
        seed = int(next(word for word in overrides if word.startswith("train.seed=")).partition("=")[2])
        start = None if from_scratch else run
        self.calls.append((start, seed, [f"patient{one.removeprefix('case')}" for one in ids]))
        shift = 1 if start is None and len(ids) == 1 else 0
        for one in predict:
            _, labels = scan_of(int(one.removeprefix("case")))
            write_nifti(out / "predictions" / f"{one}.nii.gz", np.roll(labels, shift, axis=2), AFFINE)


def settings_of(*overrides):
    return resolve(EvaluateSettings, overrides=list(overrides)).settings


FEW = ("few_label.sizes=[1,2]", "few_label.draws=3", "few_label.seeds=2")


def run(house, trainer, *overrides, **arguments):
    return few_label(
        [house / "runs/voco"], data=house / "store", out=house / "few", settings=settings_of(*FEW, *overrides),
        train=trainer, **arguments,
    )  # fmt: skip


def test_every_arm_gets_the_same_patients_and_seeds(house):
    trainer = Pretended()
    outcome = run(house, trainer)
    assert not outcome.missing
    by_arm = {start: [c[1:] for c in trainer.calls if c[0] == start] for start in (None, house / "runs/voco")}
    assert by_arm[None] == by_arm[house / "runs/voco"]
    assert len(by_arm[None]) == 12
    patients = [f"patient{i:02d}" for i in range(6)]
    for seed, chosen in by_arm[None]:
        assert seed in {1000 * draw + number for draw in range(3) for number in range(2)}
        drawn = [set(labelled_patients(patients, len(chosen), draw=d)) for d in range(3)]
        assert set(chosen) in drawn


def test_a_run_has_its_labelled_patients_alone_and_keeps_none_back(house):
    asked = []

    class Asked(Pretended):
        def __call__(self, run, **arguments):
            asked.append((len(arguments["ids"]), "data.held_out_scans=0" in arguments["overrides"]))
            return super().__call__(run, **arguments)

    run(house, Asked(), "few_label.draws=1", "few_label.seeds=1")
    assert sorted(asked) == [(1, True), (1, True), (2, True), (2, True)]


def test_tables_curve_and_listing(house, capsys):
    outcome = run(house, Pretended())
    gains = {row.labels: row for row in outcome.comparisons}
    assert gains[1].difference.estimate > 0.1
    assert gains[1].above == 4
    assert gains[2].difference.estimate == 0.0
    assert gains[2].verdict == "inconclusive"
    assert "both score the same" in gains[2].reason
    assert sorted(p.name for p in (house / "few").iterdir()) == [
        "cells", "few_label.csv", "few_label.json", "few_label.png", "scores.parquet", "work",
    ]  # fmt: skip
    assert [p for p in (house / "few/work").rglob("*") if not p.is_dir()] == []
    content = json.loads((house / "few/few_label.json").read_text())
    assert content["comparisons"][0]["arm"] == "voco"
    assert content["missing"] == []
    lines = (house / "few/few_label.csv").read_text().splitlines()
    assert lines[0].startswith("how,n,arm,draw,seed,dice")
    assert len(lines) == 25
    printed = capsys.readouterr()
    assert "Against scratch" in printed.out
    assert "an interval cannot be computed" in printed.err
    assert "two draws have labelled patients in common" in printed.out


def test_done_cells_are_kept_and_shards_add_up(house, capsys):
    first, second = Pretended(), Pretended()
    outcome = run(house, first, shard="1/2")
    assert len(first.calls) == 12
    assert len(outcome.missing) == 12
    assert "12 runs are not done yet" in capsys.readouterr().err
    outcome = run(house, second, shard="2/2")
    assert len(second.calls) == 12
    assert not outcome.missing
    again = Pretended()
    run(house, again)
    assert again.calls == []


def test_another_recipe_weights_or_data_are_refused(house):
    run(house, Pretended())
    with pytest.raises(ConfigError, match="another recipe"):
        run(house, Pretended(), "few_label.finetune.train.lr=0.5")
    with pytest.raises(ConfigError, match="another recipe"):
        run(house, Pretended(), "tolerance_mm=3")
    (house / "runs/voco/encoder.safetensors").write_bytes(b"other weights")
    with pytest.raises(ConfigError, match="voco"):
        run(house, Pretended())


def test_more_draws_and_arms_may_be_added(house):
    run(house, Pretended())
    make_run(house / "runs/mae", seed=3)
    trainer = Pretended()
    outcome = few_label(
        [house / "runs/voco", house / "runs/mae"], data=house / "store", out=house / "few",
        settings=settings_of(*FEW, "few_label.draws=4"), train=trainer,
    )  # fmt: skip
    assert len(trainer.calls) == 2 * 2 * 3 + 12  # draw 3 for three arms, draws 0-2 for the new one
    assert {row.arm for row in outcome.comparisons} == {"voco", "mae"}


def test_a_cell_that_fails_is_told_and_the_rest_goes_on(house, capsys):
    class Fails(Pretended):
        def __call__(self, run, **arguments):
            seed = next(int(word[11:]) for word in arguments["overrides"] if word.startswith("train.seed="))
            if seed % 1000 == 1 and arguments["from_scratch"]:
                raise RuntimeError("out of memory")
            return super().__call__(run, **arguments)

    outcome = run(house, Fails())
    assert len(outcome.failed) == 6
    assert "out of memory" in outcome.failed["cells/scratch/n1-draw0-seed1.json"][""]
    assert "out of memory" in capsys.readouterr().err
    # pairs that lack a partner are left out of the comparison, not of the means
    lines = (house / "few/few_label.csv").read_text().splitlines()
    assert sum(",voco," in line for line in lines) == 12
    assert sum(",scratch," in line for line in lines) == 6


class Warns(Pretended):
    """Says what `finetune` says: much, and one thing that matters."""

    def __call__(self, run, **arguments):
        events.message("42 scans")
        events.warning("the labels are odd")
        events.written(Result(written=(arguments["out"] / "card.json",), next=Command("evaluate", "RUN")))
        return super().__call__(run, **arguments)


@pytest.mark.from_python
def test_from_python_what_cells_warn_of_goes_to_the_log(house, capfd, caplog):
    with caplog.at_level("INFO", logger="medssl"):
        run(house, Warns(), "few_label.draws=1", "few_label.seeds=1", "few_label.sizes=[1]")
    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert [one.levelname for one in caplog.records if one.message == "the labels are odd"] == ["WARNING"] * 2
    assert not any("42 scans" in one.message or "card.json" in one.message for one in caplog.records)


def test_on_the_command_line_cells_warn_and_programs_read_it(house, capsys):
    with console.speaking(console.Manner(as_json=True)):
        run(house, Warns(), "few_label.draws=1", "few_label.seeds=1", "few_label.sizes=[1]")
    said = capsys.readouterr()
    assert "the labels are odd" in json.loads(said.out)["warnings"]
    assert "warning: the labels are odd" in said.err
    assert "42 scans" not in said.err


def test_a_run_that_was_begun_with_other_settings_is_begun_anew(house):
    class Strict(Pretended):
        def __call__(self, run, *, resume, **arguments):
            if resume:
                raise ConfigError("a resumed run must have the settings it was started with")
            return super().__call__(run, **arguments)

    begun = house / "few/work/scratch/n1-draw0-seed0"
    begun.mkdir(parents=True)
    (begun / "run.yaml").write_text("task: segmentation\n")
    trainer = Strict()
    outcome = run(house, trainer)
    assert not outcome.failed
    assert len(trainer.calls) == 24
    assert not begun.exists()


def test_who_stops_it_is_told_how_it_goes_on(house, capsys):
    class Stopped(Pretended):
        def __call__(self, run, **arguments):
            if self.calls:
                raise SystemExit(130)  # a training run that was told to stop
            return super().__call__(run, **arguments)

    with pytest.raises(SystemExit):
        run(house, Stopped())
    assert "run the same command to continue from here" in capsys.readouterr().out
    assert len(list((house / "few/cells").rglob("*.json"))) == 1


def test_all_cells_failing_is_an_error(house):
    class Fails(Pretended):
        def __call__(self, run, **arguments):
            raise RuntimeError("no such device")

    with pytest.raises(DataError, match="no such device"):
        run(house, Fails())


def test_dry_run_writes_nothing(house):
    before = sorted(house.rglob("*"))
    outcome = run(house, Pretended(), dry_run=True)
    assert sorted(house.rglob("*")) == before
    assert len(outcome.missing) == 24


def test_impossible_comparisons(house, tmp_path):
    with pytest.raises(DataError, match="1 to 6"):
        run(house, Pretended(), "few_label.sizes=[1,8]")
    with pytest.raises(ConfigError, match=r"few_label\.metric"):
        run(house, Pretended(), "few_label.metric=accuracy")
    with pytest.raises(DataError, match="'val'"):
        run(house, Pretended(), "split=val")
    with pytest.raises(CheckpointError, match="no finished encoder"):
        few_label([house], data=house / "store", out=house / "few", settings=settings_of(*FEW), train=Pretended())
    with pytest.raises(ConfigError, match="Two arms"):
        few_label([house / "runs/voco"] * 2, data=house / "store", out=house / "few", settings=settings_of(*FEW),
                  train=Pretended())  # fmt: skip
    leaky = tmp_path / "leaky"
    make_store(leaky)
    content = json.loads((leaky / "store/store.json").read_text())
    content["entries"][0]["patient"] = content["entries"][-1]["patient"]
    (leaky / "store/store.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="1 patients are both"):
        few_label([house / "runs/voco"], data=leaky / "store", out=house / "few", settings=settings_of(*FEW),
                  train=Pretended())  # fmt: skip


def test_settings_that_the_protocol_sets_are_refused(house):
    assert overrides_of({"train": {"steps": 7}, "segmentation.window": (16, 16, 16)}) == [
        "train.steps=7", "segmentation.window=[16, 16, 16]",
    ]  # fmt: skip
    for key in ("train.seed", "data.labels", "transfer.run", "transfer.from_scratch"):
        with pytest.raises(ConfigError, match=key):
            overrides_of({key: 1})
    with pytest.raises(ConfigError, match="steps"):
        run(house, Pretended(), "few_label.finetune.train.step=7")
    make_run(house / "runs/wide", encoder={"name": "unet", "channels": [8, 16]})
    with pytest.raises(ConfigError, match="two comparisons"):
        few_label([house / "runs/voco", house / "runs/wide"], data=house / "store", out=house / "few",
                  settings=settings_of(*FEW), train=Pretended())  # fmt: skip


REAL = ["few_label.sizes=[1]", "few_label.draws=2", "few_label.finetune.train.steps=30",
        "few_label.finetune.train.batch_size=2", "few_label.finetune.train.lr=0.01"]  # fmt: skip


@pytest.mark.slow
def test_real_fine_tuning_from_the_command_of_the_verb(house, capsys):
    outcome = evaluate(house / "runs/voco", data=house / "store", out=house / "few", protocol="few-label",
                       overrides=REAL)  # fmt: skip
    assert not outcome.failed
    assert {row.arm for row in outcome.scores} == {"scratch", "voco"}
    assert all(0.1 < row.interval.estimate <= 1 for row in outcome.scores)
    assert not list((house / "few/work").rglob("*.safetensors"))
    printed = capsys.readouterr().out
    assert printed.count("wrote") == 4  # one line a file of the comparison, none for each run
    # the same again is bit for bit the same
    again = evaluate(house / "runs/voco", data=house / "store", out=house / "again", protocol="few-label",
                     overrides=REAL)  # fmt: skip
    assert again.scores == outcome.scores


@pytest.mark.slow
def test_killed_and_started_again(house):
    command = [sys.executable, "-c", "import sys; from medssl.workflows.evaluate import evaluate; "
               f"evaluate({str(house / 'runs/voco')!r}, data={str(house / 'store')!r}, out={str(house / 'few')!r}, "
               f"protocol='few-label', overrides={REAL!r})"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    began = time.monotonic()
    while not list((house / "few/cells").rglob("n*.json")) and time.monotonic() - began < 120:
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = {p: p.read_bytes() for p in (house / "few/cells").rglob("n*.json")}
    assert done
    outcome = evaluate(house / "runs/voco", data=house / "store", out=house / "few", protocol="few-label",
                       overrides=REAL)  # fmt: skip
    assert not outcome.missing
    assert all(p.read_bytes() == content for p, content in done.items())
