"""Classifiers of cases with two channels: what they read, and that each channel counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.class_features import class_features
from medssl.tasks.class_inference import predict_classes
from medssl.tasks.class_loading import ClassLoader, resized
from medssl.tasks.class_samples import class_names, samples_of
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import ClassificationTask

SETTINGS = {
    "volume": {"window": (8, 16, 16)},
    "slice": {"window": (1, 16, 16), "level": "slice"},
    "set": {"window": (1, 16, 16), "level": "set", "set_size": 3, "attention": 4},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    draw, items = np.random.default_rng(0), []
    for number in range(6):
        values = draw.integers(0, 16000, (2, 9, 17, 15)).astype(np.int16)
        items.append(
            Item(id=f"s{number}", values=values, modality="MR", channels=("adc", "dwi"), patient=f"p{number}",
                 targets={"kind": "ab"[number % 2]}, lacks=("dwi",) if number == 5 else ())
        )  # fmt: skip
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


@pytest.mark.parametrize("level", sorted(SETTINGS))
def test_a_classifier_sees_each_channel(level: str, store: Store) -> None:
    settings = ClassificationSettings.model_validate({"target": "kind", **SETTINGS[level]})
    classes = class_names(store, settings)
    samples = samples_of(store, settings, classes)
    encoder = {"name": "unet", "channels": [4, 8], "blocks": 1, "in_channels": 2, "dims": 3 if level == "volume" else 2}
    torch.manual_seed(0)
    task = ClassificationTask(settings, build_encoder(encoder), classes)
    loader = ClassLoader(samples, settings, batch_size=4, seed=0, threads=0, drop=0.3)
    batch = loader.batch(1)
    count = 3 if level == "set" else 1
    assert batch.values.shape == (4, count, 2, *settings.window)
    assert batch.present is not None
    assert not batch.network_input().transpose(1, 2)[~batch.present].any()
    views = task.views(batch, Stream(0, 1, [0, 1, 2, 3]))
    assert views.images.shape == (4 * count, 2, *settings.window)
    losses = task(views, 0.0)
    losses.total.backward()
    first = next(p for p in task.encoder.parameters() if p.dim() == 5)
    assert first.grad is not None
    assert all(bool(first.grad[:, channel].any()) for channel in range(2))
    assert task.pictures(views)["windows"].shape[1] == 2
    found = predict_classes(task, samples, batch_size=2, device="cpu")
    assert np.isfinite(found.logits).all()
    if level != "set":
        features = class_features(task.encoder, samples, settings)
        assert features.vectors.shape == (6, 12)


def test_channels_are_resized_each_by_itself(store: Store) -> None:
    values = store.windows(0, (0, 0, 0), (9, 17, 15))
    both = resized(values, (4, 20, 8))
    assert both.shape == (2, 4, 20, 8)
    for channel in range(2):
        np.testing.assert_array_equal(both[channel], resized(values[channel : channel + 1], (4, 20, 8))[0])


def test_a_read_of_a_scan_is_what_the_store_holds(store: Store, tmp_path: Path) -> None:
    settings = ClassificationSettings.model_validate({"target": "kind", "window": (9, 17, 15), "fit": "crop"})
    samples = samples_of(store, settings, class_names(store, settings))
    loader = ClassLoader(samples, settings, batch_size=6, seed=0, threads=0)
    batch = loader.batch(0)
    for row, item in enumerate(batch.item.tolist()):
        whole = np.stack([store.values(item, channel) for channel in range(2)])
        np.testing.assert_array_equal(batch.values[row, 0].numpy(), whole)
