"""Whether features have collapsed: how far they spread, and over how many dimensions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["effective_rank", "feature_spread"]


def feature_spread(features_ND: Tensor) -> Tensor:
    """Return sqrt(D) times the mean deviation of the normalised features: 0 when collapsed, about 1 when even.

    Args:
        features_ND: (N, D), any scale; N >= 2.

    Reference:
        Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566, section 4.1.
    """
    normalised = F.normalize(features_ND.float(), dim=-1)
    spread: Tensor = normalised.std(dim=0, unbiased=False).mean() * float(features_ND.shape[1] ** 0.5)
    return spread


def effective_rank(features_ND: Tensor) -> Tensor:
    """Return exp of the entropy of the normalised singular values: 1 when collapsed, at most min(N, D).

    The features are centred first, so that a constant offset does not hide a collapse.

    Args:
        features_ND: (N, D), any scale.

    Reference:
        Roy, Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    centred = features_ND.float() - features_ND.float().mean(dim=0, keepdim=True)
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum().clamp(min=1e-12)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())
