"""A hierarchy in the manner of PointNet++: fewer and fewer places, each with a network over the places around it.

Reference:
    Qi et al., "PointNet++: Deep hierarchical feature learning on point sets in a metric space", NeurIPS 2017,
    arXiv:1706.02413 (single-scale grouping).

Differs from the paper: the places of a level are a share of the points and not a fixed number; a ball that holds more
places than are taken gives the nearest of them, and not the first that are found.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pointcloud.encoders.contract import CloudEncoder, CloudFeatures, Level
from pointcloud.encoders.packing import RowMLP, max_rows, pack, unpack
from pointcloud.encoders.patches import neighbours_of, rows_at, spread_places
from pointcloud.encoders.settings.hierarchy import HierarchySettings

__all__ = ["HierarchySettings", "PointHierarchy"]


class PointHierarchy(CloudEncoder):
    """Levels: those of the settings, finest first. Embedding: the maximum of a last network over the coarsest."""

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two levels."""
        return {
            "points_per_place": (2, 6),
            "radii": (0.4, 0.8),
            "neighbours": (8, 8),
            "widths": ((8, 12), (12, 16)),
            "last": (16, 32),
        }

    def __init__(self, settings: HierarchySettings) -> None:
        super().__init__()
        self.settings = settings
        inputs = [0, *(widths[-1] for widths in settings.widths)]
        self.layers = nn.ModuleList(
            RowMLP([3 + before, *widths]) for before, widths in zip(inputs, settings.widths, strict=False)
        )
        self.last = RowMLP([3 + inputs[-1], *settings.last])
        self.channels = tuple(widths[-1] for widths in settings.widths)
        self.embedding_dim = settings.last[-1]

    def forward(self, points: Tensor, count: Tensor) -> CloudFeatures:
        """See ``CloudEncoder.forward``."""
        chosen, levels = self.settings, list[Level]()
        places, features, there = points, None, count
        for number, layer in enumerate(self.layers):
            wanted = -(-count // chosen.points_per_place[number])
            centres = rows_at(places, spread_places(places, there, wanted))
            near = neighbours_of(centres, places, there, chosen.neighbours[number], radius=chosen.radii[number])
            around = rows_at(places, near) - centres[:, :, None]
            if features is not None:
                around = torch.cat([around.to(features.dtype), rows_at(features, near)], dim=-1)
            features = unpack(layer(pack(around, wanted)).amax(dim=1), wanted, centres.shape[1])
            places, there = centres, wanted
            levels.append(Level(features, places, there))
        assert features is not None
        rows = self.last(pack(torch.cat([places.to(features.dtype), features], dim=-1), there))
        return CloudFeatures(tuple(levels), max_rows(unpack(rows, there, places.shape[1]), there).float())
