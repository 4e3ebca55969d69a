"""Part segmentation of clouds as a method: points in, a part for each of them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.errors import ConfigError
from medssl.gathering import ratio
from medssl.methods.contract import Losses
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch, CloudPlan
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.methods.contract import picture_of
from pointcloud.tasks.contract import CloudTask, places_of
from pointcloud.tasks.networks import PartSegmenter
from pointcloud.tasks.settings import CloudTaskSettings

__all__ = ["LabelledPoints", "PartSegmentationTask"]


@dataclass(frozen=True)
class LabelledPoints:
    """``points`` (B, N, 3), ``count`` (B,); places of classes ``kind`` (B,), of parts ``target`` (B, N), -1 unknown."""

    points: Tensor
    count: Tensor
    kind: Tensor
    target: Tensor


class PartSegmentationTask(CloudTask):
    """A network that names the part of every point.

    Args:
        settings: Points, head, augmentation, and whether the class is told.
        encoder: The encoder, pretrained or not.
        parts: Names of the parts by their numbers in the store.
        classes: Names of the classes by their numbers; empty where clouds have none.
        parts_of: Class -> the parts (by number) that its clouds may have.

    Raises:
        ConfigError: The augmentation leaves points out, which would part them from their labels.
    """

    name = "segmentation"

    def __init__(
        self,
        settings: CloudTaskSettings,
        encoder: CloudEncoder,
        parts: Mapping[int, str],
        classes: Mapping[int, str],
        parts_of: Mapping[int, Sequence[int]],
    ) -> None:
        if settings.spatial.dropout:
            raise ConfigError("cloud.spatial.dropout leaves points out, and every point has a label: set it to 0.")
        self.told = bool(classes) and settings.told_class
        network = PartSegmenter(encoder, len(parts), len(classes) if self.told else 0, settings)
        super().__init__(settings, network)
        self.network: PartSegmenter = network
        self.parts, self.classes = dict(parts), dict(classes)
        self.parts_of = {number: tuple(found) for number, found in parts_of.items()}

    @property
    def plan(self) -> CloudPlan:
        """So many labelled points of each cloud."""
        return CloudPlan(points=self.settings.points, labels=True)

    def views(self, batch: CloudBatch, stream: Stream) -> LabelledPoints:
        """Place the clouds in their unit spheres, and augment them while training."""
        points, count = self.augmented(batch, stream)
        assert batch.labels is not None
        kind = places_of(batch.label, tuple(self.classes))
        return LabelledPoints(points, count, kind, places_of(batch.labels, tuple(self.parts)))

    def forward(self, views: LabelledPoints, progress: float) -> Losses:
        """Return the cross-entropy over labelled points."""
        logits = self.logits(views.points, views.count, views.kind)
        loss, right = _scored(logits, views.target)
        return Losses(loss, {"cross_entropy": loss.detach()}, {"accuracy": right}, {"cross_entropy": loss})

    def counted(self, views: LabelledPoints) -> dict[str, Tensor]:
        """Return how many points have a label."""
        return {"cross_entropy": (views.target >= 0).sum()}

    def logits(self, points: Tensor, count: Tensor, kind: Tensor) -> Tensor:
        """Return logits (B, N, parts) of clouds whose classes' places are ``kind`` (B,)."""
        found: Tensor = self.network(points, count, kind if self.told else None)
        return found

    def allowed(self, kind: Tensor) -> Tensor:
        """Return which parts may be chosen for clouds of these classes' places, bool (B, parts); all where not told."""
        numbers = tuple(self.parts)
        rows = torch.ones(len(kind), len(numbers), dtype=torch.bool)
        for row, place in enumerate(kind.tolist()):
            found = self.parts_of.get(tuple(self.classes)[place], ()) if self.told and place >= 0 else ()
            if found:
                rows[row] = torch.tensor([number in found for number in numbers])
        return rows.to(kind.device)

    def pictures(self, views: LabelledPoints) -> dict[str, Tensor]:
        """Return the clouds, coloured by part."""
        shade = (views.target.clamp_min(0).float() / max(1, len(self.parts) - 1)).to(views.points)
        return {"clouds by part": picture_of(views.points, views.count, shade)}

    @torch.no_grad()
    def probe(self, views: LabelledPoints) -> dict[str, Tensor]:
        """Return the share of labelled points that are right, and cross-entropy."""
        loss, right = _scored(self.logits(views.points, views.count, views.kind), views.target)
        return {"accuracy": right, "cross_entropy": loss}

    def described(self, *, start: str) -> dict[str, Any]:
        """Return what a card's ``method`` holds of a segmenter that started from the weights of run ``start``."""
        return {
            **self.facts(start=start),
            "parts": {str(number): name for number, name in self.parts.items()},
            "classes": {str(number): name for number, name in self.classes.items()},
            "parts_of": {str(number): list(found) for number, found in self.parts_of.items()},
        }


def _scored(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    known = target >= 0
    loss = ratio(F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="sum"), known.sum())
    right = ratio(((logits.detach().argmax(dim=-1) == target) & known).sum(), known.sum())
    return loss, right
