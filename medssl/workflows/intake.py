"""What a kind of data that is no scan brings to index, check, reduce, query and cache: how its files become a store.

The table holds dotted paths, so that listing it loads nothing, and this package knows nothing of how clouds are read.
What trains on a store is asked of its `Domain`; an intake needs no torch.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from medssl.manifest.clouds import CloudReader
    from medssl.manifest.schema import Manifest
    from medssl.pool import Engine
    from medssl.reduction.duplicates import Found
    from medssl.reduction.query import Answer
    from medssl.settings import Settings

__all__ = ["CLOUDS", "Asked", "Intake", "Print", "Stored", "clouds"]

CLOUDS = "pointcloud.intake.CLOUDS"
Rows = Sequence[Mapping[str, Any]]


class Print(Protocol):
    """The fingerprint of one item."""

    @property
    def id(self) -> str:
        """Its name in the manifest."""
        ...

    @property
    def occupancy(self) -> npt.NDArray[np.float16]:
        """Coefficients, (8, 8, 8), to compare it with others by."""
        ...


class Asked(Protocol):
    """The fingerprints of a folder, to be asked many times."""

    def ask(self, row: Mapping[str, Any], *, radius: int, turned: bool, nearest: int) -> list[Answer] | str:
        """Return what a row of a manifest is to those that are stored, or why it cannot be read."""
        ...


class Stored(Protocol):
    """What storing came to: the listing, items in it, new ones, id -> why not, and how many are kept in part."""

    @property
    def index(self) -> Path:
        """The listing."""
        ...

    @property
    def listed(self) -> int:
        """Items in it."""
        ...

    @property
    def written(self) -> int:
        """Items that were written anew."""
        ...

    @property
    def failed(self) -> dict[str, str]:
        """Id -> why it could not be stored."""
        ...

    @property
    def subsampled(self) -> int:
        """Items of which less is kept than the file has."""
        ...

    @property
    def waiting(self) -> int:
        """Items that are left to other shards."""
        ...


class Intake(Protocol):
    """What index, check, reduce, query and cache ask.

    Attributes:
        kind: As a manifest has it.
        same_from: Score from which one item is a copy of another.
    """

    kind: str
    same_from: float

    @property
    def store_settings(self) -> type[Settings]:
        """How items are stored: settings of ``cache``."""
        ...

    def reader(self, *, unit: str = "", class_folders: bool = True) -> CloudReader:
        """Return what claims files and makes rows of them."""
        ...

    def draw(self, path: Path, item: int) -> npt.NDArray[np.uint8]:
        """Return a picture of one item of a file, uint8 (height, width, 3)."""
        ...

    def prints(
        self, rows: Rows, folder: Path, *, workers: int, engine: Engine, progress: Callable[[int, int], None]
    ) -> tuple[list[Any], dict[str, str]]:
        """Return the fingerprints of rows, made where they are missing, and id -> why there is none."""
        ...

    def copies(
        self,
        prints: Sequence[Any],
        rows: Rows,
        *,
        radius: int,
        worth: Mapping[str, float] | None,
        progress: Callable[[int, int], None],
    ) -> Found:
        """Return every pair that was looked at."""
        ...

    def asked(self, folder: Path, places: Mapping[str, Any]) -> Asked:
        """Return the fingerprints of a folder."""
        ...

    def class_target(self, rows: Rows, wanted: str) -> str:
        """Return the target whose classes are stored."""
        ...

    def stored(
        self,
        manifest: Manifest,
        folder: Path,
        settings: Any,
        *,
        workers: int,
        engine: Engine,
        shard: tuple[int, int],
        progress: Callable[[int], None],
    ) -> Stored:
        """Store the readable items of a manifest."""
        ...

    def open(self, folder: Path) -> Any:
        """Open a store: entries, their labels, ``classes``."""
        ...


@cache
def clouds() -> Intake:
    """Return the intake of point clouds."""
    found: Intake = pkgutil.resolve_name(CLOUDS)
    return found
