"""Parts of a contrast: what plugs in where, what is refused, and what they do to the methods that take them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.errors import ConfigError
from medssl.loading import WindowLoader
from medssl.methods.contract import Method
from medssl.methods.parts.table import PARTS, PartRow
from medssl.methods.settings.parts import PairParts
from medssl.methods.table import METHODS, build_method
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.pretrain_settings import PretrainSettings

CROPS = {"window": [4, 16, 16], "crop": [4, 8, 8], "hidden": 16, "projected": 8}
SIMCLR, MOCO = {"name": "simclr", **CROPS}, {"name": "moco", "queue": 16, "head_norm": "batch_plain", **CROPS}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    draw = np.random.default_rng(0)
    items = [Item(id=f"s{i}", values=draw.integers(0, 900, (6, 20, 20)).astype(np.int16)) for i in range(5)]
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def make(settings: dict, items: int = 5) -> Method:
    torch.manual_seed(0)
    method = build_method(settings, build_encoder({"name": "unet", "channels": [4, 6], "strides": [1, [1, 2, 2]]}))
    method.begin(items)
    return method


def trained(method: Method, store, steps: int = 4, start: int = 0) -> list[float]:
    loader = WindowLoader(store, method.plan, batch_size=3, seed=0, threads=0)
    descent = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for step in range(start, start + steps):
        batch = loader.batch(step)
        loss = method(method.views(batch, Stream(0, step, batch.slot.tolist())), step / 10).total
        descent.zero_grad()
        loss.backward()
        descent.step()
        method.after_step((step + 1) / 10)
        losses.append(loss.item())
    return losses


def test_every_part_has_its_field_and_its_row():
    assert list(PairParts.model_fields) == list(PARTS)
    for name, row in PARTS.items():
        assert isinstance(row, PartRow)
        assert all((row.paper, row.take_when, row.slot))
        assert PARTS.load(name)(PARTS.settings_class(name)()) is not None


@pytest.mark.parametrize("given", ["mochi", ["mochi"], {"mochi": {}}, {"mochi": {"hardest": 64}}])
def test_a_part_may_be_named_alone_in_a_list_or_with_its_settings(given):
    parts = METHODS.settings_of({"name": "simclr", "parts": given}).parts
    assert list(parts.chosen()) == ["mochi"]
    assert parts.mochi.hardest == 64


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["method.parts=[mochi,sogclr]"], "'mochi' does not go with the part 'sogclr'"),
        (["method.parts=sogclr", "method.decoupled=dcl"], "'sogclr' does not go with decoupled=dcl"),
        (["method.parts=feature_mix", "method.views=3"], "'feature_mix' needs exactly two views"),
        (["method.parts=mochy"], "Did you mean 'method.parts.mochi'?"),
        (["method.parts.mochi.hardest=1"], "method.parts.mochi.hardest: found 1"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run(overrides, words):
    with pytest.raises(ConfigError) as refusal:
        resolve(PretrainSettings, defaults={"method.name": "simclr", "method.decoupled": "no"}, overrides=overrides)
    assert words in str(refusal.value)


def test_a_queue_is_no_batch():
    with pytest.raises(ConfigError, match="needs negatives from the batch itself"):
        METHODS.settings_of({**MOCO, "parts": "sogclr"})


def test_nothing_mixed_is_moco_itself(store):
    none = {"feature_mix": {"positive_alpha": 0, "negative_alpha": 0}, "mochi": {"mixed": 0, "with_anchor": 0}}
    assert trained(make({**MOCO, "parts": none}), store) == trained(make(MOCO), store)
    late = {"mochi": {"start": 1.0}}
    assert trained(make({**MOCO, "parts": late}), store) == trained(make(MOCO), store)
    assert trained(make({**MOCO, "parts": {"mochi": {"start": 0}}}), store) != trained(make(MOCO), store)


@pytest.mark.parametrize("parts", ["feature_mix", "mochi", ["feature_mix", "mochi"]])
@pytest.mark.parametrize("settings", [SIMCLR, MOCO, {**MOCO, "version": "v3"}], ids=["simclr", "moco", "v3"])
def test_draws_are_a_function_of_the_step(settings, parts, store):
    once, again = (trained(make({**settings, "parts": parts}), store) for _ in range(2))
    assert once == again
    assert all(np.isfinite(once))


def test_individual_temperatures_that_stand_still_are_one_temperature(store):
    still = {"sogclr": {"individual": True, "eta": 0.0}}
    assert trained(make({**SIMCLR, "parts": still}), store) == trained(make({**SIMCLR, "parts": "sogclr"}), store)


def test_state_of_items_moves_after_a_step_with_those_that_it_saw(store):
    method = make({**SIMCLR, "parts": {"sogclr": {"individual": True}}})
    part = method.contrast.parts["sogclr"]
    batch = WindowLoader(store, method.plan, batch_size=3, seed=0, threads=0).batch(0)
    method(method.views(batch, Stream(0, 0, batch.slot.tolist())), 0.0)
    assert torch.isinf(part.log_u).all()
    method.after_step(0.1)
    seen = torch.zeros(5, dtype=torch.bool)
    seen[batch.item] = True
    assert torch.equal(torch.isfinite(part.log_u), seen)
    assert torch.equal(part.temperature > 0, seen)
    assert ((part.temperature[seen] >= 0.05) & (part.temperature[seen] <= 0.7)).all()


def test_an_item_that_comes_twice_has_the_mean_of_its_estimates():
    part = PARTS.load("sogclr")(PARTS.settings_class("sogclr")())
    part.begin(4)
    log_u = torch.tensor([1.0, 2.0, 4.0])
    part._note(torch.tensor([3, 1, 3]), log_u, torch.ones(3), torch.zeros(3))
    part.after_step()
    assert part.log_u.exp()[[1, 3]].tolist() == pytest.approx([np.exp(2), (np.exp(1) + np.exp(4)) / 2])


def test_state_that_was_never_begun_is_told():
    method = make({**SIMCLR, "parts": "sogclr"}, items=0)
    with pytest.raises(ValueError, match="begin"):
        method.contrast.parts["sogclr"].losses(None, None, 0.1)


def test_resumed_equals_never_stopped(store):
    settings = {**SIMCLR, "parts": {"sogclr": {"individual": True}}}
    whole, broken, fresh = make(settings), make(settings), make(settings)
    trained(whole, store, 6)
    trained(broken, store, 3)
    fresh.load_state_dict(broken.state_dict())
    trained(fresh, store, 3, start=3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


def test_the_five_statistics_are_logged(store):
    method = make(SIMCLR)
    batch = WindowLoader(store, method.plan, batch_size=3, seed=0, threads=0).batch(0)
    signals = method(method.views(batch, Stream(0, 0, batch.slot.tolist())), 0.0).signals
    five = {"positive_cosine", "negative_cosine", "negative_spread", "positive_pull", "negative_push"}
    assert five <= set(signals)
