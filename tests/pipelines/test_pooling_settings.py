"""How features are pooled is a setting that runs keep, fine-tuning and starting anew may change, and embed follows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder, pooled_as_then
from medssl.engine.card import Card, load_card, save_encoder
from medssl.errors import CheckpointError, ConfigError
from medssl.settings import dump_with_origins
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.embed import embed
from medssl.workflows.finetune_settings import resolved_settings
from medssl.workflows.pretrain import pretrain
from medssl.workflows.pretrain_settings import resolved_settings as pretrain_settings
from tests.perturbing import perturbed

UNET = {"name": "unet", "channels": [4, 8]}
BRIEF = ["train.steps=2", "train.batch_size=2", "train.precision=32-true", "method.window=[16,16,16]",
         "method.crop=[8,8,8]", "encoder.name=unet", "encoder.channels=[4,8]"]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    encoder = perturbed(build_encoder({**UNET, "pool": "prenorm"}))
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
        strides=encoder.strides, spacing_mm=(2.0, 2.0, 2.0), scale=(-1000.0, 1000.0), window=(8, 8, 8),
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    save_encoder(encoder, card, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def store(tmp_path):
    draw = np.random.default_rng(0)
    values = [draw.integers(-900, 900, (18, 18, 18)).astype(np.int16) for _ in range(4)]
    splits = ("train", "train", "train", "val")
    items = [
        Item(id=f"s{n}", values=v, patient=f"p{n}", split=split)
        for n, (v, split) in enumerate(zip(values, splits, strict=True))
    ]
    return store_from_arrays(tmp_path / "store", items).folder


def test_fine_tuning_pools_as_the_card_or_as_it_is_told(run, tmp_path):
    given = {"transfer.run": str(run), "data.store": "store", "task": "classification"}
    assert resolved_settings(None, [], given).settings.encoder.pool == "prenorm"
    told = resolved_settings(None, ["encoder.pool=grid"], given)
    assert told.settings.encoder.pool == "grid"
    assert told.settings.encoder.channels == (4, 8)
    assert told.origins["encoder.pool"] == "command line"
    (tmp_path / "run.yaml").write_text(dump_with_origins(told))
    resumed = resolved_settings(tmp_path / "run.yaml", [], {"data.store": "store"})
    assert resumed.settings.encoder.pool == "grid"
    with pytest.raises(ConfigError, match=r"encoder\.channels would change it"):
        resolved_settings(None, ["encoder.channels=[4,4]", "encoder.pool=grid"], given)


def test_embed_pools_as_the_card_or_as_it_is_told(run, store, tmp_path, capsys):
    vectors = {}
    for pool in (None, "prenorm", "mean", "grid", "levels", "cells"):
        overrides = [] if pool is None else [f"pool={pool}"]
        vectors[pool] = embed(run, data=store, out=tmp_path / f"{pool}.npz", overrides=overrides).table.vectors
    np.testing.assert_array_equal(vectors[None], vectors["prenorm"])
    assert {pool: v.shape[1] for pool, v in vectors.items()} == {
        None: 8, "prenorm": 8, "mean": 8, "grid": 64, "levels": 12, "cells": 96,
    }  # fmt: skip
    assert not np.allclose(vectors["mean"], vectors["prenorm"])
    everything = embed(run, data=store, out=tmp_path / "all.npz", overrides=["pool=levels", "levels=all"]).table.vectors
    np.testing.assert_array_equal(everything, vectors["levels"])
    joined = embed(run, data=store, out=tmp_path / "joined.npz", overrides=["pool=mean", "levels=all"]).table.vectors
    np.testing.assert_allclose(joined, vectors["levels"], rtol=1e-5, atol=1e-6)
    assert "pool mean, on cpu" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="no weights of attention"):
        embed(run, data=store, out=tmp_path / "no.npz", overrides=["pool=attention"])


def test_a_run_starts_from_one_that_pools_otherwise(run, store, tmp_path):
    pretrain(method="simclr", data=store, out=tmp_path / "new", init_from=run, overrides=[*BRIEF, "encoder.pool=grid"])
    assert load_card(tmp_path / "new").encoder["pool"] == "grid"
    with pytest.raises(CheckpointError, match="pool: prenorm there, attention here"):
        pretrain(method="simclr", data=store, out=tmp_path / "no", init_from=run,
                 overrides=[*BRIEF, "encoder.pool=attention"])  # fmt: skip
    with pytest.raises(ConfigError, match="'masked' would not train"):
        pretrain(method="masked", data=store, out=tmp_path / "no", dry_run=True,
                 overrides=[*BRIEF[-2:], "encoder.blocks=1", "encoder.pool=attention"])  # fmt: skip


def test_a_run_says_where_it_began_and_what_chance_is(store, tmp_path, capsys):
    run = pretrain(method="simclr", data=store, out=tmp_path / "run", overrides=BRIEF)
    said = " ".join(capsys.readouterr().out.split())
    assert "held out, step 0: retrieval 1 (chance 1)" in said
    assert "held out, step 2: retrieval 1 (step 0: 1; chance 1)" in said
    assert run.metrics[0]["step"] == 0


def test_a_run_that_knew_no_pool_goes_on_by_the_mean(store, tmp_path):
    """Whatever the default is by now: neither --resume nor its run.yaml as settings may change it in silence."""
    out = tmp_path / "run"
    pretrain(method="simclr", data=store, out=out, overrides=[*BRIEF, "encoder.pool=mean"])
    recorded = (out / "run.yaml").read_text()
    older = "".join(line for line in recorded.splitlines(keepends=True) if not line.strip().startswith("pool:"))
    assert older != recorded
    (out / "run.yaml").write_text(older)
    resolved = pretrain_settings(out / "run.yaml", method=None, data=None, devices=None, overrides=[])
    assert resolved.settings.encoder.pool == "mean"
    assert resolved.origins["encoder.pool"].startswith("file ")
    pretrain(out=out, resume=True)
    assert load_card(out).encoder["pool"] == "mean"
    with pytest.raises(ConfigError, match=r"encoder\.pool: mean -> grid"):
        pretrain(method="simclr", data=store, out=out, resume=True, overrides=[*BRIEF, "encoder.pool=grid"])


def test_clouds_have_their_own_pools():
    assert pooled_as_then({"encoder": {"name": "point_vit"}}) == {"encoder": {"name": "point_vit"}}
    assert pooled_as_then({"encoder": {"name": "unet"}}) == {"encoder": {"name": "unet", "pool": "mean"}}
    assert pooled_as_then({"encoder": {"name": "vit", "pool": "grid"}}) == {"encoder": {"name": "vit", "pool": "grid"}}
    assert pooled_as_then({}) == {}
