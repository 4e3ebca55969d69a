"""The clouds of a manifest into a store: read file by file, in processes, what is there already kept."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import MedSSLError
from medssl.failure_notes import NOT_HERE, forget_failure, note_failure, noted_failure
from medssl.locking import held
from medssl.manifest.schema import Manifest
from medssl.manifest.targets import targets_of
from medssl.manifest.unlabelled import UNLABELLED, classes_of_points, unlabelled_numbers
from medssl.nameless import Nameless
from medssl.pool import Engine, isolated, run_jobs
from medssl.randomness import numpy_generator
from medssl.writing import stem_of
from pointcloud.cloud import Cloud
from pointcloud.describe import TOO_MANY
from pointcloud.formats.reading import VERSION, read
from pointcloud.point_labels import read_labelled
from pointcloud.store import CLOUDS, INDEX, CloudEntry, CloudIndex, CloudStore
from pointcloud.store_settings import CLASS, CloudStoreSettings
from pointcloud.store_writing import find_entry, write_cloud, write_cloud_index, write_entry

__all__ = ["CloudReport", "CloudStoreSettings", "class_target", "cloud_alone", "store_clouds"]

_LISTING_S = 3600.0
_THIN = 4  # counter that keeps these draws apart from others of the seed


@dataclass(frozen=True, kw_only=True)
class CloudReport:
    """What a run did.

    Attributes:
        index: The listing that was written.
        listed: Clouds in it.
        written: Clouds that were written anew.
        failed: Id -> reason of those that could not be stored.
        subsampled: Clouds of which fewer points are kept than the file has.
        waiting: Clouds that are left to other shards.
    """

    index: Path
    listed: int
    written: int
    failed: dict[str, str]
    subsampled: int
    waiting: int = 0


def store_clouds(
    folder: Path,
    manifest: Manifest,
    settings: CloudStoreSettings,
    *,
    workers: int = 1,
    engine: Engine = "processes",
    shard: tuple[int, int] = (0, 1),
    progress: Callable[[int], None] = lambda _: None,
) -> CloudReport:
    """Write the readable clouds of a manifest that are not left out.

    Args:
        folder: The store; made if absent. What it holds of the same sources and settings is kept.
        manifest: Rows of kind "cloud" are stored, others passed over.
        settings: How.
        workers: Processes that read.
        engine: Where they run.
        shard: (index from 0, count): this call stores the clouds of every count-th file and lists all there are.
        progress: Called with the number of clouds that are done, after each file.

    Raises:
        BusyError: Another process has been writing the listing for an hour.
    """
    folder = folder.absolute()  # a cluster's machines work in folders of their own
    rows = [row for row in manifest.rows() if row["kind"] == "cloud" and row["error"] is None and row["keep"]]
    names = _classes(rows, settings.target)
    numbers = {name: number for number, name in names.items()}
    files: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        files[row["path"]].append(row)
    ignored = tuple(sorted(unlabelled_numbers(rows)))
    mine = list(files.values())[shard[0] :: shard[1]]
    jobs = {number: (folder, found, settings, ignored) for number, found in enumerate(mine)}
    entries: dict[str, CloudEntry] = {}
    failed: dict[str, str] = {}
    written = done = 0
    clean = Nameless({}) if settings.privacy == "paths" else manifest.nameless()
    for number, (made, faults, fresh) in run_jobs(_store_file, jobs, workers=workers, crashed=_crashed, engine=engine):
        here = {entry.id: entry for entry in made if (folder / entry.file).is_file()}
        entries |= here
        failed |= faults | {entry.id: NOT_HERE for entry in made if entry.id not in here}
        for own in mine[number]:
            stem = stem_of(own["id"], _key(own, settings, ignored))
            if own["id"] in faults:
                note_failure(folder / CLOUDS, stem, clean.text(faults[own["id"]]))
            elif fresh:
                forget_failure(folder / CLOUDS, stem)
        written += fresh
        done += len(made) + len(faults)
        progress(done)
    parts = sorted({value for row in rows for value in classes_of_points(row, ignored)})
    spoken = manifest.settings.get("of_clouds", {}).get("parts", {})
    waiting = 0
    with held(folder / INDEX, "medssl cache", wait_s=_LISTING_S):  # of two shards the one that writes last reads last
        listed = []
        for row in rows:
            if row["id"] not in entries and row["id"] not in failed:
                stored = _stored_elsewhere(folder, row, settings, ignored)
                if isinstance(stored, CloudEntry):
                    entries[row["id"]] = stored
                elif stored is not None:
                    failed[row["id"]] = stored
                else:
                    waiting += 1
            if row["id"] in entries:
                name = targets_of(row).get(settings.target, "")
                listed.append(replace(entries[row["id"]], label=numbers[name] if name else None))
        index = write_cloud_index(
            folder,
            listed,
            settings=settings.model_dump(mode="json"),
            classes=names,
            parts={part: str(spoken.get(str(part), part)) for part in parts},
            failed=clean.value(failed),
        )
    subsampled = sum((row["points"] or 0) > settings.points for row in rows)
    return CloudReport(
        index=index, listed=len(listed), written=written, failed=failed, subsampled=subsampled, waiting=waiting
    )


def _stored_elsewhere(
    folder: Path, row: Mapping[str, Any], settings: CloudStoreSettings, ignored: Sequence[int]
) -> CloudEntry | str | None:
    """Return what another shard made of a cloud: its entry, or why there is none; None where none has come to it."""
    key = _key(row, settings, ignored)
    entry = find_entry(folder, row["id"], key)
    if entry is None:
        return noted_failure(folder / CLOUDS, stem_of(row["id"], key))
    return _with_row(entry, row, settings)


def class_target(rows: Sequence[Mapping[str, Any]], wanted: str = CLASS) -> str:
    """Return the target that names clouds' classes: the wanted one, or the only one there is where none has "class"."""
    there = {name for row in rows if row["kind"] == "cloud" for name in targets_of(row)}
    return there.pop() if wanted == CLASS and wanted not in there and len(there) == 1 else wanted


def _classes(rows: Sequence[Mapping[str, Any]], target: str) -> dict[int, str]:
    """Return number -> name; names that are whole numbers keep them, others are counted from a to z."""
    names = {name for row in rows if (name := targets_of(row).get(target, ""))}
    if names and all(name.isdecimal() and str(int(name)) == name for name in names):
        return {int(name): name for name in sorted(names, key=int)}
    return dict(enumerate(sorted(names)))


def _store_file(
    folder: Path, rows: Sequence[Mapping[str, Any]], settings: CloudStoreSettings, ignored: tuple[int, ...] = ()
) -> tuple[list[CloudEntry], dict[str, str], int]:
    """Store the clouds of one file; return their entries, what failed, and how many were written anew."""
    entries, failed, fresh = [], {}, 0
    for row in rows:
        key = _key(row, settings, ignored)
        entry = find_entry(folder, row["id"], key)
        if entry is None:
            try:
                cloud = _subsampled(_read(row, settings), settings)
                labels = _classes_alone(cloud.labels, row, ignored)
                cloud = replace(cloud, unit=row["length_unit"] or cloud.unit, labels=labels)
                entry = write_cloud(folder, row["id"], cloud, key=key, source_path=_kept_path(row, settings))
                fresh += 1
            except MedSSLError as error:
                failed[row["id"]] = str(error)
                continue
            except (OSError, ValueError, MemoryError) as error:
                failed[row["id"]] = f"It could not be stored ({type(error).__name__}: {str(error)[:200]})."
                continue
        if entry.source_path and settings.privacy != "paths":  # as earlier releases kept it
            entry = write_entry(folder, replace(entry, source_path=""))
        entries.append(_with_row(entry, row, settings))
    return entries, failed, fresh


def _with_row(entry: CloudEntry, row: Mapping[str, Any], settings: CloudStoreSettings) -> CloudEntry:
    return replace(entry, patient=row["patient"], split=row["split"], source_path=_kept_path(row, settings))


def _crashed(job: tuple[Any, ...], why: str) -> tuple[list[CloudEntry], dict[str, str], int]:
    return [], {row["id"]: why for row in job[1]}, 0


def _kept_path(row: Mapping[str, Any], settings: CloudStoreSettings) -> str:
    return str(row["path"]) if settings.privacy == "paths" else ""


def _read(row: Mapping[str, Any], settings: CloudStoreSettings) -> Cloud:
    """Read a cloud: a mesh by points of its surface, or by its vertices where these have labels of their own."""
    path, item = Path(row["path"]), row["item"]
    if row["label_path"]:
        return read_labelled(path, Path(row["label_path"]), _how(row), item=item)
    return read(path, item=item, samples=settings.points, seed=settings.points_seed)


def _how(row: Mapping[str, Any]) -> str:
    return str(json.loads(row["fields"] or "{}").get("label_how", ""))


def _classes_alone(
    labels: npt.NDArray[np.int64] | None, row: Mapping[str, Any], ignored: Sequence[int]
) -> npt.NDArray[np.int64] | None:
    """Return labels in which what stands for none is -1; None where no point has a class, or there are too many."""
    if labels is None or any(note.startswith(TOO_MANY) for note in row["notes"] or ()):
        return None
    kept = np.where((labels < 0) | np.isin(labels, ignored), UNLABELLED, labels)
    return kept if (kept >= 0).any() else None


def _key(row: Mapping[str, Any], settings: CloudStoreSettings, ignored: Sequence[int] = ()) -> str:
    """Return a hash of everything that the stored arrays depend on."""
    source = row["file_hash"] or [row["size_bytes"], row["mtime_ns"]]
    content = [source, row["item"], row["length_unit"], settings.points, settings.points_seed, VERSION]
    if row["label_values"] is not None:
        label = row["label_file_hash"] or [row["label_size_bytes"], row["label_mtime_ns"]]
        content.append([row["label_path"], label, _how(row), list(ignored)])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _subsampled(cloud: Cloud, settings: CloudStoreSettings) -> Cloud:
    if len(cloud) <= settings.points:
        return cloud
    generator = numpy_generator(settings.points_seed, cloud.item, len(cloud), _THIN)
    return cloud.take(np.sort(generator.choice(len(cloud), settings.points, replace=False)))


def cloud_alone(
    folder: Path,
    row: Mapping[str, Any],
    settings: CloudStoreSettings,
    *,
    whole: bool = False,
    classes: Mapping[int, str] | None = None,
) -> CloudStore:
    """Store one cloud and return the store of it alone: what a new file is to a trained network.

    Args:
        folder: Where to.
        row: Its row of a manifest.
        settings: How the training store was made.
        whole: Keep every point, and of a mesh every vertex; else as the training store did.
        classes: Number -> name of the classes of whole clouds, by which the class that the row names is numbered.

    Its file is read in a worker process, under the limits of `medssl.pool.file_limits`.

    Raises:
        FormatError: The file cannot be read, or its reader crashed, hung or asked for too much memory.
        CacheError: All of its points lie at one place.
    """
    entry = isolated(_stored_alone, Path(row["path"]), folder.absolute(), dict(row), settings, whole)
    numbers = {name: number for number, name in (classes or {}).items()}
    label = numbers.get(targets_of(row).get(settings.target, ""))
    index = CloudIndex(entries=(replace(entry, label=label),), settings=settings.model_dump(mode="json"))
    return CloudStore(folder, index)


def _stored_alone(
    path: Path, folder: Path, row: Mapping[str, Any], settings: CloudStoreSettings, whole: bool
) -> CloudEntry:
    """Write the cloud of a row. Runs in a worker process."""
    cloud = read(path, item=row["item"], samples=0) if whole else _subsampled(_read(row, settings), settings)
    cloud = replace(cloud, unit=row["length_unit"] or cloud.unit, labels=None, label=None)
    return write_cloud(folder, row["id"], cloud, source_path=row["path"])
