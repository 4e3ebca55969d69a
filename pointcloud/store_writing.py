"""Clouds into a store: each file aside and renamed, each cloud's entry after its arrays, the index at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import CacheError
from medssl.writing import atomic_write, stem_of
from pointcloud.cloud import Cloud
from pointcloud.store import CLOUDS, FORMAT_VERSION, INDEX, CloudEntry, CloudStore, read_entry

__all__ = ["CloudItem", "find_entry", "store_from_clouds", "write_cloud", "write_cloud_index", "write_entry"]


@dataclass(frozen=True, kw_only=True)
class CloudItem:
    """A cloud in memory that is to be stored.

    Attributes:
        id: Its name; unique in the store.
        cloud: Its points.
        patient: Key of its patient, scene or object; clouds without one count as of their own.
        split: "train", "val", "test" or "".
    """

    id: str
    cloud: Cloud
    patient: str = ""
    split: str = ""


def write_cloud(
    folder: Path,
    id: str,  # noqa: A002  the word that manifests and entries use
    cloud: Cloud,
    *,
    key: str | None = None,
    patient: str = "",
    split: str = "",
    source_path: str = "",
) -> CloudEntry:
    """Write one cloud and its entry. Several processes may write into one folder.

    Args:
        folder: The store; made if absent.
        id: The cloud's name.
        cloud: Its points and what is known of them.
        key: Hash that names this version of the cloud; a hash of its arrays when left out.
        patient: See ``CloudEntry``, as for all that follow.
        split: Part of the cohort.
        source_path: The file, where the store is to keep it.

    Returns:
        The cloud's entry; list it with ``write_cloud_index``.

    Raises:
        CacheError: All of its points lie at one place, so it has no size.
    """
    names, rows = _columns(cloud)
    labels = None if cloud.labels is None else _narrow(cloud.labels)
    wide = rows[:, :3].astype(np.float64)
    centre = wide.mean(axis=0)
    radius = float(np.linalg.norm(wide - centre, axis=1).max())
    if not radius > 0:
        raise CacheError(f"{id}: all of its {len(rows)} points lie at one place.")
    key = key or _hash_of(rows, labels)
    stem = stem_of(id, key)
    file, label_file = f"{CLOUDS}/{stem}.npy", None
    _write_array(folder / file, rows)
    if labels is not None:
        label_file = f"{CLOUDS}/{stem}.labels.npy"
        _write_array(folder / label_file, labels)
    entry = CloudEntry(
        id=id,
        file=file,
        label_file=label_file,
        columns=names,
        points=len(rows),
        patient=patient,
        split=split,
        label=cloud.label,
        unit=cloud.unit,
        centre=_triple(centre),
        radius=radius,
        offset=_triple(cloud.offset),
        source_path=source_path,
        source_item=cloud.item,
        key=key,
    )
    return write_entry(folder, entry)


def write_entry(folder: Path, entry: CloudEntry) -> CloudEntry:
    """Write what is known of a cloud beside its points; return it."""
    stem = stem_of(entry.id, entry.key)
    _write_json(folder / CLOUDS / f"{stem}.json", {"version": FORMAT_VERSION, "entry": asdict(entry)})
    return entry


def find_entry(folder: Path, id: str, key: str) -> CloudEntry | None:  # noqa: A002
    """Return the entry of this version of a cloud where it is already written in full, else None."""
    path = folder / CLOUDS / f"{stem_of(id, key)}.json"
    if not path.is_file():
        return None
    try:
        entry = read_entry(path)
    except CacheError:
        return None  # an older release's, or damaged: it is written again
    files = [entry.file, *([entry.label_file] if entry.label_file else [])]
    return entry if all((folder / file).is_file() for file in files) else None


def write_cloud_index(
    folder: Path,
    entries: Sequence[CloudEntry],
    *,
    settings: Mapping[str, Any] | None = None,
    classes: Mapping[int, str] | None = None,
    parts: Mapping[int, str] | None = None,
    failed: Mapping[str, str] | None = None,
) -> Path:
    """Write ``clouds.json``.

    Args:
        folder: The store.
        entries: The clouds to list, in the order that their rows will have.
        settings: How they were made.
        classes: Names of the classes of whole clouds, by number.
        parts: Names of the classes of points, by number.
        failed: Clouds that could not be read, id -> reason.

    Raises:
        CacheError: Two entries have one id.
    """
    ids = [entry.id for entry in entries]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise CacheError(f"{folder}: {len(twice)} ids come more than once, such as {twice[0]!r}.")
    path = folder / INDEX
    content = {
        "version": FORMAT_VERSION,
        "settings": dict(settings or {}),
        "classes": {str(number): name for number, name in sorted((classes or {}).items())},
        "parts": {str(number): name for number, name in sorted((parts or {}).items())},
        "failed": dict(failed or {}),
        "entries": [asdict(entry) for entry in entries],
    }
    _write_json(path, content)
    return path


def store_from_clouds(
    folder: Path,
    items: Iterable[CloudItem],
    *,
    classes: Mapping[int, str] | None = None,
    parts: Mapping[int, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> CloudStore:
    """Make a store of clouds in memory, without a manifest; see ``write_cloud_index`` for the arguments."""
    entries = [write_cloud(folder, i.id, i.cloud, patient=i.patient, split=i.split) for i in items]
    write_cloud_index(folder, entries, settings=settings, classes=classes, parts=parts)
    return CloudStore.open(folder)


def _columns(cloud: Cloud) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    known: list[tuple[tuple[str, ...], npt.NDArray[np.float32] | None]] = [
        (("x", "y", "z"), cloud.points),
        (("nx", "ny", "nz"), cloud.normals),
        (
            ("red", "green", "blue"),
            None if cloud.colours is None else cloud.colours.astype(np.float32) / np.float32(255),
        ),
        (("intensity",), None if cloud.intensity is None else cloud.intensity[:, None]),
    ]
    there = [(names, values) for names, values in known if values is not None]
    rows = np.ascontiguousarray(np.concatenate([values for _, values in there], axis=1), dtype=np.float32)
    return tuple(name for names, _ in there for name in names), rows


def _narrow(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
    """Return labels as int32, or as they are where one of them would not keep its value."""
    small = labels.astype(np.int32)
    return small if np.array_equal(small, labels) else labels


def _write_array(path: Path, values: npt.NDArray[np.generic]) -> None:
    with atomic_write(path) as aside, aside.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as aside:
        aside.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _hash_of(*arrays: npt.NDArray[np.generic] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
