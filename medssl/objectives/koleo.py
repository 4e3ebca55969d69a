"""KoLeo: push each row away from its nearest neighbour, so that features spread evenly over the sphere.

Reference:
    Sablayrolles et al., "Spreading vectors for similarity search", ICLR 2019, arXiv:1806.03198; used in DINOv2
    (Oquab et al. 2023, arXiv:2304.07193).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["koleo"]


def koleo(features_ND: Tensor, *, epsilon: float = 1e-8) -> Tensor:
    """Return -mean log(distance to the nearest other row + epsilon) of the normalised rows, float32 scalar.

    Args:
        features_ND: (N, D), any scale; 0 for a single row.
        epsilon: Keeps the logarithm of equal rows finite.
    """
    with torch.autocast(features_ND.device.type, enabled=False):
        rows = F.normalize(features_ND.float(), dim=-1)
        if rows.shape[0] < 2:
            return (rows * 0.0).sum()
        with torch.no_grad():
            cosine = rows @ rows.T
            nearest = cosine.fill_diagonal_(-2.0).argmax(dim=1)
        distance = F.pairwise_distance(rows, rows[nearest], eps=epsilon)
        return -torch.log(distance + epsilon).mean()
