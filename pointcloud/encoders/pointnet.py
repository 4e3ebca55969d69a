"""PointNet: one network for every point, and the maximum over all.

Reference:
    Qi et al., "PointNet: Deep learning on point sets for 3D classification and segmentation", CVPR 2017,
    arXiv:1612.00593.

The regulariser that keeps the paper's feature transform near orthogonal belongs to its classification loss and is not
part of the encoder.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from pointcloud.encoders.contract import CloudEncoder, CloudFeatures, Level
from pointcloud.encoders.packing import RowMLP, max_rows, pack, unpack
from pointcloud.encoders.settings.pointnet import PointNetSettings

__all__ = ["PointNet", "PointNetSettings"]


class PointNet(CloudEncoder):
    """Levels: the features of every point after two layers, and after the last. Embedding: the maximum of the last."""

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Four narrow layers."""
        return {"widths": (8, 8, 16, 32)}

    def __init__(self, settings: PointNetSettings) -> None:
        super().__init__()
        self.settings = settings
        widths = settings.widths
        self.turn_points = _Transform(3) if settings.transforms else None
        self.turn_features = _Transform(widths[1]) if settings.transforms else None
        self.first, self.second = RowMLP([3, *widths[:2]]), RowMLP([widths[1], *widths[2:]])
        self.channels = (widths[1], widths[-1])
        self.embedding_dim = widths[-1]

    def forward(self, points: Tensor, count: Tensor) -> CloudFeatures:
        """See ``CloudEncoder.forward``."""
        length = points.shape[1]
        placed = points if self.turn_points is None else points @ self.turn_points(points, count)
        local = unpack(self.first(pack(placed, count)), count, length)
        if self.turn_features is not None:
            local = local @ self.turn_features(local, count).to(local.dtype)
        last = unpack(self.second(pack(local, count)), count, length)
        return CloudFeatures((Level(local, points, count), Level(last, points, count)), max_rows(last, count).float())


class _Transform(nn.Module):
    """A small PointNet that answers with a matrix, (B, size, size); the identity at first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.of_points, self.of_clouds = RowMLP([size, 64, 128, 1024]), _CloudMLP([1024, 512, 256])
        self.matrix = nn.Linear(256, size * size)
        nn.init.zeros_(self.matrix.weight)
        nn.init.zeros_(self.matrix.bias)

    def forward(self, values: Tensor, count: Tensor) -> Tensor:
        rows = unpack(self.of_points(pack(values, count)), count, values.shape[1])
        found: Tensor = self.matrix(self.of_clouds(max_rows(rows, count))).reshape(-1, self.size, self.size)
        return found.float() + torch.eye(self.size, device=found.device)


class _CloudMLP(nn.Module):
    """Linear layers over whole clouds, normed by layer: batch norm would see as few rows as the batch has clouds."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            parts += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.layers = nn.Sequential(*parts)

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.layers(values)
        return result
