"""What every pretraining method and every fine-tuning task is to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medssl.randomness import Stream

__all__ = ["Losses", "Method", "summed"]


@dataclass(frozen=True)
class Losses:
    """What a forward pass returns.

    Attributes:
        total: Scalar float32 tensor with a graph; what is minimised.
        parts: Named detached scalars that make up the total.
        signals: Named detached scalars worth watching (accuracy, spread, ...). Never read back within a step.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    signals: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """Views, an encoder and an objective. Knows nothing of files, devices or ranks.

    State beyond parameters (queue, centre, teacher) lives in buffers or submodules, so it is in the checkpoint.
    Losses are computed in float32. ``encoder`` is what is kept after pretraining.

    Attributes:
        pairs_channels: Whether it compares two views of an item, so that each may show a channel of its own.
    """

    pairs_channels: bool = False
    encoder: nn.Module

    @property
    @abstractmethod
    def plan(self) -> Any:
        """What the method wants from the store: a ``WindowPlan`` of scans, a ``CloudPlan`` of clouds."""

    def kept(self) -> dict[str, nn.Module]:
        """What outlives pretraining, by name; each is saved as NAME.safetensors."""
        return {"encoder": self.encoder}

    @abstractmethod
    def views(self, batch: Any, stream: Stream) -> Any:
        """Cut and augment views of the batch on its device; deterministic given ``stream``.

        Args:
            batch: What the plan asked for: a ``WindowBatch``, or a ``CloudBatch``.
            stream: The draws of each item.

        Returns:
            What ``forward`` takes.
        """

    @abstractmethod
    def forward(self, views: Any, progress: float) -> Losses:
        """Return the losses of the views; ``progress`` in [0, 1] is the share of the run that is done."""

    def after_step(self, progress: float) -> None:
        """Update what is not trained by gradients (the teacher, a queue), after the optimiser's step."""

    def pictures(self, views: Any) -> dict[str, Tensor]:
        """Return named stacks that show the first batch as the network sees it.

        Images are (N, C, z, y, x) in [0, 1]; each channel is drawn. Clouds are (N, points, 3), or (N, points, 4) with
        a value in [0, 1] that colours each point; points that are NaN are not drawn.
        """
        return {}

    def probe(self, views: Any) -> dict[str, Tensor]:
        """Return named scalars measured on held-out items without gradients: the signals that say when to stop."""
        return {}


def summed(parts: dict[str, Tensor], signals: dict[str, Tensor]) -> Losses:
    """Return losses whose total is the sum of their parts."""
    total = torch.stack(list(parts.values())).sum()
    return Losses(total, {name: part.detach() for name, part in parts.items()}, signals)
