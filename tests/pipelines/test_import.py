"""Imported weights go where any run goes, and are there what they were: bit for bit what is built natively."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import medssl
from medssl.engine.card import Card, load_card, load_weights, save_encoder
from medssl.errors import ConfigError
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.segmenter import load_segmenter
from medssl.weights.table import SOURCES
from medssl.workflows.embed import embed
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.import_weights import import_weights
from medssl.workflows.list_things import list_things
from medssl.workflows.pretrain import pretrain
from medssl.workflows.show import show
from tests.oracles.test_published_stages import SIZES, _authors, _checkpoint, _plans

QUICK = ["train.steps=2", "train.log_every=1", "train.threads=1", "train.accelerator=cpu"]
SIZE = "segmentation.window=[8,16,16]"


def _scan(number: int) -> Item:
    values = numpy_generator(3, number).normal(0, 60, (12, 20, 17))
    labels = np.zeros(values.shape, dtype=np.int16)
    labels[4:9, 5:14, 3:9], labels[5:11, 6:12, 10:15] = 1, 2
    values += np.select([labels == 1, labels == 2], [400, 800], 0)
    split = ("train", "train", "test")[number]
    return Item(id=f"s{number}", values=values.astype(np.int16), labels=labels, patient=f"p{number}", split=split)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "store"
    return store_from_arrays(folder, [_scan(n) for n in range(3)], classes={1: "left", 2: "right"}).folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """Import a network of nnU-Net whose dataset.json names regions, so that encoder and decoder come alone."""
    folder = tmp_path_factory.mktemp("imported")
    content = _checkpoint(_authors("unet"), _plans("unet"))
    content["init_args"]["dataset_json"]["labels"] = {"background": 0, "whole": [1, 2], "core": [2]}
    torch.save(content, folder / "checkpoint_final.pth")
    import_weights(folder / "checkpoint_final.pth", out=folder / "run")
    return folder / "run"


def test_finetuning_from_it_is_finetuning_the_same_weights_built_natively(store, imported, tmp_path) -> None:
    from medssl.decoder import DecoderBlocks
    from medssl.encoders.table import build_encoder

    card = load_card(imported)
    native = tmp_path / "native"
    native.mkdir()
    encoder = build_encoder({"name": "unet", "in_channels": 1, **SIZES["unet"]})
    theirs = _authors("unet").state_dict()
    encoder.load_state_dict(
        {
            f"stages.{s}.{b}.{m}": theirs[f"encoder.stages.{s}.0.convs.{b}.{m}"]
            for s in range(3)
            for b in range(2)
            for m in ("conv.weight", "norm.weight", "norm.bias")
        }
    )
    decoder = DecoderBlocks(encoder, convs_per_stage=2)
    decoder.load_state_dict({name: theirs[f"decoder.{name}"] for name in decoder.state_dict()})
    facts = {"inputs": card.inputs, "spacing_mm": card.spacing_mm, "window": card.window, "decoder_convs": 2}
    built = Card(
        encoder=encoder.settings.model_dump(mode="json"),
        in_channels=1,
        channels=encoder.channels,
        strides=encoder.strides,
        modality="CT",
        **facts,
    )
    save_encoder(encoder, built, native, others={"decoder": decoder})
    runs = [
        finetune(run, data=store, out=tmp_path / name, overrides=[*QUICK, SIZE, "data.predict=[]"]).folder
        for name, run in (("a", imported), ("b", native))
    ]
    first, second = (load_weights(run, "network") for run in runs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    reports = [json.loads((run / "transfer.json").read_text()) for run in runs]
    assert [report["encoder"]["share"] for report in reports] == [1.0, 1.0]
    assert reports[0]["decoder"]["share"] > 0.9
    assert load_card(runs[0]).inputs[0].numbers == (-120.5, 301.0, 71.25, 50.5), "its input is theirs, not the store's"


def test_pretraining_goes_on_with_its_encoder_and_keeps_its_licence(store, imported, tmp_path) -> None:
    overrides = [*QUICK, "train.batch_size=2", "method.window=[8,16,16]", "method.patch=[2,4,4]"]
    out = pretrain("simmim", data=store, out=tmp_path / "on", init_from=imported, overrides=overrides).folder
    card = load_card(out)
    assert card.encoder["channels"] == SIZES["unet"]["channels"]
    assert card.origin == load_card(imported).origin
    assert card.inputs[0].numbers == (-120.5, 301.0, 71.25, 50.5)


def test_it_embeds_and_says_by_how_much_a_store_does_not_fit(store, imported, tmp_path, capsys) -> None:
    table = embed(imported, data=store, out=tmp_path / "v.npz", overrides=["device=cpu", "window=[8,16,16]"]).table
    assert table.vectors.shape == (3, 8)
    said = capsys.readouterr().err
    assert "3 of 3 scans differ by more than 10%" in said
    assert "medssl cache MANIFEST --out STORE 'spacing_mm=[3,0.75,0.5]'" in said


def test_an_export_says_the_licence_and_warns(imported, tmp_path, capsys) -> None:
    export(imported, to="safetensors", out=tmp_path / "out")
    assert "licence of the code: Apache-2.0" in capsys.readouterr().out
    card = json.loads((imported / "card.json").read_text())
    card["origin"]["limits"] = ["non-commercial", "no-derivatives"]
    other = tmp_path / "nc"
    other.mkdir()
    for path in imported.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "card.json").write_text(json.dumps(card))
    export(other, to="safetensors", out=tmp_path / "out2")
    assert "non-commercial, no-derivatives: read it before you pass the export on" in capsys.readouterr().err
    assert load_card(tmp_path / "out2").origin is not None


def test_a_whole_segmenter_comes_with_names(tmp_path) -> None:
    torch.save(_checkpoint(_authors("unet"), _plans("unet")), tmp_path / "a.pth")
    made = medssl.import_weights(tmp_path / "a.pth", out=tmp_path / "run")
    assert "network.safetensors" in {path.name for path in made.written}
    assert load_segmenter(tmp_path / "run").class_names == ("liver", "tumour")
    kept = (tmp_path / "run" / "import.json").read_text() + (tmp_path / "run" / "card.json").read_text()
    assert str(tmp_path) not in kept
    with pytest.raises(ConfigError, match="is not empty"):
        import_weights(tmp_path / "a.pth", out=tmp_path / "run")
    import_weights(tmp_path / "a.pth", out=tmp_path / "run", overwrite=True)
    assert (tmp_path / "run.old" / "card.json").is_file()
    import_weights(tmp_path / "a.pth", out=tmp_path / "dry", dry_run=True)
    assert not (tmp_path / "dry").exists()


def test_what_is_unknown_names_its_first_keys(tmp_path) -> None:
    torch.save({"state_dict": {f"odd.{n}": torch.ones(1) for n in range(12)}}, tmp_path / "voco_new.pth")
    with pytest.raises(
        ConfigError, match=r"By its name it is near voco.*12 tensors: state_dict: odd\.0, .*odd\.9, \.\.\."
    ):
        import_weights(tmp_path / "voco_new.pth", out=tmp_path / "run")
    with pytest.raises(ConfigError, match="Did you mean 'voco'"):
        import_weights(tmp_path / "voco_new.pth", out=tmp_path / "run", named="vocoo")


def test_every_source_is_listed_and_shown_with_licence_and_proof(capsys) -> None:
    assert [row[0] for row in list_things("weights").rows] == list(SOURCES)
    root = Path(__file__).resolve().parents[2]
    for name, row in SOURCES.items():
        show(name)
        said = capsys.readouterr().out
        assert row.weights.name in said
        assert row.proof.partition(":")[0] in said
        assert (root / row.proof.partition(":")[0]).is_file()


def test_every_source_has_its_row_in_the_docs() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")[1].strip().strip("`")
        for line in text.splitlines()
        if line.startswith("| `") and line.count("|") == 7
    ]
    assert rows == list(SOURCES)  # the table of six columns
