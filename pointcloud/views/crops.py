"""Crops of clouds: the points nearest to one of them, in a ball or in a turned box, each crop with its own number.

References:
    Fu et al. 2022, arXiv:2202.04241 (balls; the crop is filled up by interpolation to one size);
    Abou Zeid et al., AsymDSD, NeurIPS 2025 (boxes of any direction and proportions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.randomness import Stream
from pointcloud.batch import inside
from pointcloud.primitives.neighbours import nearest
from pointcloud.views.settings.crops import CropSettings
from pointcloud.views.spatial import random_rotation

__all__ = ["CropParams", "CropSettings", "apply_crops", "fill_by_interpolation", "sample_crops"]

_FILL_NEIGHBOURS = 4


@dataclass(frozen=True)
class CropParams:
    """Draws for V crops of each of B clouds.

    Attributes:
        place: (B, V), in [0, 1): which point is the middle.
        share: (B, V), of the points.
        frame: (B, V, 3, 3), rows are the sides of the box, each divided by its proportion; None for balls.
    """

    place: Tensor
    share: Tensor
    frame: Tensor | None


def sample_crops(settings: CropSettings, stream: Stream) -> CropParams:
    """Draw the crops of each item of the stream."""
    number = settings.number
    low, high = settings.share
    share = low + (high - low) * stream.uniform(number)
    place, frame = stream.uniform(number), None
    if settings.shape == "box":
        widest = math.log(settings.aspect)
        proportion = torch.exp(stream.uniform(number, 3, low=-widest, high=widest))
        frame = random_rotation(stream, "any", number) / proportion[..., None]
    return CropParams(place, share, frame)


def apply_crops(points: Tensor, count: Tensor, params: CropParams) -> tuple[Tensor, Tensor]:
    """Cut the crops.

    Args:
        points: float32, (B, N, 3).
        count: int64, (B,).
        params: Draws for B clouds.

    Returns:
        The crops, (B, V, n, 3), nearest point first, 0 where padded; and their numbers of points, int64, (B, V): each
        ceil(share * count).
    """
    place, share = params.place.to(points.device), params.share.to(points.device)
    there = inside(count, points.shape[1])
    middle_row = (place * count[:, None]).long().clamp_max(count[:, None] - 1)
    middle = points.gather(1, middle_row[..., None].expand(-1, -1, 3))
    apart = points[:, None] - middle[:, :, None]
    if params.frame is None:
        distance = apart.square().sum(dim=-1)
    else:
        distance = (apart @ params.frame.to(points.device).transpose(-1, -2)).abs().amax(dim=-1)
    kept = _kept(share, count[:, None])
    most = int(kept.max())
    near = distance.masked_fill(~there[:, None], torch.inf).topk(most, dim=-1, largest=False, sorted=True).indices
    crops = points[:, None].expand(-1, place.shape[1], -1, -1).gather(2, near[..., None].expand(-1, -1, -1, 3))
    there = torch.arange(most, device=kept.device) < kept[..., None]
    return torch.where(there[..., None], crops, 0.0), kept


def fill_by_interpolation(points: Tensor, count: Tensor, length: int, keys: Tensor) -> Tensor:
    """Fill crops up to one number of points, as was published: with means of a point and its three nearest.

    In each round points are chosen by their ``keys``, each at most once, and the mean of the four nearest to each
    (itself among them) is added to the cloud. Crops so filled can be distinguished by size alone, which masks avoid.

    Args:
        points: float32, (C, n, 3).
        count: int64, (C,).
        length: Points of every crop afterwards.
        keys: (C, length), random numbers.

    Returns:
        (C, length, 3).
    """
    filled = []
    for cloud, there, key in zip(points, count.tolist(), keys.to(points.device), strict=True):
        rows = cloud[:there]
        while len(rows) < length:
            missing = min(length - len(rows), len(rows))
            chosen = rows[key[: len(rows)].argsort()[:missing]]
            near = nearest(chosen[None], rows[None], min(_FILL_NEIGHBOURS, len(rows))).indices[0]
            rows = torch.cat([rows, rows[near].mean(dim=1)])
        filled.append(rows[:length])
    return torch.stack(filled)


def _kept(share: Tensor, count: Tensor) -> Tensor:
    # In float64, and a hair below, so that 0.5 of 8 is 4 and not 5 by rounding.
    return torch.ceil(share.double() * count.double() - 1e-6).long().clamp_min(1)
