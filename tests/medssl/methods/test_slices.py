"""Methods of contrast and distillation train on windows of a single slice."""

from __future__ import annotations

import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.methods.table import build_method
from medssl.randomness import Stream
from medssl.windows import WindowBatch

WINDOW = (1, 32, 32)
FLAT = {
    "name": "unet", "channels": [4, 6, 8], "blocks": 1, "strides": [[1, 1, 1], [1, 2, 2], [1, 2, 2]],
    "kernels": [[1, 3, 3], [1, 3, 3], [1, 3, 3]],
}  # fmt: skip
MULTI_CROP = {"swav", "dino", "ibot"}


def slices() -> WindowBatch:
    values = torch.randint(-900, 900, (3, 1, *WINDOW), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    return WindowBatch(
        values=values,
        origin=torch.zeros(3, 3, dtype=torch.int64),
        extent=torch.tensor([WINDOW] * 3),
        body_box=torch.tensor([[(0, 0, 0), WINDOW]] * 3).float(),
        spacing_mm=torch.ones(3, 3),
        scale=torch.tensor([[[-1000.0, 1000.0]]] * 3),
        item=torch.arange(3),
        patient=torch.arange(3),
        part=torch.zeros(3, dtype=torch.int64),
        slot=torch.arange(3),
    )


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid")
@pytest.mark.parametrize(
    "name", ["simclr", "moco", "byol", "simsiam", "swav", "barlow", "vicreg", "dino", "ibot", "slotcon"]
)
def test_a_slice_gives_a_finite_loss_and_gradient(name):
    torch.manual_seed(0)
    encoder = build_encoder(FLAT)
    crops = {"window": WINDOW, "crop": (1, 16, 16)}
    if name != "slotcon":
        crops |= {"local_crop": (1, 8, 8), "local_views": 2 * (name in MULTI_CROP)}
    method = build_method({"name": name, **crops}, encoder)
    for step in range(3):  # every change of intensity is drawn by some of the views
        views = method.views(slices(), Stream(0, step, [0, 1, 2]))
        loss = method(views, 0.5).total
        assert torch.isfinite(loss)
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in encoder.parameters() if p.grad is not None)
