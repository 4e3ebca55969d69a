"""OcCo-like completion: see a cloud from one side, draw all of it.

References:
    Wang et al., "Unsupervised point cloud pre-training via occlusion completion" (OcCo), ICCV 2021, arXiv:2010.01089,
    and the authors' code (hansen7/OcCo); the decoder of Yuan et al., "PCN: point completion network", 3DV 2018,
    arXiv:1808.00671: points from the embedding alone, then a small grid folded about each of them.

loss = distance of coarse points + weight * distance of fine points, each the Chamfer distance to the whole cloud (half
the sum of the mean distances). The sizes of the decoder, the grid's reach and both ends of the weight are those of both
codes; in OcCo's, its PyTorch trainer alone sets a reach of 0.5 where models and TensorFlow have 0.05.

Differs from OcCo's code: a new side is seen at every step, by a camera far away, in place of ten that a near camera
rendered; what is hidden is found among the cloud's own points (`pointcloud.views.occlusion`, whose constants are ours)
and not on a mesh; what is seen are as many points as are left, not 1024 drawn or repeated; the whole is the points of
the step, not 16,384, so that a large decoder draws more points than it is compared with; the weight rises linearly
over a share of the run, not at steps 10,000, 20,000 and 50,000 (to 0.1, 0.5 and 1); DGCNN's embedding is maximum beside
mean, not the maximum alone. Turning and stretching the clouds is ours, and off by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medssl.gathering import mean_of_all
from medssl.methods.contract import Losses, summed
from medssl.objectives.prototypes import warmed_up
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.methods.contract import CloudMethod, picture_of
from pointcloud.methods.settings.point_occo import PointOcCoSettings
from pointcloud.primitives.chamfer import chamfer
from pointcloud.views.occlusion import occlude
from pointcloud.views.spatial import apply_spatial, random_rotation, sample_spatial

__all__ = ["FoldingDecoder", "PointOcCo", "PointOcCoSettings", "PointOcCoViews"]

_REACH = 0.05  # of the grid about a coarse point to each side, in radii of the cloud, as in PCN


@dataclass(frozen=True)
class PointOcCoViews:
    """Whole clouds, ``points`` (B, N, 3) and ``count`` (B,), and what is seen of them, ``seen`` and ``seen_count``."""

    points: Tensor
    count: Tensor
    seen: Tensor
    seen_count: Tensor


class FoldingDecoder(nn.Module):
    """PCN's decoder: coarse points from an embedding, and a grid folded about each.

    Args:
        inputs: Length of the embedding.
        settings: Sizes.
    """

    grid: Tensor

    def __init__(self, inputs: int, settings: PointOcCoSettings) -> None:
        super().__init__()
        wide, narrow = settings.hidden, settings.fold_hidden
        self.coarse = nn.Sequential(
            nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 3 * settings.coarse)
        )
        # One layer over [grid, point, embedding], in parts, so that the embedding's is computed once a cloud.
        self.of_grid, self.of_point = nn.Linear(2, narrow), nn.Linear(3, narrow, bias=False)
        self.of_embedding = nn.Linear(inputs, narrow, bias=False)
        self.fold = nn.Sequential(nn.ReLU(), nn.Linear(narrow, narrow), nn.ReLU(), nn.Linear(narrow, 3))
        line = torch.linspace(-_REACH, _REACH, settings.grid) if settings.grid > 1 else torch.zeros(1)
        self.register_buffer("grid", torch.cartesian_prod(line, line), persistent=False)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coarse points, (B, coarse, 3), and the fine ones, (B, coarse * grid * grid, 3), float32."""
        coarse = self.coarse(embedding).reshape(len(embedding), -1, 3)
        of_cloud = self.of_point(coarse) + self.of_embedding(embedding)[:, None]
        fine = coarse[:, :, None] + self.fold(self.of_grid(self.grid) + of_cloud[:, :, None])
        return coarse.float(), fine.flatten(1, 2).float()


class PointOcCo(CloudMethod):
    """Complete what is seen from one side.

    Args:
        settings: See ``PointOcCoSettings``.
        encoder: What is pretrained; any.
    """

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Few points are drawn of few."""
        return {
            "points": 96,
            "coarse": 16,
            "grid": 2,
            "hidden": 32,
            "fold_hidden": 16,
            "fine_weight": 1.0,
        }

    def __init__(self, settings: PointOcCoSettings, encoder: CloudEncoder) -> None:
        super().__init__(encoder, settings.points)
        self.settings = settings
        self.decoder = FoldingDecoder(encoder.embedding_dim, settings)

    def views(self, batch: CloudBatch, stream: Stream) -> PointOcCoViews:
        """Augment each cloud and look at it from one side."""
        chosen = self.settings
        spatial = sample_spatial(chosen.spatial, stream, length=chosen.points)
        points, count = apply_spatial(batch.network_input(), batch.count, spatial)
        seen, seen_count = occlude(points, count, random_rotation(stream, "any"), chosen.occlusion)
        return PointOcCoViews(points, count, seen, seen_count)

    def forward(self, views: PointOcCoViews, progress: float) -> Losses:
        """Return the distances of coarse and fine points to the whole cloud."""
        chosen = self.settings
        embedding, coarse, fine = self._complete(views)
        weight = warmed_up(progress, start=chosen.fine_weight, end=chosen.final_fine_weight, share=chosen.fine_rise)
        parts = {"coarse": self._distance(coarse, views), "fine": weight * self._distance(fine, views)}
        return summed(parts, self.health(embedding))

    def pictures(self, views: PointOcCoViews) -> dict[str, Tensor]:
        """Return what is seen, the whole clouds, and the clouds that are drawn."""
        return {
            "seen from one side": picture_of(views.seen, views.seen_count),
            "whole cloud": picture_of(views.points, views.count),
            "completed": self._complete(views)[2],
        }

    def probe(self, views: PointOcCoViews) -> dict[str, Tensor]:
        """Return the distance on clouds that are not trained on, and whether whole clouds' features have collapsed."""
        embeddings = self.encoder.embed(views.points, views.count)
        return {"completion": self._distance(self._complete(views)[2], views), **self.health(embeddings)}

    def chance(self, views: PointOcCoViews) -> dict[str, Tensor]:
        """Return the distance of the seen points as they are, completed by none."""
        left = chamfer(views.seen, views.points, norm="l1", lengths_a=views.seen_count, lengths_b=views.count)
        return {"completion": mean_of_all(left)}

    def _complete(self, views: PointOcCoViews) -> tuple[Tensor, Tensor, Tensor]:
        embedding = self.encoder.embed(views.seen, views.seen_count)
        return embedding, *self.decoder(embedding)

    @staticmethod
    def _distance(drawn: Tensor, views: PointOcCoViews) -> Tensor:
        return mean_of_all(chamfer(drawn, views.points, norm="l1", lengths_b=views.count))
