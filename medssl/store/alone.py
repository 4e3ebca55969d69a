"""A store of one scan or case: what a new file is to a trained network, made as its training store was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import DataError
from medssl.pool import isolated
from medssl.store.index import Index, Record
from medssl.store.options import StoreSettings
from medssl.store.plan import make_plan
from medssl.store.prepare import Job, prepare
from medssl.store.prepare_case import prepare_case
from medssl.store.read import Store

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest

__all__ = ["Recipe", "job_alone", "recipe_of", "store_alone"]

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """How a store made its scans.

    Attributes:
        settings: Its settings.
        spacings: Voxel size (z, y, x) that it gave to each modality; empty where scans kept their own.
    """

    settings: StoreSettings
    spacings: Mapping[str, Spacing]

    def spacing_of(self, modality: str) -> tuple[Spacing | None, bool]:
        """Return the voxel size of a modality, and whether the store had scans of it; None keeps the scan's own."""
        if modality in self.spacings or not self.spacings:
            return self.spacings.get(modality), True
        return next(iter(self.spacings.values())), False


def recipe_of(said: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a store from the settings that it keeps, which are on the card of a run trained on it."""
    known = {name: value for name, value in said.items() if name in StoreSettings.model_fields}
    spacings = {
        str(modality): (float(size[0]), float(size[1]), float(size[2]))
        for modality, size in dict(said.get("spacings_mm") or {}).items()
    }
    return Recipe(StoreSettings.model_validate(known), spacings)


def job_alone(case: Manifest, recipe: Recipe, *, channels: str) -> Job:
    """Return the job that stores a scan or case without its label, whatever else the cohort held.

    Args:
        case: The row of the scan, or the rows of the channels of one case.
        recipe: How the training store was made.
        channels: As ``StoreSettings.channels`` has it.

    Raises:
        DataError: It cannot be stored.
    """
    rows = [row for row in case.rows() if row["error"] is None]
    leading = "CT" if rows and rows[0]["units"] == "HU" else str(rows[0]["modality"]) if rows else ""
    spacing, _ = recipe.spacing_of(leading)
    changes: dict[str, Any] = {"channels": channels, "missing": "fill", "spacing_mm": spacing or "keep"}
    plan = make_plan(case, recipe.settings.model_copy(update=changes))
    if len(plan.jobs) != 1:
        reasons = "; ".join(plan.unreadable.values()) or f"it makes {len(plan.jobs)} cases"
        raise DataError(reasons)
    job = plan.jobs[0]
    # The first channel that a case has may be of another modality than its first row: its own spacing counts.
    modality = "CT" if job.hounsfield else job.modality
    return replace(
        job, spacing_mm=recipe.spacing_of(modality)[0], label_path=None, label_fault="", split="", targets=()
    )


def store_alone(folder: Path, job: Job) -> tuple[Store, Record]:
    """Store one scan or case and return the store of it alone, with the record that says what was noticed.

    Its files are read in a worker process, under the limits of `medssl.pool.file_limits`.

    Raises:
        FormatError: A file cannot be read, or its reader crashed, hung or asked for too much memory.
        UnfitError: It holds what the training store would not have taken.
    """
    record = isolated(_prepared, [Path(path) for path in job.paths], folder.absolute(), job)
    entry = record.entry
    index = Index(
        entries=(entry,),
        settings=job.settings.model_dump(mode="json"),
        classes={},
        failed={},
        channels=entry.channel_names,
        statistics={entry.id: record.statistics},
    )
    return Store(folder, index), record


def _prepared(paths: list[Path], folder: Path, job: Job) -> Record:
    """Put the scan or case into the store. Runs in a worker process, which has another working directory."""
    return (prepare_case if job.channels else prepare)(folder, job)
