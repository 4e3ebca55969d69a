"""CVRL: pairs of windows at drawn distances, one change for a whole window, and the paper's values of the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.loading import WindowLoader
from medssl.methods.table import build_method
from medssl.objectives.infonce import info_nce, pairs_of_views
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays

CVRL = {"name": "cvrl", "window": [4, 16, 16], "crop": [4, 16, 16], "gap_mm": 6.0, "hidden": 16, "projected": 8}
FLAT = {"name": "unet", "dims": 2, "channels": [4, 6]}
STILL = {"spatial": {}, "intensity": {}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Every voxel of a slice holds the slice's number; slices are 2 mm apart, and two scans are of each patient."""
    items = []
    for number in range(6):
        values = np.broadcast_to(np.arange(30)[:, None, None], (30, 16, 16)).astype(np.int16).copy()
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        items.append(Item(id=f"p{number // 2}_f{number % 2}", values=values, patient=f"p{number // 2}", affine=affine))
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def batch_of(method, store, step=0):
    return WindowLoader(store, method.plan, batch_size=6, seed=0, threads=0).batch(step)


@pytest.mark.parametrize(("temperature", "value"), [(0.1, 1.815915e-4), (1.0, 1.102889)])
def test_the_papers_loss_is_twice_the_mean(temperature, value):
    """Two items, perfect features: each of the two clips gives log(1 + 2 e^(-1 / t)), and the paper adds them up."""
    key = torch.arange(2)
    pairs = pairs_of_views(torch.eye(2).expand(2, 2, 2), key, key)
    assert 2 * info_nce(pairs, temperature=temperature).mean().item() == pytest.approx(value, rel=2e-3, abs=1e-6)
    assert value == pytest.approx(2 * math.log1p(2 * math.exp(-1 / temperature)), rel=1e-3)


def test_pairs_are_of_one_scan_and_as_far_apart_as_asked(store):
    method = build_method(CVRL, build_encoder(FLAT))
    distances = []
    for step in range(30):
        batch = batch_of(method, store, step)
        assert (batch.item[::2] == batch.item[1::2]).all()
        distances += ((batch.origin[::2, 0] - batch.origin[1::2, 0]).abs() * batch.spacing_mm[::2, 0]).tolist()
        assert (batch.origin[::2, 1:] == batch.origin[1::2, 1:]).all()
    assert max(distances) <= 6.0
    assert 0 < sum(distances) / len(distances) < 3.0  # the mean of the published density is a third of the largest


def test_frames_are_other_scans_of_the_patient(store):
    method = build_method({**CVRL, "apart": "frame"}, build_encoder(FLAT))
    batch = batch_of(method, store)
    assert (batch.item[::2] != batch.item[1::2]).all()
    assert (batch.patient[::2] == batch.patient[1::2]).all()
    views = method.views(batch, Stream(0, 0, range(6)))
    assert torch.equal(views.item, batch.item[::2].repeat_interleave(2))


def test_a_window_is_changed_as_a_whole(store):
    """What is the same on every slice stays the same on every slice: one draw a window (temporal consistency)."""
    settings = {
        "spatial": {"rotate_degrees": [20.0, 0.0, 0.0], "scale": [0.8, 1.2]},
        "intensity": {"contrast": [0.5, 2]},
    }
    method = build_method({**CVRL, **settings}, build_encoder(FLAT))
    batch = batch_of(method, store)
    pattern = torch.randint(0, 900, (1, 1, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    batch.values.copy_(pattern.expand_as(batch.values))
    crops = method.views(batch, Stream(0, 0, range(6))).crops[:, 0, 0]
    assert torch.allclose(crops, crops[:, :1].expand_as(crops), atol=1e-5)
    assert not torch.allclose(crops[0], crops[1], atol=1e-2)


def test_pairs_are_distinguished_and_windows_of_one_patient_never_repel(store):
    method = build_method({**CVRL, **STILL}, build_encoder(FLAT)).eval()
    batch = batch_of(method, store)
    views = method.views(batch, Stream(0, 0, range(6)))
    together = torch.zeros_like(views.patient)
    assert method(views, 0.0).total > 0
    alone = method(type(views)(views.crops, None, views.item, together), 0.0)
    assert alone.total == 0  # one patient: nothing repels
