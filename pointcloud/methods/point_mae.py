"""Point-MAE: hide most patches of a cloud, draw their points again from the rest.

Reference:
    Pang et al., "Masked autoencoders for point cloud self-supervised learning", ECCV 2022, arXiv:2203.06604. The
    Chamfer distance (mean squared distance both ways) over hidden patches, each about its own centre.

Differs from the authors' code: clouds of one batch may have different numbers of points and tokens; the first place is
the outermost point; factors of size are drawn evenly in the logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from medssl.gathering import mean_of_all, processes
from medssl.methods.contract import Losses
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch, inside
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.patches import rows_at, to_points
from pointcloud.encoders.transformer import Transformer, position_mlp
from pointcloud.encoders.vit import Patches, PointViT
from pointcloud.methods.contract import CloudMethod, picture_of, with_tokens
from pointcloud.methods.settings.point_mae import PointMAESettings
from pointcloud.primitives.chamfer import chamfer
from pointcloud.views.masks import Chosen, random_mask
from pointcloud.views.spatial import apply_spatial, sample_spatial

__all__ = ["PointMAE", "PointMAESettings", "PointMAEViews"]


@dataclass(frozen=True)
class PointMAEViews:
    """``points`` (B, N, 3) augmented; ``count`` (B,); ``keys`` (B, T) decide which patches are hidden."""

    points: Tensor
    count: Tensor
    keys: Tensor


@dataclass(frozen=True)
class _Drawn:
    patches: Patches
    hidden: Tensor  # bool, (B, T)
    drawn: Tensor  # (hidden patches, points of a patch, 3), about their places
    target: Tensor  # the same of the cloud
    embedding: Tensor  # of what was shown, (B, D)


class PointMAE(CloudMethod):
    """Hide patches, draw their points.

    Args:
        settings: See ``PointMAESettings``.
        encoder: What is pretrained: a ``PointViT``.

    Raises:
        ValueError: The encoder has no tokens to hide.
    """

    coupled = "the mean is over the hidden patches of a part"

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Few points, one block of a decoder."""
        return {"points": 96, "decoder_depth": 1}

    def __init__(self, settings: PointMAESettings, encoder: CloudEncoder) -> None:
        super().__init__(encoder, settings.points)
        self.settings = settings
        chosen = with_tokens(encoder, "Point-MAE").settings
        width = chosen.width
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.position = position_mlp(width)
        self.decoder = Transformer(
            width, settings.decoder_depth, chosen.heads, ratio=chosen.mlp_ratio, drop_path=chosen.drop_path
        )
        self.head = nn.Linear(width, 3 * chosen.patch)

    def views(self, batch: CloudBatch, stream: Stream) -> PointMAEViews:
        """Augment each cloud and draw the keys of its mask."""
        chosen = self.settings
        spatial = sample_spatial(chosen.spatial, stream, length=chosen.points)
        points, count = apply_spatial(batch.network_input(), batch.count, spatial)
        keys = stream.uniform(-(-chosen.points // self._vit().settings.points_per_token))
        return PointMAEViews(points, count, keys.to(points.device))

    def forward(self, views: PointMAEViews, progress: float) -> Losses:
        """Return the Chamfer distance of hidden patches."""
        found = self._draw(views)
        error = self._error(found)
        return Losses(error, {"reconstruction": error.detach()}, self.health(found.embedding))

    def pictures(self, views: PointMAEViews) -> dict[str, Tensor]:
        """Return the clouds with what is hidden coloured, and the drawn points beside those shown."""
        found = self._draw(views)
        members = found.patches.members
        share = to_points(found.hidden, members, views.points.shape[1])
        around = rows_at(views.points, members)
        around[found.hidden] = (found.drawn + found.patches.places[found.hidden][:, None]).to(around)
        marked = torch.cat([around, found.hidden[..., None, None].expand(*members.shape, 1).to(around)], dim=-1)
        there = inside(found.patches.count, members.shape[1])
        marked = torch.where(there[..., None, None], marked, torch.nan)
        return {
            "cloud, hidden patches bright": picture_of(views.points, views.count, share),
            "hidden patches drawn again": marked.flatten(1, 2),
        }

    def probe(self, views: PointMAEViews) -> dict[str, Tensor]:
        """Return the error on clouds that are not trained on, and whether whole clouds' features have collapsed."""
        embeddings = self.encoder.embed(views.points, views.count)
        return {"reconstruction": self._error(self._draw(views)), **self.health(embeddings)}

    def chance(self, views: PointMAEViews) -> dict[str, Tensor]:
        """Return the error of drawing every hidden patch as its centre alone."""
        found = self._draw(views)
        return {"reconstruction": self._error(replace(found, drawn=torch.zeros_like(found.drawn)))}

    def _vit(self) -> PointViT:
        return with_tokens(self.encoder, "Point-MAE")

    def _draw(self, views: PointMAEViews) -> _Drawn:
        vit = self._vit()
        patches = vit.patches(views.points, views.count)
        hidden = random_mask(views.keys, patches.count, self.settings.ratio)
        shown = Chosen(inside(patches.count, hidden.shape[1]) & ~hidden)
        seen, embedding = vit.encode(shown.of(patches.tokens), shown.of(patches.places), shown.count)
        # Every token at its own place: those shown as the encoder left them, the others as the mask token.
        tokens = self.mask_token.expand(*hidden.shape, -1).to(seen.dtype)
        tokens = tokens.scatter(1, shown.index[..., None].expand_as(seen), seen)
        tokens = torch.where(hidden[..., None], self.mask_token.to(seen.dtype), tokens)
        decoded = self.decoder(tokens, inside(patches.count, hidden.shape[1]), self.position(patches.places))
        drawn = self.head(decoded[hidden]).float().reshape(-1, vit.settings.patch, 3)
        target = (rows_at(views.points, patches.members) - patches.places[:, :, None])[hidden]
        return _Drawn(patches, hidden, drawn, target.float(), embedding)

    @staticmethod
    def _error(found: _Drawn) -> Tensor:
        none = found.drawn.sum() + found.embedding.sum() * 0.0
        if len(found.drawn) == 0:  # clouds of a single patch, of which nothing can be hidden
            return none if processes() == 1 else mean_of_all(found.drawn.flatten()) + none
        return mean_of_all(chamfer(found.drawn, found.target, way="blocks"))
