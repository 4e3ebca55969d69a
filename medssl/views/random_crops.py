"""Random crops of windows, each augmented by itself: the views of contrast and distillation."""

from __future__ import annotations

import torch
from torch import Tensor

from medssl.randomness import Stream
from medssl.views.crops import cut, random_starts
from medssl.views.intensity import IntensitySettings, apply_intensity, sample_intensity
from medssl.views.spatial import SpatialSettings, apply_spatial, sample_spatial
from medssl.windows import WindowBatch

__all__ = ["random_crops"]

Triple = tuple[int, int, int]


def random_crops(
    batch: WindowBatch,
    stream: Stream,
    *,
    size: Triple,
    count: int,
    spatial: SpatialSettings,
    intensity: IntensitySettings,
) -> Tensor:
    """Cut ``count`` crops at uniformly drawn places out of each window and augment each with draws of its own.

    Geometry is shared by the channels of a crop; intensity is each channel's own. Channels that a crop does not show
    are 0. Zoom is the ``scale`` of the spatial settings, so a crop is a random resized one; a crop and its window may
    have a single voxel along an axis (slices).

    Args:
        batch: B windows, at least as large as the crops.
        stream: One stream an item.
        size: Crop size, (z, y, x).
        count: V.
        spatial: Flips, turns, rotation, zoom.
        intensity: Changes of intensity.

    Returns:
        float32, (B, V, C, z, y, x).
    """
    windows = batch.network_input()
    extent = torch.tensor(windows.shape[2:], dtype=torch.float32, device=windows.device)
    room = extent - torch.tensor(size, dtype=torch.float32, device=windows.device)
    starts = random_starts(stream, torch.zeros_like(room).expand(len(batch), 3), room.expand(len(batch), 3), count)
    crops = cut(windows, starts, size).flatten(0, 1)
    params = sample_spatial(spatial, stream, shape=size, count=count, spacing_mm=batch.spacing_mm)
    crops, _ = apply_spatial(crops, params)
    drawn = sample_intensity(intensity, stream, count=count, channels=batch.channels)
    crops = apply_intensity(crops, drawn, shown=batch.shown(count), unit=batch.unit(count))
    return crops.view(len(batch), count, *crops.shape[1:])
