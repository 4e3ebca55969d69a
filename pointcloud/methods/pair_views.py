"""What the methods share that compare two views of each cloud: their views, pictures, signals and network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medssl.gathering import gathered
from medssl.methods.parts.contract import seeds
from medssl.objectives.diagnostics import effective_rank, view_retrieval
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.methods.contract import CloudMethod, picture_of
from pointcloud.methods.settings.point_contrast import PairSettings
from pointcloud.views.multi_crop import CloudViews, multi_crop

__all__ = ["CloudEmbedder", "PairMethod", "PairViews", "view_chance", "view_signals"]


@dataclass(frozen=True)
class PairViews:
    """Two ``large`` views of each cloud; ``item`` and ``patient``, (B,).

    ``seeds`` (B,) where parts of a contrast draw, see `medssl.methods.parts.contract.seeds`.
    """

    large: CloudViews
    item: Tensor
    patient: Tensor
    seeds: Tensor | None = None


class CloudEmbedder(nn.Module):
    """Clouds to embeddings and what a head makes of them.

    Args:
        encoder: The encoder.
        head: Takes (N, encoder.embedding_dim).
    """

    def __init__(self, encoder: CloudEncoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, points: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's embedding, (N, embedding_dim), and the head's output."""
        pooled = self.encoder.embed(points, count)
        return pooled, self.head(pooled)


class PairMethod(CloudMethod):
    """A method that compares two views of each cloud.

    Args:
        settings: Where views come from.
        encoder: What is pretrained.
    """

    draws = False  # whether its views carry seeds for what is drawn afterwards

    def __init__(self, settings: PairSettings, encoder: CloudEncoder) -> None:
        super().__init__(encoder, settings.points)
        del self.encoder  # it is the network's; named once, so that it is saved once
        self.pair_settings = settings

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Few points and a narrow head."""
        return {"points": 96, "hidden": 32, "projected": 16}

    def views(self, batch: CloudBatch, stream: Stream) -> PairViews:
        """Cut and change both views."""
        large, _ = multi_crop(self.pair_settings, batch.network_input(), batch.count, stream)
        return PairViews(large, batch.item, batch.patient, seeds(stream) if self.draws else None)

    def watched(self, pooled: Tensor) -> dict[str, Tensor]:
        """Return over how many dimensions this step's embeddings spread."""
        return {"effective_rank": effective_rank(gathered(pooled.detach()))}

    def pictures(self, views: PairViews) -> dict[str, Tensor]:
        """Return the views of the first clouds."""
        return {"views": picture_of(views.large.points.flatten(0, 1), views.large.count.flatten())}

    def probe(self, views: PairViews) -> dict[str, Tensor]:
        """Return how often a view finds its other by the encoder's features, and whether they have collapsed."""
        return view_signals(self, views.large)

    def chance(self, views: PairViews) -> dict[str, Tensor]:
        """Return the share of views whose other view is found by guessing."""
        return view_chance(views.item)


def view_signals(method: CloudMethod, large: CloudViews) -> dict[str, Tensor]:
    """Return how often a large view finds its other by the encoder's features, and whether they have collapsed."""
    first = CloudViews(large.points[:, :2], large.count[:, :2])
    pooled = method.encoder.embed(*first.flat())
    by_view = pooled.reshape(-1, len(large.count), pooled.shape[1])
    return {"retrieval": view_retrieval(by_view[0], by_view[-1]), **method.health(pooled)}


def view_chance(item_B: Tensor) -> dict[str, Tensor]:
    """Return the share of views whose other view is found by guessing."""
    return {"retrieval": torch.tensor(1.0 / len(item_B), device=item_B.device)}
