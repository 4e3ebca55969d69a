"""Cases of four channels from the store to a segmenter, vectors and exports; and what is refused before a step."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from matplotlib.image import imread
from safetensors.torch import load_file

from medssl.engine.card import load_card
from medssl.errors import CheckpointError, ConfigError
from medssl.exporting.onnx import run_onnx
from medssl.loading import channel_facts
from medssl.phantoms.brains import SEQUENCES
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.normalised import normalised_as
from medssl.store.read import Store
from medssl.tasks.inference import InferenceSettings, predict_store, probabilities_of
from medssl.tasks.outputs import ClassOutput
from medssl.tasks.segmenter import load_segmenter
from medssl.windows import as_input
from medssl.workflows.embed import embed
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from medssl.workflows.pretrain import pretrain
from medssl.workflows.report import report
from medssl.workflows.validate import validate
from tests.brain_store import store_of_brains

SHAPE = (16, 20, 16)
QUICK = [
    "train.steps=3", "train.batch_size=2", "train.warmup=0", "train.accelerator=cpu", "train.threads=1",
    "train.checkpoint_every=100", "train.probe_every=3", "train.log_every=1",
]  # fmt: skip
UNET = ["encoder.name=unet", "encoder.channels=[4,8]", "encoder.blocks=1"]
MASKED = [*QUICK, *UNET, "method.name=masked", "method.window=[16,16,16]", "method.patch=[4,4,4]"]
TUNE = [*QUICK, "segmentation.window=[16,16,16]", "data.held_out_scans=1"]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of_brains(
        tmp_path_factory.mktemp("four") / "store", subjects=5, shape=SHAPE, splits=("train", "train", "val", "test")
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of_brains(
        tmp_path_factory.mktemp("one") / "store", subjects=4, shape=SHAPE, splits=("train", "val"), channels=("t1",)
    )


@pytest.fixture(scope="module")
def run(four: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    pretrain(method="masked", data=four.folder, out=out, overrides=[*MASKED, "data.drop_channels=0.3"])
    return out


@pytest.fixture(scope="module")
def single(one: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("single") / "run"
    pretrain(method="masked", data=one.folder, out=out, overrides=MASKED)
    return out


@pytest.fixture(scope="module")
def segmenter(four: Store, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("segmenter") / "run"
    finetune(run, data=four.folder, out=out, overrides=[*TUNE, "data.drop_channels=0.2"])
    return out


def test_a_run_says_what_its_channels_are(run: Path) -> None:
    card = load_card(run)
    assert card.in_channels == card.encoder["in_channels"] == 4
    assert [(c.name, c.modality, c.scale) for c in card.inputs] == [(n, "MR", (0.0, 16384.0)) for n in SEQUENCES]
    assert yaml.safe_load((run / "run.yaml").read_text())["encoder"]["in_channels"] == 4
    assert "channels t1, t1ce, t2, flair (MR)" in (run / "log.txt").read_text()
    height, width = imread(run / "views.png").shape[:2]
    assert height > width  # a row a channel, of two windows


def test_the_same_steps_come_again(four: Store, run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    pretrain(method="masked", data=four.folder, out=again, overrides=[*MASKED, "data.drop_channels=0.3"])
    losses = [
        [json.loads(line).get("loss") for line in (r / "metrics.jsonl").read_text().splitlines()] for r in (run, again)
    ]
    assert losses[0] == losses[1]


def test_label_maps_are_those_of_the_network_on_all_channels(four: Store, segmenter: Path) -> None:
    task = load_segmenter(segmenter)
    case = normalised_as(four.split("test"), load_card(segmenter).inputs_known)
    values = torch.from_numpy(np.stack([case.values(0, c) for c in range(4)]))[None]
    scale, _ = channel_facts(case.entries)
    found = probabilities_of(task.network.eval(), case, 0, SHAPE, InferenceSettings())
    with torch.no_grad():
        ours = torch.softmax(task.network(as_input(values, scale)), dim=1)[0]
    torch.testing.assert_close(found, ours, atol=1e-5, rtol=1e-4)
    (path,) = (segmenter / "predictions").glob("*.nii.gz")
    assert np.asarray(nibabel.load(path).dataobj).shape == SHAPE[::-1]


def test_what_pads_a_channel_is_its_own_fill(four: Store, segmenter: Path) -> None:
    """A scan smaller than the window: each channel goes on with what it has outside the scan."""
    task = load_segmenter(segmenter)
    case = normalised_as(four.split("test"), load_card(segmenter).inputs_known)
    window = (20, 20, 20)
    found = probabilities_of(task.network.eval(), case, 0, window, InferenceSettings())
    z, y, x = ((w - s) // 2 for w, s in zip(window, SHAPE, strict=True))
    values = torch.from_numpy(case.windows(0, (-z, -y, -x), window))[None]
    scale, _ = channel_facts(case.entries)
    with torch.no_grad():
        ours = torch.softmax(task.network(as_input(values, scale)), dim=1)[0]
    z0, y0, x0 = SHAPE
    torch.testing.assert_close(found, ours[:, z : z + z0, y : y + y0, x : x + x0], atol=1e-5, rtol=1e-3)


def test_one_channel_becomes_four_and_four_become_one(
    four: Store, one: Store, run: Path, single: Path, tmp_path: Path
) -> None:
    for start, data, told in (
        (single, four, "1 (t1) there, 4 (t1, t1ce, t2, flair) here; transfer.channels=repeat"),
        (run, one, "4 (t1, t1ce, t2, flair) there, 1 (t1) here; transfer.channels=repeat"),
    ):
        out = tmp_path / f"to-{len(data.channels)}"
        finetune(start, data=data.folder, out=out, overrides=[*TUNE, "train.steps=1"], predict=[])
        assert told in (out / "log.txt").read_text()
        assert load_card(out).in_channels == len(data.channels)
        assert "adapted" in {
            row["status"] for row in json.loads((out / "transfer.json").read_text())["encoder"]["rows"]
        }
    finetune(
        run, data=one.folder, out=tmp_path / "by name", predict=[],
        overrides=[*TUNE, "train.steps=1", "transfer.channels=match"],
    )  # fmt: skip
    assert "t1 by name; freshly drawn: none" in (tmp_path / "by name" / "log.txt").read_text()


def test_vectors_see_every_channel_and_foreign_channels_are_refused(
    four: Store, one: Store, run: Path, tmp_path: Path
) -> None:
    table = embed(run, data=four.folder, out=tmp_path / "a.npz", overrides=["device=cpu"]).table
    assert table.vectors.shape == (5, 8)
    with pytest.raises(ConfigError, match=r"takes the channels t1, t1ce, t2, flair, and the cases of .* have t1"):
        embed(run, data=one.folder, out=tmp_path / "b.npz", overrides=["device=cpu"])
    turned = store_of_brains(tmp_path / "turned", subjects=1, shape=SHAPE, channels=SEQUENCES[::-1])
    with pytest.raises(ConfigError, match="same channels in the same order"):
        embed(run, data=turned.folder, out=tmp_path / "b.npz", overrides=["device=cpu"])


def test_an_export_names_the_channels_and_agrees(four: Store, segmenter: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(segmenter, to="onnx", out=tmp_path / "out")
    (path,) = tmp_path.rglob("*.onnx")
    described = json.loads(path.with_suffix(".json").read_text())["input"]["channels"]
    assert [channel["name"] for channel in described] == list(SEQUENCES)
    values = torch.from_numpy(four.windows(0, (0, 0, 0), (16, 16, 16)))[None]
    images = as_input(values, torch.tensor([[c.scale for c in four.entries[0].channels]]))
    with torch.no_grad():
        expected = load_segmenter(segmenter).network.eval()(images)
    np.testing.assert_allclose(run_onnx(path, images)[0], expected, atol=1e-3)


def test_a_case_that_lacks_a_channel_is_trained_on_and_segmented(tmp_path: Path, segmenter: Path) -> None:
    draw, items = np.random.default_rng(0), []
    for number in range(3):
        values = draw.integers(0, 16384, (4, *SHAPE)).astype(np.int16)
        labels = np.zeros(SHAPE, np.uint8)
        labels[4:9, 4:9, 4:9] = 1
        items.append(
            Item(id=f"c{number}", values=values, labels=labels, modality="MR", channels=SEQUENCES,
                 lacks=("t2",) if number else (), split="train")
        )  # fmt: skip
    store = store_from_arrays(tmp_path / "store", items, classes={1: "ball"})
    finetune(data=store.folder, out=tmp_path / "run", overrides=[*TUNE, *UNET], predict=["train"])
    assert len(list((tmp_path / "run" / "predictions").glob("*.nii.gz"))) == 3
    network = load_segmenter(segmenter).network.eval()
    values = store.windows(1, (0, 0, 0), SHAPE)
    assert (values[2] == 0).all()
    seen = normalised_as(store, load_card(segmenter).inputs_known)
    predict_store(network, ClassOutput((0, 1, 2, 4)), seen, tmp_path / "p", window=SHAPE, settings=InferenceSettings())


def test_what_does_not_fit_is_refused_before_a_step(four: Store, one: Store, run: Path, tmp_path: Path) -> None:
    def dry(store: Store, *overrides: str, method: str = "masked") -> None:
        pretrain(
            method=method, data=store.folder, out=tmp_path / "x", overrides=[*QUICK, *UNET, *overrides], dry_run=True
        )

    dry(four, "method.window=[16,16,16]", "method.patch=[4,4,4]", "encoder.in_channels=4")
    with pytest.raises(ConfigError, match=r"takes 3 channels \(command line\).* have 4 \(t1, t1ce, t2, flair\)"):
        dry(four, "encoder.in_channels=3")
    with pytest.raises(ConfigError, match="takes 2 channels"):
        finetune(data=four.folder, out=tmp_path / "x", overrides=[*TUNE, *UNET, "encoder.in_channels=2"], dry_run=True)
    with pytest.raises(ConfigError, match=r"drop_channels: needs cases of several channels.* have one, t1"):
        dry(one, "data.drop_channels=0.5")
    with pytest.raises(ConfigError, match="pair: needs cases of several channels"):
        dry(one, "data.pair=channels", method="simclr")
    with pytest.raises(ConfigError, match=r"'masked' has no two views.*simclr"):
        dry(four, "data.pair=channels", "method.window=[16,16,16]", "method.patch=[4,4,4]")
    dry(four, "data.pair=channels", "method.window=[16,16,16]", "method.crop=[8,8,8]", method="simclr")
    assert not (tmp_path / "x").exists()
    preset = tmp_path / "mine.yaml"
    preset.write_text(f"encoder: {{in_channels: 2}}\ndata: {{store: {four.folder}}}\n")
    with pytest.raises(ConfigError, match="takes 2 channels"):
        validate(preset, verb="pretrain")
    preset.write_text(f"data: {{store: {four.folder}}}\n")
    assert validate(preset, verb="pretrain").settings.encoder.in_channels == 4
    with pytest.raises(ConfigError, match="clouds have none"):
        pretrain(method="point_mae", data=four.folder, out=tmp_path / "x", overrides=["data.drop_channels=0.1"])


def test_channels_in_another_order_are_no_start_and_no_sequel(four: Store, run: Path, tmp_path: Path) -> None:
    """As many channels, and shapes that fit: nothing but their names tells."""
    turned = store_of_brains(
        tmp_path / "turned", subjects=5, shape=SHAPE, channels=SEQUENCES[::-1], splits=("train", "train", "val", "test")
    )
    with pytest.raises(ConfigError, match=r"in another order, flair, t2, t1ce, t1\..*channels=t1,t1ce,t2,flair"):
        pretrain(method="masked", data=turned.folder, out=tmp_path / "x", overrides=MASKED, init_from=run)
    out = tmp_path / "moved"
    shutil.copytree(four.folder, tmp_path / "store")
    begun = [*MASKED, "train.checkpoint_every=1"]
    pretrain(method="masked", data=tmp_path / "store", out=out, overrides=begun)
    shutil.rmtree(out / "checkpoints" / "step-0000003")
    shutil.rmtree(tmp_path / "store")
    shutil.copytree(turned.folder, tmp_path / "store")
    with pytest.raises(
        CheckpointError, match=r"trained on the channels t1, t1ce, t2, flair, and the store now has flair"
    ):
        pretrain(method="masked", data=tmp_path / "store", out=out, overrides=begun, resume=True)
    other = store_of_brains(tmp_path / "other", subjects=4, shape=SHAPE, channels=("t1", "t2"), splits=("train", "val"))
    two = tmp_path / "two"
    pretrain(method="masked", data=other.folder, out=two, overrides=[*MASKED, "train.steps=1"])
    renamed = store_of_brains(
        tmp_path / "renamed", subjects=4, shape=SHAPE, channels=("t1ce", "flair"), splits=("train", "val")
    )
    pretrain(
        method="masked", data=renamed.folder, out=tmp_path / "y", overrides=[*MASKED, "train.steps=1"], init_from=two
    )
    assert "doubtful: they saw t1, t2, and go by their places to t1ce, flair" in (tmp_path / "y/log.txt").read_text()


def test_a_card_has_the_scale_of_the_cases_that_have_a_channel(tmp_path: Path) -> None:
    """More cases lack the PET than have it, and what stands for it has another scale."""
    from dataclasses import replace

    from medssl.encoders.table import build_encoder
    from medssl.engine.train_settings import TrainSettings
    from medssl.volumes.card import volume_card

    encoder = build_encoder({"name": "unet", "channels": [4, 8], "in_channels": 2})
    values = np.zeros((2, 8, 8, 8), np.int16)
    items = [
        Item(id=f"c{n}", values=values, channels=("ct", "pet"), modality=("CT", "PT"), lacks=("pet",) if n else ())
        for n in range(3)
    ]
    store = store_from_arrays(tmp_path / "store", items)
    first, *others = store.entries
    entries = [replace(first, more=(replace(first.more[0], scale=(0.0, 500.0)),)), *others]
    card = volume_card(encoder, entries, TrainSettings(), settings=encoder.settings, window=(8, 8, 8), method={},
                       data={}, citation=[])  # fmt: skip
    assert card.inputs_known[1].scale == (0.0, 500.0)
    assert card.inputs_known[1].modality == "PT"


def test_a_run_of_an_earlier_release_goes_on(one: Store, single: Path, tmp_path: Path) -> None:
    """Its run.yaml knows no setting of channels, its checkpoint no names: defaults change nothing."""
    old = tmp_path / "old"
    begun = [*MASKED, "train.checkpoint_every=1"]
    pretrain(method="masked", data=one.folder, out=old, overrides=begun)
    shutil.rmtree(old / "checkpoints" / "step-0000003")
    lines = (old / "run.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.strip().startswith(("drop_channels:", "pair:"))]
    assert len(kept) == len(lines) - 2
    (old / "run.yaml").write_text("\n".join([*kept, "transfer:", "  adapt_channels: true", ""]))
    with pytest.raises(ConfigError, match=r"train.lr"):
        pretrain(method="masked", data=one.folder, out=old, overrides=[*begun, "train.lr=0.5"], resume=True)
    for state in old.glob("checkpoints/*/state.json"):
        known = json.loads(state.read_text())
        del known["channels"]
        state.write_text(json.dumps(known))
    pretrain(method="masked", data=one.folder, out=old, overrides=begun, resume=True)
    ended, wanted = (load_file(folder / "encoder.safetensors") for folder in (old, single))
    assert all(torch.equal(ended[name], wanted[name]) for name in wanted)


def test_two_channels_are_the_two_views_of_a_contrast(four: Store, tmp_path: Path) -> None:
    overrides = [*QUICK, *UNET, "method.window=[16,16,16]", "method.crop=[8,8,8]", "data.pair=channels"]
    pretrain(method="simclr", data=four.folder, out=tmp_path / "run", overrides=overrides)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)


def test_a_report_shows_each_channel(four: Store, segmenter: Path, tmp_path: Path) -> None:
    page = report(segmenter, four.folder, out=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert page is not None
    for name in SEQUENCES:
        assert f"three planes of case_000, {name}" in text
    assert "t1 (5), t1ce (5), t2 (5), flair (5)" in text
    told = re.search(r"channels of a case</\w+>\s*<\w+[^>]*>([^<]*)<", text)
    assert told is not None
    assert told[1] == ", ".join(SEQUENCES)  # of the network, beside its encoder's stages
    assert "stages of 4, 8 features" in text
