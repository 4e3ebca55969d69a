"""The contrast of a student's queries with a slow teacher's keys, whatever the views; see `medssl.methods.moco`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from medssl.gathering import gathered
from medssl.heads import Projection
from medssl.methods.contract import Losses, Method
from medssl.methods.parts.contract import Anchors, Contrast, seed_of
from medssl.methods.settings.contrast import MomentumContrastSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.infonce import PairSet, countable
from medssl.queue import FeatureQueue
from medssl.teacher import EMATeacher

__all__ = ["MomentumContrast"]


class MomentumContrast(Method):
    """A method whose loss is MoCo's; it builds its networks by `contrast_by` and says what they are given."""

    coupled = "queries meet the keys of their own part, and the queue"

    def contrast_by(self, settings: MomentumContrastSettings, student: nn.Module) -> None:
        """Make teacher, predictor and queue.

        Args:
            settings: Of the contrast.
            student: From what `inputs` gives to (embedding, projection), with the head of `head_of`.
        """
        self.contrast_settings = settings
        self.draws = bool(settings.parts.chosen())
        v3 = settings.version == "v3"
        self.student = student
        self.teacher = EMATeacher(
            student, momentum=settings.momentum, final_momentum=settings.final_momentum, train_mode=v3
        )
        self.predictor = (
            Projection(settings.projected, settings.hidden, settings.projected, layers=2, last_norm=True)
            if v3
            else None
        )
        self.queue = None if v3 else FeatureQueue(settings.queue, settings.projected)
        self.contrast = Contrast(settings.parts, temperature=settings.temperature)
        self._fresh: list[tuple[Tensor, Tensor, Tensor]] = []  # of each part of the batch

    @staticmethod
    def head_of(settings: MomentumContrastSettings, width: int) -> nn.Module:
        """Return the head of an embedding of ``width``."""
        v3 = settings.version == "v3"
        return Projection(
            width,
            settings.hidden,
            settings.projected,
            layers=3 if v3 else 2,
            norm="batch_plain" if v3 else settings.head_norm,
            last_norm=v3,
        )

    @abstractmethod
    def inputs(self, views: Any, which: slice) -> tuple[Tensor, ...]:
        """Return what the networks take of the first view of every item, of the second, or of both in this order."""

    def begin(self, items: int) -> None:
        """Make what each item has."""
        self.contrast.begin(items)

    def forward(self, views: Any, progress: float) -> Losses:
        """Return the contrast of queries with keys."""
        block = self.rows_per_item
        key, group = gathered(views.item, block=block), gathered(views.patient, block=block)
        if self.predictor is not None:
            both = self.inputs(views, slice(0, 2))
            pooled, projected = self.student(*both)
            queries = [gathered(view, block=block) for view in self.predictor(projected).chunk(2)]
            keys = [gathered(view, block=block) for view in self.teacher(*both)[1].chunk(2)]
            counted = countable(key, key, group, group)
            sets = [PairSet(queries[i], keys[1 - i][:, None], keys[1 - i], counted) for i in range(2)]
            scale = 2 * self.contrast_settings.temperature
        else:
            assert self.queue is not None
            pooled, projected = self.student(*self.inputs(views, slice(0, 1)))
            query = gathered(projected, block=block)
            kept = gathered(self.teacher(*self.inputs(views, slice(1, 2)))[1], block=block)
            counted = countable(key, self.queue.keys, group, self.queue.groups)
            negatives = torch.cat([self.queue.features.clone(), kept])
            own = countable(key, key, group, group)
            if not self.contrast_settings.batch_keys:  # but while the queue is empty they are all there is
                own = own & ~(self.queue.keys >= 0).any()
            counted = torch.cat([counted, own], dim=1)
            sets = [PairSet(query, kept[:, None], negatives, counted)]
            scale = 1.0
            if self.training:
                self._fresh.append((kept, key, group))
        anchors = Anchors(item=key, seed=seed_of(views.seeds, key.device, block=block), progress=progress)
        found, signals = self.contrast(sets, anchors)
        loss = scale * torch.stack([losses.mean() for losses in found]).sum()
        spread = feature_spread(projected.detach(), over_all=True)
        return Losses(loss, {"contrast": loss.detach()}, {"spread": spread, **signals, **self.watched(pooled)})

    def watched(self, pooled: Tensor) -> dict[str, Tensor]:
        """Return further signals of this process's embeddings, (N, D)."""
        return {}

    def after_step(self, progress: float) -> None:
        """Move the teacher and put the step's keys into the queue."""
        self.teacher.update(self.student, progress)
        if self.queue is not None:
            for fresh in self._fresh:
                self.queue.push(*fresh)
        self._fresh = []
        self.contrast.after_step()
