"""What a signal is worth by chance: of every method, beside the signals of its probe, and right."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medssl.methods.contract import Method
from medssl.methods.voco import VoCo
from medssl.randomness import Stream
from medssl.reporting.prose import signal_of
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.read import Store
from pointcloud.cloud import make_cloud
from pointcloud.loading import held_out_clouds
from pointcloud.store import CloudStore
from pointcloud.store_writing import CloudItem, store_from_clouds
from tests.contracts import test_cloud_methods as of_clouds
from tests.contracts import test_methods as of_scans

JUDGING = {"spread", "effective_rank", "prediction", "collapse"}  # signals that judge nothing, so that none is owed


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Store:
    draw = np.random.default_rng(0)
    values = [draw.integers(-900, 900, (18, 34, 26)).astype(np.int16) for _ in range(4)]
    items = [Item(id=f"s{number}", values=value, patient=f"p{number}") for number, value in enumerate(values)]
    return store_from_arrays(tmp_path_factory.mktemp("store"), items)


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> CloudStore:
    draw = np.random.default_rng(0)
    items = [CloudItem(id=f"c{n}", cloud=make_cloud(draw.normal(size=(120, 3)))) for n in range(4)]
    return store_from_clouds(tmp_path_factory.mktemp("clouds"), items)


def looked(method: Method, batch: object, slots: list[int]) -> tuple[object, dict, dict]:
    views = method.eval().views(batch, Stream(0, -1, slots))
    with torch.no_grad():
        return views, method.probe(views), method.chance(views)


def check(probed: dict, chance: dict) -> None:
    judged = {name for name in probed if (signal := signal_of(name)) is not None and signal.rising is not None}
    assert set(chance) == judged
    assert all(torch.isfinite(value) and value > 0 for value in chance.values())


@pytest.mark.parametrize("case", sorted(of_scans.CASES))
def test_every_signal_of_scans_that_judges_has_its_chance(case: str, scans: Store) -> None:
    method = of_scans.make(case)
    batch = of_scans.batch_of(scans, method)
    check(*looked(method, batch, of_scans.slots(method))[1:])


@pytest.mark.parametrize("case", of_clouds.NAMES)
def test_every_signal_of_clouds_that_judges_has_its_chance(case: str, clouds: CloudStore) -> None:
    method = of_clouds.make(case)
    batch = held_out_clouds(clouds, method.plan, 4, 0)[0]
    check(*looked(method, batch, [0, 1, 2, 3])[1:])


def test_guessing_finds_the_other_view_in_one_of_as_many(scans: Store) -> None:
    """Features that hold nothing: the share that retrieval finds, over many draws, is what chance says."""
    from medssl.objectives.diagnostics import view_retrieval

    method = of_scans.make("simclr")
    _, _, chance = looked(method, of_scans.batch_of(scans, method), of_scans.slots(method))
    generator = torch.Generator().manual_seed(0)
    found = [view_retrieval(torch.randn(3, 8, generator=generator), torch.randn(3, 8, generator=generator))
             for _ in range(400)]  # fmt: skip
    assert float(chance["retrieval"]) == pytest.approx(1 / 3)
    assert float(torch.stack(found).mean()) == pytest.approx(1 / 3, abs=0.05)


def test_the_error_of_always_answering_the_centre_is_by_hand_what_is_said(scans: Store) -> None:
    method = of_scans.make("voco")
    assert isinstance(method, VoCo)
    views, probed, chance = looked(method, of_scans.batch_of(scans, method), of_scans.slots(method))
    errors = []
    for scan in range(len(views.starts)):
        centre = views.base_starts[scan].mean(dim=0)  # the lattice is even, so its mean is its centre
        errors += [
            float(torch.linalg.vector_norm((centre - start) * views.spacing_mm[scan])) for start in views.starts[scan]
        ]
    assert float(chance["position_error_mm"]) == pytest.approx(np.mean(errors), rel=0.05)
    assert chance["knn_error_mm"] == chance["position_error_mm"]
    assert float(chance["position_accuracy"]) == pytest.approx(1 / 12)
    assert {"position_error_mm", "knn_error_mm"} <= set(probed)


@pytest.mark.parametrize("normalise", [False, True])
def test_an_even_drawing_is_scored_as_any_other(normalise: bool, scans: Store) -> None:
    from medssl.encoders.table import build_encoder
    from medssl.methods.table import build_method

    settings = {**of_scans.MASKED, "normalise": normalise}
    method = build_method(settings, build_encoder({"name": "unet", "channels": [4, 6, 8], "blocks": 1}))
    views, _, chance = looked(method, of_scans.batch_of(scans, method), of_scans.slots(method))
    hidden = views.hidden.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)[:, None]
    if normalise:
        assert float(chance["reconstruction"]) == pytest.approx(1.0, abs=0.1)  # the variance of what is wanted
        return
    costs = []
    for image, out, inside in zip(views.target, hidden, views.inside, strict=True):
        mean = image[~out & inside].mean()
        costs.append((image[out & inside] - mean) ** 2)
    assert float(chance["reconstruction"]) == pytest.approx(float(torch.cat(costs).mean()), rel=1e-4)
