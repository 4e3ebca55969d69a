"""Two crops of a window that share a part of it, and maps of both brought onto that part.

Reference:
    Wen, Zhao, Zheng, Zhang, Qi, "Self-supervised visual representation learning with semantic grouping" (SlotCon),
    NeurIPS 2022, arXiv:2205.15288, for two axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.randomness import Stream
from medssl.views.intensity import IntensitySettings, apply_intensity, sample_intensity
from medssl.windows import WindowBatch

__all__ = ["OverlappingCrops", "aligned", "overlapping_crops"]

Triple = tuple[int, int, int]
_TRIES = 10  # second regions that are drawn; the first that overlaps enough is taken


@dataclass(frozen=True)
class OverlappingCrops:
    """Two views of each of B windows.

    Attributes:
        crops: float32, (B, 2, C, z, y, x).
        boxes: First and last corner of what both show, float32, (B, 2, 2, 3): as shares of each view as it is shown,
            in [0, 1], (z, y, x).
        flips: Which axes of a view are flipped, bool, (B, 2, 3).
    """

    crops: Tensor
    boxes: Tensor
    flips: Tensor


def overlapping_crops(
    batch: WindowBatch,
    stream: Stream,
    *,
    size: Triple,
    edge: tuple[float, float],
    least: float,
    flip: tuple[float, float, float],
    intensity: IntensitySettings,
) -> OverlappingCrops:
    """Cut two regions out of each window, resize, flip and change each by draws of its own.

    The second region is the first of ten draws that shares ``least`` of its volume with the first region. Where none
    does, the last draw is moved to the middle of the first region, as far as the window allows.

    Args:
        batch: B windows, at least as large as the crops.
        stream: One stream an item.
        size: Crop size, (z, y, x).
        edge: Range of a region's edge in crop edges; 1 keeps the voxel size. A region is at most the window.
        least: Share of the second region that the first must cover.
        flip: Probability of a flip along z, y, x.
        intensity: Changes of intensity.
    """
    windows = batch.network_input()
    extent = torch.tensor(windows.shape[2:], dtype=torch.float32)
    first = _regions(stream, extent, size, edge, 1)
    others = _regions(stream, extent, size, edge, _TRIES)
    second = _overlapping(first[:, 0], others, least, extent)
    regions = torch.stack([first[:, 0], second], dim=1)  # (B, 2, 2, 3): start, length
    shown = _resized(windows, regions.to(windows.device), size)
    flips = stream.uniform(2, 3) < torch.tensor(flip)
    for axis in range(3):
        turned = flips[:, :, axis].to(windows.device)
        if bool(flips[:, :, axis].any()):
            shown = torch.where(turned[:, :, None, None, None, None], shown.flip(3 + axis), shown)
    drawn = sample_intensity(intensity, stream, count=2, channels=batch.channels)
    changed = apply_intensity(shown.flatten(0, 1), drawn, shown=batch.shown(2), unit=batch.unit(2))
    boxes = _shared(regions)
    boxes = torch.where(flips[:, :, None], 1.0 - boxes.flip(2), boxes)
    return OverlappingCrops(changed.view_as(shown), boxes.to(windows.device), flips.to(windows.device))


def aligned(maps: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Return maps of views on the part that both views show, in the scan's own direction.

    The box is divided into as many cells as the map has, and each takes the map's value at its middle, trilinear: RoI
    align (He et al., 2017, arXiv:1703.06870), whose cells hold one sample where they are no larger than a place.

    Args:
        maps: (N, K, z', y', x').
        boxes: (N, 2, 3), as of `OverlappingCrops`.
        flips: (N, 3).

    Returns:
        float32, of the shape of ``maps``.
    """
    steps = [(torch.arange(n, device=maps.device) + 0.5) / n for n in maps.shape[2:]]
    along = []
    for axis, middle in enumerate(steps):
        low, high = boxes[:, 0, axis, None], boxes[:, 1, axis, None]
        share = torch.where(flips[:, axis, None], middle.flip(0), middle)  # the order undoes the flip
        along.append(low + (high - low) * share)
    return _sampled(maps.float(), along)


def _sampled(images: Tensor, along: Sequence[Tensor]) -> Tensor:
    """Return images at places that are given along each axis, (N, places) each, as shares of the image."""
    z, y, x = (2 * share - 1 for share in along)
    shape = (len(images), z.shape[1], y.shape[1], x.shape[1])
    grid = torch.stack(
        [
            x[:, None, None, :].expand(shape),
            y[:, None, :, None].expand(shape),
            z[:, :, None, None].expand(shape),
        ],
        dim=-1,
    )
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _regions(stream: Stream, extent: Tensor, size: Triple, edge: tuple[float, float], count: int) -> Tensor:
    """Draw regions of a window in whole voxels: start and length, (B, count, 2, 3)."""
    factor = stream.uniform(count, 1, low=edge[0], high=edge[1])
    length = (factor * torch.tensor(size)).round().clamp(min=1.0).minimum(extent)
    places = extent - length + 1.0
    start = torch.minimum((stream.uniform(count, 3) * places).floor(), places - 1.0)
    return torch.stack([start, length], dim=2)


def _common(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return first and last corner of what two sets of regions share; a last corner may lie before the first."""
    low = torch.maximum(first[..., 0, :], second[..., 0, :])
    return low, torch.minimum(first.sum(dim=-2), second.sum(dim=-2))


def _overlapping(first: Tensor, others: Tensor, least: float, extent: Tensor) -> Tensor:
    """Return of several second regions the first that overlaps enough, (B, 2, 3)."""
    low, high = _common(first[:, None], others)
    shared = (high - low).clamp(min=0.0).prod(dim=-1)
    enough = (shared > 0) & (shared >= least * others[..., 1, :].prod(dim=-1))
    number = torch.where(enough.any(dim=1), enough.int().argmax(dim=1), torch.full_like(enough[:, 0].int(), -1))
    chosen = others[torch.arange(len(others)), number]
    length = chosen[:, 1]
    middle = (first[:, 0] + (first[:, 1] - length) / 2).floor().clamp(min=0.0).minimum(extent - length)
    start = torch.where((number < 0)[:, None], middle, chosen[:, 0])
    return torch.stack([start, length], dim=1)


def _shared(regions: Tensor) -> Tensor:
    """Return the corners of what both regions share as shares of each, (B, 2, 2, 3)."""
    low, high = _common(regions[:, 0], regions[:, 1])
    corners = torch.stack([low, high], dim=1)[:, None]
    return (corners - regions[:, :, :1]) / regions[:, :, 1:]


def _resized(windows: Tensor, regions: Tensor, size: Triple) -> Tensor:
    """Return regions of windows at the size of a crop, (B, V, C, *size); trilinear, exact where the size is kept."""
    views = regions.shape[1]
    start, length = regions.flatten(0, 1).unbind(1)
    along = []
    for axis, n in enumerate(size):
        middle = (torch.arange(n, device=windows.device) + 0.5) / n
        along.append((start[:, axis, None] + length[:, axis, None] * middle) / windows.shape[2 + axis])
    found = _sampled(windows.repeat_interleave(views, dim=0).float(), along)
    return found.view(len(windows), views, *found.shape[1:])
