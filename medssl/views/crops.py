"""Crops cut out of windows: a lattice of base crops and crops at random places, for the whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.randomness import Stream

__all__ = ["body_region", "cut", "lattice_starts", "random_starts"]

Triple = tuple[int, int, int]


def body_region(origin: Tensor, body_box: Tensor, window: Triple, crop: Triple) -> Tensor:
    """Return the part of each window that crops are laid over: the body, widened to hold at least one crop.

    Args:
        origin: First voxel of the window in its scan, (B, 3).
        body_box: First and one-past-last voxel of the body in the scan, (B, 2, 3).
        window: Window size, (z, y, x).
        crop: Crop size, (z, y, x); at most the window's.

    Returns:
        First and one-past-last voxel in the window, float32, (B, 2, 3), inside the window.
    """
    size = torch.tensor(window, dtype=torch.float32, device=origin.device)
    smallest = torch.tensor(crop, dtype=torch.float32, device=origin.device)
    low = (body_box[:, 0] - origin).clamp(min=0.0).minimum(size)
    high = (body_box[:, 1] - origin).clamp(min=0.0).minimum(size)
    high = torch.maximum(low, high)
    lacking = (smallest - (high - low)).clamp(min=0.0)
    low = torch.minimum((low - lacking / 2).clamp(min=0.0), size - smallest)
    high = torch.maximum(high, low + smallest).minimum(size)
    return torch.stack([low.floor(), high.ceil().minimum(size)], dim=1)


def lattice_starts(region: Tensor, grid: Triple, crop: Triple) -> tuple[Tensor, Tensor]:
    """Spread base crops evenly over a region, first and last flush with its faces.

    Where the region is grid * crop voxels long the crops tile it, as in the published method.

    Args:
        region: First and one-past-last voxel, (B, 2, 3).
        grid: Base crops along (z, y, x).
        crop: Crop size, (z, y, x).

    Returns:
        Starts of the base crops, float32, (B, G, 3) with G = prod(grid) in (z, y, x) order, not rounded; and the
        distance between neighbours, (B, 3), one crop where an axis has a single cell. It is at least a quarter of a
        crop, so that neighbours differ; the lattice of a shorter region is then centred and may reach beyond it.
    """
    size = torch.tensor(crop, dtype=torch.float32, device=region.device)
    cells = torch.tensor(grid, dtype=torch.float32, device=region.device)
    room = region[:, 1] - region[:, 0] - size
    pitch = torch.where(cells > 1, (room / (cells - 1).clamp(min=1.0)).maximum(size / 4), size)
    span = pitch * (cells - 1)
    first = region[:, 0] + (room - span) / 2
    steps = torch.cartesian_prod(*(torch.arange(n, device=region.device, dtype=torch.float32) for n in grid))
    steps = steps.reshape(-1, 3)
    return first[:, None] + steps * pitch[:, None], pitch


def random_starts(stream: Stream, first: Tensor, last: Tensor, count: int) -> Tensor:
    """Draw crop starts uniformly between two corners, both included.

    Args:
        stream: One stream an item.
        first: Smallest start, (B, 3).
        last: Largest start, (B, 3).
        count: Crops an item.

    Returns:
        Integral float32 starts, (B, count, 3).
    """
    share = stream.uniform(count, 3).to(first.device)
    low = first.round()[:, None]
    places = (last.round()[:, None] - low).clamp(min=0.0) + 1.0
    return low + torch.minimum((share * places).floor(), places - 1.0)


def cut(windows: Tensor, starts: Tensor, crop: Triple) -> Tensor:
    """Cut crops out of windows with one gather; places outside a window repeat its border.

    Args:
        windows: (B, C, z, y, x).
        starts: First voxels, (B, N, 3); rounded here.
        crop: Crop size, (z, y, x).

    Returns:
        Crops, (B, N, C, *crop).
    """
    batch, number = starts.shape[:2]
    first = starts.round().long()
    index = []
    for axis, (length, extent) in enumerate(zip(crop, windows.shape[2:], strict=True)):
        along = first[:, :, axis, None] + torch.arange(length, device=windows.device)
        shape = [batch, number, 1, 1, 1]
        shape[2 + axis] = length
        index.append(along.clamp(0, extent - 1).view(shape))
    item = torch.arange(batch, device=windows.device).view(batch, 1, 1, 1, 1)
    gathered = windows.permute(0, 2, 3, 4, 1)[item, index[0], index[1], index[2]]
    return gathered.permute(0, 1, 5, 2, 3, 4)
