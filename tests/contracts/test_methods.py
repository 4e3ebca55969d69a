"""Every method of the table keeps the contract."""

from __future__ import annotations

import copy
import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from medssl.encoders.contract import Encoder, lay_channels_last
from medssl.encoders.pooling import Pool
from medssl.encoders.table import ENCODERS, build_encoder
from medssl.engine.train_settings import TrainSettings
from medssl.engine.transfer import carry_over
from medssl.engine.trial import time_steps
from medssl.errors import ConfigError
from medssl.loading import WindowLoader, held_out_batches
from medssl.methods.contract import Method
from medssl.methods.table import METHODS, build_method
from medssl.randomness import Stream
from medssl.reporting.prose import signal_of
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.windows import WindowBatch

SMALL = {name: {"name": name, **METHODS.load(name).smallest()} for name in METHODS}
VOCO, MASKED, WINDOW = SMALL["voco"], SMALL["masked"], SMALL["masked"]["window"]
JOINT = {
    "global_contrast, G^R": {**SMALL["global_contrast"], "loss": "random", "pool": "mean"},
    "global_contrast, G^D-": {**SMALL["global_contrast"], "loss": "negatives"},
    "local_contrast, L^D": {**SMALL["local_contrast"], "loss": "aligned", "blocks": 2, "region": 1, "within": "scan"},
    "simclr, dcl": {**SMALL["simclr"], "decoupled": "dcl"},
    "simclr, dclw": {**SMALL["simclr"], "decoupled": "dclw"},
    "simclr, isogclr": {**SMALL["simclr"], "parts": {"sogclr": {"individual": True}}},
    "simclr, ordered": {**SMALL["simclr"], "parts": {"groco": {}, "reweight": {}}},
    "byol, direct": {**SMALL["byol"], "parts": {"directpred": {}}},
    "moco, mixed": {**SMALL["moco"], "parts": {"feature_mix": {}, "mochi": {"start": 0}}},
    "cvrl, frames": {**SMALL["cvrl"], "apart": "frame", "axis": 1},
    "moco, v3": {**SMALL["moco"], "version": "v3"},
    "joined, contrast": {
        "name": "joined",
        "parts": {
            "contrast": {"method": {**SMALL["simclr"], "decoupled": "dcl"}},
            "masked": {"weight": 10.0, "method": MASKED},
        },
    },
    "dino, sinkhorn and koleo": {**SMALL["dino"], "assign": "sinkhorn", "koleo_weight": 0.1},
}
PUBLISHED = {
    "paper": {
        "teacher": "none", "student_bases": True, "positive": "all", "regulariser": "bases", "regulariser_power": 1,
        "inter": "none", "anchor": "window", "grid": (1, 3, 2), "window": (8, 24, 16),
    },
    "v1": {
        "teacher": "network", "student_bases": True, "both_directions": True, "negative": "square", "momentum": 0.9,
        "final_momentum": 0.9, "regulariser": "bases", "inter": "none", "anchor": "window",
    },
    "v2": {
        "teacher": "heads", "student_bases": True, "regulariser": "bases", "feature_dropout": 0.2, "anchor": "window",
        "momentum": 0.9, "final_momentum": 0.9,
    },
    "ours, aligned": {"inter": "position"},
}  # fmt: skip
KINDS = {
    "spark, S3D": {"name": "spark", "window": WINDOW, "decoder": "unet", "normalise": False, "ratio": 0.75},
    "spark, fine patches": {"name": "spark", "window": WINDOW, "patch": (2, 2, 4)},
    "simmim, vit": {"name": "simmim", "window": WINDOW, "patch": (8, 8, 8)},
    "masked, vit": MASKED,
}
SWIN, VIT = ({"name": name, **ENCODERS.load(name).smallest()} for name in ("swin", "vit"))
CASES = SMALL | {f"voco {k}": {**VOCO, **v} for k, v in PUBLISHED.items()}
CASES |= KINDS | JOINT

# What these are trained towards moves with them (a queue that fills, a teacher whose centre settles), or is a statistic
# of a batch that is tiny here, or needs more steps than these: their loss over a short run says nothing.
MOVING = {
    "simsiam",
    "moco",
    "moco, mixed",
    "moco, v3",
    "simclr, isogclr",
    "simclr, ordered",
    "dino",
    "dino, sinkhorn and koleo",
    "ibot",
    "barlow",
    "vicreg",
    "global_contrast, G^R",
    "cvrl, frames",
}


_BY = ", pooled by "


def _takes(name: str, pool: str) -> bool:
    """Tell whether a method takes a pool: attention needs a loss on vectors, iBOT vectors as long as of places."""
    return METHODS.load(name).pools if pool == "attention" else name != "ibot" or pool not in ("grid", "levels")


# Every method with every pool; those here are tried each time, the others among the slow tests.
QUICK = {f"{name}{_BY}{pool}" for name, pool in (
    ("simclr", "grid"), ("voco", "mean"), ("vicreg", "levels"), ("dino", "attention"), ("masked", "levels"),
)}  # fmt: skip
POOLED = [f"{name}{_BY}{pool}" for name in sorted(SMALL) for pool in get_args(Pool) if _takes(name, pool)]
EVERY = [*sorted(CASES), *(c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in POOLED)]


SCANS = 5


def make(case: str) -> Method:
    torch.manual_seed(5)
    method = _made(case)
    method.begin(SCANS)
    return method


def _made(case: str) -> Method:
    case, _, pool = case.partition(_BY)
    own = {"pool": pool} if pool else {}
    if case == "simmim, swin":
        return build_method({"name": "simmim", "window": (64, 32, 32)}, build_encoder(SWIN))
    if case.endswith("vit"):
        return build_method(CASES[case], build_encoder(VIT))
    name = METHODS.load(CASES[case]["name"]).smallest_encoder
    return build_method(CASES[case], build_encoder({"name": name, **ENCODERS.load(name).smallest(), **own}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Five small scans whose intensity tells where one is."""
    draw = np.random.default_rng(0)
    items = []
    for number in range(SCANS):
        place = np.stack(np.meshgrid(*(np.arange(n) for n in (18, 26, 20)), indexing="ij"))
        field = np.sin(place[0] / 3) + np.cos(place[1] / 4) + place[2] / 10 + draw.normal(0, 0.2, place.shape[1:])
        items.append(Item(id=f"scan{number}", values=(field * 300).astype(np.int16), patient=f"p{number}"))
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


def batch_of(store: Store, method: Method, step: int = 0) -> WindowBatch:
    return WindowLoader(store, method.plan, batch_size=3 * method.plan.count, seed=0, threads=0).batch(step)


def slots(method: Method, scans: int = 3) -> list[int]:
    """The rows of a batch: several of each scan where the method asks for them."""
    return list(range(scans * method.plan.count))


def tensors(views: object) -> list[Tensor]:
    found = []
    values = views.values() if isinstance(views, dict) else (getattr(views, f.name) for f in dataclasses.fields(views))
    for value in values:
        if value is None:
            continue
        found += [value] if isinstance(value, Tensor) else tensors(value)
    return found


@pytest.mark.parametrize("case", EVERY)
def test_losses_are_finite_float32_scalars(case, store):
    method = make(case)
    losses = method(method.views(batch_of(store, method), Stream(0, 0, slots(method))), 0.0)
    assert losses.total.dtype == torch.float32
    assert losses.total.ndim == 0
    assert losses.parts
    for name, value in {**losses.parts, **losses.signals}.items():
        assert value.ndim == 0, name
        assert torch.isfinite(value), name
        assert not value.requires_grad, name


@pytest.mark.parametrize("case", EVERY)
def test_a_trial_of_a_step_leaves_it_as_it_was(case, store):
    method = make(case)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    loader = WindowLoader(store, method.plan, batch_size=3 * method.plan.count, seed=0, threads=0)
    found = time_steps(method, loader, TrainSettings(steps=2, accelerator="cpu"))
    assert (found.steps, found.seconds > 0) == (2, True)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())
    assert method.training


def test_a_step_that_takes_too_long_is_given_up(store):
    method = make("simclr")
    loader = WindowLoader(store, method.plan, batch_size=3 * method.plan.count, seed=0, threads=0)
    assert time_steps(method, loader, TrainSettings(steps=2, accelerator="cpu"), limit_s=0.0).steps == 0
    method(method.views(batch_of(store, method), Stream(0, 0, slots(method))), 0.0).total.backward()  # no hook is left


@pytest.mark.parametrize("case", EVERY)
def test_every_trainable_parameter_gets_a_gradient(case, store):
    method = make(case)
    method(method.views(batch_of(store, method), Stream(0, 0, slots(method))), 0.0).total.backward()
    lacking = [
        name
        for name, p in method.named_parameters()
        if p.requires_grad and (p.grad is None or not bool(p.grad.abs().sum() > 0))
    ]
    if method.encoder.pooling.kind == "prenorm":  # its norm lies behind what is read; reconstruction still trains it
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in lacking} <= {"norm"}
        assert len(lacking) <= 2
        return
    assert not lacking


@pytest.mark.parametrize("case", EVERY)
def test_views_are_a_function_of_the_stream_and_of_each_slot_alone(case, store):
    method = make(case)
    batch, count = batch_of(store, method), method.plan.count
    once = tensors(method.views(batch, Stream(1, 4, slots(method))))
    again = tensors(method.views(batch, Stream(1, 4, slots(method))))
    other = tensors(method.views(batch, Stream(1, 5, slots(method))))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(once, other, strict=True))
    last = dataclasses.replace(
        batch,
        **{
            f.name: v[2 * count :] for f in dataclasses.fields(batch) if isinstance(v := getattr(batch, f.name), Tensor)
        },
    )
    alone = tensors(method.views(last, Stream(1, 4, slots(method)[2 * count :])))
    assert all(torch.allclose(a[2 * count :], b, atol=1e-5) for a, b in zip(once, alone, strict=True))


@pytest.mark.parametrize("case", EVERY)
def test_state_round_trip_gives_the_same_loss(case, store):
    method, other = make(case).eval(), make(case).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3)
    views = method.views(batch_of(store, method), Stream(0, 0, slots(method)))
    wanted = method(views, 0.5).total
    assert not torch.allclose(other(views, 0.5).total, wanted)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other(views, 0.5).total, wanted)


@pytest.mark.parametrize("case", sorted(set(CASES) - MOVING))
def test_training_lowers_the_loss_on_scans_with_structure(case, store):
    method = make(case)
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    loader = WindowLoader(store, method.plan, batch_size=3 * method.plan.count, seed=0, threads=0)
    history = []
    # Without the positive in its denominator a loss jumps about from batch to batch.
    steps, some = (60, 20) if "dcl" in case else (30, 5)
    for step in range(steps):
        batch = loader.batch(step)
        losses = method(method.views(batch, Stream(0, step, slots(method))), step / steps)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        method.after_step(step / steps)
        history.append(losses.total.item())
    assert sum(history[-some:]) < 0.9 * sum(history[:some])


@pytest.mark.parametrize("case", sorted(MOVING))
def test_steps_on_one_batch_lower_its_loss_while_the_target_stands_still(case, store):
    method = make(case)
    views = method.views(batch_of(store, method), Stream(0, 0, slots(method)))
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(20):
        losses = method(views, 0.5)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(losses.total.item())
    # From the second on, for Adam's first step is large whatever the gradient. The entropy of a target is a floor.
    assert history[-1] < history[1] - 0.02


@pytest.mark.parametrize("case", EVERY)
def test_one_scan_in_the_batch_works(case, store):
    method = make(case)
    batch = WindowLoader(store, method.plan, batch_size=method.plan.count, seed=0, threads=0).batch(0)
    assert torch.isfinite(method(method.views(batch, Stream(0, 0, slots(method, 1))), 0.0).total)


@pytest.mark.parametrize("case", EVERY)
def test_pictures_and_probe(case, store):
    method = make(case).eval()
    views = method.views(batch_of(store, method), Stream(0, 0, slots(method)))
    pictures = method.pictures(views)
    assert pictures
    for stack in pictures.values():
        assert stack.ndim == 5
        assert stack.shape[1] == 1
        assert stack.min() >= 0
        assert stack.max() <= 1
    with torch.no_grad():
        probe = method.probe(views)
    assert "effective_rank" in probe
    assert all(signal_of(name) for name in probe), "the report must know how to read every held-out signal"
    assert all(torch.isfinite(value) for value in probe.values())


@pytest.mark.parametrize("case", EVERY)
def test_kept_parts_share_the_weights_that_were_trained(case):
    method = make(case)
    kept = method.exported_modules()
    assert kept["encoder"] is method.encoder
    ours = {id(p) for p in method.parameters()}
    assert all(id(p) in ours for part in kept.values() for p in part.parameters())


def compiled(method: Method) -> CompileCounter:
    """Compile what training would compile of a method; return what counts the graphs."""
    torch._dynamo.reset()
    graphs = CompileCounter()
    for module in method.modules():
        if getattr(module, "compiles", False):
            module.compile(backend=graphs)
    return graphs


@pytest.mark.parametrize("case", EVERY)
def test_training_goes_through_what_is_compiled(case, store):
    """Methods may call parts of an encoder: compiling the whole of it would then do nothing, and say nothing."""
    method = make(case)
    plain = copy.deepcopy(method)
    graphs = compiled(method)
    made = []
    for step in range(3):
        views = method.views(batch_of(store, method, step), Stream(0, step, slots(method)))
        losses = []
        for one in (method, plain):
            torch.manual_seed(step)  # some drop features
            losses.append(one(views, 0.5).total)
        assert torch.allclose(*losses, rtol=1e-4)
        made.append(graphs.frame_count)
    assert made[0] > 0
    assert made[0] == made[-1], "compiled anew at every step"


@pytest.mark.parametrize("case", ["spark", "simmim, swin"])
def test_voxels_stay_hidden_from_an_encoder_that_was_compiled_to_see_all(case, store):
    method = make(case).eval()
    plain = copy.deepcopy(method)
    graphs = compiled(method)
    for step in range(2):
        views = method.views(batch_of(store, method, step), Stream(0, step, slots(method)))
        with torch.no_grad():
            assert torch.allclose(method.encoder.embed(views.target), plain.encoder.embed(views.target), atol=1e-5)
            assert torch.allclose(method.reconstruct(views), plain.reconstruct(views), atol=1e-4)
    assert graphs.frame_count == 2


def test_channels_last_changes_nothing(store):
    for case in sorted(SMALL):
        method = make(case).eval()
        other = copy.deepcopy(method)
        lay_channels_last(other)
        views = method.views(batch_of(store, method), Stream(0, 0, slots(method)))
        assert torch.allclose(method(views, 0.0).total, other(views, 0.0).total, atol=1e-4), case


def test_held_out_probe_does_not_depend_on_the_training_mode_of_views(store):
    method = make("voco")
    batch = held_out_batches(store, method.plan, 5, 0)[0]
    slots = batch.slot.tolist()
    assert torch.equal(
        method.views(batch, Stream(0, 0, slots)).crops, method.eval().views(batch, Stream(0, 0, slots)).crops
    )


def test_unknown_method_gets_a_suggestion():
    encoder = build_encoder({"name": "unet", "channels": [4, 6, 8]})
    with pytest.raises(ConfigError, match="Did you mean 'voco'"):
        build_method({"name": "vocoo"}, encoder)


@pytest.mark.parametrize("case", CASES)
def test_a_kept_decoder_is_that_of_a_segmenter_but_for_its_head(case: str) -> None:
    """Fine-tuning carries such a decoder over: whatever is kept by that name must fit, tensor by tensor."""
    method = make(case)
    kept = method.exported_modules().get("decoder")
    if kept is None:
        pytest.skip("keeps no decoder")
    encoder = method.encoder
    assert isinstance(encoder, Encoder)
    settings = SegmentationSettings(window=tuple(8 * m for m in encoder.size_multiple))
    task = SegmentationTask(settings, encoder, {1: "one", 2: "two"})
    report = carry_over(kept.state_dict(), task.decoder, source="here", part="decoder", minimum_share=0.0)
    carried = {row.name for row in report.with_status("matched")}
    lost = {name for name in kept.state_dict() if name not in carried}
    assert lost <= {name for name in kept.state_dict() if name.startswith("seg_layers.")}, lost
    assert {"transpconvs.0.weight", "stages.0.convs.0.conv.weight"} <= carried


# Methods whose head ends in a linear layer; one that ends in a norm cannot make one point of everything.
HEADS = {"simclr": "network", "byol": "student", "swav": "network", "vicreg": "network", "moco": "student"}


@pytest.mark.parametrize("case", sorted(HEADS))
def test_the_watched_spread_is_of_what_the_objective_compares(case, store):
    method = make(case)
    views = method.views(batch_of(store, method), Stream(0, 0, slots(method)))
    before = method(views, 0.0).signals["spread"]
    # A head that makes one point of everything: the encoder's own features do not change by it.
    last = [m for m in getattr(method, HEADS[case]).head.modules() if not list(m.children())][-1]
    with torch.no_grad():
        last.weight.mul_(1e-6)
        last.bias.fill_(1.0)
    after = method(views, 0.0).signals["spread"]
    assert before > 5e-3
    assert after < 1e-3
