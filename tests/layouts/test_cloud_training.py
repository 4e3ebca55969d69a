"""Sweeps and rooms go through the whole chain: index, cache, pretrain, parts."""

from __future__ import annotations

import json

import pytest

import medssl
from pointcloud.tasks.loading import load_cloud_task
from tests.layouts.cloud_tree import room, semantic_kitti

BRIEF = ["train.steps=2", "train.batch_size=4", "train.checkpoint_every=2", "train.probe_every=2"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sweeps", "rooms"])
def test_points_of_scenes_are_learned_from_end_to_end(tmp_path, kind):
    root = tmp_path / "in"
    if kind == "sweeps":
        semantic_kitti(root, {0: 3, 1: 2, 8: 2, 11: 1})
    else:
        for number in range(6):
            room(root / f"Area_{number}" / "office_1", number, {"wall_1": 200, "floor_1": 120, "chair_1": 90})
    medssl.index(root, out=tmp_path / "m.parquet")
    medssl.cache(tmp_path / "m.parquet", out=tmp_path / "store")
    medssl.pretrain("point_mae_small", data=tmp_path / "store", out=tmp_path / "run", overrides=BRIEF)
    medssl.finetune(
        tmp_path / "run", data=tmp_path / "store", preset="point_parts_small", out=tmp_path / "parts", overrides=BRIEF
    )
    parts = load_cloud_task(tmp_path / "parts").parts
    assert set(parts.values()) == ({"car", "road", "moving-car"} if kind == "sweeps" else {"wall", "floor", "chair"})
    scores = json.loads((tmp_path / "parts" / "validation.json").read_text())["scores"]
    assert 0 < scores["accuracy"] <= 1
