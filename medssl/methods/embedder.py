"""An encoder with a head: what student and teacher are in the methods that give one vector an image."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.encoders.contract import Encoder
from medssl.methods.contract import Method

__all__ = ["Embedder", "InEmbedder"]


class Embedder(nn.Module):
    """Images (N, C, z, y, x) to pooled features and what a head makes of them.

    Args:
        encoder: The encoder.
        head: Takes (N, encoder.embedding_dim).
    """

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's embedding, (N, embedding_dim), float32, and the head's output."""
        pooled = self.encoder.embed(images)
        return pooled, self.head(pooled)


class InEmbedder(Method):
    """A method whose encoder is the one of its ``network``, an `Embedder`."""

    network: Embedder

    @property
    def encoder(self) -> Encoder:  # type: ignore[override]
        """The encoder that is kept after pretraining."""
        return self.network.encoder
