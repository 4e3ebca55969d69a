import csv
import json

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_encoder, save_encoder
from medssl.errors import CheckpointError, ConfigError, DataError
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.classifier import load_classifier
from medssl.tasks.segmenter import load_segmenter
from medssl.workflows.finetune import finetune

ENCODER = {"name": "unet", "channels": [4, 8]}
QUICK = [
    "classification.window=[8,16,16]", "train.steps=4", "train.batch_size=4", "train.log_every=2",
    "train.checkpoint_every=2", "train.threads=1", "train.accelerator=cpu",
]  # fmt: skip
FLAT = [
    "encoder.name=unet", "encoder.channels=[4,8]", "encoder.strides=[1,[1,2,2]]", "encoder.kernels=[[1,3,3],[1,3,3]]",
    *QUICK, "classification.window=[1,16,16]",
]  # fmt: skip
DIAGNOSIS = "classification.target=diagnosis"


def scan(number: int) -> Item:
    """Return one of two scans of a patient: ill patients have a bright ball in some slices."""
    patient = number // 2
    ill = patient % 2 == 1
    values = numpy_generator(3, number).normal(0, 60, (10, 18, 17))
    labels = np.zeros(values.shape, dtype=np.int16)
    if ill:
        labels[3:7, 5:12, 5:12] = 1
    values += 700 * labels
    split = "train" if patient < 6 else "val" if patient < 8 else "test"
    return Item(
        id=f"s{number:02d}", values=values.astype(np.int16), labels=labels, patient=f"p{patient:02d}", split=split,
        targets={} if number == 23 else {"diagnosis": "ill" if ill else "well", "side": "left"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "store"
    return store_from_arrays(folder, [scan(n) for n in range(24)], classes={1: "tumour"})


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(5)
    encoder = build_encoder(ENCODER)
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
        strides=encoder.strides, window=(8, 16, 16), spacing_mm=(1, 1, 1), modality="CT",
    )  # fmt: skip
    save_encoder(encoder, card, folder)
    return folder


def table(folder):
    with (folder / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_only_target_of_a_store_without_label_maps_is_learned(pretrained, tmp_path, capsys):
    items = [Item(id=f"s{n}", values=np.zeros((10, 18, 17), np.int16) + n, patient=f"p{n}", split="train",
                  targets={"grade": "high" if n % 2 else "low"}) for n in range(6)]  # fmt: skip
    store = store_from_arrays(tmp_path / "store", items)
    finetune(pretrained, data=store.folder, out=tmp_path / "a", overrides=QUICK, dry_run=True)
    said = capsys.readouterr().out
    assert "task: classification, auto (the store's scans have classes and no label maps)" in said
    assert "classifier of grade, by scans (high 3, low 3)" in said
    with pytest.raises(ConfigError, match=r"They have classes: grade \(high, low\). Take --task classification"):
        finetune(pretrained, data=store.folder, out=tmp_path / "a", task="segmentation", dry_run=True)


def test_label_maps_alone_name_segmentation_and_what_a_scan_shows(pretrained, tmp_path):
    items = [Item(id=f"s{n}", values=np.zeros((10, 18, 17), np.int16), labels=np.ones((10, 18, 17), np.int16),
                  patient=f"p{n}", split="train") for n in range(4)]  # fmt: skip
    store = store_from_arrays(tmp_path / "store", items, classes={1: "tumour"})
    with pytest.raises(ConfigError, match=r"Take --task segmentation, or classification.shows=NUMBER"):
        finetune(pretrained, data=store.folder, out=tmp_path / "a", task="classification", overrides=QUICK)


def test_a_classifier_of_scans_leaves_a_table_a_card_and_a_decision(store, pretrained, tmp_path):
    out = tmp_path / "a"
    run = finetune(pretrained, data=store.folder, out=out, task="classification", overrides=[*QUICK, DIAGNOSIS])
    names = {path.name for path in out.iterdir()}
    assert {"network.safetensors", "encoder.safetensors", "card.json", "transfer.json", "decision.json"} <= names
    assert json.loads((out / "transfer.json").read_text())["encoder"]["share"] == 1.0
    rows = table(out)
    assert [row["id"] for row in rows if row["split"] == "test"] == [f"s{n}" for n in range(16, 24)]
    assert [row["id"] for row in rows if row["split"] == "val"] == ["s12", "s13", "s14", "s15"]
    assert {row["split"] for row in rows} == {"val", "test"}
    assert [row["truth"] for row in rows][-4:] == ["well", "well", "ill", ""]
    assert all(float(row["p_ill"]) + float(row["p_well"]) == pytest.approx(1, abs=1e-4) for row in rows)
    decision = json.loads((out / "decision.json").read_text())
    assert decision["cases"] == 4
    assert all((float(row["p_well"]) >= decision["threshold"]) == (row["predicted"] == "well") for row in rows)
    assert set(run.scores) >= {"auroc", "balanced_accuracy", "ece"}
    assert run.classifier().class_names == ("ill", "well")
    torch.testing.assert_close(load_encoder(out).state_dict(), dict(run.classifier().encoder.state_dict()))
    with pytest.raises(CheckpointError, match="not of a segmenter"):
        load_segmenter(out)
    with pytest.raises(CheckpointError, match="not of a classifier"):
        load_classifier(pretrained)


@pytest.mark.parametrize(
    ("level", "what", "rows"),
    [("slice", "classification.shows=1", 12 * 10), ("slice", DIAGNOSIS, 12), ("set", DIAGNOSIS, 12)],
)
def test_slices_and_sets_of_slices(store, tmp_path, level, what, rows):
    overrides = [*FLAT, f"classification.level={level}", "classification.set_size=3", what]
    finetune(data=store.folder, out=tmp_path / "a", task="classification", overrides=overrides)
    found = table(tmp_path / "a")
    assert len(found) == rows
    if "shows" in what:
        ill = [row for row in found if row["id"] == "s18"]
        assert [row["truth"] for row in ill] == ["absent"] * 3 + ["present"] * 4 + ["absent"] * 3
        assert [row["slice"] for row in ill] == [str(n) for n in range(10)]
    assert all(0 <= int(row["attended"]) < 10 for row in found) if level == "set" else not found[0]["attended"]


def test_it_learns(store, tmp_path):
    """A ball as bright as this is found by its slices, and a scan by its set of slices."""
    longer = ["train.steps=60", "train.batch_size=16", "train.lr=0.01", "classification.balance=sampling"]
    overrides = [*FLAT, *longer, "classification.level=slice", "classification.shows=1"]
    run = finetune(data=store.folder, out=tmp_path / "a", task="classification", overrides=overrides)
    assert run.scores["auroc"] > 0.95
    overrides = [*FLAT, *longer, "classification.level=set", DIAGNOSIS, "train.batch_size=6"]
    run = finetune(data=store.folder, out=tmp_path / "b", task="classification", overrides=overrides)
    assert run.scores["auroc"] == 1.0
    ill = [row for row in table(tmp_path / "b") if row["truth"] == "ill"]
    assert all(3 <= int(row["attended"]) < 7 for row in ill)


def test_scratch_differs_in_the_start_alone_and_a_frozen_encoder_stays(store, pretrained, tmp_path):
    still = [*QUICK, DIAGNOSIS, "train.lr=1e-12", "train.steps=1"]
    for name, scratch in (("a", False), ("b", True)):
        finetune(
            pretrained, data=store.folder, out=tmp_path / name, task="classification", overrides=still, predict=[],
            from_scratch=scratch,
        )  # fmt: skip
    carried, fresh = (load_classifier(tmp_path / name).network.state_dict() for name in ("a", "b"))
    source = load_encoder(pretrained).state_dict()
    for name, tensor in source.items():
        torch.testing.assert_close(carried[f"encoder.{name}"], tensor)
    assert not torch.allclose(fresh["encoder.stages.0.0.conv.weight"], source["stages.0.0.conv.weight"])
    torch.testing.assert_close(carried["linear.weight"], fresh["linear.weight"])
    frozen = [*QUICK, DIAGNOSIS, "classification.frozen=true", "train.lr=0.01"]
    finetune(pretrained, data=store.folder, out=tmp_path / "c", task="classification", overrides=frozen, predict=[])
    after = load_classifier(tmp_path / "c").network.state_dict()
    for name, tensor in source.items():
        assert torch.equal(after[f"encoder.{name}"], tensor)
    assert not torch.allclose(after["linear.weight"], fresh["linear.weight"])


def test_a_resumed_run_ends_with_the_same_weights(store, tmp_path):
    overrides = [*FLAT, DIAGNOSIS, "classification.level=set", "classification.dropout=0.3"]
    finetune(data=store.folder, out=tmp_path / "a", task="classification", overrides=overrides)
    weights = load_classifier(tmp_path / "a").network.state_dict()
    newest = sorted((tmp_path / "a" / "checkpoints").iterdir())[-1]
    newest.rename(tmp_path / "lost")
    (tmp_path / "a" / "predictions.csv").unlink()
    finetune(data=store.folder, out=tmp_path / "a", task="classification", overrides=overrides, resume=True)
    for name, tensor in load_classifier(tmp_path / "a").network.state_dict().items():
        assert torch.equal(weights[name], tensor), name
    assert (tmp_path / "a" / "predictions.csv").is_file()


def test_few_labels_hold_every_class(store, tmp_path, capsys):
    how = [*QUICK, DIAGNOSIS, "encoder.name=unet", "encoder.channels=[4,8]"]
    for labels in (2, 3):
        finetune(
            data=store.folder, out=tmp_path / "a", task="classification", labels=labels, overrides=how, dry_run=True
        )
        said = capsys.readouterr().out
        assert f"{labels} patients (draw 0 of {labels} labelled patients)" in said
        assert not (tmp_path / "a").exists()
    with pytest.raises(DataError, match="cannot hold every class"):
        finetune(data=store.folder, out=tmp_path / "a", task="classification", labels=1, overrides=how)


def test_what_is_wrong_is_said(store, tmp_path):
    def attempt(*overrides):
        finetune(data=store.folder, out=tmp_path / "a", task="classification", overrides=[*FLAT, *overrides])

    with pytest.raises(ConfigError, match=r"diagnosis, side, shows=1 \(tumour\)"):
        attempt()
    with pytest.raises(ConfigError, match="Did you mean 'diagnosis'"):
        attempt("classification.target=diagnoses")
    with pytest.raises(ConfigError, match="no structure 4"):
        attempt("classification.shows=4")
    with pytest.raises(DataError, match="one class in this store, left"):
        attempt("classification.target=side")
    with pytest.raises(ConfigError, match="must be a multiple"):
        attempt(DIAGNOSIS, "classification.window=[1,15,16]")
    with pytest.raises(ConfigError, match="allowed are the different classes of 'diagnosis', ill, well"):
        attempt(DIAGNOSIS, "classification.classes=[ill,dead]")
    assert not (tmp_path / "a").exists()
