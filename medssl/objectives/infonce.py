"""Contrast of pairs: one InfoNCE for every method that tells an anchor's positives from its negatives.

A anchors, P positives an anchor, N negatives, D features. Which negative counts for which anchor is decided in one
place, ``countable``: never the anchor's own item, and never a crop of the same patient, which may show the same
anatomy and is no negative, only named one.

References:
    van den Oord et al., "Representation learning with contrastive predictive coding", 2018, arXiv:1807.03748;
    Chen et al., "A simple framework for contrastive learning of visual representations" (SimCLR, NT-Xent), ICML 2020,
    arXiv:2002.05709; Yeh et al., "Decoupled contrastive learning" (DCL, DCLW), ECCV 2022, arXiv:2110.06848.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "PairSet",
    "countable",
    "dclw_weights",
    "info_nce",
    "pairs_of_views",
    "score_statistics",
]

_LEAST = 1e-30  # a weight below which nothing counts, so that its logarithm is finite


@dataclass(frozen=True)
class PairSet:
    """Anchors with their positives and negatives; features need not be normalised.

    Attributes:
        anchor: (A, D).
        positive: (A, P, D).
        negative: (N, D), shared by all anchors, or (A, N, D).
        counted: How much a negative counts for an anchor, (A, N): bool, or a weight of at least 0 in the denominator;
            (A, N + S) where there are ``own``.
        attracted: How much an anchor is drawn to what ``negative`` holds, in [0, 1], (A, N): soft positives, among what
            counts alone; None for none. 1 is a positive like those of ``positive``.
        own: Negatives of each anchor's own besides, (A, S, D), such as mixed ones; None for none.
        scaled: Whether features are taken as they are, not normalised: products stand in place of cosines.
    """

    anchor: Tensor
    positive: Tensor
    negative: Tensor
    counted: Tensor
    attracted: Tensor | None = None
    own: Tensor | None = None
    scaled: bool = False

    @cached_property
    def cosines(self) -> tuple[Tensor, Tensor]:
        """The cosines with the positives, (A, P), and with the negatives, (A, N + S), float32; computed once.

        Raises:
            ValueError: If the shapes do not fit.
        """
        anchors, negatives = self.anchor.shape[0], self.negative.shape[-2]
        more = 0 if self.own is None else self.own.shape[1]
        soft = (anchors, negatives) if self.attracted is None else self.attracted.shape
        fits = self.positive.shape[0] == anchors and self.counted.shape == (anchors, negatives + more)
        if not fits or soft != (anchors, negatives):
            raise ValueError(
                f"anchor {tuple(self.anchor.shape)}, positive {tuple(self.positive.shape)}, negative "
                f"{tuple(self.negative.shape)} and counted {tuple(self.counted.shape)} do not fit: (A, D), (A, P, D), "
                "(N, D) or (A, N, D), and (A, N) are wanted, also of soft positives."
            )
        with torch.autocast(self.anchor.device.type, enabled=False):
            anchor, positive, negative = (self.unit(rows) for rows in (self.anchor, self.positive, self.negative))
            attract = torch.einsum("ad,apd->ap", anchor, positive)
            letters = "ad,nd->an" if negative.dim() == 2 else "ad,and->an"
            repel = torch.einsum(letters, anchor, negative)
            if self.own is not None:
                repel = torch.cat([repel, torch.einsum("ad,asd->as", anchor, self.unit(self.own))], dim=1)
            return attract, repel

    def unit(self, rows: Tensor) -> Tensor:
        """Return features as they are multiplied, float32: of length 1, or as they are where they are ``scaled``."""
        return rows.float() if self.scaled else F.normalize(rows.float(), dim=-1)

    @property
    def weight(self) -> Tensor:
        """``counted`` in float32."""
        return self.counted.float()


def countable(anchor_key_A: Tensor, key_N: Tensor, anchor_group_A: Tensor, group_N: Tensor) -> Tensor:
    """Return which negatives count for which anchor, bool, (A, N): those of another item and of another group.

    Args:
        anchor_key_A: Item of each anchor, int64.
        key_N: Item of each negative; below 0 for a place that holds nothing (of a queue), which never counts.
        anchor_group_A: Group (patient) of each anchor.
        group_N: Group of each negative; below 0 where it is not known, which then does not exclude.
    """
    same_item = anchor_key_A[:, None] == key_N[None]
    same_group = (anchor_group_A[:, None] == group_N[None]) & (group_N >= 0)[None]
    return ~same_item & ~same_group & (key_N >= 0)[None]


def pairs_of_views(features_VBD: Tensor, key_B: Tensor, group_B: Tensor) -> PairSet:
    """Return every view as an anchor: its positives are the other views of its item, its negatives all views of others.

    Args:
        features_VBD: Features of V >= 2 views of B items.
        key_B: Item of each row.
        group_B: Group (patient) of each row.

    Raises:
        ValueError: If there are fewer than two views.
    """
    views, batch, width = features_VBD.shape
    if views < 2:
        raise ValueError(f"Contrast needs at least two views of an item. Got {views}.")
    flat = features_VBD.reshape(views * batch, width)
    others = [torch.cat([features_VBD[:v], features_VBD[v + 1 :]]) for v in range(views)]
    positive = torch.stack(others).permute(0, 2, 1, 3).reshape(views * batch, views - 1, width)
    key, group = key_B.repeat(views), group_B.repeat(views)
    return PairSet(flat, positive, flat, countable(key, key, group, group))


def info_nce(
    pairs: PairSet,
    *,
    temperature: float | Tensor,
    positive_in_denominator: bool = True,
    positive_weight: Tensor | None = None,
) -> Tensor:
    """Return each anchor's loss, float32, (A,), a mean over its positives.

    With cosine s and temperature t, for each positive: ``-w s+ / t + log([e^(s+ / t)] + sum_n e^(s_n / t))``. The term
    in brackets is there for InfoNCE (NT-Xent, MoCo) and left out for DCL. A negative that counts with weight v adds
    ``v e^(s_n / t)``. What is ``attracted`` is a positive too, of that weight in the mean; in the brackets of its term
    stand all of ``positive``, so that with one positive and attraction 0 or 1 it is supervised contrast (Khosla et al.,
    NeurIPS 2020, arXiv:2004.11362, L_out). The loss of an anchor for which no negative counts (a batch of one patient)
    is 0 without a gradient; DCL would be minus infinity there.

    Args:
        pairs: Anchors, positives, negatives.
        temperature: t, a number or one an anchor, (A,) or (A, 1); positive.
        positive_in_denominator: False for DCL.
        positive_weight: w, (A,) or (A, P), detached by the caller; None for 1. See `dclw_weights`.

    Raises:
        ValueError: If the shapes do not fit.
    """
    attract, repel = pairs.cosines
    if isinstance(temperature, Tensor):
        temperature = temperature.float().reshape(-1, 1)
    attract, repel = attract / temperature, repel / temperature
    there = pairs.counted > 0
    some = there.any(dim=1, keepdim=True)
    weighed = repel if pairs.counted.dtype == torch.bool else repel + pairs.weight.clamp(min=_LEAST).log()
    # an anchor without negatives gets one at 0, so that nothing infinite reaches the backward pass; it is masked below
    weighed = torch.where(some, weighed.masked_fill(~there, float("-inf")), torch.zeros_like(repel))
    others = torch.logsumexp(weighed, dim=1, keepdim=True)
    denominator = others.expand_as(attract)
    if positive_in_denominator:
        denominator = torch.logaddexp(denominator, attract)
    pulled = attract
    if positive_weight is not None:
        pulled = positive_weight.float().reshape(attract.shape[0], -1) * attract
    if pairs.attracted is None:
        return ((denominator - pulled) * some).mean(dim=1)
    soft = pairs.attracted.float() * there[:, : pairs.attracted.shape[1]]
    if positive_in_denominator:
        others = torch.logaddexp(others, torch.logsumexp(attract, dim=1, keepdim=True))
    total = (denominator - pulled).sum(dim=1) + (soft * (others - repel[:, : soft.shape[1]])).sum(dim=1)
    return total * some[:, 0] / (attract.shape[1] + soft.sum(dim=1))


def dclw_weights(first_BD: Tensor, second_BD: Tensor, *, sigma: float = 0.5) -> Tensor:
    """Return DCLW's weights of positive pairs, detached, (B,): small where a pair agrees already; their mean is 1.

    w_i = 2 - exp(<z1_i, z2_i> / sigma) / mean_k exp(<z1_k, z2_k> / sigma).
    """
    with torch.no_grad():
        cosine = (F.normalize(first_BD.float(), dim=-1) * F.normalize(second_BD.float(), dim=-1)).sum(dim=-1)
        return 2.0 - cosine.numel() * torch.softmax(cosine / sigma, dim=0)


def score_statistics(pairs: PairSet, *, temperature: float | Tensor) -> dict[str, Tensor]:
    """Return the five figures that Zhu et al. watch (ICCV 2021, arXiv:2108.02982), detached.

    Mean cosine of the positives; mean and spread of the negatives', over what counts; and how hard both sides pull,
    the mean of e^(cosine / temperature) of the positives and of the negatives, of which the logarithm is given: it is
    finite at any temperature. Their spread is a variance, ours its root. All are 0 where no negative counts, but for
    the positives'.

    Args:
        pairs: Anchors, positives, negatives.
        temperature: As of `info_nce`.
    """
    attract, repel = (cosine.detach() for cosine in pairs.cosines)  # with their graph: the loss may come after
    counted = pairs.weight
    number = counted.sum().clamp(min=_LEAST)
    mean = (repel * counted).sum() / number
    spread = (((repel - mean) ** 2 * counted).sum() / number).sqrt()
    if isinstance(temperature, Tensor):
        temperature = temperature.detach().float().reshape(-1, 1)
    pull = torch.logsumexp((attract / temperature).flatten(), dim=0) - math.log(attract.numel())
    weighed = (repel / temperature + counted.clamp(min=_LEAST).log()).masked_fill(counted <= 0, float("-inf"))
    push = torch.logsumexp(weighed.flatten(), dim=0) - number.log()
    return {
        "positive_cosine": attract.mean(),
        "negative_cosine": mean,
        "negative_spread": spread,
        "positive_pull": pull,
        "negative_push": torch.where(counted.sum() > 0, push, torch.zeros_like(push)),
    }
