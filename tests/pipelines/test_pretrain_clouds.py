"""Pretraining on clouds: the same verb, the same record, the same promises."""

import json
import shlex

import numpy as np
import pytest
import torch

import medssl
from medssl.engine.loop import Interrupted
from medssl.errors import CheckpointError, ConfigError
from medssl.workflows.embed import embed
from medssl.workflows.pretrain import pretrain
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.shapes import CLASSES, shape
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.stopping import stopping

QUICK = [
    "train.steps=6", "train.batch_size=4", "train.log_every=2", "train.probe_every=3", "train.checkpoint_every=2",
    "train.accelerator=cpu", "train.warmup=0", "encoder.width=16", "encoder.depth=1", "encoder.heads=2",
    "encoder.points_per_token=8", "encoder.patch=8", "encoder.drop_path=0.1", "method.points=64",
    "method.decoder_depth=1",
]  # fmt: skip


@pytest.fixture
def store(tmp_path):
    items = [
        CloudItem(
            id=f"{name}-{index}",
            cloud=shape(name, index, seed=0, points=60 + 20 * index),
            patient=f"{name}-{index}",
            split="val" if index == 3 else "train",
        )
        for name in CLASSES[:4]
        for index in range(4)
    ]
    return store_from_clouds(tmp_path / "store", items, classes=dict(enumerate(CLASSES))).folder


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch):
    if "real_pictures" not in request.fixturenames:
        import medssl.engine.reporter
        import pointcloud.training

        for name in ("draw_progress", "draw_views"):
            monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)
        monkeypatch.setattr(pointcloud.training, "draw_attention", lambda *_: None)


@pytest.fixture
def real_pictures():
    """Ask for pictures."""


def identical(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_leaves_an_encoder_a_card_and_the_whole_record(store, tmp_path, capsys, real_pictures):
    run = pretrain("point_mae_small", data=store, out=tmp_path / "run", overrides=QUICK)
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "attention.png", "card.json", "checkpoints", "encoder.safetensors", "environment.json", "log.txt",
        "metrics.jsonl", "progress.png", "run.yaml", "tensorboard", "views.png",
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "12 clouds (60 to 100 points, unit unknown, 4 classes); 4 held out" in said
    assert "6 steps of 4 clouds of 64 points" in said
    card = json.loads((run.folder / "card.json").read_text())
    assert (card["kind"], card["points"], card["data"]["clouds"]) == ("cloud", 64, 12)
    assert card["encoder"]["name"] == "point_vit"
    assert any("2203.06604" in paper for paper in card["citation"])
    assert [row["step"] for row in run.metrics] == [0, 2, 3, 4, 6]
    last = run.metrics[-1]
    assert {"held_out/knn_accuracy", "held_out/reconstruction", "held_out/spread", "held_out/effective_rank"} <= set(
        last
    )
    assert 0 <= last["held_out/knn_accuracy"] <= 1
    assert 0 < last["chance/knn_accuracy"] < 1
    assert "held_out/knn_accuracy" in run.metrics[0]
    assert "knn accuracy" in (run.folder / "log.txt").read_text()


def test_what_was_trained_is_loaded_and_embeds(store, tmp_path):
    run = pretrain("point_mae_small", data=store, out=tmp_path / "run", overrides=QUICK)
    encoder = medssl.load(run.folder)
    assert identical(encoder, run.encoder())
    table = embed(run.folder, data=store, out=tmp_path / "vectors.npz").table
    assert len(table) == 16
    with np.load(tmp_path / "vectors.npz") as written:
        assert written["vectors"].shape == (16, encoder.embedding_dim)
        assert written["id"].tolist() == [entry.id for entry in CloudStore.open(store).entries]
    whole = embed(run.folder, data=store, out=tmp_path / "whole.parquet", overrides=["points=200"]).table
    cloud = torch.from_numpy(CloudStore.open(store).points(3).copy())
    entry = CloudStore.open(store).entries[3]
    placed = (cloud - torch.tensor(entry.centre)) / entry.radius
    with torch.no_grad():
        alone = encoder.embed(placed[None].float(), torch.tensor([entry.points]))[0]
    np.testing.assert_allclose(whole.vectors[3], alone.numpy(), atol=1e-4)
    with pytest.raises(ConfigError, match="window"):
        embed(run.folder, data=store, out=tmp_path / "no.npz", overrides=["window=[8,8,8]"])


def test_stopped_and_resumed_it_is_the_run_that_was_never_stopped(store, tmp_path, capsys, monkeypatch):
    whole = pretrain("point_mae_small", data=store, out=tmp_path / "whole", overrides=QUICK)
    import pointcloud.training as verb

    out = tmp_path / "run"
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(verb, "CloudLoader", stopping(verb.CloudLoader))
        with pytest.raises(Interrupted) as stop:
            pretrain("point_mae_small", data=store, out=out, overrides=QUICK)
    assert stop.value.code == 130
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to continue: ")]
    words = shlex.split(line.removeprefix("to continue: "))
    resumed = pretrain("point_mae_small", data=store, out=out, overrides=words[3:-5], resume=True)
    assert identical(resumed.encoder(), whole.encoder())
    # The signals on held-out clouds are those of the run that was never stopped, too.
    drop = {"time", "seconds_per_step", "data_wait"}
    ends = [{k: v for k, v in run.metrics[-1].items() if k not in drop} for run in (resumed, whole)]
    assert ends[0] == ends[1]


def test_methods_and_stores_of_the_two_kinds_are_not_mixed(store, tmp_path):
    from medssl.store.in_memory import Item, store_from_arrays

    store_from_arrays(tmp_path / "scans", [Item(id="a", values=np.zeros((8, 8, 8), np.int16), modality="CT")])
    with pytest.raises(ConfigError, match=r"holds scans, and the method 'point_mae' is for clouds"):
        pretrain("point_mae_small", data=tmp_path / "scans", out=tmp_path / "run", overrides=QUICK)
    with pytest.raises(ConfigError, match=r"holds clouds, and the method 'voco' is for scans"):
        pretrain("voco_small", data=store, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"'point_mae' is for clouds and the encoder 'residual' for scans"):
        pretrain(data=store, out=tmp_path / "run", preset=_bare(tmp_path))
    for moot, of in (("slices=a.parquet", "slices"), ("phases=a.csv", "frames"), ("normalise=zscore", "values")):
        with pytest.raises(ConfigError, match=rf"is of the {of} of scans; clouds have none"):
            pretrain("point_mae_small", data=store, out=tmp_path / "run", overrides=[f"data.{moot}"])
    assert not (tmp_path / "run").exists()


def _bare(folder):
    path = folder / "bare.yaml"
    path.write_text("method:\n  name: point_mae\n")
    return path


def test_a_run_starts_from_anothers_weights_and_never_from_those_of_scans(store, tmp_path):
    first = pretrain("point_mae_small", data=store, out=tmp_path / "a", overrides=QUICK)
    still = [*QUICK, "train.steps=1", "train.lr=1e-12", "train.weight_decay=0", "train.seed=5"]
    second = pretrain("point_mae_small", data=store, out=tmp_path / "b", overrides=still, init_from=first.folder)
    for name, value in first.encoder().named_parameters():
        assert torch.allclose(second.encoder().state_dict()[name], value, atol=1e-6), name
    from medssl.engine.card import load_encoder

    with pytest.raises(CheckpointError, match="one of clouds"):
        load_encoder(first.folder)


def test_a_method_without_a_preset_takes_an_encoder_of_clouds(store, tmp_path, capsys, monkeypatch):
    import medssl.workflows.pretrain_settings as settings

    monkeypatch.setattr(settings, "list_presets", lambda _: [])
    pretrain(method="point_mae", data=store, out=tmp_path / "run", overrides=["train.steps=2"], dry_run=True)
    assert "encoder: point_vit" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_every_method_of_clouds_can_be_listed_and_shown(capsys):
    from medssl.workflows.list_things import list_things
    from medssl.workflows.show import show

    rows = {(row[0], row[1]) for row in list_things("methods").rows}
    assert {(name, "clouds") for name in CLOUD_METHODS} <= rows
    capsys.readouterr()
    show("point_mae")
    said = capsys.readouterr().out
    assert "2203.06604" in said
    assert "decoder_depth" in said


def test_show_says_what_a_step_over_parts_of_a_batch_is(capsys):
    from medssl.workflows.show import show

    for name, wanted in {
        "point_occo": "the step of the whole batch; batch norms, where there are any, normalise part by part",
        "simclr": "not the step of the whole batch: items are told from those of their own part alone; batch norms",
    }.items():
        show(name, every=True)
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("accumulate:")]
        assert line.split(":", 1)[1].strip().startswith(wanted)
