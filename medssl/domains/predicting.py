"""What predicting new files asks of a kind of data: which items there are, how one is read, and what is said of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from medssl.engine.card import Card, CardInput
from medssl.manifest.schema import Manifest, manifest_of_rows
from medssl.prediction import Target, Written

__all__ = [
    "Asked",
    "Failed",
    "Inputs",
    "Item",
    "NewItems",
    "Prepared",
    "Row",
    "Takes",
    "Worker",
    "alone",
    "failed_row",
    "shown_of",
]

Row = dict[str, Any]


@dataclass(frozen=True)
class Takes:
    """What a run takes.

    Attributes:
        domain: The kind of data, a `Domain`.
        channels: The channels of its input, in their order.
        fills: Whether a case may lack a channel, as some that it was trained on did.
        run: The run, for messages.
    """

    domain: Any
    channels: tuple[CardInput, ...]
    fills: bool
    run: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels."""
        return tuple(channel.name for channel in self.channels)


@dataclass(frozen=True)
class Item:
    """One scan, case or cloud.

    Attributes:
        id: Its name, safe as a file name, like no other's.
        shown: Its file as seen from what the person named.
        manifest: Its row, or the rows of its channels.
        channels: Names of its channels in the order of the run's, as the manifest spells them; "scans" of a scan.
        said: What was guessed or changed, in sentences.
    """

    id: str
    shown: str
    manifest: Manifest
    channels: str = "scans"
    said: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        """The row of its first channel."""
        return next(self.manifest.rows())

    @property
    def pseudonymous(self) -> bool:
        """Whether what is kept of it must not name its patient."""
        return self.manifest.pseudonymous

    @property
    def names_nobody(self) -> bool:
        """Whether it is a series whose patient must not be named, as a DICOM SEG of it would."""
        return self.pseudonymous and str(self.row["format"]) == "dicom"


@dataclass(frozen=True)
class Failed:
    """What should be predicted and cannot be.

    Attributes:
        id: Its name, like no other's.
        shown: Its file as seen from what the person named.
        path: Its file.
        reason: Why, in a sentence without names of files.
    """

    id: str
    shown: str
    path: str
    reason: str


@dataclass
class Inputs:
    """What was found.

    Attributes:
        items: What is predicted.
        failed: What should be and cannot be.
        skipped: Reason -> how many things were passed over.
        notes: What a person should know of the folders.
    """

    items: list[Item] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """An item as the network sees it.

    Attributes:
        entry: What its store says of it.
        predicted: Predicts it; called once.
        differs: How it differs from what was trained on.
        write: Writes what was predicted.
    """

    entry: Any
    predicted: Callable[[], Any]
    write: Callable[[Any, Target], Written]
    differs: tuple[str, ...]


class Worker(Protocol):
    """How items of a kind are predicted."""

    def key(self, item: Item) -> str:
        """Return a hash of an item's bytes and of how it is prepared."""
        ...

    def prepare(self, item: Item, folder: Path) -> Prepared:
        """Read an item and store it in ``folder``.

        Raises:
            MedSSLError: It cannot be read, or is not fit to be predicted.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What items are made of, and for whom.

    Attributes:
        manifest: Of a folder.
        takes: What a run takes.
        wanted: Its channels.
        settings: Of ``predict``.
    """

    manifest: Manifest
    takes: Takes
    wanted: tuple[str, ...]
    settings: Any


class NewItems(ABC):
    """New items of a kind of data; it holds no state. Settings are those of ``predict``."""

    def channels(self, card: Card) -> tuple[CardInput, ...]:
        """Return the channels of a run's input; none where items have none."""
        return ()

    @abstractmethod
    def wanted(self, takes: Takes, settings: Any) -> tuple[str, ...]:
        """Return what the new items call the run's channels, in the run's order; () where each item is one.

        Raises:
            ConfigError: They are not the run's.
        """

    def described(self, build: Callable[..., Manifest], wanted: tuple[str, ...], settings: Any) -> Manifest:
        """Return the manifest of a folder; ``build`` makes it, given what are channels."""
        return build("none")

    def guesses(self, manifest: Manifest) -> list[str]:
        """Return what of a manifest is a guess, and what is passed over."""
        return []

    @abstractmethod
    def sorted(self, rows: Sequence[Row], asked: Asked, found: Inputs) -> None:
        """Make items of the readable rows of a manifest, in ``found``.

        Raises:
            ConfigError: Settings do not fit them.
        """

    @abstractmethod
    def worker(self, predictor: Any, card: Card) -> Worker:
        """Return how items are predicted.

        Args:
            predictor: What predicts; see `medssl.prediction.Predictor`.
            card: The first run's card.
        """

    @abstractmethod
    def of_array(
        self, values: Any, work: Path, takes: Takes, *, affine: Any, spacing_mm: Sequence[float] | None, modality: str
    ) -> Item | Path:
        """Write an array as a file of its own, which is then read as any other.

        Args:
            values: The array.
            work: Where to.
            takes: What the run takes.
            affine: Of a scan, 4x4, RAS+ mm from (x, y, z) indices; None where ``spacing_mm`` is given.
            spacing_mm: Of a scan, (z, y, x).
            modality: Of a scan; "" for the run's.

        Raises:
            ConfigError: It has other axes or channels, or no voxel size.
            DataError: It holds what cannot be read.
        """


def alone(rows: Sequence[Row], channels: Sequence[str], whole: Manifest) -> Manifest:
    """Return the manifest of one item."""
    privacy = {"privacy": "pseudonyms"} if whole.pseudonymous else {}
    return manifest_of_rows(rows, settings={"channels": list(channels), **privacy})


def shown_of(row: Mapping[str, Any], manifest: Manifest) -> str:
    """Return a row's file as seen from the folder that was named, or its name alone; its id where names are hidden."""
    path = Path(row["path"])
    if row["format"] == "dicom" or manifest.pseudonymous:
        return str(row["id"])  # folders and files of DICOM are often called after people
    root = Path(manifest.root) if manifest.root else path.parent
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return f"{name}:{row['item']}" if row.get("item") else name


def failed_row(row: Mapping[str, Any], manifest: Manifest, reason: str) -> Failed:
    """Return that a row of a manifest cannot be predicted, and why."""
    return Failed(row["id"], shown_of(row, manifest), str(row["path"]), reason)
