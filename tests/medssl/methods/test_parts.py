"""Parts of a contrast: what plugs in where, what is refused, and what they do to the methods that take them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.errors import ConfigError
from medssl.loading import WindowLoader
from medssl.methods.contract import Method
from medssl.methods.former import former_settings
from medssl.methods.parts.contract import Anchors
from medssl.methods.parts.table import PARTS, PartRow
from medssl.methods.settings.parts import PairParts
from medssl.methods.table import METHODS, build_method
from medssl.objectives.infonce import pairs_of_views
from medssl.randomness import Stream
from medssl.settings import resolve
from medssl.store.in_memory import Item, store_from_arrays
from medssl.workflows.pretrain_settings import PretrainSettings
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.loading import CloudLoader
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.shapes import CLASSES, shape
from pointcloud.store_writing import CloudItem, store_from_clouds

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
        settings = PARTS.settings_class(name)()
        made = {
            "head": lambda load, given: load(4, **given.model_dump()),
            "predictor": lambda load, given: load(4, given),
        }.get(row.slot, lambda load, given: load(given))
        assert made(PARTS.load(name), settings)


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
        (["method.parts=[groco,sogclr]"], "both replace the loss"),
        (["method.parts=mochy"], "Did you mean 'method.parts.mochi'?"),
        (["method.parts.mochi.hardest=1"], "method.parts.mochi.hardest: found 1"),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_run(overrides, words):
    with pytest.raises(ConfigError) as refusal:
        resolve(PretrainSettings, defaults={"method.name": "simclr", "method.decoupled": "no"}, overrides=overrides)
    assert words in str(refusal.value)


@pytest.mark.parametrize("parts", ["sogclr", []])
def test_a_record_with_parts_is_read_for_resuming(parts):
    recorded = METHODS.settings_of({"name": "simclr", "parts": parts}).model_dump(mode="json")
    assert former_settings(recorded) == {}


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


def test_a_fixed_head_has_no_weights_and_the_loss_is_of_the_embedding(store):
    method = make({**SIMCLR, "parts": {"reweight": {"kappa": 1.0}}})
    assert {name.partition(".")[0] for name, _ in method.network.named_parameters()} == {"encoder"}
    crops = torch.rand(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pooled, projected = method.network(crops)
    assert torch.equal(pooled, projected)
    assert all(np.isfinite(trained(method, store)))


def test_order_reaches_the_encoder_through_anchors_and_does_without_negatives(store):
    method = make({**SIMCLR, "parts": "groco"})
    assert all(np.isfinite(trained(method, store)))
    part = method.contrast.parts["groco"]
    rows = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    one = torch.zeros(2, dtype=torch.int64)
    anchors = Anchors(item=one.repeat(2), seed=0)
    alone = pairs_of_views(rows.view(2, 2, 6), one, one)
    assert part.losses(alone, anchors, 0.1).tolist() == [0.0] * 4
    pairs = pairs_of_views(rows.view(2, 2, 6), torch.arange(2), torch.arange(2))
    (gradient,) = torch.autograd.grad(part.losses(pairs, anchors, 0.1)[0], rows)
    assert gradient[0].abs().sum() > 0
    assert gradient[1:].abs().sum() == 0


@pytest.mark.parametrize("parts", ["mochi", "feature_mix"])
def test_parts_serve_the_contrast_of_clouds(parts, tmp_path):
    settings = {
        "name": "point_distil", "points": 48, "prototypes": 8, "hidden": 16, "bottleneck": 8, "thinned": [],
        "small": {"number": 1, "share": [0.3, 0.5]}, "contrast_weight": 1.0, "contrast": "bottleneck",
    }  # fmt: skip
    clouds = [CloudItem(id=n, cloud=shape(n, 0, seed=0, points=60), patient=n) for n in CLASSES[:4]]
    store = store_from_clouds(tmp_path, clouds)
    found = {}
    for name, chosen in {"none": {}, "part": {parts: {"start": 0.0} if parts == "mochi" else {}}}.items():
        torch.manual_seed(0)
        encoder = CLOUD_ENCODERS.build({"name": "pointnet", "widths": [8, 16]})
        method = CLOUD_METHODS.build({**settings, "parts": chosen}, encoder)
        batch = CloudLoader(store, method.plan, batch_size=4, seed=0, threads=0).batch(0)
        losses = method(method.views(batch, Stream(0, 0, range(4))), 0.5)
        assert "negative_push" in losses.signals
        found[name] = losses.parts["contrast"].item()
    assert np.isfinite(list(found.values())).all()
    assert found["part"] > found["none"]  # more, or harder, negatives
    with pytest.raises(ConfigError, match="exactly two views"):
        CLOUD_METHODS.settings_of({**settings, "contrast": "scores", "parts": "feature_mix"})


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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "simclr", "parts": "directpred"}, "needs a predictor that follows a teacher"),
        ({"name": "byol", "parts": "mochi"}, "needs a contrast with negatives"),
        ({"name": "byol", "parts": "feature_mix"}, "Parts that fit here: directpred"),
    ],
)
def test_a_predictor_is_no_part_of_a_contrast(given, said):
    with pytest.raises(ConfigError, match=said):
        METHODS.settings_of(given)
