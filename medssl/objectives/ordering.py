"""Order in place of a contrast: a network of soft comparators sorts scores, and positives are to come out above.

A anchors, n scores of each, k of them of negatives, P of positives.

References:
    Shvetsova, Petersen, Kukleva, Schiele, Kuehne, "Learning by sorting: self-supervised learning with group ordering
    constraints" (GroCo), ICCV 2023, arXiv:2301.02009; Petersen et al., "Monotonic differentiable sorting networks",
    ICLR 2022, arXiv:2203.09630 (the Cauchy comparator).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["group_order", "soft_ranks"]

_LEAST = 1e-30  # of a probability, so that its logarithm is finite


def soft_ranks(scores_An: Tensor, *, steepness: float = 1.0) -> Tensor:
    """Return the probability that score i comes out at rank r of an odd-even network in rising order, (A, n, n).

    A comparator of a before b keeps the two with probability 1/2 + atan(steepness (b - a)) / pi, else swaps them.

    Args:
        scores_An: float32.
        steepness: The larger, the nearer to a hard sort.
    """
    anchors, n = scores_An.shape
    values = list(scores_An.unbind(dim=1))
    ranks = list(torch.eye(n, device=scores_An.device).expand(anchors, n, n).unbind(dim=2))
    for layer in range(n):
        for low in range(layer % 2, n - 1, 2):
            a, b, at_a, at_b = values[low], values[low + 1], ranks[low], ranks[low + 1]
            keep = 0.5 + torch.atan(steepness * (b - a)) / math.pi
            values[low : low + 2] = keep * a + (1 - keep) * b, (1 - keep) * a + keep * b
            keep = keep[:, None]
            ranks[low : low + 2] = keep * at_a + (1 - keep) * at_b, (1 - keep) * at_a + keep * at_b
    return torch.stack(ranks, dim=2)


def group_order(positive_AP: Tensor, negative_Ak: Tensor, *, steepness: float = 1.0) -> Tensor:
    """Return each anchor's loss, float32, (A,): how far positives come out below the upper P ranks, negatives above.

    The mean over all n = k + P scores of the cross-entropy of "it is among the P highest" and of "among the k lowest".
    It does not reach 0 however right the order is: scores lie in [-1, 1], and comparators are soft.

    Args:
        positive_AP: Scores of the positives.
        negative_Ak: Scores of the negatives.
        steepness: Of the comparators.
    """
    k, count = negative_Ak.shape[1], positive_AP.shape[1]
    rising = [negative_Ak.float().sort(dim=1).values, positive_AP.float().sort(dim=1).values]
    ranks = soft_ranks(torch.cat(rising, dim=1), steepness=steepness)
    high = ranks[:, :, k:].sum(dim=2)
    right = torch.cat([1 - high[:, :k], high[:, k:]], dim=1)
    low = ranks[:, :, :k].sum(dim=2)
    also = torch.cat([low[:, :k], 1 - low[:, k:]], dim=1)
    both = [values.clamp(min=_LEAST, max=1.0).log().sum(dim=1) for values in (right, also)]
    return -(both[0] + both[1]) / (2 * (k + count))
