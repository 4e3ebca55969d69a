"""What every pretraining method and every fine-tuning task is to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

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
        terms: Named scalars with a graph whose sum is the total; a method gives them that says what they count over
            (`Method.counted`). Empty where the total is a mean over items.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    signals: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """Views, an encoder and an objective. Knows nothing of files, devices or ranks.

    State beyond parameters (queue, centre, teacher) lives in buffers or submodules, so it is in the checkpoint.
    Losses are computed in float32. ``encoder`` is what is kept after pretraining.

    A loss is that of the whole batch, over all processes (`medssl.gathering`). Where `train.accumulate` cuts a batch
    into parts, each is weighed so that the step is that of the whole, as far as items are independent of each other.

    Attributes:
        coupled: What of the loss is among the items of a batch, and so of a part where it is cut; empty where nothing
            is. Batch norms need no mention.
        alone: Why several processes would not train what one does, and what to do; empty where they do.
        rows_per_item: Rows of the batch that the loader gives each item; 1 unless joined with a method of several.
        pools: Whether its loss is of the encoder's embedding, so that a pooling with weights is trained.
        pairs_channels: Whether it compares two views of an item, so that each may show a channel of its own.
        black_white: Values of the input that pictures draw black and white.
        items_per_step: Scans a step by which `auto` trains it, with small presets and with large ones.
        windows_per_item: Windows of each of them.
        unfit: Why `auto` cannot fit its views, a sentence without its stop; empty where it can.
        smallest_encoder: Name of the encoder that `smallest` goes with.
    """

    items_per_step: ClassVar[tuple[int, int]] = (8, 16)
    windows_per_item: ClassVar[int] = 1
    unfit: ClassVar[str] = ""
    smallest_encoder: ClassVar[str] = "unet"

    pools: bool = False
    pairs_channels: bool = False
    encoder: nn.Module
    coupled: str = ""
    alone: str = ""
    rows_per_item: int = 1
    black_white: tuple[float, float] = (0.0, 1.0)

    @property
    @abstractmethod
    def plan(self) -> Any:
        """What the method wants from the store: a ``WindowPlan`` of scans, a ``CloudPlan`` of clouds."""

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Return the settings of its smallest run, beside its name: of tests, and of a first try on a laptop.

        They go with `Encoder.smallest` of ``smallest_encoder``.
        """
        raise NotImplementedError(f"{cls.__name__} is no pretraining method of a table, or lacks its smallest settings")

    @classmethod
    def fit(cls, room: Any) -> dict[str, Any]:
        """Return the settings of its views, nested, that follow from the scans or clouds; see ``unfit``.

        Args:
            room: What they leave to views: a `medssl.methods.fitting.Room` of scans, a `CloudRoom` of clouds.
        """
        raise NotImplementedError(f"{cls.__name__}: {cls.unfit or 'nothing says how its views are fitted'}")

    def begin(self, items: int) -> None:
        """Make the state that each item has (temperatures, running estimates), before a checkpoint is loaded.

        Args:
            items: Numbers that ``item`` of a batch takes: it lies in [0, ``items``).
        """

    def check(self) -> None:
        """Look for what would fail at the first step though the method could be built; it costs nothing.

        Raises:
            ConfigError: A view is too small for the encoder.
            ValueError: Views and settings do not fit each other.
        """

    def exported_modules(self) -> dict[str, nn.Module]:
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

    def counted(self, views: Any) -> dict[str, Tensor]:
        """Return how much each of the loss's ``terms`` counts over, a scalar; a term that is not named counts items."""
        return {}

    def after_step(self, progress: float) -> None:
        """Update what is not trained by gradients (the teacher, a queue), after the optimiser's step."""

    def pictures(self, views: Any) -> dict[str, Tensor]:
        """Return named stacks that show the first batch as the network sees it.

        Images are (N, C, z, y, x) in [0, 1]; each channel is drawn. Clouds are (N, points, 3), or (N, points, 4) with
        a value in [0, 1] that colours each point; points that are NaN are not drawn.
        """
        return {}

    def displayed(self, images: Tensor) -> Tensor:
        """Return images of the input as pictures show them, in [0, 1]."""
        black, white = self.black_white
        return ((images.detach() - black) / (white - black)).clamp(0, 1)

    def probe(self, views: Any) -> dict[str, Tensor]:
        """Return named scalars measured on held-out items without gradients: the signals that say when to stop."""
        return {}

    def chance(self, views: Any) -> dict[str, Tensor]:
        """Return what signals of ``probe`` are worth to whoever knows nothing of these items, by the same names.

        That is a guess, or the best answer that is the same for all; signals that judge nothing have none.
        """
        return {}


def summed(parts: dict[str, Tensor], signals: dict[str, Tensor]) -> Losses:
    """Return losses whose total is the sum of their parts."""
    total = torch.stack(list(parts.values())).sum()
    return Losses(total, {name: part.detach() for name, part in parts.items()}, signals, parts)
