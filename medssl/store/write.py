"""Arrays into a store: the image, its labels, its foreground coordinates, and the record that makes them count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import CacheError
from medssl.regions import Region
from medssl.store.blocks import PART, sha256_of, write_array
from medssl.store.body import Box, find_body
from medssl.store.entry import Entry
from medssl.store.index import SCANS, Record, stem_of, write_index, write_record
from medssl.writing import written_aside

if TYPE_CHECKING:
    from medssl.store.read import Store

__all__ = [
    "CT_RANGE",
    "CT_SCALE",
    "FOREGROUND_LIMIT",
    "MR_SCALE",
    "Item",
    "foreground_coordinates",
    "store_from_arrays",
    "write_entry",
]

CT_RANGE = (-1024, 3071)
CT_SCALE = (-1000.0, 1000.0)
MR_SCALE = (0.0, 16384.0)
FOREGROUND_LIMIT = 10_000
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class Item:
    """A scan in memory, in the units in which it is to be stored.

    Attributes:
        id: Its name; unique in the store.
        values: Integers that fit int16, axes (z, y, x). HU for CT.
        affine: 4x4, RAS+ mm from (x, y, z) indices; 1 mm voxels when left out.
        labels: Integers on the same grid, 0 for background; -1 for "not known".
        modality: "CT", "MR" or another DICOM modality.
        patient: Key of the patient; scans without one count as patients of their own.
        split: "train", "val", "test" or "".
        targets: Classes of the patient or the scan by name.
    """

    id: str
    values: npt.NDArray[np.generic]
    affine: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.generic] | None = None
    modality: str = "CT"
    patient: str = ""
    split: str = ""
    targets: Mapping[str, str] = field(default_factory=dict)


def foreground_coordinates(
    labels: npt.NDArray[np.generic], *, limit: int = FOREGROUND_LIMIT
) -> dict[int, npt.NDArray[np.int32]]:
    """Return voxels of each structure, (n, 3) as (z, y, x), at most ``limit``, spread evenly and always the same."""
    flat = np.flatnonzero(np.greater(labels, 0))
    found = labels.reshape(-1)[flat]
    order = np.argsort(found, kind="stable")
    numbers, starts = np.unique(found[order], return_index=True)
    chosen: dict[int, npt.NDArray[np.int32]] = {}
    bounds = [*starts, len(order)]
    for number, start, end in zip(numbers, bounds[:-1], bounds[1:], strict=True):
        members = flat[order[start:end]]
        if len(members) > limit:
            members = members[_spread(len(members), limit)]
        chosen[int(number)] = np.stack(np.unravel_index(members, labels.shape), axis=1).astype(np.int32)
    return chosen


def _spread(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """Return ``wanted`` different numbers below ``count``, one from each of as many equal stretches.

    Where in its stretch follows the golden ratio, so rows and slices of a structure do not beat with the stretches.
    No generator is needed, which keeps torch out of the processes that fill a store.
    """
    steps = np.arange(wanted + 1, dtype=np.int64)
    bounds = steps * count // wanted
    place = steps[:-1] * _GOLDEN % 1.0
    return bounds[:-1] + (place * np.diff(bounds)).astype(np.int64)


def write_entry(
    folder: Path,
    id: str,  # noqa: A002  the word that manifests and entries use
    values: npt.NDArray[np.generic],
    affine: npt.NDArray[np.float64],
    labels: npt.NDArray[np.generic] | None = None,
    *,
    key: str | None = None,
    modality: str = "CT",
    patient: str = "",
    split: str = "",
    body_box: Box | None = None,
    scale: tuple[float, float] | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    fill: int | None = None,
    source_shape: tuple[int, int, int] | None = None,
    source_affine: npt.NDArray[np.float64] | None = None,
    source_path: str = "",
    label_path: str | None = None,
    label_refused: str = "",
    targets: Iterable[tuple[str, str]] = (),
    flags: Iterable[str] = (),
) -> Record:
    """Write one scan: each file aside and renamed, its record last. Several processes may write into one folder.

    Args:
        folder: The store; made if absent.
        id: The scan's name.
        values: Integers that fit int16, axes (z, y, x), in stored units.
        affine: 4x4, RAS+ mm from (x, y, z) indices.
        labels: Integers on the same grid, or None.
        key: Hash that names this version of the scan; a hash of the arrays when left out.
        modality: See :class:`~medssl.store.entry.Entry`, as for all that follow.
        patient: Key of the patient.
        split: Part of the cohort.
        body_box: Found in the values when left out.
        scale: Stored values that become 0 and 1; the modality's own when left out.
        slope: Physical value of one stored unit.
        intercept: Physical value of stored 0.
        fill: Stored value outside; -1024 for CT and the smallest value otherwise when left out.
        source_shape: Shape of the file; that of ``values`` when left out.
        source_affine: Affine of the file; ``affine`` when left out.
        source_path: The file.
        label_path: The label file.
        label_refused: Why the scan's label is not stored.
        targets: Classes by name.
        flags: What was noticed on the way.

    Returns:
        The scan's record; list its entry with :func:`~medssl.store.index.write_index`.

    Raises:
        CacheError: The arrays are not what a store can hold.
    """
    stored = _as_int16(id, values)
    if labels is not None and labels.shape != values.shape:
        raise CacheError(f"{id}: labels have shape {labels.shape}, the scan {values.shape}; they must be equal.")
    shape = (stored.shape[0], stored.shape[1], stored.shape[2])
    hounsfield = modality == "CT"
    if key is None:
        key = _hash_of(stored, labels, affine)
    (folder / SCANS).mkdir(parents=True, exist_ok=True)
    stem = stem_of(id, key)
    image_file, label_file = f"{SCANS}/{stem}.b2nd", None
    write_array(folder / image_file, stored)
    files = [image_file]
    class_voxels: dict[int, int] = {}
    if labels is not None:
        label_file, coordinate_file = f"{SCANS}/{stem}.labels.b2nd", f"{SCANS}/{stem}.foreground.npz"
        small, class_voxels = _smallest_type(id, labels)
        write_array(folder / label_file, small)
        _write_coordinates(folder / coordinate_file, foreground_coordinates(small))
        files += [label_file, coordinate_file]
    grid = affine if source_affine is None else source_affine
    entry = Entry(
        id=id,
        file=image_file,
        label_file=label_file,
        modality=modality,
        patient=patient,
        split=split,
        shape=shape,
        spacing_mm=geometry.spacing_mm(affine),
        affine=_rows(affine),
        body_box=find_body(stored, hounsfield=hounsfield) if body_box is None else body_box,
        scale=(CT_SCALE if hounsfield else MR_SCALE) if scale is None else scale,
        slope=slope,
        intercept=intercept,
        fill=(CT_RANGE[0] if hounsfield else int(stored.min())) if fill is None else fill,
        source_shape=shape if source_shape is None else source_shape,
        source_affine=_rows(grid),
        source_path=source_path,
        label_path=label_path,
        targets=tuple(sorted(targets)),
    )
    checksums = {file: sha256_of(folder / file) for file in files}
    record = Record(
        entry=entry,
        key=key,
        checksums=checksums,
        class_voxels=class_voxels,
        flags=tuple(flags),
        label_refused=label_refused,
    )
    write_record(folder, stem, record)
    return record


def store_from_arrays(
    folder: Path,
    items: Iterable[Item],
    *,
    classes: Mapping[int, str] | None = None,
    regions: Sequence[Region] = (),
    settings: Mapping[str, Any] | None = None,
) -> Store:
    """Make a store of scans in memory, without a manifest and as they are: no turning, resampling or scaling.

    Args:
        folder: Where; made if absent.
        items: The scans, in the order of their rows.
        classes: Names of the structures; "structure N" for those left out.
        regions: Unions of structures that are segmented in their place.
        settings: Kept in ``store.json``.

    Returns:
        The opened store.
    """
    from medssl.store.read import Store

    entries, found = [], set[int]()
    for item in items:
        affine = np.eye(4) if item.affine is None else np.asarray(item.affine, dtype=np.float64)
        record = write_entry(
            folder,
            item.id,
            item.values,
            affine,
            item.labels,
            modality=item.modality,
            patient=item.patient,
            split=item.split,
            targets=item.targets.items(),
        )
        entries.append(record.entry)
        found |= {number for number in record.class_voxels if number >= 0}
    named = {number: "background" if number == 0 else f"structure {number}" for number in sorted(found)}
    folder.mkdir(parents=True, exist_ok=True)
    write_index(folder, entries, settings=settings or {}, classes={**named, **(classes or {})}, regions=regions)
    return Store.open(folder)


def _as_int16(scan_id: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
    if values.ndim != 3 or values.size == 0:
        raise CacheError(f"{scan_id}: a store holds arrays with axes (z, y, x); this one has shape {values.shape}.")
    if values.dtype.kind not in "iub":
        raise CacheError(f"{scan_id}: a store holds integers that fit int16; these values are {values.dtype}.")
    low, high = int(values.min()), int(values.max())
    if low < -32768 or high > 32767:
        raise CacheError(f"{scan_id}: values reach from {low} to {high}; a store holds -32768 to 32767.")
    return values.astype(np.int16, copy=False)


def _smallest_type(scan_id: str, labels: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.generic], dict[int, int]]:
    numbers, counts = np.unique(labels, return_counts=True)
    low, high = float(numbers[0]), float(numbers[-1])
    if labels.dtype.kind not in "iub" or low < -1 or high > 32767:
        raise CacheError(
            f"{scan_id}: labels are {labels.dtype} from {low:g} to {high:g}; allowed are integers from -1."
        )
    kind = np.uint8 if low >= 0 and high <= 255 else np.int8 if high <= 127 else np.int16
    return labels.astype(kind), {int(n): int(c) for n, c in zip(numbers, counts, strict=True)}


def _write_coordinates(path: Path, coordinates: Mapping[int, npt.NDArray[np.int32]]) -> None:
    arrays = {str(number): points for number, points in coordinates.items()}
    with written_aside(path, suffix=PART) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _rows(affine: npt.NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in affine)


def _hash_of(*arrays: npt.NDArray[np.generic] | None) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
