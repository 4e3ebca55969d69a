"""The 3D vision transformer: a cloud as tokens of patches around spread places.

References:
    Fu et al., "Distillation with Contrast is All You Need for Self-Supervised Point Cloud Representation Learning",
    2022, arXiv:2202.04241, and the code of its successor POS-BERT (tokeniser "edge": a network of each point, then of
    the differences within each patch; no positions);
    Yu et al., Point-BERT, CVPR 2022, arXiv:2111.14819; Pang et al., Point-MAE, ECCV 2022, arXiv:2203.06604 (tokeniser
    "pointnet": a mini-PointNet of each patch about its centre; positions before every block).

Differs from those codes: the number of tokens follows the number of points, so clouds of one batch may differ; the
first place is the cloud's outermost point and not its first, so the order of points does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pointcloud.batch import inside
from pointcloud.encoders.contract import CloudEncoder, CloudFeatures, Level
from pointcloud.encoders.packing import RowMLP, max_rows, mean_rows, pack, unpack
from pointcloud.encoders.patches import neighbours_of, rows_at, spread_places
from pointcloud.encoders.settings.vit import PointViTSettings
from pointcloud.encoders.transformer import Transformer, position_mlp

__all__ = ["Groups", "Patches", "PointViT", "PointViTSettings"]


@dataclass(frozen=True)
class Groups:
    """Which points make up each patch.

    Attributes:
        places: float32, (B, T, 3).
        count: int64, (B,), patches of each cloud.
        members: int64, (B, T, patch), rows of the points of each patch.
    """

    places: Tensor
    count: Tensor
    members: Tensor


@dataclass(frozen=True)
class Patches(Groups):
    """A cloud in patches.

    Attributes:
        tokens: (B, T, width), one a patch, before any block.
    """

    tokens: Tensor


class PointViT(CloudEncoder):
    """Patches, tokens, blocks. Its parts are open to methods that hide tokens: ``patches``, then ``encode``."""

    compiles = False  # methods call its parts, never the whole; of these the transformer is compiled

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Two blocks, told at each of them where tokens lie."""
        return {
            "width": 24,
            "depth": 2,
            "heads": 2,
            "points_per_token": 8,
            "patch": 8,
            "tokeniser": "pointnet",
            "positions": "every",
            "pool": "max_mean",
        }

    def __init__(self, settings: PointViTSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.width
        kinds = {"edge": _EdgeTokeniser, "pointnet": _PointNetTokeniser}
        self.tokeniser: nn.Module = kinds[settings.tokeniser](width, settings.tokeniser_scale)
        self.position = None if settings.positions == "none" else position_mlp(width)
        self.blocks = Transformer(
            width,
            settings.depth,
            settings.heads,
            ratio=settings.mlp_ratio,
            drop_path=settings.drop_path,
            every=settings.positions == "every",
        )
        if settings.pool == "cls":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.cls_position = nn.Parameter(torch.zeros(1, 1, width)) if self.position is not None else None
            nn.init.trunc_normal_(self.cls_token, std=0.02)
            if self.cls_position is not None:
                nn.init.trunc_normal_(self.cls_position, std=0.02)
        self.channels = (width,)
        self.embedding_dim = width if settings.pool == "cls" else 2 * width

    def forward(self, points: Tensor, count: Tensor) -> CloudFeatures:
        """Return the tokens after the last block as the one level, and the embedding."""
        patches = self.patches(points, count)
        tokens, embedding = self.encode(patches.tokens, patches.places, patches.count)
        return CloudFeatures((Level(tokens, patches.places, patches.count),), embedding)

    def groups(self, points: Tensor, count: Tensor) -> Groups:
        """Cut clouds into patches; arguments as in ``forward``. Nothing here is learned, so networks can share it."""
        chosen = self.settings
        wanted = -(-count // chosen.points_per_token)
        places = rows_at(points, spread_places(points, count, wanted))
        return Groups(places, wanted, neighbours_of(places, points, count, chosen.patch))

    def patches(self, points: Tensor, count: Tensor, groups: Groups | None = None) -> Patches:
        """Make a token of each patch; arguments as in ``forward``, and the patches where they are known already."""
        found = self.groups(points, count) if groups is None else groups
        tokens = self.tokeniser(points, count, found.places, found.count, found.members)
        return Patches(found.places, found.count, found.members, tokens)

    def encode(self, tokens: Tensor, places: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Run the blocks over tokens: all of a cloud's, or those that a method shows.

        Args:
            tokens: (B, T, width).
            places: float32, (B, T, 3).
            count: int64, (B,), at least 1; those after them are padding.

        Returns:
            The tokens after the last norm, (B, T, width), and the embedding, float32, (B, embedding_dim).
        """
        done = self.blocks(*self.tokens_in(tokens, places, count))
        if self.settings.pool == "cls":
            return done[:, 1:], done[:, 0].float()
        return done, torch.cat([max_rows(done, count), mean_rows(done, count)], dim=1).float()

    def attention(self, points: Tensor, count: Tensor) -> tuple[Tensor, Patches]:
        """Return how much the last block looks at each patch, (B, heads, T), and the patches.

        It is what the class token looks at, or where there is none, the mean over what each patch looks at.
        """
        patches = self.patches(points, count)
        weights = self.blocks.last_attention(*self.tokens_in(patches.tokens, patches.places, patches.count))
        if self.settings.pool == "cls":
            return weights[:, :, 0, 1:], patches
        there = inside(patches.count, weights.shape[2])[:, None, :, None]
        return weights.masked_fill(~there, 0.0).sum(dim=2) / patches.count[:, None, None], patches

    def tokens_in(self, tokens: Tensor, places: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return tokens, which of them are there, and their positions; with the class token first where there is one.

        It has its own position, since it lies nowhere.
        """
        there = inside(count, tokens.shape[1])
        positions = None if self.position is None else self.position(places)
        if self.settings.pool == "cls":
            clouds = len(tokens)
            tokens = torch.cat([self.cls_token.expand(clouds, -1, -1).to(tokens.dtype), tokens], dim=1)
            there = torch.cat([there.new_ones(clouds, 1), there], dim=1)
            if positions is not None:
                assert self.cls_position is not None
                positions = torch.cat([self.cls_position.expand(clouds, -1, -1).to(positions.dtype), positions], dim=1)
        return tokens, there, positions


class _EdgeTokeniser(nn.Module):
    """A feature of each point, then a network of [f_j - f_i, f_i] over each patch, then its maximum."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        inner = max(4, round(64 * scale))
        self.of_points = RowMLP([3, inner, inner])
        self.of_patches = RowMLP([2 * inner, width, width])

    def forward(self, points: Tensor, count: Tensor, places: Tensor, wanted: Tensor, members: Tensor) -> Tensor:
        features = unpack(self.of_points(pack(points, count)), count, points.shape[1])
        around = rows_at(features, members)
        # The nearest point to a place is the place itself.
        middle = around[:, :, :1].expand_as(around)
        edges = pack(torch.cat([around - middle, middle], dim=-1), wanted)
        return unpack(self.of_patches(edges).amax(dim=1), wanted, members.shape[1])


class _PointNetTokeniser(nn.Module):
    """Two shared perceptrons over the points of a patch about its place, the first one's maximum beside each point."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        inner = max(4, round(128 * scale))
        self.first = RowMLP([3, inner, 2 * inner], last=False)
        self.second = RowMLP([4 * inner, 4 * inner, width], last=False)

    def forward(self, points: Tensor, count: Tensor, places: Tensor, wanted: Tensor, members: Tensor) -> Tensor:
        rows = self.first(pack(rows_at(points, members) - places[:, :, None], wanted))
        rows = self.second(torch.cat([rows.amax(dim=1, keepdim=True).expand_as(rows), rows], dim=-1))
        return unpack(rows.amax(dim=1), wanted, members.shape[1])
