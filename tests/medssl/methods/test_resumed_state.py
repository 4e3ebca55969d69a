"""A resumed run goes on with what no gradient trains: the queue of MoCo, the queues of SwAV, the centre of DINO."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.engine.loop import fit
from medssl.engine.run import Run
from medssl.engine.train_settings import TrainSettings
from medssl.loading import WindowLoader
from medssl.methods.table import build_method
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays

CROPS = {"window": [4, 16, 16], "crop": [4, 16, 16], "hidden": 16}
CASES = {
    "moco": ({"name": "moco", "queue": 7, "projected": 8, **CROPS}, "queue.features"),
    "swav": (
        {"name": "swav", "queue": 8, "projected": 8, "prototypes": 4, "queue_from": 0.0, **CROPS},
        "queues.0.features",
    ),
    "dino": ({"name": "dino", "prototypes": 6, "bottleneck": 8, "local_views": 0, **CROPS}, "centre.value"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    draw = np.random.default_rng(0)
    items = [Item(id=f"s{i}", values=draw.integers(0, 900, (6, 20, 20)).astype(np.int16)) for i in range(5)]
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


class StopsError(Exception):
    """Raised where a run is broken off."""


def run_of(settings, store, folder, *, stop_before=None, resume=False):
    torch.manual_seed(0)
    method = build_method(settings, build_encoder({"name": "unet", "channels": [4, 6], "strides": [1, [1, 2, 2]]}))
    usual = {"steps": 6, "batch_size": 3, "log_every": 6, "probe_every": 6, "checkpoint_every": 3, "accelerator": "cpu"}
    resolved = resolve(TrainSettings, defaults={**usual, "precision": "32-true"})
    run = (Run.reopen if resume else Run.create)(folder, settings=resolved, say=lambda text: None)
    loader = WindowLoader(store, method.plan, batch_size=3, seed=0, threads=0)
    plain = loader.batches

    def batches(start, stop):
        for step, batch in zip(range(start, stop), plain(start, stop), strict=False):
            if step == stop_before:
                raise StopsError
            yield batch

    loader.batches = batches
    fit(method, loader, resolved.settings, run=run, resume=resume)
    return method.state_dict()


@pytest.mark.parametrize("case", sorted(CASES))
def test_resumed_equals_never_stopped(case, store, tmp_path, monkeypatch):
    import medssl.engine.reporter

    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(medssl.engine.reporter, name, lambda *_: None)
    settings, moving = CASES[case]
    whole = run_of(settings, store, tmp_path / "whole")
    with pytest.raises(StopsError):
        run_of(settings, store, tmp_path / "broken", stop_before=5)  # two steps after its checkpoint
    resumed = run_of(settings, store, tmp_path / "broken", resume=True)
    assert whole[moving].abs().sum() > 0
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
