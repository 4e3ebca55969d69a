"""``medssl cache``: the scans of a manifest as a store that is read by windows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from medssl.command import Command
from medssl.errors import DataError
from medssl.locking import holds, part_of
from medssl.pool import FILE_SECONDS, default_workers
from medssl.settings import resolve
from medssl.store.options import StoreSettings
from medssl.workflows import events
from medssl.workflows.file_limits import FileLimits
from medssl.workflows.intake import clouds
from medssl.workflows.refusals import say_refusals
from medssl.workflows.result import Result
from medssl.workflows.taking import takes_places
from medssl.writing import folder_for

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest
    from medssl.store.plan import Plan
    from medssl.store.read import Store

__all__ = ["CacheSettings", "Cached", "cache"]

_SHOWN = 10
_TRAINED = ("train", "")  # the splits that pretraining takes
_MEMORY_PER_VOXEL = 24  # bytes: file, turned copy, float32 and the spline's coefficients while one scan is in hand


_CloudStoreSettings: Any = clouds().store_settings


class CacheSettings(StoreSettings, _CloudStoreSettings, FileLimits):  # type: ignore[misc]
    """Settings of ``medssl cache``."""

    verb: ClassVar[str] = "cache"

    file_seconds: float = Field(default=1800.0, ge=0, allow_inf_nan=False, description=FILE_SECONDS)
    workers: int = Field(default=0, ge=0, description="Processes; 0 takes one a processor that is allowed, at most 8.")
    engine: Literal["processes", "ray"] = Field(
        default="processes",
        description="Where they run: on this machine, or as tasks of Ray (the cluster of RAY_ADDRESS, or a local one).",
    )
    shard: str = Field(default="1/1", description="Do the i-th of n parts, such as 2/8; run all n, on any machines.")
    split: str = Field(default="", description="Store the scans of this split alone; empty stores all.")
    prune: bool = Field(
        default=False,
        description="Remove from the store (never from the sources) what belongs to earlier settings or to sources "
        "that changed or left the manifest.",
    )


@dataclass(frozen=True)
class Cached(Result):
    """What ``cache`` came to.

    Attributes:
        store: The store; of a manifest with both kinds that of the volumes; None after a dry run.
    """

    store: Any

    @property
    def place(self) -> Path | None:
        """The store's folder; None after a dry run."""
        return None if self.store is None else Path(self.store.folder)


@takes_places
@holds("medssl cache", lambda given: part_of(given["out"], given["overrides"]))
def cache(
    manifest: str | Path | Manifest,
    *,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> Cached:
    """Convert the scans of a manifest to a store. Keep what was stored before from the same source and settings.

    Volumes and point clouds may share a folder: each kind has a listing of its own.

    Args:
        manifest: A manifest, or its file.
        out: The store's folder; it is created if it does not exist.
        preset: A preset or a YAML file of settings.
        overrides: ``key=value``; see ``medssl show cache``.
        dry_run: Only say what would be written.

    Returns:
        The store, open.

    Raises:
        DataError: No scan of the manifest could be stored.
        ConfigError: A setting is wrong.
    """
    from medssl.manifest.schema import Manifest, read_manifest
    from medssl.store.build import build
    from medssl.store.plan import make_plan, shard_of
    from medssl.store.read import Store

    settings = resolve(CacheSettings, preset=preset, overrides=list(overrides)).settings
    shard = shard_of(settings.shard)
    folder = folder_for(out)
    source = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    if settings.split:
        source = source.of_split(settings.split)
    kinds = {row["kind"] for row in source.rows() if row["error"] is None and row["keep"]}
    if clouds().kind in kinds:
        held, listing = _clouds(source, folder, settings, shard, dry_run=dry_run)
        if "volume" not in kinds:
            from medssl.domains.suited_method import suited_cloud_method

            onwards = _pretrain(_for_machine(*suited_cloud_method(_to_train_on(source))), folder)
            figures: dict[str, Any] = {"listed": 0 if held is None else len(held)}
            return events.written(Cached(held, written=listing, next=onwards, figures=figures))
    with settings.limits():
        plan = make_plan(source, StoreSettings(**settings.model_dump(include=set(StoreSettings.model_fields))))
    todo = plan.missing(folder, shard)
    for note in plan.notes:
        events.message(note)
    figures = _announce(plan, todo_count=len(todo), todo_voxels=sum(job.voxels for job in todo), folder=folder)
    if dry_run:
        for job in todo[:_SHOWN]:
            events.message(f"  would store {job.id}")
        if len(todo) > _SHOWN:
            events.message(f"  ... and {len(todo) - _SHOWN} more")
        again = Command("cache", _shown(manifest), "--out", folder)
        return events.written(Cached(None, next=again, figures=figures))
    workers = settings.workers
    if settings.engine == "processes":  # a cluster knows its own size and memory
        workers = workers or _workers(max((job.voxels for job in todo), default=0))
    with settings.limits(), events.progress(len(todo), f"{plan.noun} stored") as shown:
        report = build(
            folder,
            plan,
            workers=workers,
            engine=settings.engine,
            shard=shard,
            progress=lambda scan_id: shown.advance(note=scan_id),
        )
    say_refusals(report.failed, report.refused_labels)
    figures |= _say_flags(report.flags)
    if report.listed == 0 and report.waiting == 0:
        raise DataError(
            f"{folder}: none of the {len(plan.jobs)} {plan.noun} could be stored. The reasons are listed above."
        )
    store = Store.open(folder) if report.read is None else Store(folder, report.read)
    size = ""
    if report.read is None or settings.prune:  # a shard with nothing to do looks at no other's files
        _superseded(folder, plan, remove=settings.prune)
        files = [name for e in store.entries for name in (*e.files, e.label_file) if name]
        size = f" ({_size(sum((folder / name).stat().st_size for name in files))})"
    events.message(f"{report.listed} {plan.noun} in the store{size}, {report.written} of them new")
    if report.waiting:
        events.message(
            f"{report.waiting} {plan.noun} are left to other shards; the shard that ends last lists them all"
        )
    figures |= {
        "listed": report.listed,
        "new": report.written,
        "failed": report.failed,
        "refused_labels": report.refused_labels,
    }
    return events.written(Cached(store, written=(report.index,), next=_following(store, folder), figures=figures))


def _pretrain(preset: str, folder: Path) -> Command:
    return Command("pretrain", preset, "--data", folder, "--out", f"runs/{folder.resolve().name}")


def _following(store: Store, folder: Path) -> Command:
    """Return the command that pretrains on a store; none where it holds nothing to train on, which is said."""
    if any(split in _TRAINED for split in store.field("split")):
        return _pretrain(_suited(store), folder)
    splits = ", ".join(sorted(set(store.field("split"))))
    events.warning(f"there is nothing to train on: everything in the store is in the splits {splits}")
    return Command()


def _suited(store: Store) -> str:
    """Return the preset that suits the scans on this machine, and say why."""
    from medssl.domains.suited_method import suited_method

    sizes = [(entry.body_box, entry.spacing_mm) for entry in store.entries]
    owners = zip(store.field("patient"), store.field("id"), store.field("split"), strict=True)
    method, because = suited_method(
        [[end - start for start, end in zip(*box, strict=True)] for box, _ in sizes],
        [spacing for _, spacing in sizes],
        patients=len({patient or scan for patient, scan, split in owners if split in _TRAINED}),
        segmented=any(store.field("label_file")),
    )
    return _for_machine(method, because)


def _for_machine(method: str, because: str) -> str:
    """Say which method suits what is stored, and return its preset for this machine."""
    events.message(f"suggested method: {method} ({because}); for others: medssl list methods")
    return method if _has_gpu() else f"{method}_small"


def _to_train_on(source: Manifest) -> int:
    """Return how many clouds of a manifest pretraining will see."""
    return sum(
        row["kind"] == "cloud" and row["error"] is None and row["keep"] and (row["split"] or "") in _TRAINED
        for row in source.rows()
    )


def _has_gpu() -> bool:
    """Return whether there is a GPU of NVIDIA or AMD, without the seconds that importing torch takes."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))


def _clouds(
    source: Manifest, folder: Path, settings: CacheSettings, shard: tuple[int, int], *, dry_run: bool
) -> tuple[Any, tuple[Path, ...]]:
    """Return the store of clouds and its listing; None and none on a dry run."""
    from medssl.workflows.cache_clouds import cache_clouds

    if dry_run:
        count = sum(row["kind"] == "cloud" and row["error"] is None and row["keep"] for row in source.rows())
        events.message(f"{count} clouds would be stored, with up to {settings.points:,} points each")
        return None, ()
    cls = clouds().store_settings
    chosen = cls(**settings.model_dump(include=set(cls.model_fields)))
    with settings.limits():
        store, listing = cache_clouds(
            source, folder, chosen, workers=settings.workers, engine=settings.engine, shard=shard
        )
    return store, (listing,)


def _announce(plan: Plan, *, todo_count: int, todo_voxels: int, folder: Path) -> dict[str, Any]:
    kept = len(plan.jobs) - todo_count
    count = len(plan.jobs)
    events.message(
        f"{count} {plan.noun} wanted: {kept} are already stored or left to other shards, {todo_count} to store"
    )
    for modality, spacing in plan.spacings.items():
        events.message(f"{modality} is stored at {' x '.join(f'{s:g}' for s in spacing)} mm (z, y, x)")
    full = 2 * todo_voxels
    if full:
        events.message(f"at most {_size(full)} will be written; compression leaves about a third of CT, and most of MR")
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if full // 3 > free:
        events.warning(f"{place} has {_size(free)} free, and about {_size(full // 2)} will be needed")
    return {"scans": count, "to_store": todo_count, "bytes_at_most": full, "spacings_mm": plan.spacings}


def _workers(largest_voxels: int) -> int:
    workers = default_workers()
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return workers  # Windows: no cheap way to ask
    fitting = free // max(1, largest_voxels * _MEMORY_PER_VOXEL)
    return max(1, min(workers, fitting))


def _say_flags(flags: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    counted: dict[str, list[str]] = {}
    for scan_id, found in flags.items():
        for flag in found:
            if flag.startswith("label-note: "):
                continue  # said below, once for each way of reading
            kind = flag.rstrip("0123456789").rstrip("-") if flag.startswith("nonfinite") else flag.partition(":")[0]
            counted.setdefault(kind, []).append(scan_id)
    for kind, ids in sorted(counted.items()):
        events.warning(f"{len(ids)} scans are marked '{kind}', such as {ids[0]}")
    notes: dict[str, list[str]] = {}
    for scan_id, found in flags.items():
        for flag in found:
            if flag.startswith("label-note: "):
                notes.setdefault(flag.removeprefix("label-note: "), []).append(scan_id)
    for note, ids in list(notes.items())[:_SHOWN]:
        events.message(f"{len(ids)} labels, such as that of {ids[0]}: {note}")
    if len(notes) > _SHOWN:
        events.message(f"... and {len(notes) - _SHOWN} more like these; `medssl check` lists all")
    return {"flags": counted, "labels_read_as": notes}


def _superseded(folder: Path, plan: Plan, *, remove: bool) -> None:
    from medssl.store.build import superseded

    old = superseded(folder, plan)
    if not old:
        return
    size = _size(sum(path.stat().st_size for path in old))
    if remove:
        for path in old:
            path.unlink(missing_ok=True)
        events.message(f"removed {len(old)} outdated files of the store ({size})")
    else:
        events.message(f"{len(old)} files ({size}) come from earlier settings or sources; prune=true removes them")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _shown(manifest: object) -> str:
    return str(manifest) if isinstance(manifest, str | Path) else "manifest.parquet"
