"""Spatial augmentation of a whole batch on its device: flips, quarter turns, and one small affine an item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.randomness import Stream
from medssl.views.settings.spatial import SpatialSettings

__all__ = ["SpatialParams", "SpatialSettings", "apply_spatial", "sample_spatial"]


@dataclass(frozen=True)
class SpatialParams:
    """One row an item: ``flip`` bool (N, 3), ``turns`` int64 (N,), ``affine`` float32 (N, 3, 4) or None.

    The affine maps output to input places in the coordinates of ``grid_sample``, (x, y, z) in [-1, 1].
    """

    flip: Tensor
    turns: Tensor
    affine: Tensor | None


def sample_spatial(
    settings: SpatialSettings,
    stream: Stream,
    *,
    shape: tuple[int, int, int],
    count: int = 1,
    spacing_mm: Tensor | None = None,
) -> SpatialParams:
    """Draw parameters for ``count`` views of each item.

    Args:
        settings: Ranges.
        stream: One stream an item.
        shape: Size of the views, (z, y, x).
        count: Views an item; row i * count + k belongs to view k of item i.
        spacing_mm: Voxel size of each item, (items, 3) as (z, y, x), so that rotations are rigid
            in mm, and stay in the plane of thick slices. None takes cubic voxels.

    Returns:
        Parameters with N = len(stream) * count rows.
    """
    rows = len(stream) * count
    flip = stream.uniform(count, 3).reshape(rows, 3) < torch.tensor(settings.flip)
    turns = stream.integers(1, 4, count).reshape(rows)
    turns = torch.where(stream.chance(settings.quarter_turn, count).reshape(rows), turns, torch.zeros_like(turns))
    still = settings.rotate_degrees == (0.0, 0.0, 0.0) and settings.scale == (1.0, 1.0) and settings.translate == 0
    if still:
        return SpatialParams(flip, turns, None)
    moved = stream.chance(settings.probability, count).reshape(rows)
    limit = torch.tensor(settings.rotate_degrees) * (math.pi / 180)
    angles = stream.uniform(count, 3, low=-1.0, high=1.0).reshape(rows, 3) * limit * moved[:, None]
    turnable = _turnable(shape, spacing_mm, settings.thick)
    angles = angles * (turnable if spacing_mm is None else turnable.repeat_interleave(count, dim=0))
    zoom = stream.uniform(count, low=settings.scale[0], high=settings.scale[1]).reshape(rows)
    zoom = torch.where(moved, zoom, torch.ones_like(zoom))
    shift = stream.uniform(count, 3, low=-1.0, high=1.0).reshape(rows, 3) * settings.translate * moved[:, None]
    half_xyz = torch.tensor([[max(n - 1, 1) for n in shape[::-1]]], dtype=torch.float32)
    if spacing_mm is not None:
        half_xyz = (half_xyz * spacing_mm.cpu().flip(1)).repeat_interleave(count, dim=0)
    rotation = _rotation_xyz(angles) / zoom[:, None, None]
    matrix = rotation * half_xyz[:, None, :] / half_xyz[:, :, None]
    return SpatialParams(flip, turns, torch.cat([matrix, shift[:, :, None]], dim=2))


def apply_spatial(
    images: Tensor, params: SpatialParams, *, labels: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Apply parameters to images and, exactly alike, to their labels.

    Args:
        images: (N, C, z, y, x), float.
        params: N rows.
        labels: (N, z, y, x), integral, or None. Places that come from outside the window become -1.

    Returns:
        The changed images (outside is filled with the nearest voxel) and labels.
    """
    device = images.device
    if params.affine is not None:
        images, labels = _resample(images, params.affine.to(device), labels)
    stacked = images if labels is None else torch.cat([images, labels[:, None].to(images.dtype)], dim=1)
    for axis in range(3):
        chosen = params.flip[:, axis].to(device)
        if bool(params.flip[:, axis].any()):
            stacked = torch.where(chosen.view(-1, 1, 1, 1, 1), stacked.flip(2 + axis), stacked)
    if bool((params.turns > 0).any()):
        if stacked.shape[3] != stacked.shape[4]:
            raise ValueError(f"Quarter turns need square y-x planes. Got {tuple(stacked.shape[3:])}.")
        for turn in (1, 2, 3):
            chosen = (params.turns == turn).to(device).view(-1, 1, 1, 1, 1)
            stacked = torch.where(chosen, torch.rot90(stacked, turn, dims=(3, 4)), stacked)
    if labels is None:
        return stacked, None
    return stacked[:, :-1], stacked[:, -1].round().to(labels.dtype)


def _turnable(shape: tuple[int, int, int], spacing_mm: Tensor | None, thick: float) -> Tensor:
    """Return about which axes (z, y, x) items may turn, (1 or items, 3): not across a single slice or thick ones.

    Turning across it would draw from slices that are not there, or mix those that are far apart (nnU-Net's "dummy 2D").
    """
    spacing = torch.ones(1, 3) if spacing_mm is None else spacing_mm.cpu().float()
    others = [[1, 2], [0, 2], [0, 1]]
    across = torch.stack(
        [
            torch.full((len(spacing),), shape[axis] == 1) | (spacing[:, axis] > thick * spacing[:, pair].amax(dim=1))
            for axis, pair in enumerate(others)
        ],
        dim=1,
    )
    return torch.stack([~across[:, pair].any(dim=1) for pair in others], dim=1)


def _rotation_xyz(angles_zyx: Tensor) -> Tensor:
    """Rotation matrices on (x, y, z) columns from angles about z, y, x, (N, 3) radians -> (N, 3, 3)."""
    about_z, about_y, about_x = angles_zyx.unbind(1)
    zero, one = torch.zeros_like(about_z), torch.ones_like(about_z)

    def matrix(rows: list[Tensor]) -> Tensor:
        return torch.stack(rows, dim=1).view(-1, 3, 3)

    cz, sz, cy, sy, cx, sx = (f(a) for a in (about_z, about_y, about_x) for f in (torch.cos, torch.sin))
    turn_z = matrix([cz, -sz, zero, sz, cz, zero, zero, zero, one])
    turn_y = matrix([cy, zero, sy, zero, one, zero, -sy, zero, cy])
    turn_x = matrix([one, zero, zero, zero, cx, -sx, zero, sx, cx])
    return turn_z @ turn_y @ turn_x


def _places(affine: Tensor, shape: Sequence[int]) -> Tensor:
    """Return where each voxel is drawn from, (N, z, y, x, 3): ``F.affine_grid``, which warns of axes of one voxel."""
    ends = [
        torch.linspace(-1, 1, n, device=affine.device) if n > 1 else torch.zeros(1, device=affine.device) for n in shape
    ]
    z, y, x = torch.meshgrid(*ends, indexing="ij")
    grid = torch.stack([x, y, z, torch.ones_like(x)], dim=-1).view(1, -1, 4).expand(len(affine), -1, 4)
    return grid.bmm(affine.transpose(1, 2)).view(len(affine), *shape, 3)


def _resample(images: Tensor, affine: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    places = _places(affine, images.shape[2:])
    moved = F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=True)
    if labels is None:
        return moved, None
    # grid_sample fills with zero outside; shifted by one, outside becomes -1, which losses ignore
    shifted = (labels + 1).to(images.dtype)[:, None]
    moved_labels = F.grid_sample(shifted, places, mode="nearest", padding_mode="zeros", align_corners=True)
    return moved, (moved_labels[:, 0].round() - 1).to(labels.dtype)
