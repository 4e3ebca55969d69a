"""Several processes train what one does: every method and every task, whatever each process holds of the batch.

What runs on CUDA is not tried: which batch norms it gets is looked at in `tests/medssl/test_synchronised_norm.py`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medssl.engine.accumulation import differs
from medssl.engine.launch import launch
from medssl.engine.loop import fit
from medssl.engine.run import Run
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError
from medssl.gathering import added, gathered, mean_of_all, own_of, processes
from medssl.methods.table import METHODS
from pointcloud.methods.table import CLOUD_METHODS

sys.path.insert(0, str(Path(__file__).parent))
rank_cases = importlib.import_module("rank_cases")
rank_script = importlib.import_module("rank_script")

FAST = ["simclr", "moco", "voco", "dino", "masked", "segmentation", "point_distil"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("ranks")
    rank_cases.make_stores(found)
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name in ("draw_progress", "draw_views"):
        monkeypatch.setattr(f"medssl.engine.reporter.{name}", lambda *_: None)


def trained(case, folder, items, name, **more):
    """Train in this process alone."""
    fabric = launch(TrainSettings(**rank_script.SETTINGS))
    return rank_script.train(case, folder, items, fabric, name, **more)


def ended(folder, items, world, cases):
    """Train in several processes; return what each ended with."""
    running = rank_script.started(folder, items, world, cases)
    assert [process.wait(timeout=1500) for process in running] == [0] * world
    return [torch.load(folder / f"of{world}-rank{rank}.pt") for rank in range(world)]


def hold_to_one(folder, items, world, cases):
    """Hold the first loss, every later one, the signals and the final weights to those of one process."""
    ranks = ended(folder, items, world, cases)
    for case in cases:
        one, first = trained(case, folder, items, f"one-for-{world}"), ranks[0][case]
        assert [row["step"] for row in one["rows"]] == [row["step"] for row in first["rows"]] == list(range(1, 7)), case
        for name, value in one["rows"][0].items():
            if name.startswith(("loss", "part/", "signal/")):
                assert first["rows"][0][name] == pytest.approx(value, rel=1e-5, abs=2e-6), (
                    case,
                    name,
                )  # some are near 0
        for mine, theirs in zip(one["rows"], first["rows"], strict=True):  # batch norms over few items magnify rounding
            assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-3), case
        for name, value in one["state"].items():
            found = first["state"][name]
            if value.is_floating_point():
                assert torch.allclose(found, value, rtol=1e-4, atol=2e-4), (case, name)
            else:
                assert torch.equal(found, value), (case, name)
            for other in ranks[1:]:
                assert torch.equal(other[case]["state"][name], found), (case, name)


def test_every_method_has_a_case():
    named = {settings["name"] for settings in rank_cases.SCANS.values()}
    assert named == set(METHODS)
    assert {settings["name"] for settings, _ in rank_cases.CLOUDS.values()} == set(CLOUD_METHODS)
    assert set(FAST) <= set(rank_cases.CASES)


def test_a_process_by_itself_keeps_its_rows():
    rows = torch.rand(3, 2)
    assert processes() == 1
    assert gathered(rows) is rows
    assert added(rows) is rows
    assert torch.equal(own_of(rows, 2), rows[:2])
    assert torch.equal(mean_of_all(rows, (0,)), rows.mean(dim=0))


def test_two_processes_train_what_one_does_where_one_holds_a_single_item(folder):
    hold_to_one(folder, 3, 2, FAST)
    ranks = [torch.load(folder / f"of2-rank{rank}.pt")["norms"] for rank in range(2)]
    one = rank_script.norms(0, 1)
    for found in ranks:
        assert found.keys() == one.keys()
        for name, value in one.items():
            if name == "none":  # held below: alone it is torch's, not a number
                continue
            close = 2e-2 if name.startswith("half") else 2e-3 if name.startswith("far") else 1e-5
            assert torch.allclose(found[name].double(), value.double(), rtol=close, atol=close), name
        assert found["order"].tolist() == list(range(9))
        assert found["order of pairs"].tolist() == list(range(10))
        assert found["own"] == 0
        assert found["none"] == 0


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_every_method(folder):
    hold_to_one(folder, 3, 2, [case for case in rank_cases.CASES if case not in FAST])


@pytest.mark.slow
def test_four_processes_train_what_one_does_with_every_method(folder):
    hold_to_one(folder, 6, 4, list(rank_cases.CASES))


@pytest.mark.slow
def test_parts_of_uneven_batches_on_two_processes_are_those_of_one(folder):
    cases = [f"{case}@2" for case in rank_cases.IN_PARTS]
    ranks = ended(folder, 5, 2, cases)
    for case in cases:
        whole = trained(case.partition("@")[0], folder, 5, "whole")
        for name, value in whole["state"].items():
            assert torch.allclose(ranks[0][case]["state"][name].float(), value.float(), rtol=1e-3, atol=1e-4), (
                case,
                name,
            )


@pytest.mark.parametrize("case", rank_cases.IN_PARTS)
def test_parts_of_a_batch_make_the_step_of_the_whole(case, folder):
    """Five items in two parts, in which unlike numbers of voxels count: a mean of means would be another number."""
    whole = trained(case, folder, 5, "whole-one", steps=3)
    parts = trained(case, folder, 5, "parts", steps=3, accumulate=2)
    assert "the step of the whole batch" in parts["said"][0]
    assert "not quite" not in parts["said"][0]
    for mine, theirs in zip(whole["rows"], parts["rows"], strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=1e-4)
    for name, value in whole["state"].items():
        assert torch.allclose(parts["state"][name].float(), value.float(), rtol=1e-4, atol=1e-5), name


def test_where_parts_are_not_the_whole_it_is_said(folder):
    for case in rank_cases.CASES:
        assert bool(differs(rank_cases.make(case))) == (case not in rank_cases.IN_PARTS), case
    said = trained("simclr", folder, 4, "said", steps=1, accumulate=2)["said"]
    assert "not quite the step of the whole batch: items are told from those of their own part alone" in said[0]


@pytest.mark.parametrize(("case", "queues"), [("moco", ["queue"]), ("swav", ["queues.0", "queues.1"])])
def test_a_queue_takes_the_features_of_every_part(case, queues, folder):
    whole = trained(case, folder, 4, "queue", steps=1)["state"]
    parts = trained(case, folder, 4, "queue-parts", steps=1, accumulate=2)["state"]
    for queue in queues:
        assert (parts[f"{queue}.keys"] >= 0).sum() == 4
        assert torch.equal(parts[f"{queue}.keys"], whole[f"{queue}.keys"])
        assert torch.equal(parts[f"{queue}.groups"], whole[f"{queue}.groups"])


def test_more_parts_than_items_are_refused(folder):
    with pytest.raises(
        ConfigError, match=r"train\.accumulate cuts a batch into 4 parts, .* has 3 items. Take at most 3"
    ):
        trained("masked", folder, 3, "too-many", steps=1, accumulate=4)


def test_what_several_processes_would_train_otherwise_is_refused(tmp_path):
    settings, encoder = rank_cases.CLOUDS["point_distil, masked"]
    method = CLOUD_METHODS.build({**settings, "fill": False}, rank_cases.CLOUD_ENCODERS.build(encoder))
    with pytest.raises(ConfigError, match=r"2 processes would not train what one does: .*method\.fill=true"):
        fit(method, None, TrainSettings(), run=Run(tmp_path), fabric=SimpleNamespace(world_size=2))
    assert [case for case in rank_cases.CASES if rank_cases.make(case).alone] == []
