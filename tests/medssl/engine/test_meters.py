import time

import pytest
import torch
from lightning_fabric import Fabric

from medssl.engine.meters import Clock, Meters


@pytest.fixture
def fabric():
    return Fabric(accelerator="cpu", devices=1)


def test_means_are_weighted_and_start_anew(fabric):
    meters = Meters(torch.device("cpu"))
    meters.add({"loss": torch.tensor(1.0), "once": torch.tensor(5.0)})
    meters.add({"loss": torch.tensor(2.0)}, weight=0.5)
    meters.add({"loss": torch.tensor(6.0)}, weight=0.5)
    assert meters.read(fabric) == ({"loss": pytest.approx(2.5), "once": 5.0}, None)
    meters.add({"loss": torch.tensor(4.0)})
    assert meters.read(fabric)[0] == {"loss": 4.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_the_first_bad_step_is_kept(fabric, bad):
    meters = Meters(torch.device("cpu"))
    for step, value in enumerate([1.0, 2.0, bad, 3.0, bad]):
        meters.add({"loss": torch.tensor(value)})
        meters.watch(step, torch.tensor(0.0), torch.tensor(value))
    assert meters.read(fabric)[1] == 2
    assert meters.own_bad_step == 2


def test_adding_makes_nobody_wait_for_the_device(monkeypatch):
    def forbidden(*_):
        raise AssertionError("the host read a tensor")

    meters = Meters(torch.device("cpu"))
    for name in ("item", "__bool__", "__float__", "tolist", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    meters.add({"loss": torch.tensor(1.0)})
    meters.watch(3, torch.tensor(1.0))


def test_the_clock_counts_what_was_waited():
    clock = Clock()
    for _ in range(2):
        with clock.waiting():
            time.sleep(0.03)
        time.sleep(0.01)
        clock.stepped()
    share, each = clock.read()
    assert 0.4 < share < 0.9
    assert each >= 0.04
    assert clock.read()[0] == 0.0
