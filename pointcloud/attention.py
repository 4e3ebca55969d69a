"""Where a transformer of clouds looks: the attention of its last block, brought from patches to points and drawn.

Reference:
    Fu et al. 2022, arXiv:2202.04241, figure of attention maps, after Caron et al. 2021, arXiv:2104.14294.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from medssl.engine.pictures import draw_views
from pointcloud.batch import inside
from pointcloud.encoders.patches import to_points
from pointcloud.encoders.vit import PointViT

__all__ = ["attention_maps", "draw_attention"]


@torch.no_grad()
def attention_maps(encoder: PointViT, points: Tensor, count: Tensor) -> Tensor:
    """Return how much each head of the last block looks at each point, (B, heads, N), in evaluation mode.

    A point has the attention of the most looked-at patch that holds it, as a share of the greatest of its head and
    cloud: 1 where a head looks most, 0 where it never looks, where no patch lies and where padded. It is the class
    token's attention, or where there is none, the mean over all patches'.

    Args:
        encoder: Its mode is left as it was.
        points: float32, (B, N, 3), about the cloud's middle and of a size near 1.
        count: int64, (B,).
    """
    training = encoder.training
    encoder.eval()
    try:
        weights, patches = encoder.attention(points, count)
    finally:
        encoder.train(training)
    heads = weights.shape[1]
    weights = weights.float() * inside(patches.count, weights.shape[2])[:, None]
    members = patches.members.repeat_interleave(heads, dim=0)
    on_points = to_points(weights.flatten(0, 1), members, points.shape[1]).reshape(len(points), heads, -1)
    on_points = on_points * inside(count, points.shape[1])[:, None]
    return on_points / on_points.amax(dim=2, keepdim=True).clamp_min(1e-12)


def draw_attention(encoder: PointViT, points: Tensor, count: Tensor, path: Path) -> None:
    """Draw the clouds, each head's attention in a row and their mean in the first; arguments as in `attention_maps`.

    Args:
        encoder: As above.
        points: The first eight clouds are drawn.
        count: As above.
        path: The PNG file, written aside and renamed.
    """
    maps = attention_maps(encoder, points, count)
    rows = {"attention of the last block, mean over heads": maps.mean(dim=1)}
    rows |= {f"head {head + 1}": maps[:, head] for head in range(maps.shape[1])}
    there = inside(count, points.shape[1])[..., None]
    stacks = {
        name: torch.where(there, torch.cat([points, values[..., None]], dim=-1), torch.nan)
        for name, values in rows.items()
    }
    draw_views(stacks, path)
