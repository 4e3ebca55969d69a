"""The contract of a kind of data, and the table of them: a verb asks its domain, and never what it holds."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from medssl.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from medssl.domains.deciding import Deciding, Machine
    from medssl.domains.dense import Dense
    from medssl.domains.exports import Exports
    from medssl.domains.labels import StoreLabels
    from medssl.domains.predicting import NewItems
    from medssl.domains.task import Task
    from medssl.domains.training import Training
    from medssl.domains.vectors import Vectors
    from medssl.engine.card import Card
    from medssl.settings import Settings
    from medssl.table import Row, Table

__all__ = [
    "DOMAINS",
    "Domain",
    "Features",
    "Probed",
    "Samples",
    "domain_named",
    "domain_of",
    "domain_of_card",
    "domain_with",
    "domains",
    "store_for",
]

# Rows hold dotted paths: this package knows nothing of clouds, and asking for one domain loads no other.
DOMAINS: dict[str, str] = {"volumes": "medssl.volumes.VOLUMES", "points": "pointcloud.domain.POINTS"}


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
        again: Vectors of the same rows, of other draws of what a sample takes of its item; none where it takes all.
    """

    keys: tuple[str, ...]
    patients: tuple[str, ...]
    truth: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.floating]
    note: str = ""
    again: tuple[npt.NDArray[np.floating], ...] = ()

    def of_draw(self, draw: int) -> npt.NDArray[np.floating]:
        """Return the vectors of one draw of what samples take."""
        return (self.vectors, *self.again)[draw % (1 + len(self.again))]


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
        lacks: Settings of the group ``data`` that mean nothing for it, and what of items it lacks for them.
        parts: Dotted paths of what verbs ask for: its tables (methods, encoders, tasks), and the modules behind the
            contracts of this package (training, new_items, vectors, exporting, deciding). Listing a domain loads none.
        repools: Whether another pooling of a trained encoder may be taken.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    owner: ClassVar[str]
    kind: ClassVar[str]
    listing: ClassVar[str]
    recipes: ClassVar[Mapping[str, str | None]]
    lacks: ClassVar[Mapping[str, str]] = {}
    parts: ClassVar[Mapping[str, str]]
    repools: ClassVar[bool] = False

    def _part(self, name: str) -> Any:
        return pkgutil.resolve_name(self.parts[name])

    @property
    def methods(self) -> Table[Row]:
        """The table of pretraining methods."""
        found: Table[Row] = self._part("methods")
        return found

    @property
    def encoders(self) -> Table[Row]:
        """The table of encoders."""
        found: Table[Row] = self._part("encoders")
        return found

    @property
    def tasks(self) -> Table[Row]:
        """The table of tasks: what can be learned, by the name that ``finetune --task`` takes."""
        found: Table[Row] = self._part("tasks")
        return found

    def task(self, name: str) -> Task:
        """Return a task of the table.

        Raises:
            ConfigError: There is none of this name.
        """
        found: Task = self.tasks.load(name)()
        return found

    @property
    def training(self) -> Training:
        """What training asks of it."""
        found: Training = self._part("training")
        return found

    @property
    def new_items(self) -> NewItems:
        """What predicting new files asks of it."""
        found: NewItems = self._part("new_items")
        return found

    @property
    def vectors(self) -> Vectors:
        """What embedding asks of it."""
        found: Vectors = self._part("vectors")
        return found

    @property
    def exporting(self) -> Exports:
        """What exporting asks of it."""
        found: Exports = self._part("exporting")
        return found

    def deciding(self, settings: Any, machine: Machine, *, small: bool) -> Deciding:
        """Return what decides in a chain of ``auto``; see `Deciding`."""
        found: Deciding = self._part("deciding")(settings, machine, small=small)
        return found

    def refuse_moot(self, data: Settings) -> None:
        """Refuse settings of what to read that mean nothing for this kind of data.

        Raises:
            ValueError: One is not at its default.
        """
        for key, what in self.lacks.items():
            field = type(data).model_fields.get(key)
            if field is not None and getattr(data, key) != field.default:
                others = " and ".join(f"{domain.noun}s" for domain in domains() if key not in domain.lacks)
                raise ValueError(f"data.{key} is of the {what} of {others}; {self.noun}s have none: leave it out")

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

    def architecture(self, encoder: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of an encoder of a card: one written before one was added means that one's default."""
        return self.encoders.settings_of(encoder).model_dump(mode="json")

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

    def start_words(self, card: Card, store: Any, run: Path) -> str:
        """Return what is doubtful about weights that go on with a store's items unchanged; "" where nothing is.

        Raises:
            ConfigError: They do not fit them.
        """
        return ""

    @abstractmethod
    def encoder(self, run: Path) -> nn.Module:
        """Return a run's encoder in evaluation mode."""

    def fresh_encoder(self, card: Card) -> nn.Module:
        """Return an encoder of a card's architecture, its weights drawn from torch's generator."""
        return self.training.encoder(card.encoder)

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
    domain: Domain = pkgutil.resolve_name(DOMAINS[name])
    return domain


def domain_with(table: str, name: str) -> Domain:
    """Return the domain whose table has a row of this name.

    Args:
        table: "methods", "encoders" or "tasks".
        name: Of the row.

    Raises:
        StopIteration: None has.
    """
    return next(domain for domain in domains() if name in getattr(domain, table))


def store_for(domain: Domain, folder: Path, *, chosen: str, instead: Callable[[Domain], str]) -> Any:
    """Open a store of a domain.

    Args:
        domain: What the settings are for.
        folder: The store.
        chosen: What makes them so: "the encoder 'unet'".
        instead: What to take, a sentence, where the folder holds another kind of data.

    Raises:
        ConfigError: It does.
        CacheError: There is none, or it is damaged.
    """
    held = next((other for other in domains() if other.claims(folder)), domain)
    if held is not domain and not domain.claims(folder):
        raise ConfigError(f"{folder} holds {held.noun}s, and {chosen} is for {domain.noun}s. {instead(held)}")
    return domain.open(folder)


def domain_of_card(card: Card) -> Domain:
    """Return the domain of an encoder."""
    return next(domain for domain in domains() if domain.kind == card.kind)


def domain_of(data: Path, card: Card | None = None) -> Domain:
    """Return the domain of a store; of a folder that holds two, the encoder's; volumes of whatever is no store."""
    claimed = [domain for domain in domains() if domain.claims(data)]
    if card is not None and len(claimed) > 1:
        return domain_of_card(card)
    return claimed[0] if claimed else domain_named("volumes")
