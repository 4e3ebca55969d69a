"""What joined methods promise beyond the contract: one encoder, the weighted sum, names that tell the parts apart."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medssl.encoders.table import build_encoder
from medssl.methods.joined import JoinedSettings
from medssl.methods.table import build_method
from medssl.randomness import Stream
from medssl.windows import WindowBatch

WINDOW = (8, 16, 16)
VOCO = {"name": "voco", "crop": (8, 8, 8), "grid": (1, 2, 2), "random_crops": 3, "hidden": 16, "projected": 8}
MASKED = {"name": "masked", "window": WINDOW, "patch": (4, 4, 4)}
PARTS = {"place": {"weight": 2.0, "method": VOCO}, "drawn": {"weight": 5.0, "method": MASKED}}


def batch() -> WindowBatch:
    values = torch.randint(-900, 900, (2, 1, *WINDOW), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    return WindowBatch(
        values=values,
        origin=torch.zeros(2, 3, dtype=torch.int64),
        extent=torch.tensor([WINDOW] * 2),
        body_box=torch.tensor([[(0, 0, 0), WINDOW]] * 2).float(),
        spacing_mm=torch.ones(2, 3),
        scale=torch.tensor([[[-1000.0, 1000.0]]] * 2),
        item=torch.arange(2),
        patient=torch.arange(2),
        part=torch.zeros(2, dtype=torch.int64),
        slot=torch.arange(2),
    )


def make(settings):
    torch.manual_seed(0)
    return build_method(settings, build_encoder({"name": "unet", "channels": [4, 6], "blocks": 1}))


def test_the_loss_is_the_weighted_sum_of_the_parts_on_one_encoder():
    method = make({"name": "joined", "parts": PARTS}).eval()
    views = method.views(batch(), Stream(0, 0, [0, 1]))
    place, drawn = method.parts["place"], method.parts["drawn"]
    assert place.encoder is drawn.encoder is method.encoder
    wanted = 2 * place(views.parts["place"], 0.0).total + 5 * drawn(views.parts["drawn"], 0.0).total
    assert method(views, 0.0).total.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_name_that_two_parts_give_is_distinguished():
    method = make({"name": "joined", "parts": PARTS}).eval()
    views = method.views(batch(), Stream(0, 0, [0, 1]))
    with torch.no_grad():
        probe = method.probe(views)
        alone = method.parts["drawn"].probe(views.parts["drawn"])
    assert torch.equal(probe["drawn_effective_rank"], alone["effective_rank"])
    assert set(method.exported_modules()) == {"encoder", "decoder"}


def test_voco_masked_is_the_two_joined():
    named = make({"name": "voco_masked", "voco": VOCO, "masked": MASKED, "voco_weight": 2.0, "masked_weight": 5.0})
    free = make({"name": "joined", "parts": PARTS})
    views = [m.eval().views(batch(), Stream(0, 3, [0, 1])) for m in (named, free)]
    assert torch.equal(named(views[0], 0.5).total, free(views[1], 0.5).total)


def test_windows_that_differ_are_refused():
    other = {**MASKED, "window": (8, 8, 16)}
    with pytest.raises(ValueError, match="same windows"):
        make({"name": "joined", "parts": {**PARTS, "drawn": {"method": other}}})


def test_a_part_of_single_windows_takes_those_that_another_wants_together():
    places = {"name": "global_contrast", "window": WINDOW, "partitions": 2, "hidden": 8, "projected": 8}
    parts = {"drawn": {"method": MASKED}, "place": {"method": places}}
    method = make({"name": "joined", "parts": parts})
    assert method.plan == method.parts["place"].plan
    views = method.views(batch(), Stream(0, 0, [0, 1]))
    assert torch.isfinite(method(views, 0.0).total)
    pairs = {"name": "cvrl", "window": WINDOW, "crop": WINDOW, "hidden": 8, "projected": 8}
    with pytest.raises(ValueError, match="same windows"):
        make({"name": "joined", "parts": {**parts, "pairs": {"method": pairs}}})


def test_one_part_alone_and_joined_within_joined_are_refused():
    with pytest.raises(ValidationError, match="at least 2"):
        JoinedSettings(parts={"place": PARTS["place"]})
    with pytest.raises(ValidationError, match="joined"):
        JoinedSettings(parts={**PARTS, "more": {"method": {"name": "joined", "parts": PARTS}}})
