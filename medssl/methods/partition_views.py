"""What the two stages of Chaitanya et al. share: images of each part of a scan, versions of them, how to look at them.

Reference:
    Chaitanya, Erdil, Karani, Konukoglu, NeurIPS 2020, arXiv:2006.10511.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Method
from medssl.methods.fitting import Room
from medssl.methods.settings.partition_views import PartitionSettings
from medssl.objectives.diagnostics import effective_rank, feature_spread
from medssl.windows import WindowPlan

__all__ = ["PartitionMethod", "PartitionSettings", "PartitionViews"]

_PARTITIONS = 4


@dataclass(frozen=True)
class PartitionViews:
    """``images`` (B, V, C, z, y, x), the versions that the loss compares; ``part`` (B,), scan-major."""

    images: Tensor
    part: Tensor


class PartitionMethod(Method):
    """A method that takes one window in each part of a scan.

    Args:
        settings: What images are.
        encoder: What is pretrained; the window must fit its ``size_multiple``.

    Raises:
        ValueError: If the window does not fit.
    """

    items_per_step: ClassVar[tuple[int, int]] = (4, 4)
    windows_per_item: ClassVar[int] = _PARTITIONS

    def __init__(self, settings: PartitionSettings, encoder: Encoder) -> None:
        super().__init__()
        if any(w % m for w, m in zip(settings.window, encoder.size_multiple, strict=True)):
            raise ValueError(f"The window {settings.window} must be a multiple of {encoder.size_multiple}.")
        self.partition_settings = settings
        self.encoder = encoder

    @classmethod
    def fit(cls, room: Room) -> dict[str, Any]:
        """Cut the window into parts along z."""
        step = room.multiple[0]
        z = max(room.least[0], room.window[0] // (_PARTITIONS * step) * step)
        return {"window": [z, *room.window[1:]], "partitions": _PARTITIONS}

    def check(self) -> None:
        """See that the encoder takes images of this size."""
        self.encoder.check_size(self.partition_settings.window)  # type: ignore[operator]

    @property
    def plan(self) -> WindowPlan:
        """One window in each partition of a scan."""
        chosen = self.partition_settings
        placement = "body" if chosen.within == "body" else "anywhere"
        return WindowPlan(
            size=chosen.window, placement=placement, count=chosen.partitions, relation="partitions", axis=0
        )

    def described(self, images: Tensor) -> Tensor:
        """Return one vector an image, (B, D), float32: the pooled embedding, or what a method takes in its place."""
        pooled: Tensor = self.encoder.embed(images)  # type: ignore[operator]
        return pooled

    def pictures(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return the first scan's images part by part, in each version."""
        number = self.partition_settings.partitions
        shown = self.displayed(views.images[:number])
        return {f"version {v}, part by part": shown[:, v] for v in range(shown.shape[1])}

    def probe(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return how often the nearest image of another scan shows the same part, and how far features spread."""
        features = self.described(views.images[:, 0])
        deviation, mean = torch.std_mean(features, dim=0, unbiased=False)
        unit = nn.functional.normalize((features - mean) / deviation.clamp(min=1e-6), dim=1)
        scan = torch.arange(len(features), device=features.device) // self.partition_settings.partitions
        measured = {"spread": feature_spread(features), "effective_rank": effective_rank(features)}
        if int(scan[-1]) > 0:
            cosine = (unit @ unit.T).masked_fill(scan[:, None] == scan[None], float("-inf"))
            right = views.part[cosine.argmax(dim=1)] == views.part
            measured["part_accuracy"] = right.float().mean()
        return measured

    def chance(self, views: PartitionViews) -> dict[str, Tensor]:
        """Return how often an image of another scan shows the same part."""
        if len(views.images) <= self.partition_settings.partitions:
            return {}
        return {"part_accuracy": torch.tensor(1.0 / self.partition_settings.partitions, device=views.images.device)}
