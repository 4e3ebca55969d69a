"""Tasks, protocols and exports keep their contract with cases of two channels of different scales, one lacking one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.engine.card import Card, CardInput, load_card, load_encoder, save_encoder
from medssl.errors import ConfigError
from medssl.exporting.runs import exportable_of
from medssl.loading import WindowLoader
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.class_features import class_features
from medssl.tasks.class_inference import predict_classes
from medssl.tasks.class_loading import ClassLoader
from medssl.tasks.class_samples import class_names, samples_of
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask
from medssl.tasks.inference import InferenceSettings, probabilities_of
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.tasks.segmenter import load_segmenter
from medssl.windows import as_input
from medssl.workflows.evaluate import evaluate
from medssl.workflows.export import export
from medssl.workflows.finetune import finetune
from tests.contracts.test_encoders import SMALL
from tests.oracles.nnunet_names import encoder_from_nnunet
from tests.perturbing import perturbed

CHANNELS = ("ct", "t1")
KINDS = ("CT", "MR")
SCALES = ((-1000.0, 1000.0), (0.0, 16384.0))
UNET = {"name": "unet", "channels": [4, 6, 8], "blocks": 1}
WINDOWS = {"swin": (64, 32, 32), "resnet": (16, 16, 16), "vit": (12, 16, 16), "timm": (1, 64, 64), "flat": (1, 16, 16)}
QUICK = [
    "train.steps=2", "train.batch_size=2", "train.warmup=0", "train.accelerator=cpu", "train.threads=1",
    "train.checkpoint_every=2", "train.log_every=1", "train.precision=32-true",
]  # fmt: skip


def item(number: int, shape: tuple[int, int, int] = (14, 20, 18)) -> Item:
    """Return a case of which t1 alone shows what it is; the last lacks the CT."""
    draw = np.random.default_rng(number)
    labels = np.zeros(shape, np.int16)
    labels[4:9, 5:13, 4:12] = 1
    ill = number % 2
    ct = draw.normal(0, 200, shape)
    t1 = draw.normal(4000, 500, shape) + (4000 + 4000 * ill) * labels
    lacks = ("ct",) if number == 11 else ()
    return Item(
        id=f"c{number:02d}", values=np.stack([ct, t1]).astype(np.int16), labels=labels, patient=f"p{number:02d}",
        split="train" if number < 8 else "test", modality=("CT", "MR"), channels=CHANNELS, lacks=lacks,
        targets={"kind": "ab"[ill]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_from_arrays(tmp_path_factory.mktemp("two") / "store", [item(n) for n in range(12)], classes={1: "x"})


def encoder_of(name: str) -> Encoder:
    torch.manual_seed(3)
    if name == "flat":
        return perturbed(build_encoder({**UNET, "dims": 2, "in_channels": 2}))
    found = build_encoder({"name": name, **SMALL[name], "in_channels": 2})
    return perturbed(found) if name != "timm" else found


def both_matter(network: Any, images: Tensor) -> None:
    """See that each channel changes the output, and that channels in another order do."""
    with torch.no_grad():
        before = network(images)
        for channel in (0, 1):
            other = images.clone()
            other[:, channel] = other[:, channel].flip(-1)
            assert not torch.allclose(network(other), before, atol=1e-6)
        assert not torch.allclose(network(images.flip(1)), before, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"timm"}))  # of slices, of which it segments none
def test_segmenters_of_every_encoder(name: str, store: Store) -> None:
    window = WINDOWS.get(name, (12, 16, 16))
    task = SegmentationTask(SegmentationSettings(window=window), encoder_of(name), store.classes)
    whole = store.subset([entry.id for entry in store.entries[:4]])
    batch = WindowLoader(whole, task.plan, batch_size=2, seed=0, threads=0).batch(0)
    losses = task(task.views(batch, Stream(0, 0, [0, 1])), 0.0)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    kernels = [p.grad for p in task.encoder.parameters() if p.ndim == 5 and p.shape[1] == 2]
    assert kernels
    assert any(grad is not None and bool((grad.abs().sum(dim=(0, 2, 3, 4)) > 0).all()) for grad in kernels)
    network = task.network.eval()
    both_matter(network, batch.network_input())
    place = 1
    found = probabilities_of(network, store, place, window, InferenceSettings(overlap=0.0))
    corner = tuple((s - w) // 2 for s, w in zip(store.entries[place].shape, window, strict=True))
    if all(w >= s for w, s in zip(window, store.entries[place].shape, strict=True)):
        values = torch.from_numpy(store.windows(place, corner, window))[None]
        with torch.no_grad():
            ours = torch.softmax(network(as_input(values, torch.tensor([SCALES]))), dim=1)[0]
        z, y, x = (-c for c in corner)
        d, h, w = store.entries[place].shape
        torch.testing.assert_close(found, ours[:, z : z + d, y : y + h, x : x + w], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("level", "name"), [("volume", "unet"), ("volume", "vit"), ("volume", "swin"),
                                             ("slice", "flat"), ("set", "timm")])  # fmt: skip
def test_classifiers_see_each_channel_at_its_own_scale(level: str, name: str, store: Store) -> None:
    window = WINDOWS.get(name, (12, 16, 16))
    settings = ClassificationSettings.model_validate(
        {"target": "kind", "window": window, "level": level, "set_size": 3, "attention": 4}
    )
    classes = class_names(store, settings)
    task = ClassificationTask(settings, encoder_of(name), classes)
    samples = samples_of(store, settings, classes)
    batch = ClassLoader(samples, settings, batch_size=3, seed=1, threads=0).batch(0)
    seen = batch.network_input()
    for row, number in enumerate(batch.item.tolist()):
        entry = store.entries[number]
        for channel in (0, 1):
            if not entry.present[channel]:
                assert not seen[row, :, channel].any()
                continue
            low, high = SCALES[channel]
            expected = ((batch.values[row, :, channel].float() - low) / (high - low)).clamp(0, 1)
            torch.testing.assert_close(seen[row, :, channel], expected)
    task(task.views(batch, Stream(1, 0, [0, 1, 2])), 0.0).total.backward()
    logits = predict_classes(task, samples, batch_size=4, device="cpu")
    assert np.isfinite(logits.logits).all()
    both_matter(task.encoder.eval().embed, seen.flatten(0, 1))


@pytest.mark.parametrize("name", ["unet", "residual", "vit", "swin"])
def test_a_probe_reads_both_channels_and_never_what_a_lacking_one_holds(name: str, store: Store) -> None:
    settings = ClassificationSettings.model_validate({"target": "kind", "window": WINDOWS.get(name, (12, 16, 16))})
    samples = samples_of(store, settings, class_names(store, settings))
    found = class_features(encoder_of(name), samples, settings, levels="all", batch_size=5)
    alone = class_features(encoder_of(name), samples, settings, levels="all", batch_size=1)
    np.testing.assert_allclose(found.vectors, alone.vectors, atol=5e-3)  # of swin a norm is over two places
    assert np.isfinite(found.vectors).all()
    assert len(np.unique(found.vectors.round(4), axis=0)) == len(store)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "masked-seed0"
    folder.mkdir()
    torch.manual_seed(0)
    encoder = perturbed(build_encoder({**UNET, "in_channels": 2}))
    card = Card(
        encoder=encoder.settings.model_dump(mode="json"), in_channels=2, channels=encoder.channels,
        strides=encoder.strides, window=(12, 16, 16), spacing_mm=(1, 1, 1), modality="CT+MR",
        inputs=tuple(CardInput(name=n, modality=m, scale=s) for n, m, s in zip(CHANNELS, KINDS, SCALES, strict=True)),
    )  # fmt: skip
    save_encoder(encoder, card, folder)
    return folder


def test_the_probe_of_classes(store: Store, pretrained: Path, tmp_path: Path) -> None:
    outcome = evaluate(
        pretrained, data=store.folder, out=tmp_path / "probe", protocol="probe",
        overrides=["probe.scans.target=kind", "probe.shares=[1.0]", "probe.draws=1",
                   "probe.random=1"],
    )  # fmt: skip
    assert {row.arm for row in outcome.scores} == {"masked", "random", "majority"}
    turned = store_from_arrays(
        tmp_path / "turned", [turned_item(n) for n in range(12)], classes={1: "x"}
    )  # fmt: skip
    with pytest.raises(ConfigError, match="same channels in the same order"):
        evaluate(pretrained, data=turned.folder, out=tmp_path / "no", protocol="probe",
                 overrides=["probe.scans.target=kind"])  # fmt: skip


def turned_item(number: int) -> Item:
    one = item(number)
    return Item(
        id=one.id, values=one.values[::-1].copy(), labels=one.labels, patient=one.patient, split=one.split,
        channels=CHANNELS[::-1], modality=("MR", "CT"), targets=one.targets,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", ["segmentation", "classes"])
def test_few_labels(what: str, store: Store, pretrained: Path, tmp_path: Path) -> None:
    """Every arm is fine-tuned and scored on both channels, scratch as well."""
    few = [f"few_label.finetune.{word}" for word in QUICK]
    if what == "segmentation":
        few += ["few_label.sizes=[1]", "few_label.draws=1", "few_label.finetune.segmentation.window=[12,16,16]"]
    else:
        few += ["few_label.recipe=classification_small", "few_label.shares=[0.5]", "few_label.draws=1",
                "few_label.finetune.classification.target=kind",
                "few_label.finetune.classification.window=[12,16,16]"]  # fmt: skip
    written = labels_on_disk(store, tmp_path)
    outcome = evaluate(pretrained, data=written, out=tmp_path / "few", protocol="few-label", overrides=few)
    assert not outcome.failed
    assert not outcome.missing
    content = json.loads((tmp_path / "few/few_label.json").read_text())
    arms = content["scores"]
    assert {row["arm"].removesuffix("-seed0") for row in arms} == {"scratch", "masked"}


def labels_on_disk(store: Store, folder: Path) -> Path:
    """Return a copy of the store whose cases say where their label maps are."""
    import shutil
    from dataclasses import replace

    from medssl.formats.nifti import write_nifti
    from medssl.store.index import read_index, write_index

    shutil.copytree(store.folder, folder / "store")
    index = read_index(folder / "store")
    entries = []
    for place, entry in enumerate(index.entries):
        path = folder / "labels" / f"{entry.id}.nii.gz"
        write_nifti(path, store.labels(place).astype(np.uint8), np.array(entry.affine))
        entries.append(replace(entry, label_path=str(path)))
    write_index(folder / "store", entries, settings=index.settings, classes=index.classes)
    return folder / "store"


@pytest.fixture(scope="module")
def segmenter(store: Store, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("segmenter") / "run"
    finetune(pretrained, data=store.folder, out=out,
             overrides=[*QUICK, "segmentation.window=[12,16,16]", "data.held_out_scans=0"], predict=[])  # fmt: skip
    return out


def test_cards_keep_order_and_scale(segmenter: Path) -> None:
    card = load_card(segmenter)
    assert [(given.name, given.scale) for given in card.inputs_known] == list(zip(CHANNELS, SCALES, strict=True))
    told = exportable_of(segmenter)
    assert [(channel.name, channel.intensity) for channel in told.channels] == [("ct", SCALES[0]), ("t1", None)]


def test_safetensors_give_what_the_run_gives(segmenter: Path, tmp_path: Path) -> None:
    export(segmenter, to="safetensors", out=tmp_path / "out")
    images = torch.rand(1, 2, 12, 16, 16)
    with torch.no_grad():
        assert torch.equal(load_encoder(tmp_path / "out").embed(images), load_encoder(segmenter).embed(images))
        moved = load_segmenter(tmp_path / "out").network.eval()
        assert torch.equal(moved(images), load_segmenter(segmenter).network.eval()(images))
    assert load_card(tmp_path / "out").inputs_known == load_card(segmenter).inputs_known


def test_nnunet_gets_the_weights_of_both_channels_and_their_scales(segmenter: Path, tmp_path: Path) -> None:
    """Read back without nnU-Net: its own networks are compared where they are installed."""
    export(segmenter, to="nnunet", out=tmp_path / "out", overrides=["nearest=true"])
    saved = torch.load(tmp_path / "out/fold_all/checkpoint_final.pth", weights_only=True)["network_weights"]
    ours = load_encoder(segmenter)
    back = build_encoder({**UNET, "in_channels": 2}).eval()
    back.load_state_dict(encoder_from_nnunet(saved, "unet"), strict=True)
    images = torch.rand(1, 2, 12, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(back.embed(images), ours.embed(images))
    plans = json.loads((tmp_path / "out/plans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["normalization_schemes"] == ["CTNormalization", "RescaleTo01Normalization"]
    ends = plans["foreground_intensity_properties_per_channel"]["0"]
    assert (ends["percentile_00_5"], ends["mean"], ends["std"]) == (-1000.0, -1000.0, 2000.0)
    assert json.loads((tmp_path / "out/dataset.json").read_text())["channel_names"] == {"0": "ct", "1": "t1"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "swin", "residual"])
def test_onnx_and_monai_of_other_encoders(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from medssl.exporting.exportable import Exportable, ExportInput, example_input
    from medssl.exporting.monai_bundle import export_monai_bundle
    from medssl.exporting.onnx import export_onnx, run_onnx

    window = (64, 64, 64) if name == "swin" else (12, 16, 16)
    inputs = (ExportInput("ct", "CT", SCALES[0]), ExportInput("t1", "MR", None))
    model = Exportable(name="two", network=encoder_of(name).eval(), window=window, spacing_mm=(1.0, 1.0, 1.0),
                       intensity=None, inputs=inputs)  # fmt: skip
    images = example_input(model, batch=1, seed=2)
    assert images.shape[1] == 2
    with torch.no_grad():
        expected = model.encoder.embed(images)
        assert not torch.allclose(model.encoder.embed(images.flip(1)), expected, atol=1e-5)
    if name != "swin":  # minutes of tracing for what the other transformer shows
        found = run_onnx(export_onnx(model, tmp_path / "a.onnx").path, images)[-1]
        np.testing.assert_allclose(found, expected, atol=1e-3)
    bundle = export_monai_bundle(model, tmp_path / "bundle")
    assert bundle.max_difference < 1e-3
