"""Agreement without negatives, kept from collapse by statistics over the batch: Barlow Twins and VICReg.

References:
    Zbontar et al., "Barlow Twins: self-supervised learning via redundancy reduction", ICML 2021, arXiv:2103.03230;
    Bardes, Ponce, LeCun, "VICReg: variance-invariance-covariance regularization", ICLR 2022, arXiv:2105.04906.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["barlow_twins", "vicreg"]

_EPS = 1e-5  # of batch normalisation, as in the authors' code


def barlow_twins(first_ND: Tensor, second_ND: Tensor, *, off_diagonal: float = 0.0051) -> Tensor:
    """Return sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, with C the cross-correlation over the batch.

    Args:
        first_ND: Features of one view, (N, D); N >= 2, or there is no correlation and the loss is 0.
        second_ND: Features of the other.
        off_diagonal: lambda.

    Returns:
        Scalar, float32.
    """
    rows = first_ND.shape[0]
    with torch.autocast(first_ND.device.type, enabled=False):
        first, second = (_standardised(features.float()) for features in (first_ND, second_ND))
        if rows < 2:
            return (first * 0.0).sum()
        correlation = first.T @ second / rows
        diagonal = correlation.diagonal()
        rest = correlation.pow(2).sum() - diagonal.pow(2).sum()
        return (1.0 - diagonal).pow(2).sum() + off_diagonal * rest


def vicreg(
    first_ND: Tensor,
    second_ND: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> dict[str, Tensor]:
    """Return the three weighted parts of VICReg, float32 scalars; the loss is their sum.

    Invariance is the mean squared difference; variance the mean over features of max(0, 1 - sqrt(var + 1e-4)), half
    of the sum over both views; covariance the squared off-diagonal covariances over D, summed over both views. With a
    single row the last two are 0.

    Args:
        first_ND: Features of one view, (N, D), not normalised.
        second_ND: Features of the other.
        invariance: Weight.
        variance: Weight.
        covariance: Weight.
    """
    with torch.autocast(first_ND.device.type, enabled=False):
        first, second = first_ND.float(), second_ND.float()
        parts = {"invariance": invariance * F.mse_loss(first, second)}
        spread = [_hinge(features) for features in (first, second)]
        parts["variance"] = variance * (spread[0] + spread[1]) / 2
        parts["covariance"] = covariance * (_covariance(first) + _covariance(second))
        return parts


def _standardised(features: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(features, dim=0, unbiased=False)
    return (features - mean) / (deviation**2 + _EPS).sqrt()


def _hinge(features: Tensor) -> Tensor:
    if features.shape[0] < 2:
        return features.new_zeros(())
    return F.relu(1.0 - (features.var(dim=0) + 1e-4).sqrt()).mean()


def _covariance(features: Tensor) -> Tensor:
    rows, width = features.shape
    if rows < 2:
        return features.new_zeros(())
    centred = features - features.mean(dim=0)
    matrix = centred.T @ centred / (rows - 1)
    return (matrix.pow(2).sum() - matrix.diagonal().pow(2).sum()) / width
