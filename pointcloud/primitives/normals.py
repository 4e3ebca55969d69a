"""Normals of a cloud: the direction in which each point's neighbourhood is thinnest (Hoppe et al. 1992)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medssl.errors import DataError
from pointcloud.primitives.neighbours import nearest

__all__ = ["Normals", "estimate_normals"]


class Normals(NamedTuple):
    """Normals and how curved the surface is.

    Attributes:
        directions: (clouds, points, 3), of length 1.
        variation: (clouds, points), the smallest eigenvalue's share of all three: 0 on a plane, at most 1/3.
    """

    directions: Tensor
    variation: Tensor


@torch.no_grad()
def estimate_normals(points_BN3: Tensor, *, k: int = 16, towards: Tensor | None = None) -> Normals:
    """Return normals from the k nearest points of each, itself among them.

    Args:
        points_BN3: Floating point (clouds, points, 3).
        k: Neighbours; 3 or more.
        towards: A place that the normals point to, (3,) or (clouds, 3), such as the scanner's. By default they point
            away from the mean of the cloud, which is right for shapes that are seen from outside and bulge.

    Raises:
        DataError: Values are not finite, or a cloud has fewer than ``k`` points.
    """
    if k < 3:
        raise DataError(f"k is {k}; a plane needs 3 neighbours or more.")
    index = nearest(points_BN3, points_BN3, k).indices
    clouds, points = points_BN3.shape[:2]
    exact = points_BN3.double()
    around = exact.gather(1, index.reshape(clouds, -1, 1).expand(-1, -1, 3)).reshape(clouds, points, k, 3)
    around = around - around.mean(dim=2, keepdim=True)
    values, vectors = torch.linalg.eigh(around.transpose(2, 3) @ around / k)
    directions = vectors[..., 0]
    if towards is None:
        outwards = exact - exact.mean(dim=1, keepdim=True)
    else:
        outwards = towards.to(exact).expand(clouds, 3)[:, None] - exact
    turned = torch.where((directions * outwards).sum(dim=-1, keepdim=True) < 0, -directions, directions)
    variation = values[..., 0].clamp_min(0) / values.clamp_min(0).sum(dim=-1).clamp_min(1e-300)
    return Normals(turned.to(points_BN3.dtype), variation.to(points_BN3.dtype))
