"""What training asks of a kind of data: its batches, its networks' cards, and words for what is read.

``pretrain`` and the tasks of ``finetune`` ask alike. Settings are those of either verb: both have the groups
``encoder``, ``train`` and ``data``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from medssl.batch import Batch
from medssl.command import Command
from medssl.domains.choosing import Chosen
from medssl.engine.card import Card
from medssl.engine.loop import Loader
from medssl.engine.run import Run
from medssl.methods.contract import Method
from medssl.settings import Resolved, Settings

__all__ = ["Trained", "Training"]

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An encoder, and what its card says of how it came about.

    Attributes:
        encoder: What was trained.
        entries: What it was trained on.
        settings: Of the run.
        plan: What its method took of the store.
        method: What the method or task says of itself.
        data: Facts about what it was trained on.
        citation: Papers to cite.
    """

    encoder: nn.Module
    entries: Sequence[Any]
    settings: Any
    plan: Any
    method: Mapping[str, Any]
    data: Mapping[str, Any]
    citation: Sequence[str]


class Training(ABC):
    """Training on a kind of data; it holds no state."""

    def fitted(self, resolved: Resolved[S], store: Any) -> Resolved[S]:
        """Return the settings with what the store decides.

        Raises:
            ConfigError: What was asked for does not fit it.
        """
        return resolved

    def as_input(
        self, store: Any, train: Sequence[str], settings: Any, *, start: str | Path | None, resumed: Path | None
    ) -> Any:
        """Return a store as the network's input.

        Args:
            store: All items that are read.
            train: Ids of those that are trained on, which numbers are fitted to.
            settings: Of the run.
            start: The run whose weights it starts from.
            resumed: The run's folder, where it goes on.
        """
        return store

    def taken(self, store: Any, card: Card) -> Any:
        """Return a store as input of the kind that a trained network takes."""
        return store

    def record(self, run: Run, entries: Sequence[Any]) -> None:
        """Write into the run's folder what going on with it must know."""
        return

    @abstractmethod
    def encoder(self, settings: Settings | Mapping[str, Any]) -> nn.Module:
        """Return a fresh encoder."""

    @abstractmethod
    def method(self, settings: Any, encoder: nn.Module) -> Method:
        """Return the pretraining method around an encoder.

        Raises:
            ConfigError, ValueError: They do not fit each other.
        """

    def shown(self, method: Method, store: Any) -> None:
        """Tell a method how its pictures show what is trained on."""
        return

    @abstractmethod
    def loader(self, train: Any, plan: Any, settings: Any, *, rank: int, world_size: int, pin: bool) -> Loader:
        """Return one process's batches of what is trained on."""

    @abstractmethod
    def held_out(self, store: Any, plan: Any, settings: Any) -> Sequence[Batch]:
        """Return what is only looked at, in batches."""

    def probe(self, chosen: Chosen[Any], plan: Any, settings: Any) -> Callable[[Method], Mapping[str, float]] | None:
        """Return what pretraining measures beside the method's own probe; None where nothing is."""
        return None

    @abstractmethod
    def data_words(self, train: Any) -> str:
        """Return what the items are, for the line that names the store."""

    def reading_doubts(self, train: Any, plan: Any) -> list[str]:
        """Return what is doubtful about reading these items by such windows, a line each."""
        return []

    @abstractmethod
    def window_words(self, plan: Any, settings: Any) -> str:
        """Return what a step takes, after its number: "windows of 64 x 64 x 64"."""

    def counted(self, train: Any, plan: Any, settings: Any) -> tuple[int, str] | None:
        """Return how many things an epoch goes through, and what they are called; None where they are the items."""
        return None

    @abstractmethod
    def card(self, trained: Trained) -> Card:
        """Return the card of a trained encoder."""

    def tuned_facts(self, entries: Sequence[Any], settings: Any) -> dict[str, Any]:
        """Return what the card of a fine-tuned network says of the files that it saw, and of how it predicts."""
        return {"predicts": {"precision": settings.train.precision}}

    def input_words(self, entries: Sequence[Any]) -> str:
        """Return how the input is normalised, for a line about the data; "" where that is as always."""
        return ""

    def pictures(self, method: Method, held_out: Sequence[Batch], out: Path) -> list[Path]:
        """Draw what the trained encoder shows, into the run's folder; return the files."""
        return []

    @abstractmethod
    def following(self, out: str, entries: Sequence[Any], plan: Any, settings: Any) -> tuple[Command, str]:
        """Return the command that a user may want after pretraining; or none, and what must be there first.

        Args:
            out: The run.
            entries: All that the store holds.
            plan: What a step took: fine-tuning on a CPU keeps its window.
            settings: Of the run.
        """
