"""Parts of the contrastive family against their formulas, hand-computed values and each other."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from medssl.heads import FixedReweighting
from medssl.methods.parts.direct_predictor import DirectPredictor, direct_weight
from medssl.methods.settings.parts import DirectPredSettings
from medssl.objectives.infonce import PairSet, info_nce, pairs_of_views, score_statistics
from medssl.objectives.mixing import drawn_apart, mixed_negatives, with_hard_mixtures
from medssl.objectives.ordering import group_order, soft_ranks
from medssl.objectives.running_contrast import log_mean_negative, running_contrast, temperature_gradient

QUERY = torch.tensor([[1.0, 0.0]])
QUEUE = torch.tensor([[0.0, 1.0], [0.6, 0.8]])
MOCO = PairSet(QUERY, QUERY[:, None], QUEUE, torch.ones(1, 2, dtype=torch.bool))


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def batch(items: int = 6, views: int = 2) -> tuple[PairSet, torch.Tensor]:
    features = drawn(views, items, 5).float().requires_grad_()
    key = torch.arange(items)
    return pairs_of_views(features, key, key), features


def mixtures(
    first: list[float], second: list[float], share: list[float], with_anchor: int, hardest: int = 2
) -> PairSet:
    drawn_ = [torch.tensor([values]) for values in (first, second, share)]
    return with_hard_mixtures(
        MOCO, hardest=hardest, first_AS=drawn_[0], second_AS=drawn_[1], share_AS=drawn_[2], with_anchor=with_anchor
    )


def test_a_weight_counts_as_many_times_and_a_weight_of_nothing_not_at_all():
    several = PairSet(QUERY, QUERY[:, None], QUEUE[[0, 1, 1, 1]], torch.ones(1, 4, dtype=torch.bool))
    weighed = PairSet(QUERY, QUERY[:, None], QUEUE, torch.tensor([[1.0, 3.0]]))
    assert torch.allclose(info_nce(weighed, temperature=0.3), info_nce(several, temperature=0.3))
    none = PairSet(QUERY, QUERY[:, None], QUEUE, torch.tensor([[1.0, 0.0]]))
    first = PairSet(QUERY, QUERY[:, None], QUEUE[:1], torch.ones(1, 1))
    assert torch.allclose(info_nce(none, temperature=0.3), info_nce(first, temperature=0.3))


def test_soft_positives_of_0_and_1_are_supervised_contrast():
    pairs, features = batch(6)
    label = torch.tensor([0, 0, 1, 1, 2, 0]).repeat(2)
    target = (label[:, None] == label[None]).float()
    ours = info_nce(
        PairSet(pairs.anchor, pairs.positive, pairs.negative, pairs.counted, attracted=target), temperature=0.4
    )
    logits = F.normalize(features.flatten(0, 1), dim=-1)
    logits = (logits @ logits.T / 0.4).fill_diagonal_(float("-inf"))
    log_p = logits.log_softmax(dim=1).fill_diagonal_(0.0)
    alike = target.clone().fill_diagonal_(0.0)
    assert torch.allclose(ours, -(log_p * alike).sum(dim=1) / alike.sum(dim=1), atol=1e-5)
    nothing = PairSet(pairs.anchor, pairs.positive, pairs.negative, pairs.counted, attracted=torch.zeros(12, 12))
    assert torch.allclose(info_nce(nothing, temperature=0.4), info_nce(pairs, temperature=0.4), atol=1e-6)


def test_mochi_by_hand():
    assert info_nce(MOCO, temperature=1.0).item() == pytest.approx(0.7120668, abs=1e-6)
    # n1 = (0, 1), n2 = (.6, .8): the nearest is n2. a n2 + (1 - a) n1 with a = .5; .25 q + .75 n2
    pairs = mixtures([0.0, 0.0], [0.6, 0.0], [0.5, 0.25], with_anchor=1)
    assert torch.allclose(pairs.own[0, 0], torch.tensor([0.3162278, 0.9486833]), atol=1e-6)
    assert torch.allclose(pairs.own[0, 1], torch.tensor([0.7592566, 0.6507914]), atol=1e-6)
    assert info_nce(pairs, temperature=1.0).item() == pytest.approx(1.2026576, abs=1e-6)


def test_a_negative_that_is_mixed_with_its_anchor_comes_nearer():
    pairs, _ = batch(6)
    draw = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(3))
    made = with_hard_mixtures(
        pairs, hardest=1, first_AS=draw[0], second_AS=draw[1], share_AS=draw[2] / 2, with_anchor=20
    )
    score = made.cosines[1][:, 12:]
    hardest = pairs.cosines[1].masked_fill(~pairs.counted, -2.0).amax(dim=1, keepdim=True)
    assert (score >= hardest - 1e-6).all()
    assert not made.own.requires_grad


def test_only_what_counts_is_mixed_and_an_anchor_without_negatives_gets_no_mixture():
    counted = torch.tensor([[True, False], [False, False]])
    pairs = PairSet(QUERY.expand(2, 2), QUERY.expand(2, 2)[:, None], QUEUE, counted)
    share = torch.full((2, 3), 0.7)
    made = with_hard_mixtures(pairs, hardest=8, first_AS=share, second_AS=share, share_AS=share, with_anchor=0)
    assert torch.allclose(made.own[0], QUEUE[:1].expand(3, 2))
    assert made.counted.tolist() == [[True, False, True, True, True], [False] * 5]
    assert info_nce(made, temperature=0.1)[1].item() == 0.0


@pytest.mark.parametrize(("share", "score"), [(1.0, 0.5), (1.25, 0.1875), (1.5, -0.25), (2.0, -1.5)])
def test_positives_drawn_apart_by_hand(share, score):
    key = torch.tensor([[0.5, math.sqrt(0.75)]])
    pairs = drawn_apart(PairSet(QUERY, key[:, None], QUEUE, torch.ones(1, 2, dtype=torch.bool)), share)
    assert pairs.cosines[0].item() == pytest.approx(score, abs=1e-6)


def test_feature_transformation_at_1_is_the_contrast_itself():
    pairs, features = batch(6)
    partner = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    both = mixed_negatives(drawn_apart(pairs, 1.0), 1.0, partner)
    ours, plain = (info_nce(one, temperature=0.2) for one in (both, pairs))
    assert torch.allclose(ours, plain, atol=1e-5)
    gradients = [torch.autograd.grad(one.sum(), features, retain_graph=True)[0] for one in (ours, plain)]
    assert torch.allclose(*gradients, atol=1e-4)


def test_mixed_negatives_are_linear_in_their_scores_and_hold_no_own_patient():
    pairs, _ = batch(4)
    partner = torch.tensor([1, 2, 3, 0, 5, 6, 7, 4])
    made = mixed_negatives(pairs, 0.3, partner)
    plain, counted = pairs.cosines[1].detach(), pairs.counted
    assert (made.counted.sum(dim=1) == counted.sum(dim=1)).all()
    scores = made.cosines[1].detach()
    for a in range(8):
        for n in range(8):
            together = bool(counted[a, n] and counted[a, partner[n]])
            assert made.counted[a, n] == together
            assert made.counted[a, 8 + n] == (bool(counted[a, n]) and not together)
            assert scores[a, n].item() == pytest.approx(float(0.3 * plain[a, n] + 0.7 * plain[a, partner[n]]), abs=1e-5)


def test_a_running_contrast_of_the_batch_itself_has_the_gradient_of_dcl_times_the_temperature():
    pairs, features = batch(6)
    t = torch.full((12,), 0.2)
    loss = running_contrast(pairs, t, log_mean_negative(pairs, t))
    dcl = 0.2 * info_nce(pairs, temperature=0.2, positive_in_denominator=False)
    ours, wanted = (torch.autograd.grad(one.mean(), features, retain_graph=True)[0] for one in (loss, dcl))
    assert torch.allclose(ours, wanted, atol=1e-6)
    assert ours.abs().sum() > 0


def test_a_running_contrast_by_hand():
    pairs = pairs_of_views(torch.stack([torch.eye(2), torch.eye(2)]), torch.arange(2), torch.arange(2))
    t = torch.full((4,), 0.1)
    log_u = log_mean_negative(pairs, t)
    assert torch.allclose(log_u, torch.zeros(4))
    assert 2 * running_contrast(pairs, t, log_u).mean().item() == pytest.approx(-2.0)  # theirs adds the two views
    assert torch.allclose(temperature_gradient(pairs, t, log_u, rho=0.3), torch.full((4,), 0.3))


def test_the_gradient_of_a_temperature_is_a_difference_quotient():
    pairs, _ = batch(6)

    def objective(t: torch.Tensor) -> torch.Tensor:
        positive = pairs.cosines[0][:, 0].double()
        return t * log_mean_negative(pairs, t.float()).double() - positive + 0.4 * t

    t = torch.full((12,), 0.3, dtype=torch.float64)
    ours = temperature_gradient(pairs, t.float(), log_mean_negative(pairs, t.float()), rho=0.4)
    assert torch.allclose(ours.double(), (objective(t + 1e-3) - objective(t - 1e-3)) / 2e-3, atol=2e-3)


@pytest.mark.parametrize(("low", "high", "loss"), [(0.2, 0.7, 0.4345074), (0.7, 0.2, 1.0429419), (0.3, 0.3, 0.6931472)])
def test_the_order_of_one_and_one_in_closed_form(low, high, loss):
    found = group_order(torch.tensor([[high]]), torch.tensor([[low]]))
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert loss == pytest.approx(-math.log(0.5 + math.atan(high - low) / math.pi), abs=1e-6)


def test_the_order_of_groups_by_hand():
    assert group_order(torch.tensor([[0.8]]), torch.tensor([[0.3, 0.1]])).item() == pytest.approx(0.2547556, abs=1e-6)
    ten = torch.linspace(-0.1, 0.4, 10)[None]
    assert group_order(torch.tensor([[0.9]]), ten).item() == pytest.approx(0.1878253, abs=1e-6)
    same = torch.full((1, 10), 0.5)
    assert group_order(torch.tensor([[0.5]]), same).item() == pytest.approx(0.2019829, abs=1e-6)


def test_soft_ranks_are_doubly_stochastic_and_a_steep_network_sorts():
    scores = drawn(3, 7, dtype=torch.float32)
    ranks = soft_ranks(scores)
    assert torch.allclose(ranks.sum(dim=1), torch.ones(3, 7), atol=1e-5)
    assert torch.allclose(ranks.sum(dim=2), torch.ones(3, 7), atol=1e-5)
    steep = soft_ranks(scores, steepness=1e6).argmax(dim=2)
    assert torch.equal(steep, scores.argsort(dim=1).argsort(dim=1))


def test_the_gradient_of_an_order_is_a_difference_quotient():
    positive, negative = drawn(3, 1).mul(0.3), drawn(3, 4, seed=1).mul(0.3)
    positive.requires_grad_()
    (ours,) = torch.autograd.grad(group_order(positive, negative).sum(), positive)
    step = 1e-2
    with torch.no_grad():
        wanted = (group_order(positive + step, negative) - group_order(positive - step, negative)) / (2 * step)
    assert torch.allclose(ours[:, 0], wanted.to(ours.dtype), atol=1e-3)


def test_a_fixed_head_weighs_features_by_powers():
    ones = FixedReweighting(3, kappa=2.0)(torch.ones(1, 3))
    assert ones.tolist() == [[1.0, 0.5, 0.25]]
    assert F.normalize(ones, dim=1)[0].tolist() == pytest.approx([0.8728716, 0.4364358, 0.2182179], abs=1e-6)
    rows = drawn(2, 5, dtype=torch.float32)
    assert torch.equal(FixedReweighting(5, kappa=1.0)(rows), rows)
    wide = FixedReweighting(4096, kappa=2.0).weight
    assert torch.isfinite(wide).all()
    count = {kappa: FixedReweighting(4096, kappa=kappa).weight.double().square() for kappa in (1.01, 1.05, 1.1)}
    effective = {kappa: float(w.sum() ** 2 / w.square().sum()) for kappa, w in count.items()}
    assert effective == pytest.approx({1.01: 100.5, 1.05: 20.5, 1.1: 10.5}, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_extremes_stay_finite(dtype):
    pairs, _ = batch(6)
    half = PairSet(
        *(rows.detach().to(dtype) for rows in (pairs.anchor, pairs.positive, pairs.negative)), counted=pairs.counted
    )
    t = torch.full((12,), 0.005)
    stale = torch.full((12,), -500.0)
    partner = torch.arange(12).roll(1)
    made = mixed_negatives(drawn_apart(half, 2.0), 0.5, partner)
    found = [
        info_nce(made, temperature=0.005),
        running_contrast(half, t, stale),
        running_contrast(half, t, log_mean_negative(half, t)),
        *score_statistics(made, temperature=0.005).values(),
    ]
    assert all(torch.isfinite(values).all() and values.dtype == torch.float32 for values in found)


def test_one_item_leaves_nothing_to_learn_and_breaks_nothing():
    pairs, features = batch(1)
    t = torch.full((2,), 0.1)
    log_g = log_mean_negative(pairs, t)
    assert torch.isinf(log_g).all()
    loss = running_contrast(pairs, t, log_g.nan_to_num(neginf=0.0))
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0]
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize(
    ("correlation", "wanted"),
    [
        ([[4.0, 0.0], [0.0, 1.0]], [[1.1, 0.0], [0.0, 0.6]]),
        ([[2.0, 1.0], [1.0, 2.0]], [[0.8886751, 0.2113249], [0.2113249, 0.8886751]]),
        ([[0.0, 0.0], [0.0, 0.0]], [[0.1, 0.0], [0.0, 0.1]]),
    ],
)
def test_a_direct_predictor_by_hand(correlation, wanted):
    found = direct_weight(torch.tensor(correlation), eps=0.1)
    assert torch.allclose(found, torch.tensor(wanted), atol=1e-6)


def test_a_direct_predictor_has_the_directions_of_the_correlation_and_a_share_of_each():
    features = drawn(40, 6).float() * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1, 0.0])
    correlation = features.T @ features / 40
    weight = direct_weight(correlation, eps=0.2)
    assert torch.allclose(weight, weight.T, atol=1e-6)
    assert torch.allclose(weight @ correlation, correlation @ weight, atol=1e-4)
    assert torch.allclose(direct_weight(7 * correlation, eps=0.2), weight, atol=1e-5)  # of one scale whatever theirs
    values = torch.linalg.eigvalsh(weight)
    assert values.min().item() == pytest.approx(0.2, abs=1e-3)
    assert values.max().item() == pytest.approx(1.2, abs=1e-5)


def test_a_direct_predictor_follows_the_formula_step_by_step_and_trains_nothing():
    first, second = drawn(5, 3, seed=1).float(), drawn(7, 3, seed=2).float()
    predictor = DirectPredictor(3, DirectPredSettings(rho=0.3, eps=0.01))
    assert not list(predictor.parameters())
    assert torch.equal(predictor(first), first)  # the identity at first
    predictor.after_step()
    running = first.T @ first / 5
    assert torch.allclose(predictor.weight, direct_weight(running, eps=0.01), atol=1e-6)
    features = second.clone().requires_grad_()
    predictor(features[:4]), predictor(features[4:])  # a step in parts is the step
    (gradient,) = torch.autograd.grad((predictor.eval()(features) * first[:1]).sum(), features)
    assert torch.allclose(gradient, first[:1].expand(7, 3) @ predictor.weight, atol=1e-5)
    predictor.train().after_step()
    running = 0.3 * running + 0.7 * second.T @ second / 7
    assert torch.allclose(predictor.correlation, running, atol=1e-5)
    assert torch.allclose(predictor.weight, direct_weight(running, eps=0.01), atol=1e-5)
    before = predictor.state_dict()["weight"].clone()
    predictor.after_step()  # nothing was seen
    assert torch.equal(before, predictor.weight)


def test_every_so_many_steps():
    predictor = DirectPredictor(3, DirectPredSettings(every=3))
    kept = []
    for step in range(6):
        predictor(drawn(4, 3, seed=step).float())
        predictor.after_step()
        kept.append(predictor.weight.clone())
    assert torch.equal(kept[0], torch.eye(3))
    assert torch.equal(kept[1], torch.eye(3))
    assert torch.equal(kept[2], kept[4])
    assert not torch.equal(kept[4], kept[5])
