"""Where an encoder looks: places spread over a cloud, and the points around each."""

from __future__ import annotations

import torch
from torch import Tensor

from pointcloud.batch import inside
from pointcloud.primitives.farthest import farthest_points
from pointcloud.primitives.neighbours import within

__all__ = ["neighbours_of", "rows_at", "spread_places", "to_points"]

_EVERYWHERE = 1e6  # farther than any point of a cloud in its unit sphere


@torch.no_grad()
def spread_places(points_BN3: Tensor, count: Tensor, wanted: Tensor) -> Tensor:
    """Return points spread evenly over each cloud, by farthest-point sampling.

    The first is the point farthest from the cloud's mean, so that the order of the points does not matter.

    Args:
        points_BN3: float32, (B, N, 3).
        count: int64, (B,), points of each cloud.
        wanted: int64, (B,), how many of each; those after them repeat and are padding.

    Returns:
        int64, (B, largest of wanted), rows of the points.
    """
    there = inside(count, points_BN3.shape[1])
    exact = torch.where(there[..., None], points_BN3, 0.0).double()
    mean = exact.sum(dim=1, keepdim=True) / count[:, None, None]
    away = (exact - mean).square().sum(dim=-1).masked_fill(~there, -1.0)
    most = int(wanted.max())
    return farthest_points(points_BN3.float(), most, start=away.argmax(dim=1), lengths=count, beyond="repeat")


@torch.no_grad()
def neighbours_of(
    places_BT3: Tensor, points_BN3: Tensor, count: Tensor, k: int, *, radius: float = _EVERYWHERE
) -> Tensor:
    """Return the k points nearest to each place, those within ``radius``; where there are fewer, the nearest repeats.

    Args:
        places_BT3: float32, (B, T, 3), points of the cloud.
        points_BN3: float32, (B, N, 3).
        count: int64, (B,), points of each cloud.
        k: How many.
        radius: Greatest distance.

    Returns:
        int64, (B, T, k), rows of the points, nearest first.
    """
    found = within(places_BT3.float(), points_BN3.float(), radius, at_most=k, lengths=count).indices
    return torch.where(found < 0, found[..., :1].clamp_min(0), found)


def rows_at(values_BNC: Tensor, index: Tensor) -> Tensor:
    """Return rows of each cloud, (B, ..., C), at (B, ...) indices of (B, N, C)."""
    flat = index.reshape(len(index), -1, 1).expand(-1, -1, values_BNC.shape[-1])
    return values_BNC.gather(1, flat).reshape(*index.shape, values_BNC.shape[-1])


def to_points(values_BT: Tensor, members: Tensor, length: int) -> Tensor:
    """Return for each point the greatest value among the patches that hold it; 0 where none does.

    Args:
        values_BT: A number for each patch, (B, T); of a padded one the least that occurs.
        members: int64, (B, T, patch), rows of the points of each patch.
        length: N, points of the longest cloud.

    Returns:
        float32, (B, N).
    """
    found = torch.zeros(len(values_BT), length, device=members.device)
    spread = values_BT[..., None].expand_as(members).flatten(1).to(found)
    return found.scatter_reduce_(1, members.flatten(1), spread, reduce="amax", include_self=False)
