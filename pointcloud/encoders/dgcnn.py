"""DGCNN: networks over the edges to each point's neighbours, which are found anew among the features of each layer.

Reference:
    Wang et al., "Dynamic graph CNN for learning on point clouds", TOG 2019, arXiv:1801.07829.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pointcloud.batch import inside
from pointcloud.encoders.contract import CloudEncoder, CloudFeatures, Level
from pointcloud.encoders.packing import RowMLP, max_rows, mean_rows, pack, unpack
from pointcloud.encoders.patches import rows_at
from pointcloud.encoders.settings.dgcnn import DGCNNSettings

__all__ = ["DGCNN", "DGCNNSettings"]


class DGCNN(CloudEncoder):
    """Levels: all edge layers side by side, and the last layer, at every point. Embedding: maximum beside mean."""

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Three narrow edge layers."""
        return {"widths": (8, 8, 16), "embedding": 32, "neighbours": 6}

    def __init__(self, settings: DGCNNSettings) -> None:
        super().__init__()
        self.settings = settings
        inputs = [3, *settings.widths]
        self.edges = nn.ModuleList(
            RowMLP([2 * before, after], activation=_leaky)
            for before, after in zip(inputs, settings.widths, strict=False)
        )
        together = sum(settings.widths)
        self.last = RowMLP([together, settings.embedding], activation=_leaky)
        self.channels = (together, settings.embedding)
        self.embedding_dim = 2 * settings.embedding

    def forward(self, points: Tensor, count: Tensor) -> CloudFeatures:
        """See ``CloudEncoder.forward``."""
        length, values, found = points.shape[1], points, []
        for layer in self.edges:
            around = rows_at(values, _nearest_features(values, count, self.settings.neighbours))
            middle = values[:, :, None].expand_as(around)
            rows = layer(pack(torch.cat([around - middle, middle], dim=-1), count)).amax(dim=1)
            values = unpack(rows, count, length)
            found.append(values)
        local = torch.cat(found, dim=-1)
        last = unpack(self.last(pack(local, count)), count, length)
        embedding = torch.cat([max_rows(last, count), mean_rows(last, count)], dim=1).float()
        return CloudFeatures((Level(local, points, count), Level(last, points, count)), embedding)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)


@torch.no_grad()
def _nearest_features(values: Tensor, count: Tensor, k: int) -> Tensor:
    """Return the k nearest points of each by their features, (B, N, k); a cloud of fewer repeats the point itself."""
    there = inside(count, values.shape[1])
    cleared = torch.where(there[..., None], values, 0.0).float()
    apart = torch.cdist(cleared, cleared, compute_mode="donot_use_mm_for_euclid_dist").masked_fill(
        ~there[:, None], float("inf")
    )
    near = apart.topk(min(k, values.shape[1]), dim=-1, largest=False)
    itself = torch.arange(values.shape[1], device=values.device)[None, :, None]
    return torch.where(near.values.isinf(), itself, near.indices)
