"""Agreement of two views without negatives: the cosine of BYOL and SimSiam.

References:
    Grill et al., "Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733; Chen, He, "Exploring simple Siamese
    representation learning", CVPR 2021, arXiv:2011.10566.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.gathering import mean_of_all

__all__ = ["cosine_distance"]


def cosine_distance(predicted_ND: Tensor, target_ND: Tensor) -> Tensor:
    """Return the mean of 2 - 2 cos over all rows, float32 scalar in [0, 4]; no gradient reaches the target.

    Rows are those of all processes. It is BYOL's squared distance of normalised vectors, and 2 + 2 x SimSiam's negative
    cosine.

    Args:
        predicted_ND: What the predictor gives, (N, D).
        target_ND: What it should be, (N, D); detached here.

    Example:
        >>> one_way = torch.tensor([[1.0, 0.0]])
        >>> float(cosine_distance(one_way, 3 * one_way)), float(cosine_distance(one_way, -one_way))
        (0.0, 4.0)
    """
    with torch.autocast(predicted_ND.device.type, enabled=False):
        predicted = F.normalize(predicted_ND.float(), dim=-1)
        target = F.normalize(target_ND.detach().float(), dim=-1)
        return mean_of_all(2.0 - 2.0 * (predicted * target).sum(dim=-1))
