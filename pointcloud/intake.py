"""How clouds get from files to a store: what index, check, reduce, query and cache ask; see `medssl.workflows.intake`.

Nothing here needs torch, and each part is loaded where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from medssl.manifest.clouds import CloudReader
    from medssl.manifest.schema import Manifest
    from medssl.pool import Engine
    from medssl.reduction.duplicates import Found
    from medssl.reduction.query import Answer
    from pointcloud.reduction.prints import CloudPrint, CloudTarget
    from pointcloud.store import CloudStore
    from pointcloud.store_settings import CloudStoreSettings
    from pointcloud.storing import CloudReport

__all__ = ["CLOUDS", "CloudIntake", "CloudsAsked"]

Rows = Sequence[Mapping[str, Any]]


class CloudIntake:
    """Clouds."""

    kind = "cloud"

    @property
    def same_from(self) -> float:
        """Score from which one cloud is a copy of another."""
        from pointcloud.reduction.verdict import SAME_SCORE

        return SAME_SCORE

    @property
    def store_settings(self) -> type[CloudStoreSettings]:
        """How clouds are stored."""
        from pointcloud.store_settings import CloudStoreSettings

        return CloudStoreSettings

    def reader(self, *, unit: str = "", class_folders: bool = True) -> CloudReader:
        """Return what claims files and makes rows of them."""
        from pointcloud.describe import cloud_reader

        return cloud_reader(unit=unit, class_folders=class_folders)

    def draw(self, path: Path, item: int) -> npt.NDArray[np.uint8]:
        """Return a picture of one cloud of a file, uint8 (192, 192, 3)."""
        from pointcloud.drawing import draw_cloud

        return draw_cloud(path, item)

    def prints(
        self, rows: Rows, folder: Path, *, workers: int, engine: Engine, progress: Callable[[int, int], None]
    ) -> tuple[list[CloudPrint], dict[str, str]]:
        """Return the prints of rows, made where they are missing, and id -> why there is none."""
        from pointcloud.reduction.prints import cloud_prints

        targets = [_target(row) for row in rows]
        return cloud_prints(targets, folder, workers=workers, engine=engine, progress=progress)

    def copies(
        self,
        prints: Sequence[CloudPrint],
        rows: Rows,
        *,
        radius: int,
        worth: Mapping[str, float] | None,
        progress: Callable[[int, int], None],
    ) -> Found:
        """Return every pair that was looked at."""
        from pointcloud.reduction.copies import find_cloud_copies

        return find_cloud_copies(
            prints,
            {row["id"]: _target(row) for row in rows},
            radius=radius,
            worth=worth,
            patients={row["id"]: row["patient"] for row in rows},
            progress=progress,
        )

    def asked(self, folder: Path, places: Mapping[str, Any]) -> CloudsAsked:
        """Return the prints of a folder; ``places`` says where each cloud lies."""
        from pointcloud.reduction.prints import CloudTarget, stored_prints

        targets = {
            name: CloudTarget(id=name, path=place.target.path, item=place.item) for name, place in places.items()
        }
        return CloudsAsked(stored_prints(folder, list(targets.values())), targets)

    def class_target(self, rows: Rows, wanted: str) -> str:
        """Return the target that names clouds' classes."""
        from pointcloud.storing import class_target

        return class_target(rows, wanted)

    def stored(
        self,
        manifest: Manifest,
        folder: Path,
        settings: CloudStoreSettings,
        *,
        workers: int,
        engine: Engine,
        shard: tuple[int, int],
        progress: Callable[[int], None],
    ) -> CloudReport:
        """Store the readable clouds of a manifest."""
        from pointcloud.storing import store_clouds

        return store_clouds(folder, manifest, settings, workers=workers, engine=engine, shard=shard, progress=progress)

    def open(self, folder: Path) -> CloudStore:
        """Open a store of clouds."""
        from pointcloud.store import CloudStore

        return CloudStore.open(folder)


@dataclass(frozen=True)
class CloudsAsked:
    """The clouds of an index, to be asked.

    Attributes:
        prints: Their prints.
        targets: id -> where a cloud lies.
    """

    prints: list[CloudPrint]
    targets: Mapping[str, CloudTarget]

    def ask(self, row: Mapping[str, Any], *, radius: int, turned: bool, nearest: int) -> list[Answer] | str:
        """Return what a cloud is to those that are stored, or why it cannot be read."""
        from pointcloud.reduction.asking import ask_cloud
        from pointcloud.reduction.prints import cloud_print

        target = _target(row)
        one = cloud_print(target)
        if isinstance(one, str):
            return one
        return ask_cloud(self.prints, self.targets, one, target, radius=radius, turned=turned, nearest=nearest)


def _target(row: Mapping[str, Any]) -> CloudTarget:
    from pointcloud.reduction.prints import CloudTarget

    return CloudTarget(id=row["id"], path=row["path"], item=row["item"] or 0)


CLOUDS = CloudIntake()
