"""The dense-probe protocol: every arm, every voxel once, planted structures found, shuffled labels not."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from medssl.domains.domain import domain_of
from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, load_card, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.workflows.evaluate import evaluate
from medssl.workflows.evaluate_settings import DenseProbeSettings
from pointcloud.cloud import make_cloud
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.store_writing import CloudItem, store_from_clouds

ENCODER = {"name": "unet", **build_encoder({"name": "unet"}).smallest()}
BRIEF = ["dense_probe.sizes=[2,4]", "dense_probe.draws=2", "dense_probe.random=1", "dense_probe.places=160"]
ARMS = {"position", "handmade", "trivial", "random", "random-joined", "gc", "gc-joined"}


def scans(folder, *, shuffled=False, shape=(10, 20, 20), count=16):
    """Return a store of scans with a bright ball somewhere: intensity tells it, place does not."""
    draw = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    items = []
    for number in range(count):
        middle = draw.uniform(3, np.array(shape) - 3)
        ball = ((grid - middle) ** 2).sum(axis=-1) < 9
        values = (300 * ball + 40 * draw.normal(size=shape)).astype(np.int16)
        labels = draw.permutation(ball.ravel()).reshape(shape) if shuffled else ball
        split = "train" if number < 8 else "test"
        items.append(
            Item(id=f"s{number}", values=values, labels=labels.astype(np.int16), patient=f"p{number}", split=split)
        )
    return store_from_arrays(folder, items, classes={1: "ball"}).folder


def run_of(folder, *, window=(8, 16, 16), seed=0):
    torch.manual_seed(seed)
    encoder = build_encoder(ENCODER)
    folder.mkdir()
    card = Card(
        kind="volume",
        encoder=ENCODER,
        in_channels=1,
        channels=encoder.channels,
        strides=encoder.strides,
        window=window,
        scale=(-1024.0, 1024.0),
    )
    save_encoder(encoder, card, folder)
    return folder


def dice(found, arm, labels=4):
    return found.score(arm, "dice", labels=labels).interval.estimate


def test_every_arm_is_shown_and_two_questions_are_asked(tmp_path, capsys):
    store = scans(tmp_path / "store")
    runs = [run_of(tmp_path / f"gc-seed{seed}", seed=seed) for seed in range(2)]
    found = evaluate(
        runs[0], against=[runs[1]], data=store, out=tmp_path / "out", protocol="dense-probe", overrides=BRIEF
    )
    assert {row.arm for row in found.scores} == ARMS
    assert {(row.arm, row.baseline) for row in found.comparisons} == {("gc", "random"), ("gc-joined", "trivial")}
    assert {row.labels for row in found.comparisons} == {2, 4}
    assert all(row.difference.patients == 8 for row in found.comparisons)
    assert {row.difference.runs for row in found.comparisons} == {2}
    # the ball is bright and lies anywhere
    assert dice(found, "handmade") > 0.8
    assert dice(found, "position") < 0.3
    assert dice(found, "trivial") == pytest.approx(dice(found, "handmade"))
    assert dice(found, "gc-joined") > 0.8
    written = json.loads((tmp_path / "out" / "dense_probe.json").read_text())
    assert {row["arm"] for row in written["trivial"]} == {"handmade"}
    assert {row["folds"] for row in written["chosen"] if row["n"] == 4} == {3}
    assert (tmp_path / "out" / "dense_probe.png").is_file()
    told = " ".join(capsys.readouterr().out.split())
    assert "windows of 8 x 16 x 16 that cover each scan" in told
    assert "trivial: of position and handmade the one with the higher Dice on the labelled patients" in told


def test_shuffled_labels_give_chance(tmp_path):
    store = scans(tmp_path / "store", shuffled=True)
    found = evaluate(
        run_of(tmp_path / "gc"),
        data=store,
        out=tmp_path / "out",
        protocol="dense-probe",
        overrides=[*BRIEF, "dense_probe.sizes=[4]"],
    )
    share = np.mean([(Store.open(store).labels(row) > 0).mean() for row in range(16)])
    for arm in ARMS:
        assert dice(found, arm) < 2 * share / (1 + share) + 0.03  # Dice of naming the ball everywhere


def test_each_voxel_of_a_scan_is_looked_at_once(tmp_path):
    store = Store.open(scans(tmp_path / "store", count=9))
    card = load_card(run_of(tmp_path / "gc"))
    dense = domain_of(store.folder).dense(store, DenseProbeSettings(), card)
    samples = list(dense.samples(store, 0, card))
    assert len(samples) == 2 * 2 * 2
    seen = np.zeros(store.entries[0].shape, int)
    for sample in samples:
        known = sample.labels >= 0
        voxels = sample.place_mm[known].astype(int)
        seen[tuple(voxels.T)] += 1
        assert np.array_equal(sample.labels[known], store.labels(0)[tuple(voxels.T)])
        middle = (2 * voxels + 1) / np.array(seen.shape) - 1
        np.testing.assert_allclose(sample.position[known], middle, atol=1e-6)
    assert (seen == 1).all()


def test_features_of_voxels_are_the_levels_interpolated(tmp_path):
    store = Store.open(scans(tmp_path / "store", count=9))
    card = load_card(run_of(tmp_path / "gc"))
    dense = domain_of(store.folder).dense(store, DenseProbeSettings(windows="random", count=3), card)
    samples = list(dense.samples(store, 1, card))
    assert len(samples) == 3
    assert len({tuple(sample.place_mm[0]) for sample in samples}) == 3
    assert all((sample.position.max() < 1) and (sample.position.min() > -1) for sample in samples)
    pyramid = dense.pyramid(build_encoder(ENCODER).eval(), samples[0])
    rows = np.arange(0, 8 * 16 * 16, 7)
    for level, found in zip(pyramid, dense.at(pyramid, samples[0], rows), strict=True):
        whole = torch.nn.functional.interpolate(level, size=(8, 16, 16), mode="trilinear", align_corners=False)
        np.testing.assert_allclose(found, whole[0].flatten(1).T.numpy()[rows], atol=1e-5)
    assert dense.plain(samples[0]).shape == (8 * 16 * 16, 7)
    again = list(dense.samples(store, 1, card))
    assert torch.equal(samples[2].inputs, again[2].inputs)


def test_a_scan_smaller_than_the_window_is_centred_and_its_padding_not_scored(tmp_path):
    store = Store.open(scans(tmp_path / "store", shape=(8, 9, 16), count=9))
    card = load_card(run_of(tmp_path / "gc", window=(8, 16, 16)))
    for windows in ("whole", "random"):
        dense = domain_of(store.folder).dense(store, DenseProbeSettings(windows=windows, count=1), card)
        (sample,) = dense.samples(store, 0, card)
        assert (sample.labels >= 0).sum() == 8 * 9 * 16
        assert (sample.labels > 0).sum() == (store.labels(0) > 0).sum()


def test_parts_of_clouds_are_read_the_same_way(tmp_path):
    draw = np.random.default_rng(0)
    items = []
    for number in range(16):
        points = draw.normal(size=(120, 3))
        cloud = make_cloud(points, labels=(points[:, 0] > 0).astype(int) + 2 * (points[:, 1] > 1))
        split = "train" if number < 8 else "test"
        items.append(CloudItem(id=f"c{number}", cloud=cloud, patient=f"p{number}", split=split))
    parts = {0: "left", 1: "right", 2: "left top", 3: "right top"}
    store = store_from_clouds(tmp_path / "store", items, parts=parts).folder
    encoder = CLOUD_ENCODERS.build({"name": "pointnet", "widths": [8, 16]})
    (tmp_path / "run").mkdir()
    full = {"name": "pointnet", "widths": [8, 16]}
    card = Card(kind="cloud", encoder=full, in_channels=3, channels=encoder.channels, points=100)
    save_encoder(encoder, card, tmp_path / "run")
    found = evaluate(tmp_path / "run", data=store, out=tmp_path / "out", protocol="dense-probe", overrides=BRIEF)
    assert {row.arm for row in found.scores} == {name.replace("gc", "run") for name in ARMS}
    assert dice(found, "position") > 0.75  # parts are told by place here
    frame = found.table.frame
    assert set(frame["target"]) == set(parts.values())
    assert frame.filter(pl.col("run") == "position")["value"].null_count() == 0


def test_what_is_asked_wrongly_is_said(tmp_path):
    store, run = scans(tmp_path / "store"), run_of(tmp_path / "gc")

    def asked(*more, runs=run, data=store):
        evaluate(runs, data=data, out=tmp_path / "out", protocol="dense-probe", overrides=[*BRIEF, *more])

    with pytest.raises(ConfigError, match="multiple"):
        asked("dense_probe.window=[7,9,9]")
    with pytest.raises(DataError, match="patients"):
        asked("dense_probe.sizes=[9]")
    with pytest.raises(ConfigError, match="'trivial'"):
        asked(runs=run_of(tmp_path / "trivial"))
    bare = store_from_arrays(tmp_path / "bare", [Item(id="a", values=np.zeros((8, 8, 8), np.int16), split="train")])
    with pytest.raises(DataError, match="no label maps"):
        asked(data=bare.folder)
    assert not (tmp_path / "out").exists()
