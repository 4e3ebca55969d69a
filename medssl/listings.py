"""What a store of scans and one of clouds have in common: a JSON file lists its items, and parts of it are stores."""

from __future__ import annotations

import importlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar, runtime_checkable

from medssl.errors import CacheError, DataError, did_you_mean
from medssl.sheet import Sheet, ShowsItself, counts, said

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ListedStore", "checked_listing", "read_listing"]


class ListedItem(Protocol):
    """An item of a store."""

    @property
    def id(self) -> str:
        """Its id in the manifest."""
        ...

    @property
    def patient(self) -> str:
        """Key of its patient or object."""
        ...

    @property
    def label_file(self) -> str | None:
        """Its labels, relative to the store; None where it has none."""
        ...

    @property
    def split(self) -> str:
        """One of "train", "val", "test" and "" (unassigned)."""
        ...


@runtime_checkable
class Columnar(Protocol):
    """Items that are read where they are asked for, and fields of all of them without that."""

    def column(self, name: str) -> list[Any] | None:
        """Return a field of all of them; None where that takes reading them."""
        ...

    def at(self, places: Iterable[int]) -> Any:
        """Return some of them by their places."""
        ...

    def places(self, ids: Sequence[str]) -> list[int | None]:
        """Return where among them each id is, None where it is not."""
        ...


Item = TypeVar("Item", bound=ListedItem)
Index = TypeVar("Index", bound=Any)  # a frozen dataclass with the fields that the properties below read


class ListedStore(ShowsItself, Generic[Index, Item]):
    """A folder of items and its listing, or a part of that.

    Args:
        folder: The store.
        index: Its listing, or a part of it.

    Attributes:
        noun: What an item is called: "scan".
        owner: Whom items belong to: "patient".
        figure: Dotted path of the function that draws an item of a store as a figure.
        columns: Fields of an item that `head` shows, after its id, patient and split.
    """

    noun: ClassVar[str]
    owner: ClassVar[str]
    figure: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder = folder
        self._index = index

    def __reduce__(self) -> tuple[type[Self], tuple[Path, Index]]:
        return type(self), (self.folder, self._index)  # open files and locks stay behind

    @classmethod
    @abstractmethod
    def open(cls, folder: str | Path) -> Self:
        """Open the store that lies in a folder."""

    def __fspath__(self) -> str:
        """Return the folder, so that a store may stand where a path is wanted.

        Raises:
            CacheError: It is a part of what lies there, or is read otherwise: by its folder it would be another.
        """
        whole = type(self).open(self.folder)
        if (type(self), self.entries) != (type(whole), whole.entries):
            raise CacheError(
                f"{self.folder}: this is {len(self)} of its {len(whole)} {self.noun}s, or they are read otherwise than "
                "they lie there. A verb reads a whole store: give its folder, and choose with the verb's settings."
            )
        return str(self.folder)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._index.entries)

    @property
    def entries(self) -> Sequence[Item]:
        """The items; an index into them names an item everywhere else."""
        found: Sequence[Item] = self._index.entries
        return found

    def field(self, name: str) -> list[Any]:
        """Return a field of every item; of large stores without reading the items, where it is kept by itself."""
        known = self.entries.column(name) if isinstance(self.entries, Columnar) else None
        return [getattr(entry, name) for entry in self.entries] if known is None else known

    def at(self, places: Iterable[int]) -> Self:
        """Return a store of the items at these places among the entries, in this order."""
        if isinstance(self.entries, Columnar):
            return self.with_entries(self.entries.at(places))
        return self.with_entries(self.entries[place] for place in places)

    @property
    def settings(self) -> dict[str, Any]:
        """How the items were made."""
        found: dict[str, Any] = self._index.settings
        return found

    @property
    def classes(self) -> dict[int, str]:
        """Names by number: of the structures of scans (empty without labels), of the classes of whole clouds."""
        found: dict[int, str] = self._index.classes
        return found

    @property
    def failed(self) -> dict[str, str]:
        """Items of the manifest that could not be stored, id -> reason."""
        found: dict[str, str] = self._index.failed
        return found

    def sheet(self) -> Sheet:
        """Return what the store shows of itself."""
        owners = len(set(self.field("patient")))
        labelled = sum(file is not None for file in self.field("label_file"))
        title = f"{type(self).__name__}: {len(self)} {self.noun}{'s'[: len(self) != 1]}"
        facts = {
            "folder": str(self.folder),
            "splits": counts(self.field("split")),
            **self._named(),
            "labelled": labelled or "",
            "failed": len(self.failed) or "",
        }
        return Sheet.of(f"{title} of {owners} {self.owner}{'s'[: owners != 1]}", facts, *self._table(5))

    @abstractmethod
    def _named(self) -> dict[str, Sequence[str]]:
        """Return what the items have names for, such as channels and structures."""

    def head(self, count: int = 5) -> Sheet:
        """Return the first items as a small table."""
        return Sheet(f"the first {min(count, len(self))} of {len(self)} {self.noun}s", (), *self._table(count))

    def _table(self, count: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        heads = ("id", "patient", "split", *self.columns)
        rows = tuple(tuple(said(getattr(entry, name)) for name in heads) for entry in self.entries[:count])
        return (heads, rows) if rows else ((), ())

    def plot(self, item: str | int = 0) -> Figure:
        """Draw an item with its labels, and return the figure; nothing is shown and nothing written.

        Args:
            item: Its id, or its place among the entries.

        Raises:
            DataError: There is no such item.
            CacheError: Its files are missing or damaged.
        """
        if isinstance(item, str):
            return self.subset([item]).plot()
        if not -len(self) <= item < len(self):
            raise DataError(f"{self.folder}: there is no {self.noun} {item}; the store has {len(self)}, from 0.")
        module, _, name = self.figure.rpartition(".")
        drawn: Figure = getattr(importlib.import_module(module), name)(self, item % len(self))
        return drawn

    def subset(self, ids: Iterable[str]) -> Self:
        """Return a store of just these items, in this order.

        Raises:
            DataError: An id is not in the store.
        """
        names = list(ids)
        if isinstance(self.entries, Columnar):
            found = self.entries.places(names)
        else:
            rows = {entry.id: place for place, entry in enumerate(self.entries)}
            found = [rows.get(name) for name in names]
        places = []
        for name, place in zip(names, found, strict=True):
            if place is None:
                failed = self.failed.get(name)
                near = did_you_mean(name, self.field("id"))
                hint = f"It failed when the store was made: {failed}" if failed else near
                raise DataError(f"{self.folder}: the store has no {self.noun} {name!r}. {hint}")
            places.append(place)
        return self.at(places)

    def split(self, name: str) -> Self:
        """Return a store of the items of one split; it may be empty."""
        return self.at(place for place, split in enumerate(self.field("split")) if split == name)

    def with_entries(self, entries: Iterable[Item]) -> Self:
        """Return the store with other items, or with other things said of them; their files are the same."""
        kept = entries if isinstance(entries, Columnar) else tuple(entries)
        return type(self)(self.folder, replace(self._index, entries=kept))


def read_listing(path: Path, version: int) -> dict[str, Any]:
    """Return what a listing says.

    Args:
        path: The file.
        version: The version of the format that can be read.

    Raises:
        CacheError: It is missing, damaged, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(f"{path}: cannot be read ({error}). Run `medssl cache` again.") from error
    return checked_listing(path, content, version)


def checked_listing(path: Path, content: Any, version: int) -> dict[str, Any]:
    """Return what a listing says, seen to be of a version.

    Raises:
        CacheError: It is of another.
    """
    found = content.get("version") if isinstance(content, dict) else None
    if found != version:
        raise CacheError(
            f"{path}: has version {found}; this release reads version {version}. "
            "Make the store again with `medssl cache`."
        )
    return dict(content)
