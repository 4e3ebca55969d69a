"""Small presets that compare features keep them apart: none of them collapses on its first hundred steps."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.engine.run import read_metrics
from medssl.phantoms import phantom
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.pretrain import pretrain
from pipelines import console

STEPS = 90
COMPARING = ("simclr", "moco", "byol", "simsiam", "swav", "barlow", "vicreg", "dino", "ibot", "voco", "slotcon")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    items = []
    for number in range(12):
        made = phantom(number, modality="MR", shape=(36, 50, 36), spacing_mm=(5.0, 5.0, 5.0), seed=3)
        values = np.rint(made.values).astype(np.int16)
        items.append(Item(id=f"p{number}", values=values, patient=f"p{number}", split="train", modality="MR"))
    return store_from_arrays(tmp_path_factory.mktemp("phantoms") / "store", items).folder


@pytest.mark.slow
@pytest.mark.parametrize("method", COMPARING)
def test_what_is_compared_stays_apart(method, store, tmp_path):
    with console.speaking(console.Manner(quiet=True)):
        run = pretrain(
            f"{method}_small", data=store, out=tmp_path / "run",
            overrides=[f"train.steps={STEPS}", "train.log_every=15", "train.threads=1", "train.precision=32-true",
                       "train.checkpoint_every=1000", "data.held_out_share=0"],
        )  # fmt: skip
    rows = read_metrics(run.folder)
    spread = [row["signal/spread"] for row in rows]
    assert spread[-1] > 0.05, spread
    assert "collapsing" not in (run.folder / "log.txt").read_text()
