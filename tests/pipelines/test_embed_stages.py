"""Groups for the next stage, and the vectors of all stages joined."""

import csv

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.card import Card, save_encoder
from medssl.errors import ConfigError, DataError
from medssl.exporting.features import FeatureTable
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.embed import embed
from medssl.workflows.embed_stages import grouped, joined
from medssl.workflows.pretrain import pretrain
from tests.perturbing import perturbed


def table(vectors, ids=None):
    ids = tuple(ids or (f"s{i}" for i in range(len(vectors))))
    blank = ("",) * len(ids)
    return FeatureTable(ids, blank, blank, blank, (1,) * len(ids), np.asarray(vectors, np.float32))


def test_codes_are_of_all_stages_and_length_is_of_no_account():
    clumps = [[1, 0], [5, 0.1], [0, 1], [0.1, 7]]
    first = grouped(table(clumps), 2)
    assert first[0] == first[1] != first[2] == first[3]
    # The second stage parts them otherwise: four groups, each named by both.
    across = [[1, 0], [0, 1], [1, 0], [0, 1]]
    second = grouped(table(across), 2, former=dict(zip(table(clumps).ids, first, strict=True)))
    assert len(set(second)) == 4
    assert [name.rpartition(".")[0] for name in second] == first
    alone = grouped(table(across), 2)
    assert [name.rpartition(".")[2] for name in second] == alone  # clustered as a whole, as in the paper
    with pytest.raises(DataError, match=r"g\.csv: names no group of 3 of the 4 embedded scans, such as 's1'"):
        grouped(table(across), 2, former={"s0": "0"}, said="g.csv")


def test_vectors_are_joined_raw_and_then_of_length_one():
    one, two = table([[3.0, 0.0], [1.0, 0.0]]), table([[0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(joined([one, two]).vectors, [[0.6, 0, 0, 0.8, 0], [1, 0, 0, 0, 0]], rtol=1e-6)
    assert joined([one]) is one
    with pytest.raises(DataError, match="1 scans, such as 's1', have no vector of every run"):
        joined([one, table([[1.0, 0.0]])])


def a_run(folder, seed):
    torch.manual_seed(seed)
    encoder = perturbed(build_encoder({"name": "unet", "channels": [4, 8]}))
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"), in_channels=1, channels=encoder.channels,
        strides=encoder.strides, spacing_mm=(1.0, 1.0, 1.0), modality="CT", scale=(-1000.0, 1000.0), window=(8, 8, 8),
    )  # fmt: skip
    folder.mkdir()
    save_encoder(encoder, card, folder)
    return folder


@pytest.mark.parametrize("preset", ["mcl", "gsimclr"])
def test_stages_from_vectors_to_groups_to_a_run(tmp_path, preset, capsys):
    draw = np.random.default_rng(0)
    items = [Item(id=f"s{i}", values=draw.integers(-900, 900, (10, 12, 14)).astype(np.int16)) for i in range(8)]
    store = store_from_arrays(tmp_path / "store", items).folder
    runs = [a_run(tmp_path / f"run{seed}", seed) for seed in (0, 1)]
    alone = [embed(run, data=store, out=tmp_path / "a.npz").table.vectors for run in runs]
    both = embed(runs[0], data=store, out=tmp_path / "b.npz", overrides=[f"join=['{runs[1]}']"]).table.vectors
    long = np.concatenate(alone, axis=1)
    np.testing.assert_allclose(both, long / np.linalg.norm(long, axis=1, keepdims=True), rtol=1e-5, atol=1e-7)

    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    made = embed(runs[0], data=store, out=first, overrides=["groups=2"])
    rows = list(csv.DictReader(first.open()))
    assert [row["scan"] for row in rows] == [f"s{i}" for i in range(8)]
    assert sum(made.figures["sizes"]) == 8
    embed(runs[1], data=store, out=second, overrides=["groups=1", f"within={first}"])
    assert [row["group"] for row in csv.DictReader(second.open())] == [f"{row['group']}.0" for row in rows]

    words = [f"data.groups={first}", "train.steps=2", "train.batch_size=2", "train.accelerator=cpu", "train.threads=1",
             "method.window=[8,8,8]", "method.crop=[8,8,8]", "method.hidden=8", "method.projected=8",
             "encoder.name=unet", "encoder.channels=[4,8]", "data.held_out_share=0"]  # fmt: skip
    pretrain(preset, data=store, out=tmp_path / "later", overrides=words)
    assert "order: " + {"mcl": "one_group", "gsimclr": "one_per_group"}[preset] in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"needs data\.groups"):
        pretrain(preset, data=store, out=tmp_path / "bare", overrides=words[1:])
    assert not (tmp_path / "bare").exists()


def test_what_cannot_be_is_refused(tmp_path):
    run = a_run(tmp_path / "run", 0)
    with pytest.raises(ConfigError, match=r"must end in \.csv"):
        embed(run, data=tmp_path, out=tmp_path / "a.npz", overrides=["groups=2"])
    with pytest.raises(ConfigError, match="subdivides groups"):
        embed(run, data=tmp_path, out=tmp_path / "a.npz", overrides=["within=x.csv"])
