"""Arrays into a store: the image, its labels, its foreground coordinates, and the record that makes them count."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import CacheError
from medssl.file_sums import sha256_of
from medssl.normalising import Statistics, nonzero_moments, statistics_of
from medssl.store.blocks import PART, write_array
from medssl.store.body import Box, find_body, joined
from medssl.store.entry import ONE, Channel, Entry
from medssl.store.index import SCANS, Record, stem_of, write_record
from medssl.store.options import CT_RANGE, CT_SCALE
from medssl.writing import atomic_write

__all__ = [
    "CT_RANGE",
    "CT_SCALE",
    "FOREGROUND_LIMIT",
    "MR_SCALE",
    "ChannelImage",
    "foreground_coordinates",
    "write_entry",
]

MR_SCALE = (0.0, 16384.0)
FOREGROUND_LIMIT = 10_000
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True)
class ChannelImage:
    """One channel of a case in memory, in the units in which it is to be stored.

    Attributes:
        name: As the store calls it, such as "t1".
        values: Integers that fit int16, axes (z, y, x); None where the case lacks this channel.
        modality: As `medssl.store.entry.Channel` has it, like all that follow.
        scale: Stored values that become 0 and 1; the modality's own when left out.
        slope: Physical value of one stored unit.
        intercept: Physical value of stored 0.
        fill: Stored value outside; -1024 for CT and the smallest value otherwise when left out. Of a lacking channel
            always what becomes 0.
        source_path: The file.
        nonzero: Mean and deviation of the file's physical values in the box of all that is not 0, see
            `medssl.normalising`; those of the stored values when left out.
    """

    name: str
    values: npt.NDArray[np.generic] | None
    modality: str = "CT"
    scale: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    fill: int | None = None
    source_path: str = ""
    nonzero: tuple[float, float] | None = None


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
    values: npt.NDArray[np.generic] | Sequence[ChannelImage],
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
    nonzero: tuple[float, float] | None = None,
    source_shape: tuple[int, int, int] | None = None,
    source_affine: npt.NDArray[np.float64] | None = None,
    source_path: str = "",
    label_path: str | None = None,
    label_refused: str = "",
    targets: Iterable[tuple[str, str]] = (),
    flags: Iterable[str] = (),
) -> Record:
    """Write a scan or case: each file aside and renamed, its record last. Several processes may write into one folder.

    Args:
        folder: The store; made if absent.
        id: The scan's name.
        values: Integers that fit int16, axes (z, y, x), in stored units; or the channels of a case, all on one grid,
            in which case ``modality`` to ``nonzero`` and ``source_path`` are theirs.
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
        nonzero: See `ChannelImage`.
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
    if isinstance(values, np.ndarray):
        single = ChannelImage(
            name=ONE,
            values=values,
            modality=modality,
            scale=scale,
            slope=slope,
            intercept=intercept,
            fill=fill,
            source_path=source_path,
            nonzero=nonzero,
        )
        images: Sequence[ChannelImage] = [single]
    else:
        images = values
    stored = _stored(id, images)
    first = next(array for array in stored if array is not None)
    if labels is not None and labels.shape != first.shape:
        raise CacheError(f"{id}: labels have shape {labels.shape}, the scan {first.shape}; they must be equal.")
    shape = (first.shape[0], first.shape[1], first.shape[2])
    if key is None:
        named = (
            ""
            if [image.name for image in images] == [ONE]
            else "\n".join(f"{image.name} {image.values is None}" for image in images)
        )
        key = _hash_of(*stored, labels, affine, more=named)
    (folder / SCANS).mkdir(parents=True, exist_ok=True)
    stem = stem_of(id, key)
    label_file, channels, files = None, list[Channel](), list[str]()
    for number, (image, array) in enumerate(zip(images, stored, strict=True)):
        file = "" if array is None else f"{SCANS}/{stem}{f'.c{number}' if number else ''}.b2nd"
        if array is not None:
            write_array(folder / file, array)
            files.append(file)
        channels.append(_channel(image, array, file))
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
        file=channels[0].file,
        label_file=label_file,
        modality=channels[0].modality,
        patient=patient,
        split=split,
        shape=shape,
        spacing_mm=geometry.spacing_mm(affine),
        affine=_rows(affine),
        body_box=_body_of(images, stored, shape) if body_box is None else body_box,
        scale=channels[0].scale,
        slope=channels[0].slope,
        intercept=channels[0].intercept,
        fill=channels[0].fill,
        source_shape=shape if source_shape is None else source_shape,
        source_affine=_rows(grid),
        source_path=channels[0].source_path,
        label_path=label_path,
        targets=tuple(sorted(targets)),
        channel=channels[0].name,
        more=tuple(channels[1:]),
    )
    checksums = {file: sha256_of(folder / file) for file in files}
    record = Record(
        entry=entry,
        key=key,
        checksums=checksums,
        class_voxels=class_voxels,
        flags=tuple(flags),
        label_refused=label_refused,
        statistics=_statistics(images, entry, stored),
    )
    write_record(folder, stem, record)
    return record


def _statistics(
    images: Sequence[ChannelImage], entry: Entry, stored: Sequence[npt.NDArray[np.int16] | None]
) -> tuple[Statistics | None, ...]:
    """Return what is known of each stored channel, in stored units; None of one that is missing."""
    kept = [image.nonzero for image in images]
    if all(known or array is None for known, array in zip(kept, stored, strict=True)):
        moments = [
            known and ((known[0] - channel.intercept) / channel.slope, known[1] / channel.slope)
            for known, channel in zip(kept, entry.channels, strict=True)
        ]
    else:
        moments = list(nonzero_moments(stored, [channel.stored_zero for channel in entry.channels]))
    return tuple(
        None
        if array is None
        else replace(statistics_of(array, entry.body_box, hounsfield=channel.hounsfield), nonzero=own)
        for channel, array, own in zip(entry.channels, stored, moments, strict=True)
    )


def _stored(scan_id: str, images: Sequence[ChannelImage]) -> list[npt.NDArray[np.int16] | None]:
    """Return the values of each channel as they are stored, None for one that is missing."""
    names = [image.name for image in images]
    if len(set(names)) < len(names) or not all(names):
        raise CacheError(f"{scan_id}: the channels of a case have names of their own. Got {names}.")
    stored = [None if image.values is None else _as_int16(scan_id, image.values) for image in images]
    shapes = {image.name: array.shape for image, array in zip(images, stored, strict=True) if array is not None}
    if not shapes:
        raise CacheError(f"{scan_id}: no channel of the case has values. Leave the case out.")
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise CacheError(f"{scan_id}: the channels of a case lie on one grid, and their shapes differ: {listed}.")
    return stored


def _channel(image: ChannelImage, stored: npt.NDArray[np.int16] | None, file: str) -> Channel:
    hounsfield = image.modality == "CT"
    scale = (CT_SCALE if hounsfield else MR_SCALE) if image.scale is None else image.scale
    if stored is None:
        fill = round(scale[0])
    elif image.fill is None:
        fill = CT_RANGE[0] if hounsfield else int(stored.min())
    else:
        fill = image.fill
    return Channel(
        name=image.name,
        file=file,
        modality=image.modality,
        scale=scale,
        slope=image.slope,
        intercept=image.intercept,
        fill=fill,
        source_path=image.source_path,
    )


def _body_of(
    images: Sequence[ChannelImage], stored: Sequence[npt.NDArray[np.int16] | None], shape: tuple[int, int, int]
) -> Box:
    """Return the box that holds the body in every channel where it is found; the whole grid where it is in none."""
    found = [
        find_body(array, hounsfield=image.modality == "CT")
        for image, array in zip(images, stored, strict=True)
        if array is not None
    ]
    return joined(found, shape)


def _as_int16(scan_id: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int16]:
    if values.ndim != 3 or values.size == 0:
        raise CacheError(f"{scan_id}: a store holds arrays with axes (z, y, x); this one has shape {values.shape}.")
    if values.dtype.kind not in "iub":
        raise CacheError(f"{scan_id}: a store holds integers that fit int16; these values are {values.dtype}.")
    low, high = int(values.min()), int(values.max())
    if low < -32768 or high > 32767:
        raise CacheError(f"{scan_id}: values range from {low} to {high}; a store holds -32768 to 32767.")
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
    with atomic_write(path, suffix=PART) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _rows(affine: npt.NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in affine)


def _hash_of(*arrays: npt.NDArray[np.generic] | None, more: str = "") -> str:
    digest = hashlib.sha256(more.encode())
    for array in arrays:
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
