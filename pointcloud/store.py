"""A store of clouds: one memory-mapped array a cloud, and ``clouds.json``, which lists them.

``clouds/STEM.npy`` holds float32 rows of a cloud: x, y, z, and what else is known of each point; ``STEM.labels.npy``
the classes of its points; ``STEM.json`` its entry, written last, so that any number of processes may fill one store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.array_headers import ARRAY_HEADERS
from medssl.errors import CacheError, DataError
from medssl.listings import ListedStore, read_listing

__all__ = ["CLOUDS", "FORMAT_VERSION", "INDEX", "CloudEntry", "CloudIndex", "CloudStore", "read_entry"]

FORMAT_VERSION = 1
INDEX = "clouds.json"
CLOUDS = "clouds"
_OPEN_ARRAYS = 1024

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class CloudEntry:
    """All that is known of a cloud of a store, without its points.

    Attributes:
        id: Its id in the manifest.
        file: Its array, relative to the store.
        label_file: The classes of its points, relative to the store; None where it has none.
        columns: Names of the array's columns: x, y, z, then any of nx, ny, nz, red, green, blue (0 to 1), intensity.
        points: How many.
        patient: Pseudonymous key; equal for clouds of one patient, scene or object that must not be torn apart.
        split: "train", "val", "test" or "" (unassigned).
        label: The class of the whole cloud, None where it has none.
        unit: "mm", "m" or "unknown".
        centre: Mean of its points, in its unit.
        radius: Distance from there to the farthest point, in its unit.
        offset: Where the stored origin lies in the coordinates of the file.
        source_path: The file it came from; "" unless ``privacy=paths``.
        source_item: Which cloud of that file.
        key: Hash that names this version of the cloud.
    """

    id: str
    file: str
    label_file: str | None
    columns: tuple[str, ...]
    points: int
    patient: str
    split: str
    label: int | None
    unit: str
    centre: Triple
    radius: float
    offset: Triple
    source_path: str
    source_item: int
    key: str


@dataclass(frozen=True, kw_only=True)
class CloudIndex:
    """The contents of ``clouds.json``.

    Attributes:
        entries: The clouds.
        settings: How they were made.
        classes: Names of the classes of whole clouds, by number.
        parts: Names of the classes of points, by number.
        failed: Clouds that could not be read, id -> reason.
    """

    entries: tuple[CloudEntry, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    classes: dict[int, str] = field(default_factory=dict)
    parts: dict[int, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class CloudStore(ListedStore[CloudIndex, CloudEntry]):
    """The clouds that ``medssl cache`` wrote. May be read from several threads.

    Args:
        folder: The store.
        index: Its listing, or a part of it.

    Example:
        >>> store = CloudStore.open("cache")  # doctest: +SKIP
        >>> store.points(0).shape  # doctest: +SKIP
        (2048, 3)
    """

    noun = "cloud"
    owner = "object"
    figure = "pointcloud.item_figure.cloud_figure"
    columns = ("points", "unit", "label")

    def __init__(self, folder: Path, index: CloudIndex) -> None:
        super().__init__(folder, index)
        self._opened = lru_cache(maxsize=_OPEN_ARRAYS)(self._open)

    @classmethod
    def open(cls, folder: str | Path) -> CloudStore:
        """Open the store in ``folder``.

        Raises:
            CacheError: The folder holds no store of clouds, or a damaged one, or one of another version.
        """
        return cls(Path(folder), _read_index(Path(folder)))

    @staticmethod
    def is_cloud_store(folder: str | Path) -> bool:
        """Say whether ``folder`` holds a store of clouds."""
        return (Path(folder) / INDEX).is_file()

    def _named(self) -> dict[str, Sequence[str]]:
        return {
            name: [held[n] for n in sorted(held)] for name, held in (("classes", self.classes), ("parts", self.parts))
        }

    @property
    def parts(self) -> dict[int, str]:
        """Names of the classes of points, by number."""
        return self._index.parts

    def points(self, row: int) -> npt.NDArray[np.float32]:
        """Return the points of a cloud as a view of its file, float32 (N, 3), in its unit.

        Raises:
            CacheError: The file is missing or damaged.
        """
        return self._array(row)[:, :3]

    def column(self, row: int, name: str) -> npt.NDArray[np.float32]:
        """Return one column of a cloud, float32 (N,), such as "intensity".

        Raises:
            DataError: The cloud has no such column.
        """
        columns = self.entries[row].columns
        if name not in columns:
            raise DataError(f"{self.folder}: cloud {self.entries[row].id!r} has no '{name}'; it has {list(columns)}.")
        found: npt.NDArray[np.float32] = self._array(row)[:, columns.index(name)]
        return found

    def labels(self, row: int) -> npt.NDArray[np.integer]:
        """Return the classes of a cloud's points, int32 (N,); int64 where one of them needs it.

        Raises:
            DataError: The cloud has none.
        """
        entry = self.entries[row]
        if entry.label_file is None:
            raise DataError(f"{self.folder}: the points of cloud {entry.id!r} have no labels.")
        found: npt.NDArray[np.integer] = self._opened(entry.label_file)
        return found

    def _array(self, row: int) -> npt.NDArray[np.float32]:
        entry = self.entries[row]
        array: npt.NDArray[np.float32] = self._opened(entry.file)
        if array.shape != (entry.points, len(entry.columns)):
            raise CacheError(
                f"{self.folder / entry.file}: holds an array of shape {array.shape}; the index says "
                f"{(entry.points, len(entry.columns))}. Run `medssl cache` again."
            )
        return array

    def _open(self, file: str) -> npt.NDArray[Any]:
        path = self.folder / file
        try:
            with ARRAY_HEADERS:
                opened: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            reason = "the file is missing" if not path.exists() else f"the file cannot be opened ({error})"
            raise CacheError(
                f"{path}: {reason}. Run `medssl cache` again; it rewrites only what is missing."
            ) from error
        return opened


def read_entry(path: Path) -> CloudEntry:
    """Read the entry beside a cloud's array.

    Raises:
        CacheError: It is missing, damaged or of another version.
    """
    return _entry(read_listing(path, FORMAT_VERSION).get("entry"), path)


def _read_index(folder: Path) -> CloudIndex:
    path = folder / INDEX
    if not path.exists():
        raise CacheError(
            f"{folder} is no store of clouds: it has no {INDEX}. Make one with `medssl cache MANIFEST --out FOLDER`."
        )
    content = read_listing(path, FORMAT_VERSION)
    try:
        return CloudIndex(
            entries=tuple(_entry(row, path) for row in content["entries"]),
            settings=dict(content["settings"]),
            classes={int(number): str(name) for number, name in content["classes"].items()},
            parts={int(number): str(name) for number, name in content["parts"].items()},
            failed=dict(content["failed"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CacheError(f"{path}: the index is damaged ({error!r}). Run `medssl cache` again.") from error


def _entry(row: Mapping[str, Any] | None, path: Path) -> CloudEntry:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in (row or {}).items()}
    try:
        return CloudEntry(**values)
    except TypeError as error:
        raise CacheError(f"{path}: an entry is damaged ({error}). Run `medssl cache` again.") from error
