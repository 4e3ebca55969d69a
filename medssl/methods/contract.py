"""What every pretraining method and every fine-tuning task is to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from medssl.randomness import Stream
from medssl.windows import WindowBatch, WindowPlan

__all__ = ["Losses", "Method"]


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
    """

    encoder: nn.Module

    @property
    @abstractmethod
    def plan(self) -> WindowPlan:
        """The windows that the method wants from the store."""

    def kept(self) -> dict[str, nn.Module]:
        """What outlives pretraining, by name; each is saved as NAME.safetensors."""
        return {"encoder": self.encoder}

    @abstractmethod
    def views(self, batch: WindowBatch, stream: Stream) -> Any:
        """Cut and augment views on the batch's device; deterministic given ``stream``. Returns what forward takes."""

    @abstractmethod
    def forward(self, views: Any, progress: float) -> Losses:
        """Return the losses of the views; ``progress`` in [0, 1] is the share of the run that is done."""

    def after_step(self, progress: float) -> None:
        """Update what is not trained by gradients (the teacher, a queue), after the optimiser's step."""

    def pictures(self, views: Any) -> dict[str, Tensor]:
        """Return named image stacks, (N, 1, z, y, x) in [0, 1], that show the first batch as the network sees it."""
        return {}

    def probe(self, views: Any) -> dict[str, Tensor]:
        """Return named scalars measured on held-out windows without gradients: the signals that say when to stop."""
        return {}
