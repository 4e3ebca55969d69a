"""Turning, stretching, moving, shaking and thinning clouds: ``sample_*`` draws, ``apply_spatial`` acts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.randomness import Stream
from pointcloud.batch import inside
from pointcloud.views.settings.spatial import SpatialSettings

__all__ = [
    "SpatialParams",
    "SpatialSettings",
    "apply_spatial",
    "random_rotation",
    "sample_spatial",
]


@dataclass(frozen=True)
class SpatialParams:
    """Draws for B clouds (or B clouds of V views each, all with a second axis V).

    Attributes:
        matrix: (B, ..., 3, 3), rotation and stretching, applied as ``matrix @ point``.
        shift: (B, ..., 3).
        noise: (B, ..., length, 3), or None.
        kept: Share of the points that stays, (B, ...), or None.
        order: (B, ..., length), numbers by which the points that stay are chosen, or None.
    """

    matrix: Tensor
    shift: Tensor
    noise: Tensor | None
    kept: Tensor | None
    order: Tensor | None

    def to(self, device: torch.device) -> SpatialParams:
        """Return the draws on ``device``."""
        moved = (None if v is None else v.to(device) for v in (self.noise, self.kept, self.order))
        return SpatialParams(self.matrix.to(device), self.shift.to(device), *moved)


def sample_spatial(
    settings: SpatialSettings, stream: Stream, *, length: int, views: int | None = None
) -> SpatialParams:
    """Draw parameters.

    Args:
        settings: How much.
        stream: One stream a cloud.
        length: Most points that a cloud of any batch may have: draws must not depend on the other clouds.
        views: Views of each cloud; None draws one set a cloud, without the axis.
    """
    some = () if views is None else (views,)
    low, high = (math.log(value) for value in settings.scale)
    # Evenly in the logarithm, so that a cloud is as often halved as doubled.
    factor = torch.exp(stream.uniform(*some, 3 if settings.by_axis else 1, low=low, high=high)).expand(-1, *some, 3)
    turned = random_rotation(stream, settings.rotate, *some)
    shift = stream.uniform(*some, 3, low=-1.0, high=1.0) * settings.translate
    noise = kept = order = None
    if settings.jitter:
        noise = (stream.normal(*some, length, 3) * settings.jitter).clamp_(-settings.jitter_clip, settings.jitter_clip)
    if settings.dropout:
        kept = 1.0 - stream.uniform(*some) * settings.dropout
        order = stream.uniform(*some, length)
    return SpatialParams(factor[..., None] * turned, shift, noise, kept, order)


def apply_spatial(points: Tensor, count: Tensor, params: SpatialParams) -> tuple[Tensor, Tensor]:
    """Leave points out, shake the rest, turn and stretch, then move.

    Args:
        points: float32, (B, ..., N, 3); N at most the ``length`` of the draws.
        count: int64, (B, ...).
        params: Draws, of the same leading axes.

    Returns:
        New points, 0 where padded, and new counts.
    """
    params, length = params.to(points.device), points.shape[-2]
    if params.kept is not None and params.order is not None:
        there = _inside(count, length)
        order = params.order[..., :length].masked_fill(~there, torch.inf).argsort(dim=-1)
        points = points.gather(-2, order[..., None].expand_as(points))
        count = torch.ceil(params.kept * count).long().clamp_min(1)
    if params.noise is not None:
        points = points + params.noise[..., :length, :]
    points = points @ params.matrix.transpose(-1, -2) + params.shift[..., None, :]
    return torch.where(_inside(count, length)[..., None], points, 0.0), count


def random_rotation(stream: Stream, kind: str, *shape: int) -> Tensor:
    """Draw rotation matrices, (items, *shape, 3, 3).

    Args:
        stream: One stream an item.
        kind: "none", "z" (about the z axis) or "any" (all rotations as likely: a normal quaternion of length 1).
        shape: Matrices an item.
    """
    if kind == "none":
        return torch.eye(3).expand(len(stream), *shape, 3, 3)
    if kind == "z":
        angle = stream.uniform(*shape, high=2 * math.pi)
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        rows = [torch.cos(angle), -torch.sin(angle), zero, torch.sin(angle), torch.cos(angle), zero, zero, zero, one]
        return torch.stack(rows, dim=-1).reshape(*angle.shape, 3, 3)
    w, x, y, z = torch.nn.functional.normalize(stream.normal(*shape, 4), dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - z * w),
        2 * (x * z + y * w),
        2 * (x * y + z * w),
        1 - 2 * (x * x + z * z),
        2 * (y * z - x * w),
        2 * (x * z - y * w),
        2 * (y * z + x * w),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).reshape(*w.shape, 3, 3)


def _inside(count: Tensor, length: int) -> Tensor:
    return inside(count.reshape(-1), length).reshape(*count.shape, length)
