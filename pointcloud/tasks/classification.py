"""Classification of clouds as a method: points in, one class out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medssl.gathering import mean_of_all, ratio
from medssl.methods.contract import Losses
from medssl.randomness import Stream
from pointcloud.batch import CloudBatch, CloudPlan
from pointcloud.encoders.contract import CloudEncoder
from pointcloud.methods.contract import picture_of
from pointcloud.tasks.contract import CloudTask, places_of
from pointcloud.tasks.networks import CloudClassifier
from pointcloud.tasks.settings import CloudTaskSettings

__all__ = ["CloudClassificationTask", "LabelledClouds"]


@dataclass(frozen=True)
class LabelledClouds:
    """``points`` (B, N, 3), ``count`` (B,), ``target`` int64 (B,): the class's place, -1 where it is not known."""

    points: Tensor
    count: Tensor
    target: Tensor


class CloudClassificationTask(CloudTask):
    """A network that names the class of a cloud.

    Args:
        settings: Points, head and augmentation.
        encoder: The encoder, pretrained or not.
        classes: Names of the classes by their numbers in the store.
    """

    name = "classification"

    def __init__(self, settings: CloudTaskSettings, encoder: CloudEncoder, classes: Mapping[int, str]) -> None:
        network = CloudClassifier(encoder, len(classes), settings)
        super().__init__(settings, network)
        self.network: CloudClassifier = network
        self.classes = dict(classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the logits stand for."""
        return tuple(self.classes.values())

    @property
    def plan(self) -> CloudPlan:
        """So many points of each cloud."""
        return CloudPlan(points=self.settings.points)

    def views(self, batch: CloudBatch, stream: Stream) -> LabelledClouds:
        """Place the clouds in their unit spheres, and augment them while training."""
        points, count = self.augmented(batch, stream)
        return LabelledClouds(points, count, places_of(batch.label, tuple(self.classes)))

    def forward(self, views: LabelledClouds, progress: float) -> Losses:
        """Return the cross-entropy of the clouds whose class is known."""
        logits = self.network(views.points, views.count)
        known = (views.target >= 0).sum()
        loss = ratio(F.cross_entropy(logits, views.target, ignore_index=-1, reduction="sum"), known)
        right = mean_of_all((logits.detach().argmax(dim=1) == views.target).float())
        return Losses(loss, {"cross_entropy": loss.detach()}, {"accuracy": right}, {"cross_entropy": loss})

    def counted(self, views: LabelledClouds) -> dict[str, Tensor]:
        """Return how many clouds have a class."""
        return {"cross_entropy": (views.target >= 0).sum()}

    def pictures(self, views: LabelledClouds) -> dict[str, Tensor]:
        """Return the clouds."""
        return {"clouds": picture_of(views.points, views.count)}

    @torch.no_grad()
    def probe(self, views: LabelledClouds) -> dict[str, Tensor]:
        """Return accuracy and cross-entropy."""
        logits = self.network(views.points, views.count)
        right = (logits.argmax(dim=1) == views.target).float().mean()
        return {"accuracy": right, "cross_entropy": F.cross_entropy(logits, views.target, ignore_index=-1)}

    def described(self, *, start: str) -> dict[str, Any]:
        """Return what a card's ``method`` holds of a classifier that started from the weights of run ``start``."""
        return {**self.facts(start=start), "classes": {str(n): name for n, name in self.classes.items()}}
