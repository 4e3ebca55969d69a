"""Contrast with all items, not with those of a batch: a running estimate of each anchor's denominator.

A anchors, N negatives. All logarithms, since e^(1 / temperature) passes float16 and, below 0.012, float32.

References:
    Yuan et al., "Provable stochastic optimization for global contrastive learning: small batch does not harm
    performance" (SogCLR), ICML 2022, arXiv:2202.12387; Qiu et al., "Not all semantics are created equal: contrastive
    self-supervised learning with automatic temperature individualization" (iSogCLR), ICML 2023, arXiv:2305.11965.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.objectives.infonce import PairSet

__all__ = ["log_mean_negative", "running_contrast", "temperature_gradient"]

_MOST = 60.0  # of an exponent: an estimate that far below its batch says nothing more


def log_mean_negative(pairs: PairSet, temperature_A: Tensor) -> Tensor:
    """Return log g, the logarithm of the mean of e^(s / t) over an anchor's negatives, detached, (A,).

    -inf where none counts.

    Args:
        pairs: Anchors, positives, negatives.
        temperature_A: t of each anchor.
    """
    score, log_weight = _scaled(pairs, temperature_A)
    return torch.logsumexp(score + log_weight, dim=1) - torch.logsumexp(log_weight, dim=1).nan_to_num(neginf=0.0)


def running_contrast(pairs: PairSet, temperature_A: Tensor, log_u_A: Tensor) -> Tensor:
    """Return each anchor's loss, float32, (A,): -s+ + mean over negatives of p s, p = e^(s / t) / u without a gradient.

    Its gradient is that of t log E e^((s - s+) / t) where u is the expectation; its value is no loss to compare by.
    With u the mean of the batch itself it is t times that of DCL. 0 without a gradient where no negative counts.

    Args:
        pairs: Anchors, positives, negatives.
        temperature_A: t of each anchor, above 0.
        log_u_A: log u, the estimate of each anchor's mean.
    """
    attract, repel = pairs.cosines
    share = _shares(pairs, temperature_A, log_u_A)
    some = (pairs.counted > 0).any(dim=1)
    return ((share * repel).sum(dim=1) - attract.mean(dim=1)) * some


def temperature_gradient(pairs: PairSet, temperature_A: Tensor, log_u_A: Tensor, *, rho: float) -> Tensor:
    """Return the derivative of t log E e^((s - s+) / t) + t rho by t, detached, (A,): log u + rho - mean of p s / t.

    Args:
        pairs: Anchors, positives, negatives.
        temperature_A: t of each anchor.
        log_u_A: log u, the estimate of each anchor's mean.
        rho: How far, as a divergence, the weights of negatives may lie from even ones: the larger, the lower
            temperatures go.
    """
    repel = pairs.cosines[1].detach()
    share = _shares(pairs, temperature_A, log_u_A)
    return log_u_A + rho - (share * repel).sum(dim=1) / temperature_A


def _shares(pairs: PairSet, temperature_A: Tensor, log_u_A: Tensor) -> Tensor:
    """Return p of each negative over their number, detached, (A, N)."""
    score, log_weight = _scaled(pairs, temperature_A)
    number = torch.logsumexp(log_weight, dim=1, keepdim=True).nan_to_num(neginf=0.0)
    return ((score - log_u_A[:, None]).clamp(max=_MOST) + log_weight - number).exp()


def _scaled(pairs: PairSet, temperature_A: Tensor) -> tuple[Tensor, Tensor]:
    """Return s / t, and the logarithm of how much each negative counts, -inf where not; detached, (A, N)."""
    return pairs.cosines[1].detach() / temperature_A[:, None], pairs.weight.log()
