"""What every encoder of clouds gives: features at places of the cloud, coarse and fine, and one embedding of it all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

__all__ = ["CloudEncoder", "CloudFeatures", "Level"]


@dataclass(frozen=True)
class Level:
    """Features at places of clouds, padded to the longest.

    Attributes:
        features: (B, T, C); those of padding have no meaning.
        places: float32, (B, T, 3), where each feature lies.
        count: int64, (B,), how many places each cloud has.
    """

    features: Tensor
    places: Tensor
    count: Tensor


@dataclass(frozen=True)
class CloudFeatures:
    """What an encoder says of a batch.

    Attributes:
        levels: Finest first.
        embedding: float32, (B, embedding_dim).
    """

    levels: tuple[Level, ...]
    embedding: Tensor


class CloudEncoder(nn.Module, ABC):
    """A network from clouds to features.

    What it says of a cloud depends neither on the order of its points, nor on padding, nor (in evaluation mode) on the
    other clouds of the batch.

    Attributes:
        channels: Channels of each level, finest first.
        embedding_dim: Length of the embedding.
        compiles: ``train.compile`` compiles it.
    """

    compiles: ClassVar[bool] = True
    channels: tuple[int, ...]
    embedding_dim: int

    @classmethod
    def smallest(cls) -> dict[str, Any]:
        """Return the settings of its smallest network, beside its name: of tests, and of a first try on a laptop."""
        raise NotImplementedError(f"{cls.__name__} lacks its smallest settings")

    @abstractmethod
    def forward(self, points: Tensor, count: Tensor) -> CloudFeatures:
        """Return the features of clouds.

        Args:
            points: float32, (B, N, 3), about the cloud's middle and of a size near 1.
            count: int64, (B,), how many rows of each cloud are points; those after them are padding.
        """

    def embed(self, points: Tensor, count: Tensor) -> Tensor:
        """Return one float32 vector a cloud, (B, embedding_dim); arguments as in ``forward``."""
        embedding: Tensor = self(points, count).embedding
        return embedding
