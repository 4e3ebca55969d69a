"""Reading a store: any window of any scan, without the rest of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from medssl.array_headers import ARRAY_HEADERS
from medssl.errors import DataError
from medssl.listings import ListedStore
from medssl.normalising import Statistics, nonzero_moments, statistics_of
from medssl.regions import Region
from medssl.store.blocks import open_array
from medssl.store.entry import Entry
from medssl.store.index import Index, read_index

__all__ = ["Store"]

Triple = tuple[int, int, int]
Values = npt.NDArray[np.int16]
Opened = TypeVar("Opened")
_OPEN_ARRAYS = 256
_OPEN_COORDINATES = 64


class _Recent(Generic[Opened]):
    """The last few things that were opened, by file name; safe to use from several threads."""

    def __init__(self, open_one: Callable[[Path], Opened], limit: int) -> None:
        self._open_one, self._limit = open_one, limit
        self._held: OrderedDict[str, Opened] = OrderedDict()
        self._lock = Lock()

    def get(self, folder: Path, file: str) -> Opened:
        with self._lock:
            if file in self._held:
                self._held.move_to_end(file)
                return self._held[file]
        opened = self._open_one(folder / file)  # outside the lock: another thread may read meanwhile
        with self._lock:
            kept = self._held.setdefault(file, opened)
            self._held.move_to_end(file)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)  # closed once the last thread that reads it lets go
            return kept


class _Array:
    """An open array and the lock that its decompressor needs: one handle serves one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.array: Any = open_array(path)
        self.lock = Lock()

    def read(self, slices: tuple[slice, slice, slice]) -> npt.NDArray[np.generic]:
        with self.lock:
            part: npt.NDArray[np.generic] = self.array[slices]
        return part


class Store(ListedStore[Index, Entry]):
    """The scans that ``medssl cache`` wrote.

    Windows may be read from several threads. Open files are kept, a bounded number of them.

    Args:
        folder: The store.
        index: Its listing, or a part of it.

    Example:
        >>> store = Store.open("cache")  # doctest: +SKIP
        >>> store.window(0, (10, 20, 20), (96, 96, 96)).shape  # doctest: +SKIP
        (96, 96, 96)
    """

    noun = "scan"
    owner = "patient"
    figure = "medssl.reporting.item_figure.scan_figure"
    columns = ("modality", "shape", "spacing_mm", "label_file")

    def __init__(self, folder: Path, index: Index) -> None:
        super().__init__(folder, index)
        self._arrays = _Recent(_Array, _OPEN_ARRAYS)
        self._coordinates = _Recent(_read_coordinates, _OPEN_COORDINATES)

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """Open the store in ``folder``.

        Raises:
            CacheError: The folder holds no store, or a damaged one, or one of another version.
        """
        return cls(Path(folder), read_index(Path(folder)))

    def _named(self) -> dict[str, Sequence[str]]:
        return {
            "channels": self.channels if len(self.channels) > 1 else (),
            "structures": [name for value, name in sorted(self.classes.items()) if value],
        }

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of every case, in their order; ("image",) where a case is one scan without a name."""
        return self._index.channels

    @property
    def regions(self) -> tuple[Region, ...]:
        """Unions of structures that are segmented in their place, in the order in which they are written."""
        return self._index.regions

    @property
    def ignored(self) -> tuple[int, ...]:
        """Values of the label files that say "not known"; -1 in the store."""
        return self._index.ignored

    @property
    def refused_labels(self) -> dict[str, str]:
        """Scans that are stored without the label that they have, id -> "kind: reason"."""
        return self._index.refused_labels

    def statistics(self, index: int, *, nonzero: bool = False) -> tuple[Statistics | None, ...]:
        """Return what is known of the stored values of a scan's channels, None of one that it lacks.

        Of stores of earlier releases, which did not keep it, the scan is read whole.

        Args:
            index: Which scan.
            nonzero: Whether the moments of all that is not 0 are needed; where they were not kept they are those of
                the stored voxels, after any resampling and cropping.
        """
        entry = self.entries[index]
        kept = self._index.statistics.get(entry.id, ())
        if len(kept) != len(entry.channels):
            kept = tuple(
                statistics_of(self.values(index, number), entry.body_box, hounsfield=channel.hounsfield)
                if channel.present
                else None
                for number, channel in enumerate(entry.channels)
            )
        if nonzero and any(one is not None and one.nonzero is None for one in kept):
            arrays = [self.values(index, n) if c.present else None for n, c in enumerate(entry.channels)]
            moments = nonzero_moments(arrays, [channel.stored_zero for channel in entry.channels])
            kept = tuple(one and replace(one, nonzero=own) for one, own in zip(kept, moments, strict=True))
        return kept

    def structures_in(self, index: int) -> frozenset[int]:
        """Return the numbers of the structures that a scan's label holds; none without a label."""
        label_file = self.entries[index].label_file
        if label_file is None:
            return frozenset()
        path = self.folder / (label_file.removesuffix(".labels.b2nd") + ".foreground.npz")
        with ARRAY_HEADERS, np.load(path, allow_pickle=False) as arrays:
            return frozenset(int(number) for number in arrays.files)

    def windows(self, index: int, origin: Triple, size: Triple, out: Values | None = None) -> Values:
        """Read a window of every channel of a case: one read a channel.

        Args:
            index: The case.
            origin: First voxel (z, y, x); may lie outside.
            size: Voxels (z, y, x).
            out: Where to, int16, (C, z, y, x); made if None.

        Returns:
            int16, (C, z, y, x), in each channel's stored units; its ``fill`` outside the scan and everywhere in a
            channel that the case lacks. The caller may write to it.
        """
        entry = self.entries[index]
        if out is None and not entry.more:
            return self.window(index, origin, size)[None]
        found = np.empty((1 + len(entry.more), *size), dtype=np.int16) if out is None else out
        for number in range(len(found)):
            found[number] = self.window(index, origin, size, number)
        return found

    def window(self, index: int, origin: Triple, size: Triple, channel: int = 0) -> Values:
        """Read a window of one channel; see `windows`, which reads all.

        Args:
            index: The case.
            origin: First voxel (z, y, x); may lie outside.
            size: Voxels (z, y, x).
            channel: Which, by its place in ``channels``.

        Returns:
            int16, (z, y, x), in stored units; the channel's ``fill`` outside the scan. The caller may write to it.
        """
        entry = self.entries[index]
        if channel == 0 and entry.file:
            return self._padded(entry.file, entry.shape, origin, size, entry.padding)
        chosen = entry.channels[channel]
        if not chosen.present:
            return np.full(size, chosen.padding, dtype=np.int16)
        return self._padded(chosen.file, entry.shape, origin, size, chosen.padding)

    def label_window(self, index: int, origin: Triple, size: Triple) -> Values:
        """Read the labels of a window: int16, (z, y, x); -1 outside the scan.

        Raises:
            DataError: The scan has no labels.
        """
        entry = self.entries[index]
        return self._padded(self._label_file(entry), entry.shape, origin, size, -1)

    def values(self, index: int, channel: int = 0) -> Values:
        """Read one channel of a case whole, int16, (z, y, x)."""
        return self.window(index, (0, 0, 0), self.entries[index].shape, channel)

    def labels(self, index: int) -> Values:
        """Read all labels of a scan, int16, (z, y, x).

        Raises:
            DataError: The scan has no labels.
        """
        return self.label_window(index, (0, 0, 0), self.entries[index].shape)

    def foreground(self, index: int) -> dict[int, npt.NDArray[np.int32]]:
        """Return some voxels of each structure in a scan, (n, 3) as (z, y, x), n <= 10000. Not to be written to.

        Raises:
            DataError: The scan has no labels.
        """
        label_file = self._label_file(self.entries[index])
        return self._coordinates.get(self.folder, label_file.removesuffix(".labels.b2nd") + ".foreground.npz")

    def with_entries(self, entries: Iterable[Entry]) -> Self:
        """Return the store with other scans, or with other things said of them; their files are the same."""
        part = super().with_entries(entries)
        part._arrays, part._coordinates = self._arrays, self._coordinates  # one pool of open files
        return part

    def _label_file(self, entry: Entry) -> str:
        if entry.label_file is None:
            raise DataError(f"{self.folder}: scan {entry.id!r} has no labels. Use a manifest whose rows name a label.")
        return entry.label_file

    def _padded(self, file: str, shape: Triple, origin: Triple, size: Triple, fill: int) -> Values:
        first = [max(0, o) for o in origin]
        last = [min(n, o + s) for n, o, s in zip(shape, origin, size, strict=True)]
        inside = all(a < b for a, b in zip(first, last, strict=True))
        part = None
        if inside:
            where = slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])
            part = self._arrays.get(self.folder, file).read(where).astype(np.int16, copy=False)
            if part.shape == tuple(size):
                return part
        result = np.full(size, fill, dtype=np.int16)
        if part is not None:
            z, y, x = (slice(a - o, b - o) for a, b, o in zip(first, last, origin, strict=True))
            result[z, y, x] = part
        return result


def _read_coordinates(path: Path) -> dict[int, npt.NDArray[np.int32]]:
    with ARRAY_HEADERS, np.load(path, allow_pickle=False) as arrays:
        return {int(number): arrays[number] for number in arrays.files}
