"""The decoder's stage: what moves, what stays, and what fine-tuning takes from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.loading import WindowLoader
from medssl.methods.table import build_method
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays

LOCAL = {"name": "local_contrast", "window": [1, 64, 64], "partitions": 3, "blocks": 1, "projected": 16}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    draw = np.random.default_rng(0)
    items = [Item(id=f"s{i}", values=draw.integers(0, 900, (6, 64, 64)).astype(np.int16)) for i in range(2)]
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def views_of(method, store):
    batch = WindowLoader(store, method.plan, batch_size=6, seed=0, threads=0).batch(0)
    return method.views(batch, Stream(0, 0, range(6)))


def test_nothing_of_the_encoder_moves_not_even_statistics_of_its_batch_norm(store):
    """The authors' second stage froze the weights and went on moving the statistics."""
    encoder = build_encoder({"name": "timm", "model": "test_resnet"})
    assert any("running_mean" in name for name in encoder.state_dict())
    method = build_method({**LOCAL, "region": 1}, encoder)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    method.train()
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        method(views_of(method, store), 0.0).total.backward()
        optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert not encoder.training
    assert method.decoder.training


def test_versions_of_an_image_differ_in_intensity_alone_each_by_its_own_draw(store):
    """The authors' code drew one change for a whole batch."""
    method = build_method(LOCAL, build_encoder({"name": "unet", "dims": 2, "channels": [4, 6, 8]}))
    images = views_of(method, store).images
    assert images.shape == (6, 2, 1, 1, 64, 64)
    plain = WindowLoader(store, method.plan, batch_size=6, seed=0, threads=0).batch(0).network_input()
    slopes = set()
    for row in range(6):
        for version in range(2):
            x, y = plain[row].flatten(), images[row, version].flatten()
            slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
            assert torch.allclose(y, slope * (x - x.mean()) + y.mean(), atol=1e-4)
            slopes.add(round(float(slope), 5))
    assert len(slopes) == 12


def test_blocks_regions_and_encoders_that_do_not_fit_are_refused():
    flat = {"name": "unet", "dims": 2, "channels": [4, 6, 8]}
    with pytest.raises(ValueError, match="has 2 blocks"):
        build_method({**LOCAL, "blocks": 3}, build_encoder(flat))
    with pytest.raises(ValueError, match="overlap"):
        build_method({**LOCAL, "window": [1, 8, 8]}, build_encoder(flat))
    plain = build_encoder({"name": "vit", "width": 24, "depth": 2, "heads": 2, "patch": 4})
    with pytest.raises(ValueError, match="differ in stride"):
        build_method({**LOCAL, "window": [8, 16, 16]}, plain)


def test_it_is_not_joined_with_methods_that_train_the_encoder():
    other = {"name": "global_contrast", "window": [1, 64, 64], "partitions": 3, "hidden": 16}
    parts = {"local": {"method": LOCAL}, "global": {"method": other}}
    encoder = build_encoder({"name": "unet", "dims": 2, "channels": [4, 6, 8]})
    with pytest.raises(ValueError, match="freezes the encoder"):
        build_method({"name": "joined", "parts": parts}, encoder)
