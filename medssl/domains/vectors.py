"""What embedding asks of a kind of data: one vector an item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from medssl.engine.card import Card

__all__ = ["Ready", "Vectors"]


@dataclass(frozen=True)
class Ready:
    """Items that are ready to be embedded.

    Attributes:
        words: What will be done, in one line.
        embed: Does it, told whom to tell how many items are done; returns the table and what is to say of it.
    """

    words: str
    embed: Callable[[Callable[[int], None]], tuple[Any, str]]


class Vectors(ABC):
    """Embedding a kind of data; it holds no state.

    Attributes:
        own: Settings of ``embed`` that are of this kind alone.
    """

    own: ClassVar[tuple[str, ...]]

    def misfits(self, card: Card, store: Any) -> list[str]:
        """Return how a store differs from what published weights were trained on; nothing of weights of our own."""
        return []

    @abstractmethod
    def ready(self, run: Path, card: Card, store: Any, settings: Any, device: Any) -> Ready:
        """Return what embeds a store's items.

        Args:
            run: A run with an encoder.
            card: Its card.
            store: The items.
            settings: Of ``embed``.
            device: Where it computes.

        Raises:
            ConfigError: A setting does not fit the encoder.
            CheckpointError: The run has no finished encoder.
        """
