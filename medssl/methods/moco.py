"""MoCo: contrast with the keys of a slow teacher, held in a queue (v2) or taken from the batch alone (v3).

References:
    He et al., CVPR 2020, arXiv:1911.05722; Chen et al., "Improved baselines with momentum contrastive learning" (v2),
    2020, arXiv:2003.04297; Chen, Xie, He, "An empirical study of training self-supervised vision transformers" (v3),
    ICCV 2021, arXiv:2104.02057.

As published the negatives of v2 are the queue's keys alone (``batch_keys`` adds the batch's own).

Differs from the authors' code: keys of the query's own patient are no negatives; empty places of the queue, random
points there, are none either, so that at the first step the batch's own keys stand in; the queue is in the checkpoint.
Keys need no shuffling, since no encoder here normalises over the batch, and a head that does normalises over all
processes. v3: norms of the heads have no weights; the patches of a transformer are embedded by weights that train,
where theirs stay as they were drawn. v2 is not symmetrised, as published; v3 is, with a predictor and its factor 2 x
temperature.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medssl.encoders.contract import Encoder
from medssl.gathering import gathered
from medssl.heads import Projection
from medssl.methods.contract import Losses
from medssl.methods.crop_views import CropMethod, CropViews
from medssl.methods.embedder import Embedder
from medssl.methods.settings.moco import MoCoSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.infonce import PairSet, countable, info_nce, score_statistics
from medssl.queue import FeatureQueue
from medssl.teacher import EMATeacher

__all__ = ["MoCo", "MoCoSettings"]


class MoCo(CropMethod):
    """Contrast of a student's queries with a teacher's keys.

    Args:
        settings: See ``MoCoSettings``; takes two views.
        encoder: What is pretrained.
    """

    coupled = "queries meet the keys of their own part, and the queue"

    def __init__(self, settings: MoCoSettings, encoder: Encoder) -> None:
        super().__init__(settings, encoder, pairs_only=True)
        self.settings = settings
        v3 = settings.version == "v3"
        head = Projection(
            encoder.embedding_dim,
            settings.hidden,
            settings.projected,
            layers=3 if v3 else 2,
            norm="batch_plain" if v3 else settings.head_norm,
            last_norm=v3,
        )
        self.student = Embedder(encoder, head)
        self.teacher = EMATeacher(
            self.student, momentum=settings.momentum, final_momentum=settings.final_momentum, train_mode=v3
        )
        self.predictor = (
            Projection(settings.projected, settings.hidden, settings.projected, layers=2, last_norm=True)
            if v3
            else None
        )
        self.queue = None if v3 else FeatureQueue(settings.queue, settings.projected)
        self._fresh: list[tuple[Tensor, Tensor, Tensor]] = []  # of each part of the batch

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """As all methods of crops, with a short queue."""
        return {**super().smallest(), "queue": 7}

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.student.encoder

    def forward(self, views: CropViews, progress: float) -> Losses:
        """Return the contrast of queries with keys."""
        first, second = views.crops[:, 0], views.crops[:, 1]
        block = self.rows_per_item
        key, group = gathered(views.item, block=block), gathered(views.patient, block=block)
        if self.predictor is not None:
            both = torch.cat([first, second])
            _, projected = self.student(both)
            queries = [gathered(view, block=block) for view in self.predictor(projected).chunk(2)]
            keys = [gathered(view, block=block) for view in self.teacher(both)[1].chunk(2)]
            counted = countable(key, key, group, group)
            sets = [PairSet(queries[i], keys[1 - i][:, None], keys[1 - i], counted) for i in range(2)]
            scale = 2 * self.settings.temperature
        else:
            assert self.queue is not None
            _, projected = self.student(first)
            query, kept = gathered(projected, block=block), gathered(self.teacher(second)[1], block=block)
            counted = countable(key, self.queue.keys, group, self.queue.groups)
            negatives = torch.cat([self.queue.features.clone(), kept])
            own = countable(key, key, group, group)
            if not self.settings.batch_keys:  # but while the queue is empty they are all there is
                own = own & ~(self.queue.keys >= 0).any()
            counted = torch.cat([counted, own], dim=1)
            sets = [PairSet(query, kept[:, None], negatives, counted)]
            scale = 1.0
            if self.training:
                self._fresh.append((kept, key, group))
        losses = [info_nce(pairs, temperature=self.settings.temperature).mean() for pairs in sets]
        loss = scale * torch.stack(losses).sum()
        signals = {"spread": feature_spread(projected.detach(), over_all=True), **score_statistics(sets[0])}
        return Losses(loss, {"contrast": loss.detach()}, signals)

    def after_step(self, progress: float) -> None:
        """Move the teacher and put the step's keys into the queue."""
        self.teacher.update(self.student, progress)
        if self.queue is not None:
            for fresh in self._fresh:
                self.queue.push(*fresh)
        self._fresh = []
