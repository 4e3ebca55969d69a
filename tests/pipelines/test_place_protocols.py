"""Landmarks, one-shot, prompt and retrieval: planted structures are found by what shows them, shuffled ones are not."""

import json

import numpy as np
import polars as pl
import pytest

from medssl.errors import ConfigError
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.evaluate import evaluate
from pointcloud.cloud import make_cloud
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.pipelines.test_dense_probe import run_of

SHAPE = (8, 16, 16)
BRIEF = ["random=1", "places=2048"]


def scans(folder, *, shuffled=False):
    """Return scans with a bright ball of one of two sizes somewhere, and the size as a class."""
    draw = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    items = []
    for number in range(16):
        radius = 2 + number % 2
        ball = ((grid - draw.uniform(3, np.array(SHAPE) - 4)) ** 2).sum(axis=-1) <= radius**2
        values = 600 * ball + 40 * draw.normal(size=SHAPE)
        labels = draw.permutation(ball.ravel()).reshape(SHAPE) if shuffled else ball
        items.append(
            Item(
                id=f"s{number}",
                values=values.astype(np.int16),
                labels=labels.astype(np.int16),
                patient=f"p{number}",
                split="train" if number < 8 else "test",
                targets={"size": "large" if number % 2 else "small"},
            )
        )
    return store_from_arrays(folder, items, classes={1: "ball"}).folder


@pytest.fixture
def run(tmp_path):
    return run_of(tmp_path / "gc")


def asked(protocol, run, store, out, *more, draws=2):
    group = protocol.replace("-", "_")
    given = [f"{group}.{word}" for word in (*BRIEF, *more, *([f"draws={draws}"] if draws else []))]
    return evaluate(run, data=store, out=out, protocol=protocol, overrides=given)


def mean(found, arm, metric):
    return found.table.frame.filter((pl.col("run").str.replace(r"-seed\d+", "") == arm) & (pl.col("metric") == metric))[
        "value"
    ].mean()


def test_one_shot_carries_a_ball_that_intensity_tells(run, tmp_path):
    store = scans(tmp_path / "store")
    found = asked("one-shot", run, store, tmp_path / "out", "registration=[affine]")
    arms = {row.arm for row in found.scores}
    assert arms == {"position", "handmade", "handmade-placed", "gc", "gc-placed", "random", "random-placed", "affine"}
    assert mean(found, "handmade", "dice") > 0.8
    assert mean(found, "position", "dice") < 0.3
    assert mean(found, "affine", "dice") > mean(found, "position", "dice")
    assert {(row.arm, row.baseline) for row in found.comparisons} == {
        ("gc", "random"),
        ("gc-placed", "handmade-placed"),
        ("gc-placed", "affine"),
    }
    blind = asked("one-shot", run, scans(tmp_path / "shuffled", shuffled=True), tmp_path / "blind", "registration=[]")
    for arm in {row.arm for row in blind.scores}:
        assert mean(blind, arm, "dice") < 0.12  # a ball fills 2 to 6 %: naming it everywhere scores as much


def test_landmarks_are_found_by_what_shows_them(run, tmp_path):
    found = asked("landmarks", run, scans(tmp_path / "store"), tmp_path / "out")
    assert mean(found, "handmade", "landmark_mm") < 0.6 * mean(found, "position", "landmark_mm")
    assert mean(found, "handmade", "level_mm") <= mean(found, "handmade", "landmark_mm")
    frame = found.table.frame.filter(pl.col("run") == "gc")
    assert set(frame["target"]) == {
        "ball: centroid",
        *(f"ball: {end} along axis {axis}" for axis in range(3) for end in ("first", "last")),
    }
    blind = asked("landmarks", run, scans(tmp_path / "shuffled", shuffled=True), tmp_path / "blind")
    arms = [mean(blind, arm, "landmark_mm") for arm in ("handmade", "gc", "random")]
    assert min(arms) > 0.6 * mean(blind, "position", "landmark_mm")  # the centroid of scattered places is the middle


def test_one_place_tells_a_ball_by_intensity(run, tmp_path):
    found = asked("prompt", run, scans(tmp_path / "store"), tmp_path / "out", draws=4)
    assert mean(found, "handmade", "prompt_iou") > 0.6
    assert mean(found, "handmade", "intra_similarity") > mean(found, "handmade", "inter_similarity") + 0.5
    written = json.loads((tmp_path / "out" / "prompt.json").read_text())
    assert set(written["thresholds"]) == set(found.table.runs)
    blind = asked("prompt", run, scans(tmp_path / "shuffled", shuffled=True), tmp_path / "blind", draws=4)
    for arm in {row.arm for row in blind.scores}:
        assert mean(blind, arm, "prompt_iou") < 0.12
        gap = mean(blind, arm, "intra_similarity") - mean(blind, arm, "inter_similarity")
        assert abs(gap) < 0.12


def test_near_patients_have_balls_of_one_size(run, tmp_path):
    found = asked("retrieval", run, scans(tmp_path / "store"), tmp_path / "out", "neighbours=3", "target=size", draws=0)
    assert mean(found, "handmade", "same_class") > 0.9
    assert mean(found, "anyone", "same_class") == pytest.approx(0.5)
    assert mean(found, "handmade", "volume_gap") < 0.5 * mean(found, "anyone", "volume_gap")
    assert {(row.arm, row.baseline) for row in found.comparisons} == {("gc", "random"), ("gc", "handmade")}
    with pytest.raises(ConfigError, match="no target 'siez'"):
        asked("retrieval", run, tmp_path / "store", tmp_path / "other", "target=siez", draws=0)


def test_clouds_with_parts_take_the_same_way(tmp_path):
    import torch

    from medssl.engine.card import Card, save_encoder
    from pointcloud.encoders.table import CLOUD_ENCODERS

    draw = np.random.default_rng(0)
    items = []
    for number in range(14):
        points = draw.normal(size=(150, 3))
        cloud = make_cloud(points, labels=(points[:, 0] > 0).astype(int), label=number % 2)
        items.append(
            CloudItem(id=f"c{number}", cloud=cloud, patient=f"p{number}", split="train" if number < 6 else "test")
        )
    store = store_from_clouds(tmp_path / "store", items, parts={0: "left", 1: "right"}, classes={0: "a", 1: "b"}).folder
    torch.manual_seed(0)
    settings = {"name": "pointnet", "widths": [8, 16]}
    encoder = CLOUD_ENCODERS.build(settings)
    (tmp_path / "run").mkdir()
    card = Card(kind="cloud", encoder=settings, in_channels=3, channels=encoder.channels, points=100)
    save_encoder(encoder, card, tmp_path / "run")
    found = asked("one-shot", tmp_path / "run", store, tmp_path / "one")
    assert mean(found, "position", "dice") > 0.8
    assert "affine" not in found.table.runs
    for protocol, metric in (("landmarks", "landmark_mm"), ("prompt", "prompt_iou"), ("retrieval", "volume_gap")):
        other = asked(protocol, tmp_path / "run", store, tmp_path / protocol, draws=0 if protocol == "retrieval" else 2)
        assert np.isfinite(mean(other, "run", metric))
