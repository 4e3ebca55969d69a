"""Contrast, agreement, redundancy and distillation against values computed by hand and literal formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from medssl.objectives.agreement import cosine_distance
from medssl.objectives.infonce import PairSet, countable, dclw_weights, info_nce, pairs_of_views, score_statistics
from medssl.objectives.koleo import koleo
from medssl.objectives.prototypes import distillation, n_pair, patch_distillation, sharpened, sinkhorn
from medssl.objectives.redundancy import barlow_twins, vicreg

ONE_HOT = torch.stack([torch.eye(2), torch.eye(2)])
APART = torch.arange(2)


def contrast(first, second, **options):
    pairs = pairs_of_views(torch.stack([first, second]), torch.arange(len(first)), torch.arange(len(first)))
    return info_nce(pairs, **options).mean().item()


@pytest.mark.parametrize(("temperature", "dcl", "nt_xent"), [
    (1.0, -0.3068528, 0.5514447), (0.5, -1.3068528, 0.2395448), (0.1, -9.3068528, 9.0796e-5),
])  # fmt: skip
def test_one_hot_pairs(temperature, dcl, nt_xent):
    eye = torch.eye(2)
    assert contrast(eye, eye, temperature=temperature) == pytest.approx(nt_xent, rel=1e-4, abs=5e-7)
    assert contrast(eye, eye, temperature=temperature, positive_in_denominator=False) == pytest.approx(dcl, rel=1e-5)


def test_one_pair_that_agrees_and_one_that_does_not():
    first, second = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weight = dclw_weights(first, second)
    assert weight.tolist() == pytest.approx([0.2384, 1.7616], abs=1e-4)
    assert contrast(first, second, temperature=1.0) == pytest.approx(1.1711492, rel=1e-5)
    plain = {"temperature": 1.0, "positive_in_denominator": False}
    assert contrast(first, second, **plain) == pytest.approx(0.7532044, rel=1e-5)
    assert contrast(first, second, positive_weight=weight.repeat(2), **plain) == pytest.approx(1.1340015, rel=1e-5)


def test_a_query_against_a_queue():
    query, queue = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.6, 0.8]])
    pairs = PairSet(query, query[:, None], queue, torch.ones(1, 2, dtype=torch.bool))
    assert info_nce(pairs, temperature=1.0).item() == pytest.approx(0.7120668, rel=1e-6)


def test_nt_xent_as_a_cross_entropy_written_out():
    features = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    rows = F.normalize(features.flatten(0, 1), dim=1)
    logits = (rows @ rows.T / 0.3).fill_diagonal_(float("-inf"))
    target = torch.cat([torch.arange(5) + 5, torch.arange(5)])
    ours = info_nce(pairs_of_views(features, torch.arange(5), torch.arange(5)), temperature=0.3)
    assert torch.allclose(ours, F.cross_entropy(logits, target, reduction="none"), atol=1e-5)


def test_moco_v3_is_the_contrast_with_the_batch_times_twice_the_temperature():
    eye, key = torch.eye(2), torch.arange(2)
    pairs = PairSet(eye, eye[:, None], eye, countable(key, key, key, key))
    assert (0.4 * info_nce(pairs, temperature=0.2).mean()).item() == pytest.approx(0.0026861, rel=1e-3)
    logits = eye @ eye.T / 0.2
    assert 0.4 * F.cross_entropy(logits, key).item() == pytest.approx(0.0026861, rel=1e-3)


def test_crops_of_one_patient_and_empty_places_never_repel():
    patient = torch.tensor([7, 7, 8])
    counted = countable(torch.arange(3), torch.tensor([0, 1, 2, -1]), patient, torch.tensor([7, 7, 8, -1]))
    assert counted.tolist() == [[False, False, True, False], [False, False, True, False], [True, True, False, False]]
    unknown = countable(torch.arange(2), torch.arange(2), torch.full((2,), -1), torch.full((2,), -1))
    assert unknown.tolist() == [[False, True], [True, False]]


def test_statistics_of_scores():
    found = score_statistics(pairs_of_views(ONE_HOT, APART, APART), temperature=0.5)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {
            "positive_cosine": 1.0,
            "negative_cosine": 0.0,
            "negative_spread": 0.0,
            "positive_pull": 2.0,
            "negative_push": 0.0,
        }
    )


def test_cosine_distance():
    eye = torch.eye(2)
    assert cosine_distance(eye, 3 * eye).item() == pytest.approx(0.0, abs=1e-6)
    assert cosine_distance(eye, -eye).item() == pytest.approx(4.0)
    assert cosine_distance(eye, eye.flip(0)).item() == pytest.approx(2.0)


def test_barlow_twins_and_vicreg():
    first, second = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert barlow_twins(first, first, off_diagonal=0.005).item() == pytest.approx(0.0099998, rel=1e-3)
    assert barlow_twins(first, second, off_diagonal=0.005).item() == pytest.approx(4.01, rel=1e-3)
    assert sum(vicreg(first, first).values()).item() == pytest.approx(8.0, rel=1e-4)
    assert sum(vicreg(first, second).values()).item() == pytest.approx(58.0, rel=1e-4)


def test_distillation_of_uniform_scores():
    zeros = torch.zeros(2, 3, 2)
    uniform = torch.full((2, 3, 2), 0.5)
    assert distillation(zeros, uniform, temperature=1.0).item() == pytest.approx(math.log(2))
    assert torch.allclose(sinkhorn(torch.zeros(4, 5)), torch.full((4, 5), 0.2))
    patches, target = torch.zeros(2, 8, 4), torch.full((2, 8, 4), 0.25)
    masked = torch.tensor([[True] * 3 + [False] * 5, [True] * 8])
    assert patch_distillation(patches, target, masked, temperature=1.0).item() == pytest.approx(math.log(4))
    assert koleo(torch.eye(2)).item() == pytest.approx(-0.5 * math.log(2), rel=1e-5)


def test_distillation_written_out_with_loops():
    draw = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(4, 3, 6, generator=draw), torch.randn(2, 3, 6, generator=draw)
    probabilities = sharpened(teacher, torch.zeros(6), temperature=0.05)
    terms = []
    for t in range(2):
        for s in range(4):
            if s != t:
                logs = torch.log_softmax(student[s] / 0.1, dim=-1)
                terms.append(-(torch.softmax(teacher[t] / 0.05, dim=-1) * logs).sum(dim=-1).mean())
    assert distillation(student, probabilities).item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_sinkhorn_is_the_usual_iteration():
    scores = torch.randn(12, 5, generator=torch.Generator().manual_seed(2)) / 5
    plan = torch.exp(scores / 0.05).T
    plan /= plan.sum()
    for _ in range(3):
        plan = plan / plan.sum(dim=1, keepdim=True) / 5
        plan = plan / plan.sum(dim=0, keepdim=True) / 12
    assert torch.allclose(sinkhorn(scores), (plan * 12).T, atol=1e-5)


def test_masks_of_three_axes_are_refused():
    with pytest.raises(ValueError, match="flattened"):
        patch_distillation(torch.zeros(2, 8, 4), torch.zeros(2, 8, 4), torch.zeros(2, 2, 2, 2, dtype=torch.bool))


def test_n_pair_tells_an_item_from_the_others():
    two = torch.eye(2)[None]
    assert n_pair(two, two, scale=1.0).item() == pytest.approx(0.313262, abs=1e-6)  # ln(1 + 1 / e)
    assert n_pair(torch.ones(3, 5, 4), torch.full((2, 5, 4), 0.25)).item() == pytest.approx(math.log(5), abs=1e-5)
    nobody = torch.zeros(2, 2, dtype=torch.bool)  # both of one patient: nothing to be distinguished
    assert n_pair(two, two, counted_NN=nobody).item() == 0.0


def test_n_pair_written_out_with_loops():
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = torch.softmax(torch.randn(2, 4, 6, generator=generator, dtype=torch.float64), dim=-1)
    wanted = [
        torch.nn.functional.cross_entropy(7 * teacher[t] @ student[s].T, torch.arange(4))
        for t in range(2)
        for s in range(3)
    ]
    found = n_pair(student.float(), teacher.float(), scale=7.0)
    assert found.item() == pytest.approx(torch.stack(wanted).mean().item(), abs=1e-5)
    (wanted_gradient,) = torch.autograd.grad(torch.stack(wanted).mean(), student)
    (found_gradient,) = torch.autograd.grad(n_pair(student, teacher, scale=7.0), student)
    torch.testing.assert_close(found_gradient, wanted_gradient, atol=1e-5, rtol=1e-4)
