"""What a store of one channel gives, number by number, as it was before cases had channels.

Draws, windows and views are kept as sums over all numbers and over a fixed pattern of signs, so that a change of any
place shows; whole numbers and draws must be equal, what goes through arithmetic may differ in the last digits from one
machine to the next.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.encoders.table import build_encoder
from medssl.loading import WindowLoader
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.class_loading import ClassLoader
from medssl.tasks.class_samples import class_names, samples_of
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.views.intensity import IntensitySettings, sample_intensity
from medssl.windows import WindowPlan
from tests.contracts.test_methods import CASES, batch_of, make, slots, tensors

KEPT = Path(__file__).parents[1] / "golden" / "one_channel.json"
UNET = {"name": "unet", "channels": [4, 6, 8], "blocks": 1, "pool": "mean"}  # as then


def digest(value: Tensor) -> str:
    """Name whole numbers and draws, bit for bit."""
    return hashlib.sha256(
        f"{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes()
    ).hexdigest()[:16]


def sums(value: Tensor) -> list[float]:
    """Sum a tensor, and sum it again with signs that differ from place to place."""
    flat = value.detach().double().flatten()
    signs = torch.cos(1.7 * torch.arange(len(flat), dtype=torch.float64) ** 1.1)
    return [float(len(flat)), float(flat.sum()), float((flat * signs).sum())]


def labelled(folder: Path) -> Store:
    draw, items = np.random.default_rng(3), []
    for number in range(6):
        values = draw.integers(-900, 900, (18, 22, 20)).astype(np.int16)
        labels = np.zeros(values.shape, np.int16)
        labels[4 + number : 9 + number, 5:12, 6:11] = 1 + number % 2
        items.append(
            Item(
                id=f"s{number}", values=values, labels=labels, patient=f"p{number // 2}",
                modality="CT" if number % 2 else "MR", targets={"kind": "ab"[number % 2]},
            )
        )  # fmt: skip
    return store_from_arrays(folder, items)


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Store:
    draw, items = np.random.default_rng(0), []
    for number in range(5):
        place = np.stack(np.meshgrid(*(np.arange(n) for n in (18, 26, 20)), indexing="ij"))
        field = np.sin(place[0] / 3) + np.cos(place[1] / 4) + place[2] / 10 + draw.normal(0, 0.2, place.shape[1:])
        items.append(Item(id=f"scan{number}", values=(field * 300).astype(np.int16), patient=f"p{number}"))
    return store_from_arrays(tmp_path_factory.mktemp("plain"), items)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return labelled(tmp_path_factory.mktemp("labelled"))


def of_method(case: str, store: Store) -> dict[str, Any]:
    method = make(f"{case}, pooled by mean")
    views = method.views(batch_of(store, method, 1), Stream(2, 1, slots(method)))
    torch.manual_seed(0)  # some drop features
    return {"views": [sums(tensor) for tensor in tensors(views)], "loss": float(method(views, 0.25).total.detach())}


def of_windows(store: Store) -> dict[str, Any]:
    plan = WindowPlan(size=(12, 24, 16), placement="foreground", labels=True)
    batch = WindowLoader(store, plan, batch_size=4, seed=9, threads=0).batch(3)
    found = {name: digest(value) for name, value in batch.tensors().items() if name not in ("scale", "present")}
    return {**found, "scale": batch.scale.flatten().tolist(), "input": digest(batch.network_input())}


def of_draws() -> dict[str, Any]:
    settings = IntensitySettings(
        contrast=(0.75, 1.25), brightness=0.1, gamma=(0.7, 1.5), noise=0.05, blur_voxels=1.0, low_resolution=2.0,
        probability=0.5,
    )  # fmt: skip
    drawn = sample_intensity(settings, Stream(4, 7, [0, 3, 5]), count=2)
    names = ("contrast", "brightness", "gamma", "noise", "noise_seed", "blur_voxels", "low_resolution")
    return {name: digest(getattr(drawn, name).flatten()) for name in names if name != "gamma"}


def of_segmenter(store: Store) -> dict[str, Any]:
    torch.manual_seed(5)
    task = SegmentationTask(SegmentationSettings(window=(12, 16, 16)), build_encoder(UNET), store.classes)
    batch = WindowLoader(store, task.plan, batch_size=3, seed=1, threads=0).batch(2)
    views = task.views(batch, Stream(1, 2, [0, 1, 2]))
    return {"views": [sums(tensor) for tensor in tensors(views)], "loss": float(task(views, 0.0).total.detach())}


def of_classifier(store: Store, level: str) -> dict[str, Any]:
    window = (12, 16, 16) if level == "volume" else (1, 16, 16)
    encoder = UNET if level == "volume" else {**UNET, "dims": 2}
    settings = ClassificationSettings.model_validate(
        {"target": "kind", "window": window, "level": level, "set_size": 3, "attention": 4}
    )
    torch.manual_seed(5)
    classes = class_names(store, settings)
    task = ClassificationTask(settings, build_encoder(encoder), classes)
    loader = ClassLoader(samples_of(store, settings, classes), settings, batch_size=3, seed=1, threads=0)
    views = task.views(loader.batch(2), Stream(1, 2, [0, 1, 2]))
    return {"views": [sums(tensor) for tensor in tensors(views)], "loss": float(task(views, 0.0).total.detach())}


def written(folder: Path) -> Path:
    """Write a CT, an MR of whole numbers and one of fractions, with a label each, as NIfTI."""
    import nibabel

    draw = np.random.default_rng(7)
    affine = np.diag([-1.0, 1.5, 3.0, 1.0])  # x runs to the left
    for number, name in enumerate(("ct", "mr", "float")):
        place = np.stack(np.meshgrid(*(np.arange(n) for n in (12, 24, 20)), indexing="ij"))
        ball = ((place - np.array([6, 12, 10]).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 30
        values = draw.normal(0, 50, ball.shape) + 400 * ball - (1000 * (place[1] < 4) if name == "ct" else -900)
        typed = values.astype(np.float32) if name == "float" else np.rint(values).astype(np.int16)
        path = folder / f"P{number}" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(typed.transpose(2, 1, 0), affine), path)
        label = path.with_name(f"{name}_seg.nii.gz")
        nibabel.save(nibabel.Nifti1Image(ball.astype(np.uint8).transpose(2, 1, 0), affine), label)
    return folder


def of_store(folder: Path) -> dict[str, Any]:
    """Index, cache and describe what is stored, scan by scan."""
    import medssl

    medssl.index(written(folder / "d"), out=folder / "m.parquet", overrides=["workers=1"])
    store = medssl.cache(folder / "m.parquet", out=folder / "store", overrides=["workers=1"]).store
    found = {}
    for place, entry in enumerate(store.entries):
        found[entry.id] = {
            "values": digest(torch.from_numpy(np.asarray(store.values(place)))),
            "labels": digest(torch.from_numpy(np.asarray(store.labels(place)))),
            "numbers": [
                *entry.scale, entry.slope, entry.intercept, float(entry.fill), *np.ravel(entry.body_box).tolist(),
                *entry.spacing_mm, *np.ravel(entry.affine).tolist(),
            ],
            "modality": entry.modality,
        }  # fmt: skip
    return found


def of_predictions(store: Store) -> dict[str, Any]:
    """Predict with networks of fixed random weights: a label map's probabilities, and the classes of scans."""
    from medssl.tasks.class_inference import predict_classes
    from medssl.tasks.inference import InferenceSettings, probabilities_of

    torch.manual_seed(5)
    task = SegmentationTask(SegmentationSettings(window=(12, 16, 16)), build_encoder(UNET), store.classes)
    maps = probabilities_of(task.network.eval(), store, 2, (12, 16, 16), InferenceSettings())
    settings = ClassificationSettings.model_validate({"target": "kind", "window": (12, 16, 16)})
    torch.manual_seed(5)
    classes = class_names(store, settings)
    classifier = ClassificationTask(settings, build_encoder(UNET), classes)
    logits = predict_classes(classifier, samples_of(store, settings, classes), batch_size=2, device="cpu").logits
    return {"map": sums(maps), "logits": sums(torch.from_numpy(logits))}


def near(found: dict[str, Any], wanted: dict[str, Any], drawn_by: str) -> None:
    assert len(found["views"]) == len(wanted["views"])
    for ours, theirs in zip(found["views"], wanted["views"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-3)
    if torch.__version__.split(".")[:2] != drawn_by.split("."):
        pytest.skip(f"torch {torch.__version__} may draw other first weights than {drawn_by}, so the loss is another")
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", sorted(CASES))
def test_methods_see_and_lose_what_they_did(case: str, plain: Store, kept: dict[str, Any]) -> None:
    near(of_method(case, plain), kept["methods"][case], kept["torch"])


def test_windows_are_those_that_they_were(several: Store, kept: dict[str, Any]) -> None:
    assert of_windows(several) == kept["windows"]


def test_draws_of_intensity_are_those_that_they_were(kept: dict[str, Any]) -> None:
    assert of_draws() == kept["draws"]


def test_segmenters_see_and_lose_what_they_did(several: Store, kept: dict[str, Any]) -> None:
    near(of_segmenter(several), kept["segmenter"], kept["torch"])


@pytest.mark.parametrize("level", ["volume", "slice", "set"])
def test_classifiers_see_and_lose_what_they_did(level: str, several: Store, kept: dict[str, Any]) -> None:
    near(of_classifier(several, level), kept["classifier"][level], kept["torch"])


def test_stores_hold_what_they_did(tmp_path: Path, kept: dict[str, Any]) -> None:
    found = of_store(tmp_path)
    assert found.keys() == kept["store"].keys()
    for scan, wanted in kept["store"].items():
        assert found[scan].pop("numbers") == pytest.approx(wanted["numbers"], rel=1e-6), scan
        assert found[scan] == {name: value for name, value in wanted.items() if name != "numbers"}, scan


def test_predictions_are_those_that_they_were(several: Store, kept: dict[str, Any]) -> None:
    found = of_predictions(several)
    for name, wanted in kept["predictions"].items():
        assert found[name] == pytest.approx(wanted, rel=1e-4, abs=1e-4), name
