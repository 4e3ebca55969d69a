"""Every method of the table keeps the contract with cases of two channels, and with one of them lacking."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medssl.encoders.table import ENCODERS, build_encoder
from medssl.loading import WindowLoader, held_out_batches
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.randomness import Stream
from medssl.settings import Settings
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.views.intensity import IntensitySettings
from medssl.windows import WindowBatch
from tests.contracts.test_methods import CASES, SWIN, VIT, slots, tensors

CHANNELS = ("t1", "t2")
ALL = {**CASES, "simmim, swin": {"name": "simmim", "window": (64, 32, 32)}}

FEW = [*METHODS, "simmim, swin"]


def make(case: str, **changes: Any) -> Method:
    torch.manual_seed(5)
    name = METHODS.load(ALL[case]["name"]).smallest_encoder
    usual = {"name": name, **ENCODERS.load(name).smallest()}
    chosen = SWIN if case.endswith("swin") else VIT if case.endswith("vit") else usual
    return build_method({**ALL[case], **changes}, build_encoder({**chosen, "in_channels": 2}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Five small cases; the last lacks its second channel."""
    draw, items = np.random.default_rng(0), []
    for number in range(5):
        place = np.stack(np.meshgrid(*(np.arange(n) for n in (18, 26, 20)), indexing="ij"))
        field = np.sin(place[0] / 3) + np.cos(place[1] / 4) + place[2] / 10 + draw.normal(0, 0.2, place.shape[1:])
        other = np.cos(place[0] / 3) - place[2] / 9 + draw.normal(0, 0.2, place.shape[1:])
        values = (np.stack([field, other]) * 300).astype(np.int16)
        lacks = ("t2",) if number == 4 else ()
        items.append(Item(id=f"s{number}", values=values, patient=f"p{number}", channels=CHANNELS, lacks=lacks))
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def loader(store: Store, method: Method, **how: Any) -> WindowLoader:
    return WindowLoader(store, method.plan, batch_size=3 * method.plan.count, seed=0, threads=0, **how)


def lacking(batch: WindowBatch) -> WindowBatch:
    """Return the batch as if its first row lacked the second channel."""
    present = torch.ones(len(batch), 2, dtype=torch.bool)
    present[0, 1] = False
    return dataclasses.replace(batch, present=present)


@pytest.mark.parametrize("case", sorted(ALL))
def test_two_channels_train(case: str, store: Store) -> None:
    method = make(case)
    method.begin(4)
    batch = loader(store.subset([e.id for e in store.entries[:4]]), method).batch(0)
    views = method.views(batch, Stream(0, 0, slots(method)))
    losses = method(views, 0.0)
    assert all(torch.isfinite(value) for value in (losses.total, *losses.parts.values(), *losses.signals.values()))
    losses.total.backward()
    parameters = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
    idle = [name for name, p in parameters if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    # of swin the convolutions beside the way to the coarsest level are not trained by this method
    idle = [name for name in idle if not (case.endswith("swin") and "encoder.encoder" in name)]
    if method.encoder.pooling.kind == "prenorm":  # type: ignore[union-attr]  # the last norm lies behind what is read
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in idle} <= {"norm"}
        assert len(idle) <= 2
    else:
        assert not idle
    method.after_step(0.1)
    with torch.no_grad():
        assert all(torch.isfinite(value) for value in method.eval().probe(views).values())
    for name, stack in method.pictures(views).items():
        assert stack.shape[1] == 2, name
        assert 0 <= stack.min() <= stack.max() <= 1


@pytest.mark.parametrize("case", FEW)
def test_both_channels_are_seen(case: str, store: Store) -> None:
    method = make(case).eval()
    views = method.views(loader(store, method).batch(0), Stream(0, 0, slots(method)))
    images = next(t for t in tensors(views) if t.ndim >= 5 and t.shape[-4] == 2 and t.dtype == torch.float32)
    image = images.reshape(-1, *images.shape[-4:])[:2].clone()
    with torch.no_grad():
        before = method.encoder.embed(image)  # type: ignore[operator]
        image[:, 1] = image[:, 1].flip(-1)
        assert not torch.allclose(before, method.encoder.embed(image), atol=1e-6)  # type: ignore[operator]


@pytest.mark.parametrize("case", FEW)
def test_what_a_lacking_channel_holds_is_no_matter(case: str, store: Store) -> None:
    method = make(case).eval()
    batch = lacking(loader(store, method).batch(0))
    values = batch.values.clone()
    values[0, 1] += 500
    found = []
    for one in (batch, dataclasses.replace(batch, values=values)):
        views = method.views(one, Stream(0, 0, slots(method)))
        torch.manual_seed(0)
        found.append((tensors(views), method(views, 0.5).total))
    assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True))
    assert torch.equal(found[0][1], found[1][1])
    shown = [t for t in found[0][0] if t.ndim >= 5 and t.shape[-4] == 2 and t.dtype == torch.float32]
    assert all(not t[0].reshape(-1, *t.shape[-4:])[:, 1].any() for t in shown)


@pytest.mark.parametrize("case", FEW)
def test_geometry_is_shared_and_intensity_is_each_channels_own(case: str, store: Store) -> None:
    method = make(case)
    method.begin(4)
    batch = loader(store.subset([e.id for e in store.entries[:4]]), method).batch(0)
    values = batch.values.clone()
    values[:, 1] = values[:, 0]
    twins = dataclasses.replace(batch, values=values)

    def shown(one: Method) -> list[Tensor]:
        views = tensors(one.views(twins, Stream(0, 0, slots(one))))
        return [t for t in views if t.ndim >= 5 and t.shape[-4] == 2 and t.dtype == torch.float32]

    plain = make(case, **calm(method))
    assert all(torch.equal(t.select(-4, 0), t.select(-4, 1)) for t in shown(plain))
    assert any(not torch.allclose(t.select(-4, 0), t.select(-4, 1)) for t in shown(method))


def calm(method: Method) -> dict[str, Any]:
    """Return the settings of a method that leave intensities alone."""

    def calmed(settings: Settings) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, IntensitySettings):
                found[name] = IntensitySettings()
            elif isinstance(value, dict):
                found[name] = {k: {**v.model_dump(), **calmed(v)} for k, v in value.items()}
            elif isinstance(value, Settings) and name != "spatial":
                found[name] = {**value.model_dump(), **calmed(value)}
        return found

    return calmed(getattr(method, "settings", None) or method.crop_settings)


def test_an_error_counts_in_channels_that_are_there_alone(store: Store) -> None:
    method = make("masked", normalise=True)
    batch = lacking(loader(store, method).batch(0))
    views = method.views(batch, Stream(0, 0, slots(method)))
    assert views.inside[:, 0].any()
    assert not views.inside[0, 1].any()
    drawn = torch.rand(views.target.shape)
    wrong = drawn.clone()
    wrong[0, 1] += 5.0
    assert torch.equal(method._error(drawn, views), method._error(wrong, views))


def test_each_channel_of_a_patch_is_normalised_by_itself(store: Store) -> None:
    method = make("spark")
    views = method.views(loader(store.subset(["s0", "s1", "s2"]), method).batch(0), Stream(0, 0, [0, 1, 2]))
    target = views.target * torch.tensor([1.0, 0.2]).view(1, 2, 1, 1, 1)
    drawn = torch.rand(target.shape)
    alone = [
        method._error(drawn[:, c : c + 1], dataclasses.replace(views, target=target[:, c : c + 1])) for c in range(2)
    ]
    torch.testing.assert_close(method._error(drawn, dataclasses.replace(views, target=target)), sum(alone) / 2)


def test_channels_are_dropped_by_step_and_slot_alone_and_one_always_stays(store: Store) -> None:
    method = make("simclr")
    whole = store.subset([e.id for e in store.entries[:4]])
    rates = []
    for step in range(60):
        together = loader(whole, method, drop=0.4).batch(step)
        assert together.present is not None
        assert together.present.any(dim=1).all()
        rates.append(together.present.float().mean())
        halves = [
            WindowLoader(whole, method.plan, batch_size=3, seed=0, rank=r, world_size=2, threads=0, drop=0.4).batch(
                step
            )
            for r in range(2)
        ]
        for half in halves:
            assert half.present is not None
            assert torch.equal(half.present, together.present[half.slot])
        seen = together.network_input()
        assert not seen[~together.present].any()
    # of two channels 1 - p stay, and of those that would both go one comes back: 0.6 + 0.4^2 / 2
    assert float(torch.stack(rates).mean()) == pytest.approx(0.68, abs=0.06)
    assert held_out_batches(whole, method.plan, 4, 0)[0].present is None


@pytest.mark.parametrize("case", [name for name in METHODS if METHODS.load(name).pairs_channels])
def test_the_two_views_of_a_pair_show_a_channel_each(case: str, store: Store) -> None:
    method = make(case)
    assert method.pairs_channels
    batch = loader(store, method, pairs=True).batch(1)
    views: Any = method.views(batch, Stream(0, 1, slots(method)))
    views = getattr(views, "crops", views)
    crops = views.crops if hasattr(views, "crops") else views
    shown = crops.flatten(3).abs().sum(3) > 0  # item, view, channel
    if case == "cvrl":
        shown = shown.view(-1, 2, 2)
    for row, pair in enumerate(shown):
        lacks = batch.present is not None and not bool(batch.present[row * (len(batch) // len(shown)), 1])
        assert pair.sum(dim=1).tolist() == [1] * len(pair)
        assert pair[0].equal(pair[1]) == lacks
    assert torch.isfinite(method(method.views(batch, Stream(0, 1, slots(method))), 0.0).total)


def test_the_table_says_which_methods_pair_channels() -> None:
    for case in METHODS:
        expected = METHODS.load(case).pairs_channels
        assert make(case).pairs_channels == expected, case


def test_pairs_show_every_channel_first_and_second(store: Store, tmp_path: Path) -> None:
    method = make("simclr")
    drawn = torch.cat([loader(store, method, pairs=True).batch(step).pair for step in range(20)])  # type: ignore[misc]
    assert {tuple(pair) for pair in drawn.tolist()} == {(0, 1), (1, 0), (0, 0)}  # the last of the case that lacks t2
