"""The contract of a kind of data, and the table of them: a verb asks its domain, and never what it holds."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from medssl.domains.dense import Dense
    from medssl.domains.labels import StoreLabels
    from medssl.domains.task import Task
    from medssl.engine.card import Card

__all__ = [
    "DOMAINS",
    "Domain",
    "Features",
    "Items",
    "Probed",
    "Samples",
    "domain_named",
    "domain_of",
    "domain_of_card",
    "domains",
]

# Rows hold dotted paths: this package knows nothing of clouds, and asking for one domain loads no other.
DOMAINS: dict[str, str] = {"volumes": "medssl.volumes.VOLUMES", "points": "pointcloud.domain.POINTS"}


class Items(Protocol):
    """A store; an entry has an id, a patient and a split."""

    folder: Path

    @property
    def entries(self) -> Sequence[Any]:
        """What it holds."""
        ...

    def subset(self, ids: Iterable[str]) -> Self:
        """Return the store of these alone."""
        ...


class Samples(Protocol):
    """What a probe embeds, one vector each or several joined."""

    def __len__(self) -> int:
        """Return how many pass through the encoder."""
        ...

    def patients(self) -> list[str]:
        """Return the patient of each."""
        ...


@dataclass(frozen=True)
class Features:
    """Vectors row by row; N of them.

    Attributes:
        keys: What names each row: the item, with the slice where a row is one.
        patients: The patient of each.
        truth: Classes, (N,).
        vectors: (N, D).
        note: What a person should know of them; "" for nothing.
    """

    keys: tuple[str, ...]
    patients: tuple[str, ...]
    truth: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.floating]
    note: str = ""


class Probed(Protocol):
    """What frozen encoders are asked of a store."""

    @property
    def asked(self) -> str:
        """What is asked, in words: "diagnosis"."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, the last of two the positive one."""
        ...

    def class_of(self, entry: Any) -> str | None:
        """Return the class of an item, None where it is not known."""
        ...

    def samples(self, store: Any) -> Samples:
        """Return the samples of known class of a store."""
        ...

    def features(self, encoder: nn.Module, card: Card, samples: Any, progress: Callable[[int], None]) -> Features:
        """Return what an encoder makes of samples that come as its card says; ``progress`` counts those done."""
        ...


class Domain(ABC):
    """A kind of data.

    Attributes:
        name: Its name in `DOMAINS`.
        noun: What an item is called.
        owner: Whose labels are drawn.
        kind: As the card of an encoder has it.
        listing: The file by which its store is known.
        recipes: The preset of ``finetune`` for each task where none is named; None for its defaults.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    owner: ClassVar[str]
    kind: ClassVar[str]
    listing: ClassVar[str]
    recipes: ClassVar[Mapping[str, str | None]]

    @cached_property
    @abstractmethod
    def tasks(self) -> dict[str, Task]:
        """The table of tasks: what can be learned, by the name that ``finetune --task`` takes."""

    @property
    def fallback(self) -> Task | None:
        """The task of predictions that no task claims, such as those of another tool; None for none."""
        return None

    def claims(self, folder: Path) -> bool:
        """Tell whether a folder is a store of this kind."""
        return (folder / self.listing).is_file()

    @abstractmethod
    def open(self, folder: str | Path) -> Any:
        """Open a store; see `Items`.

        Raises:
            CacheError: There is none, or it is damaged.
        """

    @abstractmethod
    def labels_of(self, store: Any) -> StoreLabels:
        """Return which labels a store has; `suited_task` says what is learned where nothing else does."""

    @abstractmethod
    def architecture(self, encoder: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of an encoder of a card: one written before one was added means that one's default."""

    def check_kind(self, card: Card, data: Path, run: Path) -> None:
        """Refuse a run whose encoder is of another kind of data.

        Raises:
            ConfigError: It is.
        """
        if card.kind != self.kind:
            theirs = domain_of_card(card).noun
            raise ConfigError(
                f"{run} is an encoder of {theirs}s: it takes a store of {theirs}s, and {data} holds none."
            )

    def check_inputs(self, card: Card, store: Any, run: Path) -> None:
        """Refuse a trained network that does not take what a store holds, such as other channels.

        Raises:
            ConfigError: It does not.
        """
        return None

    def doubts(self, card: Card, entries: Sequence[Any]) -> list[str]:
        """Return how items to train on differ from what an encoder was pretrained on, where that is worth a thought."""
        return []

    @abstractmethod
    def encoder(self, run: Path) -> nn.Module:
        """Return a run's encoder in evaluation mode."""

    @abstractmethod
    def fresh_encoder(self, card: Card) -> nn.Module:
        """Return an encoder of a card's architecture, its weights drawn from torch's generator."""

    @abstractmethod
    def probed(self, store: Any, settings: Any, card: Card) -> Probed:
        """Return what frozen encoders are asked of a store.

        Args:
            store: All items.
            settings: The group ``probe`` of ``evaluate``.
            card: Of the first run.

        Raises:
            ConfigError, DataError: The store knows no such classes.
        """

    @abstractmethod
    def dense(self, store: Any, settings: Any, card: Card) -> Dense:
        """Return the store seen place by place.

        Args:
            store: All items.
            settings: A `DenseProbeSettings` of ``evaluate``.
            card: Of the first run.

        Raises:
            ConfigError, DataError: Places cannot be seen as the settings say, or have no labels.
        """


def domains() -> list[Domain]:
    """Return every kind of data."""
    return [domain_named(name) for name in DOMAINS]


def domain_named(name: str) -> Domain:
    """Return the domain of this name."""
    module, _, found = DOMAINS[name].rpartition(".")
    domain: Domain = getattr(importlib.import_module(module), found)
    return domain


def domain_of_card(card: Card) -> Domain:
    """Return the domain of an encoder."""
    return next(domain for domain in domains() if domain.kind == card.kind)


def domain_of(data: Path, card: Card | None = None) -> Domain:
    """Return the domain of a store; of a folder that holds two, the encoder's; volumes of whatever is no store."""
    claimed = [domain for domain in domains() if domain.claims(data)]
    if card is not None and len(claimed) > 1:
        return domain_of_card(card)
    return claimed[0] if claimed else domain_named("volumes")
