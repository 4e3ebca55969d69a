"""What features hold: how far they spread, over how many dimensions, and what their neighbours share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.gathering import mean_of_all, processes

__all__ = ["effective_rank", "feature_spread", "knn_prediction", "view_retrieval"]


def feature_spread(features_ND: Tensor, *, over_all: bool = False) -> Tensor:
    """Return sqrt(D) times the mean deviation of the normalised features: 0 when collapsed, about 1 when even.

    Args:
        features_ND: (N, D), any scale; N >= 2.
        over_all: Whether the rows of all processes count, which must all call it.

    Reference:
        Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566, section 4.1.
    """
    normalised = F.normalize(_wide(features_ND), dim=-1)
    if over_all and processes() > 1:
        deviation = mean_of_all((normalised - mean_of_all(normalised, (0,))).square(), (0,)).sqrt()
    else:
        deviation = normalised.std(dim=0, unbiased=False)
    return deviation.mean() * float(features_ND.shape[1] ** 0.5)


def effective_rank(features_ND: Tensor) -> Tensor:
    """Return exp of the entropy of the normalised singular values: 1 when collapsed, at most min(N, D).

    The features are centred first, so that a constant offset does not hide a collapse. NaN where one is not finite.

    Args:
        features_ND: (N, D), any scale.

    Reference:
        Roy, Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO 2007.
    """
    features = _wide(features_ND)
    centred = features - features.mean(dim=0, keepdim=True)
    singular = torch.linalg.svdvals(torch.nan_to_num(centred, posinf=0.0, neginf=0.0))
    share = singular / singular.sum().clamp(min=1e-12)
    rank = torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())
    return torch.where(torch.isfinite(centred).all(), rank, torch.nan)


def knn_prediction(features_ND: Tensor, target_NT: Tensor, group_N: Tensor, *, neighbours: int = 5) -> Tensor:
    """Predict each row's target as the mean over its nearest rows of other groups, by cosine of the features.

    Nothing is fitted, so it tells what the features themselves hold. They are standardised over the rows first: pooled
    features of a normalising network share a large constant, which would make every cosine nearly 1.

    Args:
        features_ND: (N, D), any scale.
        target_NT: What is predicted, (N, T).
        group_N: Rows of one group (a patient) never predict each other, (N,). At least two groups.
        neighbours: How many, at most; fewer where the other groups have fewer rows.

    Returns:
        Predictions, (N, T), float32.

    Reference:
        Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018,
        arXiv:1805.01978, section 3.4 (there with labels and weights; here a plain mean).
    """
    deviation, mean = torch.std_mean(features_ND.float(), dim=0, unbiased=False)
    normalised = F.normalize((features_ND.float() - mean) / deviation.clamp(min=1e-6), dim=-1)
    same = group_N[:, None] == group_N[None, :]
    similarity = (normalised @ normalised.T).masked_fill(same, float("-inf"))
    near = similarity.topk(min(neighbours, int((~same).sum(dim=1).min())), dim=1).indices
    return target_NT.float()[near].mean(dim=1)


def view_retrieval(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """Return the share of first views whose nearest second view is of the same item; by chance 1 / B.

    By cosine of the features, standardised over all 2 B rows.

    Args:
        first_BD: Features of one view an item, any scale.
        second_BD: Features of the other, in the same order.
    """
    batch = len(first_BD)
    both = torch.cat([first_BD, second_BD]).float()
    deviation, mean = torch.std_mean(both, dim=0, unbiased=False)
    unit = F.normalize((both - mean) / deviation.clamp(min=1e-6), dim=-1)
    found = (unit[:batch] @ unit[batch:].T).argmax(dim=1)
    return (found == torch.arange(batch, device=found.device)).float().mean()


def _wide(features: Tensor) -> Tensor:
    """Return features in float64 where they are, else in float32."""
    return features if features.dtype == torch.float64 else features.float()
