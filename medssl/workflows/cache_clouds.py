"""The part of ``medssl cache`` that stores point clouds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import DataError
from medssl.workflows import events
from medssl.workflows.intake import clouds

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.pool import Engine
    from medssl.workflows.intake import Stored

__all__ = ["cache_clouds"]

_SHOWN = 10
_WORTH_A_POOL_BYTES = 50 << 20


def cache_clouds(
    manifest: Manifest, folder: Path, settings: Any, *, workers: int, engine: Engine, shard: tuple[int, int]
) -> tuple[Any, Path]:
    """Store the clouds of a manifest, say what became of them, and return the store and its listing.

    Args:
        manifest: The clouds; rows of other kinds are passed over.
        folder: The store.
        settings: How they are stored, of the intake's class.
        workers: Processes; 0 takes one where there is little to read, and with Ray the cluster's.
        engine: Where they run.
        shard: (index from 0, count) of the part that is stored.

    Raises:
        DataError: None of the clouds could be stored.
    """
    from medssl.pool import default_workers

    settings = _with_target(manifest, settings)
    rows = [row for row in manifest.rows() if row["error"] is None and row["keep"] and row["kind"] == "cloud"]
    size = sum({row["path"]: row["size_bytes"] or 0 for row in rows}.values())
    hands = workers
    if engine == "processes":  # a cluster knows its own size
        hands = workers or (default_workers() if size > _WORTH_A_POOL_BYTES else 1)
    total = len(rows) if shard[1] == 1 else None  # a part is of files, of which each may hold many
    with events.progress(total, "clouds stored") as shown:
        report: Stored = clouds().stored(
            manifest, folder, settings, workers=hands, engine=engine, shard=shard, progress=shown.reach
        )
    for cloud_id, reason in list(report.failed.items())[:_SHOWN]:
        events.warning(f"{cloud_id} was left out: {reason}")
    if len(report.failed) > _SHOWN:
        events.warning(f"... and {len(report.failed) - _SHOWN} more; {report.index.name} lists all under 'failed'")
    if not report.listed and not report.waiting:
        raise DataError(f"{folder}: none of the {len(rows)} clouds could be stored. The reasons are listed above.")
    store = clouds().open(folder)
    if report.subsampled:
        events.message(
            f"{report.subsampled} clouds have more than {settings.points:,} points; the store keeps that many of each"
        )
    classes = f", {len(store.classes)} classes" if store.classes else ", no classes"
    labelled = sum(entry.label_file is not None for entry in store.entries)
    parts = f", {labelled} with labelled points" if labelled else ""
    events.message(f"{report.listed} clouds in the store{classes}{parts}, {report.written} of them new")
    if report.waiting:
        events.message(f"{report.waiting} clouds are left to other shards; the shard that ends last lists them all")
    return store, report.index


def _with_target(manifest: Manifest, settings: Any) -> Any:
    """Return settings that name the only target there is, where the one they name is of no cloud; warn of several."""
    from medssl.manifest.targets import targets_of

    rows = [row for row in manifest.rows() if row["kind"] == "cloud"]
    targets = {name for row in rows for name in targets_of(row)}
    chosen = clouds().class_target(rows, settings.target)
    if chosen != settings.target:
        events.message(f"classes come from the only target, '{chosen}'")
        return settings.model_copy(update={"target": chosen})
    if targets and chosen not in targets:
        events.warning(
            f"no cloud has the target '{chosen}', so none has a class; there are "
            f"{', '.join(sorted(targets))}: take one with target=NAME"
        )
    return settings
