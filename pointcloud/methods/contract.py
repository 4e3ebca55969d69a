"""What pretraining methods of clouds share: their encoder's kind, their plan and the signals of their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from medssl.gathering import gathered
from medssl.methods.contract import Method
from medssl.objectives.diagnostics import effective_rank, feature_spread
from pointcloud.batch import CloudPlan, inside
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.encoders.vit import PointViT

__all__ = ["CloudMethod", "CloudRoom", "picture_of", "with_tokens"]


@dataclass(frozen=True)
class CloudRoom:
    """What clouds leave to views: how they may be turned, as ``rotate`` of the spatial settings says it."""

    rotate: Literal["none", "z", "any"]


class CloudMethod(Method):
    """A method whose batches are `CloudBatch`.

    Args:
        encoder: What is pretrained.
        points: Points that it wants of each cloud.
    """

    encoder: CloudEncoder
    items_per_step = (32, 128)
    smallest_encoder = "point_vit"

    def __init__(self, encoder: CloudEncoder, points: int) -> None:
        super().__init__()
        self.encoder = encoder
        self._points = points

    @classmethod
    def fit(cls, room: CloudRoom) -> dict[str, Any]:
        """Turn clouds as they may be turned."""
        return {"spatial": {"rotate": room.rotate}}

    @property
    def plan(self) -> CloudPlan:
        """So many points of each cloud."""
        return CloudPlan(points=self._points)

    @staticmethod
    def health(embeddings: Tensor) -> dict[str, Tensor]:
        """Return how far embeddings (N, D) of all processes spread, and over how many dimensions."""
        found = embeddings.detach()
        return {"spread": feature_spread(found, over_all=True), "effective_rank": effective_rank(gathered(found))}


def with_tokens(encoder: CloudEncoder, method: str) -> PointViT:
    """Return the encoder, once it is known to have tokens that can be hidden.

    Raises:
        ValueError: It has none.
    """
    if not isinstance(encoder, PointViT):
        raise ValueError(f"{method} hides tokens of patches, so it needs the encoder point_vit.")
    return encoder


def picture_of(points: Tensor, count: Tensor, values: Tensor | None = None) -> Tensor:
    """Return clouds as `Method.pictures` wants them: NaN where padded, with ``values`` (B, N) as a fourth column."""
    stack = points if values is None else torch.cat([points, values[..., None].to(points.dtype)], dim=-1)
    return torch.where(inside(count, points.shape[1])[..., None], stack, torch.nan)
