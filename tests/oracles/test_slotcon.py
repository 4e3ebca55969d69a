"""SlotCon against values of the authors' code, the paper's formulas, and RoI align."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from medssl.encoders.table import build_encoder
from medssl.methods.slotcon import SlotCon, SlotConSettings, SlotViews
from medssl.objectives.infonce import info_nce
from medssl.objectives.prototypes import distillation, sharpened
from medssl.objectives.slots import grouped, slot_pairs, slots_of, used
from medssl.views.overlapping_crops import OverlappingCrops, aligned

UNET = {"name": "unet", "channels": [4, 6, 8], "blocks": 1}


def wave(*shape: int, k: float) -> Tensor:
    """Return fixed numbers that no generator decides."""
    return torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * k + k).view(*shape).float()


class Given(nn.Module):
    """Features of places that are given, grouped by given prototypes."""

    def __init__(self, features: Tensor, prototypes: Tensor) -> None:
        super().__init__()
        self.features, self.prototypes = features, prototypes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        cosines = grouped(self.features.flatten(2), self.prototypes)
        return self.features, cosines.unflatten(2, self.features.shape[2:])


def shares(*corners: list[float]) -> Tensor:
    """Return boxes of (x, y, x, y) as (N, 2, 3), whole along z."""
    boxes = torch.tensor(corners)
    whole = torch.tensor([[0.0], [1.0]]).expand(len(boxes), 2, 1)
    return torch.cat([whole, torch.stack([boxes[:, [1, 3]], boxes[:, [0, 2]]], dim=2)], dim=2)


def given() -> tuple[SlotCon, SlotViews, Tensor, Tensor]:
    """Return SlotCon of two scans with fixed features, as the authors' code had them; one view is flipped."""
    settings = SlotConSettings(window=(4, 8, 8), crop=(4, 8, 8), prototypes=4, projected=5, hidden=8)
    method = SlotCon(settings, build_encoder(UNET))
    features = torch.cat([wave(2, 5, 3, 4, k=k) for k in (1.3, 0.7)])[:, :, None].requires_grad_()
    taught = torch.cat([wave(2, 5, 3, 4, k=k) for k in (1.31, 0.72)])[:, :, None]
    prototypes = wave(4, 5, k=2.1).requires_grad_()
    method.student = Given(features, prototypes)
    method.teacher = Given(taught, wave(4, 5, k=2.13))
    method.predictor = nn.Identity()
    method.centre.value.copy_(wave(4, k=0.37) * 0.1)
    boxes = torch.stack(
        [shares([0.25, 0, 1, 0.5], [0, 0.1, 0.6, 1]), shares([0, 0.5, 0.75, 1], [0.4, 0, 1, 0.9])], dim=1
    )
    flips = torch.zeros(2, 2, 3, dtype=torch.bool)
    flips[0, 0, 2] = True
    views = SlotViews(
        OverlappingCrops(torch.zeros(2, 2, 1, 4, 8, 8), boxes, flips), torch.arange(2), torch.tensor([5, 7])
    )
    return method, views, features, prototypes


def test_slotcon_gives_what_the_released_code_gives():
    """CVMI-Lab/SlotCon 30ff33d on the same features, boxes and flips, the predictor left out."""
    method, views, features, prototypes = given()
    found = method(views, 0.0)
    assert found.parts["groups"].item() == pytest.approx(4.0903430, abs=2e-5)
    assert found.parts["slots"].item() == pytest.approx(0.5594295, abs=2e-6)
    found.total.backward()
    assert features.grad[:2].flatten()[:3].tolist() == pytest.approx([0.08054655, -0.18837298, 0.07325949], abs=2e-6)
    assert features.grad[2:].norm().item() == pytest.approx(0.22448891, abs=2e-6)
    assert prototypes.grad.flatten()[:3].tolist() == pytest.approx([0.22695208, -0.23016180, 0.28621963], abs=5e-6)
    method.centre.move()
    assert method.centre.value.tolist() == pytest.approx([0.04220798, 0.06106480, 0.07016787, 0.09645440], abs=1e-6)


@pytest.mark.parametrize(("temperature", "mine", "other"), [(1.0, 0.731059, 0.268941), (0.07, 0.999998, 2e-6)])
def test_slots_of_places_that_are_the_prototypes(temperature, mine, other):
    places = torch.eye(2)[None]
    cosines = grouped(places, torch.eye(2))
    assert torch.equal(cosines, torch.eye(2)[None])
    slots = slots_of(places, cosines, temperature=temperature)
    wanted = torch.tensor([[[mine, other], [other, mine]]])
    torch.testing.assert_close(slots, wanted, atol=2e-6, rtol=0)
    assert used(cosines).all()


@pytest.mark.parametrize(("images", "value"), [(1, 0.00268614), (2, 0.0080049)])
def test_contrast_of_perfect_slots(images, value):
    keys = torch.eye(2 * images)
    item = torch.arange(images).repeat_interleave(2)
    pairs = slot_pairs(keys, torch.arange(2 * images), keys, torch.ones(2 * images, dtype=torch.bool), item, item)
    assert (0.4 * info_nce(pairs, temperature=0.2).mean()).item() == pytest.approx(value, abs=2e-7)


def test_distillation_of_equal_groups():
    cosines = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])
    targets = sharpened(cosines, torch.zeros(2), temperature=0.07)
    assert distillation(cosines, targets, temperature=0.1).item() == pytest.approx(5.16476e-5, abs=1e-7)


def test_aligned_is_roi_align():
    maps = torch.randn(3, 4, 1, 7, 6, generator=torch.Generator().manual_seed(0))
    corners = [[0.2, 0.1, 0.9, 0.7], [0, 0, 1, 1], [0.4, 0.5, 0.45, 0.55]]
    flips = torch.zeros(3, 3, dtype=torch.bool)
    flips[0, 2] = True
    size = torch.tensor([6.0, 7.0, 6.0, 7.0])
    rois = torch.cat([torch.arange(3.0)[:, None], torch.tensor(corners) * size], dim=1)
    wanted = torchvision.ops.roi_align(maps[:, :, 0], rois, (7, 6), aligned=True)
    wanted[0] = wanted[0].flip(-1)
    found = aligned(maps, shares(*corners), flips)
    torch.testing.assert_close(found[:, :, 0], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], maps[1], atol=1e-6, rtol=0)  # the whole box is the map
    turned = torch.ones(3, 3, dtype=torch.bool)
    whole = shares(*[[0, 0, 1, 1]] * 3)
    torch.testing.assert_close(aligned(maps.flip(2, 3, 4), whole, turned), maps, atol=1e-6, rtol=0)


def test_the_gradient_of_slots_and_their_contrast_is_a_difference_quotient():
    generator = torch.Generator().manual_seed(1)
    places = torch.randn(2, 5, 12, generator=generator)
    prototypes = torch.randn(3, 5, generator=generator)
    keys, item = torch.randn(6, 5, generator=generator), torch.tensor([0, 0, 0, 1, 1, 1])
    there = torch.tensor([True, True, False, True, True, True])

    def loss(given: Tensor) -> Tensor:
        slots = slots_of(given, grouped(given, prototypes), temperature=0.3).view(6, 5)
        anchors = there.nonzero()[:, 0]
        return info_nce(slot_pairs(slots[anchors], anchors, keys, there, item, item), temperature=0.5).mean()

    where = places.clone().requires_grad_()
    loss(where).backward()
    for place in [(0, 0, 0), (1, 4, 7), (0, 2, 11)]:
        step = torch.zeros_like(places)
        step[place] = 1e-2
        quotient = (loss(places + step) - loss(places - step)) / 2e-2
        assert where.grad[place].item() == pytest.approx(quotient.item(), abs=2e-4)


def test_slots_of_another_scan_of_the_patient_are_no_negatives():
    keys = torch.randn(6, 4, generator=torch.Generator().manual_seed(2))
    item, there = torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(6, dtype=torch.bool)
    patient = torch.tensor([0, 0, 0, 0, 9, 9])
    pairs = slot_pairs(keys[:2], torch.arange(2), keys, there, item, patient)
    assert pairs.counted.tolist() == [[False, True, False, False, True, True], [True, False, False, False, True, True]]


def test_half_precision_and_extreme_features_stay_finite():
    for scale in (1e-6, 1.0, 1e4):
        places = (torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(3)) * scale).half()
        cosines = grouped(places, torch.randn(5, 8, generator=torch.Generator().manual_seed(4)).half())
        assert cosines.dtype == torch.float32
        assert torch.isfinite(slots_of(places, cosines, temperature=0.07)).all()
    silent = grouped(torch.zeros(1, 8, 20), torch.ones(5, 8))
    assert torch.isfinite(slots_of(torch.zeros(1, 8, 20), silent, temperature=0.07)).all()
