"""Slots: places of a feature map grouped by prototypes, and the contrast of what two views hold in the same group.

B images, K prototypes, D features, L places of a map.

Reference:
    Wen, Zhao, Zheng, Zhang, Qi, "Self-supervised visual representation learning with semantic grouping" (SlotCon),
    NeurIPS 2022, arXiv:2205.15288, equations 1 to 5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.objectives.infonce import PairSet

__all__ = ["grouped", "slot_pairs", "slots_of", "used"]

_LEAST = 1e-6  # added to each place's share of each slot, so that a slot without a place is no division by zero


def grouped(features_BDL: Tensor, prototypes_KD: Tensor) -> Tensor:
    """Return the cosines of places with prototypes, float32, (B, K, L)."""
    with torch.autocast(features_BDL.device.type, enabled=False):
        places = F.normalize(features_BDL.float(), dim=1)
        return torch.einsum("kd,bdl->bkl", F.normalize(prototypes_KD.float(), dim=1), places)


def slots_of(features_BDL: Tensor, cosines_BKL: Tensor, *, temperature: float) -> Tensor:
    """Return each slot: the mean of the places' features, weighted by how far each place is of it, float32, (B, K, D).

    Weights of a place are softmax over the prototypes of cosine / temperature, plus 1e-6; those of a slot are then
    divided by their sum.

    Args:
        features_BDL: Features of the places, not normalised.
        cosines_BKL: As of `grouped`.
        temperature: Of the softmax.
    """
    with torch.autocast(features_BDL.device.type, enabled=False):
        share = torch.softmax(cosines_BKL.float() / temperature, dim=1) + _LEAST
        return torch.einsum("bdl,bkl->bkd", features_BDL.float(), share / share.sum(dim=2, keepdim=True))


def used(cosines_BKL: Tensor) -> Tensor:
    """Return which prototypes are the nearest one of at least a place, bool, (B, K)."""
    nearest = cosines_BKL.argmax(dim=1)
    return torch.zeros_like(cosines_BKL[:, :, 0], dtype=torch.bool).scatter_(1, nearest, True)


def slot_pairs(
    query_AD: Tensor,
    anchor_A: Tensor,
    key_MD: Tensor,
    there_M: Tensor,
    item_M: Tensor,
    patient_M: Tensor,
) -> PairSet:
    """Return the slots of one view as anchors among the slots of the other.

    The positive of a slot is that of the same prototype in the other view of its image. All other slots there are
    negatives, those of the same image too, but no slot of another image of the same patient.

    Args:
        query_AD: Predictions of the slots that both views of an image have.
        anchor_A: Which of the M keys is the positive of each, int64.
        key_MD: Slots of the teacher in the other view, all of all images: M rows, K an image.
        there_M: Which of them are used, bool.
        item_M: Image of each.
        patient_M: Patient of each.
    """
    kept = there_M.nonzero()[:, 0]
    items, patients = item_M[kept], patient_M[kept]
    own, whose = item_M[anchor_A], patient_M[anchor_A]
    itself = kept[None] == anchor_A[:, None]
    elsewhere = (patients[None] == whose[:, None]) & (items[None] != own[:, None])
    return PairSet(query_AD, key_MD[anchor_A][:, None], key_MD[kept], ~itself & ~elsewhere)
