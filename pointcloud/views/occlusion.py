"""What of a cloud can be seen from one side: in every pixel the nearest points hide those behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from pointcloud.batch import inside
from pointcloud.views.settings.occlusion import OcclusionSettings

__all__ = ["OcclusionSettings", "occlude"]


def occlude(points: Tensor, count: Tensor, frame: Tensor, settings: OcclusionSettings) -> tuple[Tensor, Tensor]:
    """Keep the points that a camera far away sees, by a depth buffer.

    Args:
        points: float32, (B, N, 3).
        count: int64, (B,).
        frame: Rotations, (B, 3, 3): the camera looks along the third row, from its lower to its higher values.
        settings: How dense.

    Returns:
        What is seen, (B, n, 3), in the order of the points, 0 where padded; and how many, int64, (B,), at least 1.

    Example:
        >>> behind = torch.tensor([[[0.0, 0, 0], [0.0, 0, 1.0], [0.5, 0, 1.0]]])
        >>> seen, number = occlude(behind, torch.tensor([3]), torch.eye(3)[None], OcclusionSettings())
        >>> seen[0].tolist(), number.tolist()
        ([[0.0, 0.0, 0.0], [0.5, 0.0, 1.0]], [2])
    """
    there = inside(count, points.shape[1])
    across = points @ frame.to(points).transpose(-1, -2)
    depth = across[..., 2]
    plane = across[..., :2].masked_fill(~there[..., None], torch.inf)
    pixel = ((across[..., :2] - plane.amin(dim=1, keepdim=True)) / settings.pixel).floor().long().clamp_min(0)
    pixel = torch.where(there[..., None], pixel, 0)
    wide = int(pixel[..., 1].max()) + 1
    number = pixel[..., 0] * wide + pixel[..., 1]
    nearest = torch.full((len(points), int(number.max()) + 1), torch.inf, device=points.device)
    nearest.scatter_reduce_(1, number, depth.masked_fill(~there, torch.inf), reduce="amin")
    seen = there & (depth <= nearest.gather(1, number) + settings.depth)
    kept = seen.sum(dim=1)
    order = (~seen).long().argsort(dim=1, stable=True)[:, : int(kept.max())]
    found = points.gather(1, order[..., None].expand(-1, -1, 3))
    return torch.where(inside(kept, found.shape[1])[..., None], found, 0.0), kept
