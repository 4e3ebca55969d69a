import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medssl.teacher import EMATeacher, momentum_at


def student():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 3, 3), nn.BatchNorm3d(3), nn.Dropout(0.5))


def moved(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    network.train()(torch.randn(4, 1, 5, 5, 5))
    return network


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_starts_as_the_student_and_shares_nothing_with_it():
    network = student()
    teacher = EMATeacher(network)
    assert same(teacher.module, network)
    moved(network)
    assert not same(teacher.module, network)


def test_at_momentum_0_it_is_the_student():
    network = student()
    teacher = EMATeacher(network, momentum=0.0, final_momentum=0.0)
    teacher.update(moved(network), 0.3)
    assert same(teacher.module, network)


def test_at_momentum_1_its_weights_stay():
    network = student()
    teacher = EMATeacher(network, momentum=1.0)
    before = copy.deepcopy(teacher.module)
    teacher.update(moved(network), 0.3)
    for (name, old), new in zip(before.state_dict().items(), teacher.module.state_dict().values(), strict=True):
        if new.is_floating_point():
            assert torch.equal(old, new), name


@given(momentum=st.floats(0.01, 0.999))
def test_between_it_is_the_weighted_mean_and_counters_are_copied(momentum):
    network = student()
    teacher = EMATeacher(network, momentum=momentum, final_momentum=momentum)
    before = copy.deepcopy(teacher.module.state_dict())
    teacher.update(moved(network), 0.5)
    for name, now in teacher.module.state_dict().items():
        theirs = network.state_dict()[name]
        if now.is_floating_point():
            assert torch.allclose(now, momentum * before[name] + (1 - momentum) * theirs, atol=1e-6), name
        else:
            assert torch.equal(now, theirs), name


def test_no_gradient_reaches_it():
    teacher = EMATeacher(student())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher(torch.randn(2, 1, 5, 5, 5, requires_grad=True)).requires_grad


@pytest.mark.parametrize("train_mode", [False, True])
def test_it_keeps_its_mode(train_mode):
    around = nn.ModuleDict({"teacher": EMATeacher(student(), train_mode=train_mode)})
    for mode in (True, False, True):
        around.train(mode)
        assert all(m.training is train_mode for m in around["teacher"].modules())


def test_momentum_follows_half_a_cosine():
    assert momentum_at(0.0, start=0.9) == pytest.approx(0.9)
    assert momentum_at(0.5, start=0.9) == pytest.approx(0.95)
    assert momentum_at(1.0, start=0.9) == 1.0
    assert momentum_at(0.4, start=0.9, end=0.9) == pytest.approx(0.9)
    # 1 - 0.1 (cos(pi / 4) + 1) / 2 and so on: a straight line would pass through 0, 1/2 and 1 as well
    assert momentum_at(0.25, start=0.9) == pytest.approx(0.9146447)
    assert momentum_at(0.75, start=0.9) == pytest.approx(0.9853553)
    assert momentum_at(1 / 3, start=0.99, end=0.996) == pytest.approx(0.9915)


def test_momentum_out_of_range_and_another_students_shape_are_refused():
    with pytest.raises(ValueError, match="momentum"):
        EMATeacher(student(), momentum=1.5)
    with pytest.raises(ValueError, match="tensors"):
        EMATeacher(nn.Linear(2, 2)).update(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 0.0)
