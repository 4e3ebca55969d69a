"""A hierarchy in the manner of PointNet++: fewer and fewer places, each with a network over the places around it.

Reference:
    Qi et al., "PointNet++: Deep hierarchical feature learning on point sets in a metric space", NeurIPS 2017,
    arXiv:1706.02413 (single-scale grouping).

Differs from the paper: the places of a level are a share of the points and not a fixed number; a ball that holds more
places than are taken gives the nearest of them, and not the first that are found.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.settings import Settings
from pointcloud.encoders.contract import CloudEncoder, CloudFeatures, Level
from pointcloud.encoders.packing import RowMLP, max_rows, pack, unpack
from pointcloud.encoders.patches import neighbours_of, rows_at, spread_places

__all__ = ["HierarchySettings", "PointHierarchy"]


class HierarchySettings(Settings):
    """Settings of the hierarchy; the defaults are the paper's single-scale network for 1024 points."""

    name: Literal["hierarchy"] = "hierarchy"
    points_per_place: tuple[int, ...] = Field((2, 8), description="Points of the cloud for each place of a level.")
    radii: tuple[float, ...] = Field((0.2, 0.4), description="Radius of each level's balls, in radii of the cloud.")
    neighbours: tuple[int, ...] = Field((32, 64), description="Places taken of a ball, at most.")
    widths: tuple[tuple[int, ...], ...] = Field(
        ((64, 64, 128), (128, 128, 256)), description="Outputs of each level's layers."
    )
    last: tuple[int, ...] = Field((256, 512, 1024), description="Outputs of the layers before the last maximum.")

    @model_validator(mode="after")
    def _levels_fit(self) -> HierarchySettings:
        lengths = {len(self.points_per_place), len(self.radii), len(self.neighbours), len(self.widths)}
        if len(lengths) != 1 or 0 in lengths or not self.last or not all(self.widths):
            raise ValueError("points_per_place, radii, neighbours and widths need one entry for each level.")
        if min(*self.radii, *self.neighbours, *self.points_per_place) <= 0:
            raise ValueError("radii, neighbours and points_per_place must be above 0.")
        return self


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
