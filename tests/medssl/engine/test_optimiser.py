import pytest
import torch
from torch import nn

from medssl.engine.optimiser import build_optimiser, parameter_groups, set_learning_rates, set_weight_decay
from medssl.engine.schedules import learning_rates, weight_decays
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
        self.head = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    @property
    def encoder(self):  # as in VoCo: the encoder lives deeper in the module
        return self.body


def test_vectors_do_not_decay_and_frozen_parameters_are_left_out():
    method = Two()
    groups = {(g["part"], g["weight_decay"]): g["params"] for g in parameter_groups(method, weight_decay=0.1)}
    assert groups.keys() == {("encoder", 0.1), ("encoder", 0.0), ("rest", 0.1), ("rest", 0.0)}
    assert groups["encoder", 0.1] == [method.body[0].weight]
    assert {id(p) for p in groups["encoder", 0.0]} == {
        id(method.body[0].bias), id(method.body[1].weight), id(method.body[1].bias)
    }  # fmt: skip
    assert groups["rest", 0.1] == [method.head.weight]
    assert sum(len(params) for params in groups.values()) == 6


def test_biases_do_not_shrink_under_decay():
    method = Two()
    optimiser = build_optimiser(method, TrainSettings(lr=0.1, weight_decay=0.5))
    before = method.head.bias.detach().clone(), method.head.weight.detach().clone()
    for parameter in method.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    assert torch.equal(method.head.bias, before[0])
    assert torch.allclose(method.head.weight, before[1] * (1 - 0.1 * 0.5))


def test_each_part_follows_its_own_rate():
    settings = TrainSettings(steps=100, lr=1e-2, schedule="sawtooth", warmup=0.1, optimiser="sgd")
    optimiser = build_optimiser(Two(), settings)
    shown = set_learning_rates(optimiser, learning_rates(settings), 15)
    assert shown == {"lr": pytest.approx(1e-2), "lr_encoder": 0.0}
    assert {(g["part"], g["lr"]) for g in optimiser.param_groups} == {("encoder", 0.0), ("rest", shown["lr"])}


def test_nothing_to_train_is_an_error():
    with pytest.raises(ConfigError, match="nothing to train"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), weight_decay=0.0)


def test_weight_decay_follows_half_a_cosine_and_leaves_vectors_alone():
    settings = TrainSettings(steps=4, weight_decay=0.04, final_weight_decay=0.4)
    decays = weight_decays(settings)
    assert decays[[0, 2]] == pytest.approx([0.04, 0.22])
    assert weight_decays(TrainSettings(steps=4, weight_decay=0.04)) == pytest.approx([0.04] * 4)
    optimiser = build_optimiser(Two(), settings)
    set_weight_decay(optimiser, float(decays[2]))
    assert sorted(group["weight_decay"] for group in optimiser.param_groups) == pytest.approx([0.0, 0.0, 0.22, 0.22])
    with pytest.raises(ValueError, match="weight_decay above 0 to begin with"):
        TrainSettings(weight_decay=0.0, final_weight_decay=0.4)
