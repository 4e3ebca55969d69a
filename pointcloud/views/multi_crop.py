"""Many views of each cloud: large crops, small crops, and the whole cloud with fewer points.

Reference:
    Fu et al., "Distillation with Contrast is All You Need for Self-Supervised Point Cloud Representation Learning",
    2022, arXiv:2202.04241, and the code of its successor POS-BERT (shares, factors, filling, thinned clouds).

Differs from that code: noise is drawn after a crop is cut, not before; factors of size are drawn evenly in the
logarithm; a crop keeps its own number of points unless ``fill`` is set, so its size says nothing of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medssl.randomness import Stream
from pointcloud.encoders.patches import rows_at, spread_places
from pointcloud.views.crops import CropSettings, apply_crops, fill_by_interpolation, sample_crops
from pointcloud.views.settings.multi_crop import MultiCropSettings
from pointcloud.views.spatial import apply_spatial, sample_spatial

__all__ = ["CloudViews", "MultiCropSettings", "MultiCropViews", "multi_crop"]


@dataclass(frozen=True)
class CloudViews:
    """V views of each of B clouds: ``points`` (B, V, n, 3), 0 where padded, and ``count`` (B, V)."""

    points: Tensor
    count: Tensor

    def flat(self) -> tuple[Tensor, Tensor]:
        """Return points (V * B, n, 3) and counts (V * B,), the first view of every cloud first."""
        return self.points.transpose(0, 1).flatten(0, 1), self.count.transpose(0, 1).flatten()


@dataclass(frozen=True)
class MultiCropViews:
    """``large`` views; all others, ``small``, one entry a kind; ``item`` and ``patient`` (B,) of the clouds."""

    large: CloudViews
    small: tuple[CloudViews, ...]
    item: Tensor
    patient: Tensor


def multi_crop(
    settings: MultiCropSettings, points: Tensor, count: Tensor, stream: Stream
) -> tuple[CloudViews, tuple[CloudViews, ...]]:
    """Cut and change the views of each cloud.

    Args:
        settings: How.
        points: float32, (B, N, 3), about each cloud's middle; N at most ``settings.points``.
        count: int64, (B,).
        stream: One stream a cloud.

    Returns:
        The large views, and each kind of others: small crops, then each of the ``thinned``.
    """
    large = _crops(settings, settings.large, points, count, stream)
    others = [_crops(settings, settings.small, points, count, stream)] if settings.small.number else []
    others += [_thinned(settings, wanted, points, count, stream) for wanted in settings.thinned]
    return large, tuple(others)


def _crops(
    settings: MultiCropSettings, chosen: CropSettings, points: Tensor, count: Tensor, stream: Stream
) -> CloudViews:
    length, views = chosen.length(settings.points), chosen.number
    cut, kept = apply_crops(points, count, sample_crops(chosen, stream))
    changed, kept = apply_spatial(cut, kept, sample_spatial(settings.spatial, stream, length=length, views=views))
    if not settings.fill:
        return CloudViews(changed, kept)
    keys = stream.uniform(views, length).flatten(0, 1)
    filled = fill_by_interpolation(changed.flatten(0, 1), kept.flatten(), length, keys)
    return CloudViews(filled.reshape(*kept.shape, length, 3), torch.full_like(kept, length))


def _thinned(settings: MultiCropSettings, wanted: int, points: Tensor, count: Tensor, stream: Stream) -> CloudViews:
    views = settings.thinned_number
    params = sample_spatial(settings.thinned_spatial, stream, length=settings.points, views=views)
    whole = points[:, None].expand(-1, views, -1, -1)
    changed, there = apply_spatial(whole, count[:, None].expand(-1, views), params)
    flat, there = changed.flatten(0, 1), there.flatten()
    fewer = there.clamp_max(wanted)
    kept = rows_at(flat, spread_places(flat, there, fewer))
    kept = torch.where((torch.arange(kept.shape[1], device=kept.device) < fewer[:, None])[..., None], kept, 0.0)
    return CloudViews(kept.reshape(len(points), views, -1, 3), fewer.reshape(len(points), views))
