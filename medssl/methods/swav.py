"""SwAV: predict the cluster of one view from another, clusters being prototypes that are all used equally.

Reference:
    Caron et al., "Unsupervised learning of visual features by contrasting cluster assignments", NeurIPS 2020,
    arXiv:2006.09882.

Differs from the authors' code: Sinkhorn runs on logarithms in float32; prototypes are normalised where they are used
instead of after each step; the queue counts no empty places; AdamW in place of LARS.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.gathering import gathered, mean_of_all, own_of
from medssl.heads import Projection
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder, InEmbedder
from medssl.methods.fitting import Room
from medssl.methods.settings.swav import SwAVSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.prototypes import distillation, sinkhorn
from medssl.queue import FeatureQueue

__all__ = ["SwAV", "SwAVSettings"]


class SwAV(InEmbedder, CropMethod):
    """Swapped prediction of assignments.

    Args:
        settings: See ``SwAVSettings``; small views are predicted from, never assigned.
        encoder: What is pretrained.
    """

    coupled = "assignments are shared out among the items of a part, and the queue"

    def __init__(self, settings: SwAVSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder)
        self.settings = settings
        head = Projection(encoder.embedding_dim, settings.hidden, settings.projected, layers=2, norm="batch")
        self.network = Embedder(encoder, head)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(settings.prototypes, settings.projected), dim=1))
        lengths = [settings.queue] * settings.views if settings.queue else []
        self.queues = nn.ModuleList(FeatureQueue(length, settings.projected) for length in lengths)
        self._fresh: list[list[tuple[Tensor, Tensor, Tensor]]] = []  # of each part of the batch, of each view

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all methods of crops, with small crops and few prototypes."""
        return {
            **super().smallest(),
            "local_crop": (8, 8, 8),
            "local_views": 2,
            "prototypes": 6,
            "freeze_prototypes": 0,
            "queue": 8,
        }

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Take crops of 0.7 of the window, and small ones of 0.4."""
        return {**super().fit(room), "local_crop": room.share(0.4)}

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the cross-entropy of every view's prediction with the assignments of the other large views."""
        chosen = self.settings
        crops = views.crops.transpose(0, 1)
        _, projected = self.network(crops.flatten(0, 1))
        features = [F.normalize(projected.float(), dim=1).view(*crops.shape[:2], -1)]
        if views.local is not None:
            local = views.local.transpose(0, 1)
            features.append(F.normalize(self.network(local.flatten(0, 1))[1].float(), dim=1).view(*local.shape[:2], -1))
        features_SBD = torch.cat(features)
        weight: Tensor = self.prototypes
        if progress < chosen.freeze_prototypes:
            weight = weight.detach() + 0.0 * weight
        weight = F.normalize(weight.float(), dim=1)
        scores_SBK = F.linear(features_SBD, weight)
        block = self.rows_per_item
        every = [gathered(features_SBD[v].detach(), block=block) for v in range(chosen.views)]
        own = features_SBD.shape[1]
        assigned = torch.stack([self._assign(rows, own, weight, v, progress) for v, rows in enumerate(every)])
        loss = distillation(scores_SBK, assigned, temperature=chosen.temperature)
        if self.training and self.queues:
            item, patient = gathered(views.item, block=block), gathered(views.patient, block=block)
            self._fresh.append([(rows, item, patient) for rows in every])
        used = mean_of_all(assigned, (0, 1))
        signals = {
            "spread": feature_spread(projected.detach(), over_all=True),
            "prototypes_used": torch.exp(-(used * used.clamp(min=1e-12).log()).sum()),
        }
        return Losses(loss, {"swapped": loss.detach()}, signals)

    @torch.no_grad()
    def _assign(self, rows: Tensor, own: int, weight_KD: Tensor, view: int, progress: float) -> Tensor:
        """Return the assignments of this process's rows of a view, (B, K), shared out over all rows and the queue's.

        Args:
            rows: Features of the view on all processes.
            own: B, how many are this process's.
            weight_KD: The prototypes.
            view: Which of the large views.
            progress: Share of the run that is done.
        """
        if self.queues and progress >= self.settings.queue_from:
            queue = self.queues[view]
            assert isinstance(queue, FeatureQueue)
            rows = torch.cat([rows, queue.features[queue.keys >= 0]])
        shares = sinkhorn(
            rows @ weight_KD.detach().T, epsilon=self.settings.epsilon, iterations=self.settings.iterations
        )
        return own_of(shares, own, block=self.rows_per_item)

    def after_step(self, progress: float) -> None:
        """Put the step's features into the queues."""
        for part in self._fresh:
            for queue, fresh in zip(self.queues, part, strict=False):
                assert isinstance(queue, FeatureQueue)
                queue.push(*fresh)
        self._fresh = []
