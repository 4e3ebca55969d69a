"""Which batch norm several processes get on which device; that they are right is held in `methods/test_ranks.py`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.encoders.table import build_encoder
from medssl.methods.table import build_method
from medssl.synchronised_norm import SynchronisedBatchNorm, goes_by_batch, synchronise_norms

UNET = {"name": "unet", "channels": [4, 6], "strides": [1, 2]}


def norms(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_weights_statistics_and_modes_stay(device):
    norm = nn.BatchNorm1d(3, eps=1e-3, momentum=0.2)
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.running_mean.fill_(5.0)
    network = nn.Sequential(nn.Linear(3, 3), norm, nn.Sequential(nn.BatchNorm1d(3).eval()))
    network.add_module("again", norm)
    before = network.state_dict()
    synchronise_norms(network, device)
    assert network[1] is network.again
    assert network[1] is not norm
    assert network[1].weight is norm.weight
    assert network[1].running_mean is norm.running_mean
    assert (network[1].eps, network[1].momentum) == (1e-3, 0.2)
    assert network[1].training
    assert not network[2][0].training
    assert before.keys() == network.state_dict().keys()
    made = network[1]
    synchronise_norms(network, device)
    assert network[1] is made


def test_cuda_gets_torchs_where_that_goes_by_all_processes_too():
    """Torch's leaves a norm without running statistics to each process in evaluation mode: a teacher's head."""
    method = build_method(
        {"name": "moco", "window": (8, 8, 8), "crop": (8, 8, 8), "head_norm": "batch_plain"}, build_encoder(UNET)
    )
    assert len(norms(method)) == 2
    synchronise_norms(method, "cuda")
    assert all(type(norm) is SynchronisedBatchNorm for norm in norms(method).values())
    assert [goes_by_batch(norm) for norm in norms(method.teacher).values()] == [True]
    byol = build_method({"name": "byol", "window": (8, 8, 8), "crop": (8, 8, 8)}, build_encoder(UNET))
    synchronise_norms(byol, "cuda")
    assert norms(byol)
    assert all(type(norm) is nn.SyncBatchNorm for norm in norms(byol).values())


def test_the_cpu_gets_ours_everywhere():
    method = build_method({"name": "spark", "window": (8, 8, 8)}, build_encoder(UNET))
    synchronise_norms(method, "cpu")
    assert norms(method)
    assert all(type(norm) is SynchronisedBatchNorm for norm in norms(method).values())


def test_alone_it_is_the_plain_one():
    plain, ours = nn.BatchNorm1d(4), SynchronisedBatchNorm(4)
    for _ in range(2):
        rows = torch.rand(5, 4)
        assert torch.equal(plain(rows), ours(rows))
    assert torch.equal(plain.running_var, ours.running_var)
    assert torch.equal(plain.eval()(rows), ours.eval()(rows))
