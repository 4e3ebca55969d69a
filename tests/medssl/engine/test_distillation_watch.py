"""Teachers that tell nothing and students that follow no more are told of; healthy runs are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.guards import CollapseWatch, DistillationWatch
from medssl.engine.meters import Report
from medssl.engine.train_settings import TrainSettings
from medssl.loading import WindowLoader
from medssl.methods.table import build_method
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays

SETTINGS = TrainSettings(steps=1000, warmup=0.1)
K = 512


def looked(rows, before=""):
    """Return what the watch says of reports of (loss, teacher's entropy, prototypes in use)."""
    watch = DistillationWatch(SETTINGS)
    told = []
    for number, (loss, entropy, used) in enumerate(rows):
        values = {"loss": loss, f"part/{before}distillation": loss, f"signal/{before}teacher_entropy": entropy,
                  f"signal/{before}prototypes_used": used, "signal/spread": 0.2}  # fmt: skip
        told.append(watch.look(Report(step=200 + 10 * number, steps=1000, values=values)))
    return told


@pytest.mark.parametrize("before", ["", "contrast_"])
def test_a_teacher_that_answers_evenly_is_told_of(before):
    """The loss stands near ln K, where no signal of spread falls under its limit."""
    even = (math.log(K) + 0.001, math.log(K) - 0.02, K - 2.0)
    told = looked([even] * 6, before)
    assert [len(texts) for texts in told] == [0, 0, 1, 0, 0, 0]
    assert "evenly over all prototypes whatever it sees" in told[2][0]
    assert "loss 6.239" in told[2][0]
    watch = CollapseWatch(SETTINGS)
    assert not any(watch.look(Report(step=200 + n, steps=1000, values={"signal/spread": 0.2})) for n in range(6))


def test_a_teacher_of_one_prototype_is_told_of():
    told = looked([(0.4, 0.3, math.exp(0.31))] * 4)
    assert "with one prototype whatever it sees" in told[2][0]


def test_the_warm_up_is_not_judged():
    watch = DistillationWatch(SETTINGS)
    values = {"signal/teacher_entropy": math.log(K), "signal/prototypes_used": float(K)}
    assert not any(watch.look(Report(step=step, steps=1000, values=values)) for step in range(10, 101, 10))


def test_a_loss_that_rises_is_told_of_once():
    falling = [(6.0 - 0.2 * n, 2.0, 300.0) for n in range(10)]
    rising = [(4.2 + 0.3 * n, 2.0, 300.0) for n in range(10)]
    told = [text for texts in looked(falling + rising) for text in texts]
    assert len(told) == 1
    assert "the distillation loss rises" in told[0]
    assert "4.267 at its least" in told[0]


def test_a_loss_that_falls_wavers_or_climbs_with_a_softer_teacher_is_not():
    noise = np.random.default_rng(0).normal(0, 0.1, 40)
    assert not any(looked([(6.0 - 0.05 * n + noise[n], 2.0, 300.0) for n in range(40)]))
    assert not any(looked([(4.0 + 0.05 * n, 2.0 + 0.05 * n, 300.0) for n in range(30)]))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    draw = np.random.default_rng(0)
    items = []
    for number in range(8):
        place = np.stack(np.meshgrid(*(np.arange(20) for _ in range(3)), indexing="ij"))
        field = np.sin(place[0] / (2 + number)) + np.cos(place[1] / (3 + number)) + draw.normal(0, 0.1, place.shape[1:])
        items.append(Item(id=f"s{number}", values=(field * 300).astype(np.int16), patient=f"p{number}"))
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def reports(store, *, steps=30, **changed):
    """Return a short run of DINO as its reports."""
    torch.manual_seed(0)
    settings = {"name": "dino", "window": (20, 20, 20), "crop": (12, 12, 12), "local_views": 0,
                "prototypes": 64, "hidden": 32, "bottleneck": 16, "freeze_prototypes": 0,
                "head_norm": "batch_plain", **changed}  # fmt: skip
    method = build_method(settings, build_encoder({"name": "unet", "channels": [4, 8, 8], "blocks": 1}))
    loader = WindowLoader(store, method.plan, batch_size=8, seed=0, threads=0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-3)
    found = []
    for step in range(steps):
        losses = method(method.views(loader.batch(step), Stream(0, step, list(range(8)))), step / steps)
        losses.total.backward()
        optimiser.step()
        optimiser.zero_grad()
        method.after_step((step + 1) / steps)
        if step % 3 == 2:
            values = {f"part/{name}": float(value) for name, value in losses.parts.items()}
            values |= {f"signal/{name}": float(value) for name, value in losses.signals.items()}
            found.append(Report(step=200 + step, steps=1000, values=values))
    return found


def test_dino_that_collapses_is_told_of_and_dino_that_works_is_not(store):
    healthy, watch = reports(store), DistillationWatch(SETTINGS)
    assert [text for report in healthy for text in watch.look(report)] == []
    soft = reports(store, teacher_temperature=2.0, final_teacher_temperature=2.0)
    watch = DistillationWatch(SETTINGS)
    told = [text for report in soft for text in watch.look(report)]
    assert soft[-1].values["part/distillation"] == pytest.approx(math.log(64), abs=0.3)
    assert len(told) == 1
    assert "evenly over all prototypes" in told[0]
