"""Negatives that are made of negatives, and positives that are drawn apart.

A anchors, N negatives, S mixtures, D features. All draws are given, so that these are functions of their arguments.

References:
    Kalantidis et al., "Hard negative mixing for contrastive learning" (MoCHi), NeurIPS 2020, arXiv:2010.01028;
    Zhu et al., "Improving contrastive learning by visualizing feature transformation", ICCV 2021, arXiv:2108.02982.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.objectives.infonce import PairSet

__all__ = ["drawn_apart", "mixed_negatives", "with_hard_mixtures"]


def drawn_apart(pairs: PairSet, share: Tensor | float) -> PairSet:
    """Return pairs whose anchor and positive were each extrapolated away from the other.

    With l the share, q' = l q + (1 - l) k and k' = l k + (1 - l) q of features of length 1, which are not normalised
    again: q' k' = 2 l (1 - l) (1 - q k) + q k, at most q k for l in [1, 2].

    Args:
        pairs: With one positive an anchor.
        share: l, a number or one an anchor, (A,); 1 changes nothing.

    Raises:
        ValueError: There are several positives.
    """
    if pairs.positive.shape[1] != 1:
        raise ValueError(f"Positives are drawn apart in pairs. Got {pairs.positive.shape[1]} of an anchor.")
    share = torch.as_tensor(share, device=pairs.anchor.device).float().reshape(-1, 1)
    anchor, positive = pairs.unit(pairs.anchor), pairs.unit(pairs.positive)[:, 0]
    return replace(
        pairs,
        anchor=share * anchor + (1 - share) * positive,
        positive=(share * positive + (1 - share) * anchor)[:, None],
        negative=pairs.unit(pairs.negative),
        own=None if pairs.own is None else pairs.unit(pairs.own),
        scaled=True,
    )


def mixed_negatives(pairs: PairSet, share: Tensor | float, partner_N: Tensor) -> PairSet:
    """Return pairs in which each negative is ``share`` of itself and the rest of its partner; their number stays.

    A mixture counts for an anchor only where both its parts do; where one does not (it is of the anchor's own patient,
    or an empty place of a queue), the negative stands for itself.

    Args:
        pairs: With shared negatives, (N, D).
        share: In [0, 1]; 1 changes nothing.
        partner_N: Place of each one's partner, int64, (N,).

    Raises:
        ValueError: Each anchor has negatives of its own.
    """
    if pairs.negative.dim() != 2 or pairs.own is not None or pairs.attracted is not None:
        raise ValueError("Negatives are mixed where all anchors share them, and before others are added.")
    negative = pairs.unit(pairs.negative)
    mixture = share * negative + (1 - share) * negative[partner_N]
    together = (pairs.counted > 0) & (pairs.counted > 0)[:, partner_N]
    counted = torch.cat([pairs.counted * together, pairs.counted * ~together], dim=1)
    return replace(
        pairs,
        anchor=pairs.unit(pairs.anchor),
        positive=pairs.unit(pairs.positive),
        negative=torch.cat([mixture, negative]),
        counted=counted,
        scaled=True,
    )


@torch.no_grad()
def with_hard_mixtures(
    pairs: PairSet, *, hardest: int, first_AS: Tensor, second_AS: Tensor, share_AS: Tensor, with_anchor: int
) -> PairSet:
    """Return pairs with mixtures of each anchor's hardest negatives besides, of length 1 and without a gradient.

    Of the negatives that count, the ``hardest`` nearest to the anchor are taken, or as many as there are. The first
    S - ``with_anchor`` mixtures are a n_i + (1 - a) n_j, the others b q + (1 - b) n_j.

    Args:
        pairs: Anchors, positives, negatives.
        hardest: How many are mixed.
        first_AS: Which of them n_i is, as a share in [0, 1) of those that there are, (A, S).
        second_AS: Likewise n_j.
        share_AS: a in [0, 1), or b in [0, 0.5), (A, S).
        with_anchor: How many of S are mixed with the anchor.
    """
    anchor, negative = F.normalize(pairs.anchor.float(), dim=-1), F.normalize(pairs.negative.float(), dim=-1)
    letters = "ad,nd->an" if negative.dim() == 2 else "ad,and->an"
    there = pairs.counted[:, : negative.shape[-2]] > 0
    with torch.autocast(anchor.device.type, enabled=False):
        score = torch.einsum(letters, anchor, negative).masked_fill(~there, float("-inf"))
    near = score.topk(min(hardest, score.shape[1]), dim=1).indices
    number = there.sum(dim=1, keepdim=True).clamp(max=near.shape[1])

    def picked(share: Tensor) -> Tensor:
        place = near.gather(1, (share * number).long().minimum((number - 1).clamp(min=0)))
        if negative.dim() == 2:
            return negative[place]
        return negative.gather(1, place[..., None].expand(-1, -1, negative.shape[-1]))

    partner = picked(first_AS)
    if with_anchor:
        partner[:, -with_anchor:] = anchor[:, None]
    share = share_AS[..., None]
    mixture = F.normalize(share * partner + (1 - share) * picked(second_AS), dim=-1)
    new = (number > 0).expand(-1, mixture.shape[1])
    return replace(
        pairs,
        own=mixture if pairs.own is None else torch.cat([pairs.own, mixture], dim=1),
        counted=torch.cat([pairs.counted, new.to(pairs.counted.dtype)], dim=1),
    )
