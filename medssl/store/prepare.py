"""One scan on its way into the store: read, turned, resampled, scaled, boxed, written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import formats, geometry
from medssl.errors import FormatError
from medssl.formats.label_map import read_label
from medssl.formats.scan import Scan
from medssl.store.body import Box, find_body, whole
from medssl.store.index import Record
from medssl.store.options import StoreSettings
from medssl.store.resample import same_spacing, to_spacing
from medssl.store.write import MR_SCALE, write_entry

__all__ = ["Job", "Scaled", "labels_on_grid", "prepare", "scale_intensity"]

Array = npt.NDArray[np.generic]
Affine = npt.NDArray[np.float64]
_GRID_TOLERANCE = 0.1
_PERCENTILE_VOXELS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A scan to be stored. Plain values, so that it travels to a worker process.

    Attributes:
        id: The scan's id.
        path: The file, or the folder of a DICOM series.
        paths: The files of a DICOM series.
        modality: As in the manifest.
        units: "HU" or "arbitrary".
        patient: As in the manifest.
        split: As in the manifest.
        label_path: The label file, or None.
        spacing_mm: Voxel size to be resampled to, (z, y, x) after turning; None keeps the scan's own.
        key: Hash of everything that the stored arrays depend on.
        voxels: About how many voxels will be stored; 0 where the manifest does not say.
        settings: How to store it.
        targets: As in the manifest, ((name, class), ...).
        classes: Label value -> name of the cohort, as pairs; numbers labels that name their structures themselves.
        channel: What is taken of pictures in colour.
    """

    id: str
    path: str
    paths: tuple[str, ...]
    modality: str
    units: str
    patient: str
    split: str
    label_path: str | None
    spacing_mm: tuple[float, float, float] | None
    key: str
    voxels: int
    settings: StoreSettings
    targets: tuple[tuple[str, str], ...] = ()
    classes: tuple[tuple[int, str], ...] = ()
    channel: str = ""

    @property
    def hounsfield(self) -> bool:
        """Whether the values are HU."""
        return self.units == "HU"


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """Intensities as they are stored: physical = values * slope + intercept."""

    values: npt.NDArray[np.int16]
    scale: tuple[float, float]
    slope: float
    intercept: float
    fill: int
    flags: tuple[str, ...]


def prepare(folder: Path, job: Job) -> Record:
    """Put one scan into the store.

    Args:
        folder: The store.
        job: The scan.

    Returns:
        The scan's record, already written.

    Raises:
        FormatError: The scan or its labels cannot be read or do not fit each other.
    """
    settings = job.settings
    files = [Path(p) for p in job.paths if len(job.paths) > 1]
    several = settings.frame > 0 and formats.read_header(Path(job.path), paths=files, channel=job.channel).frames > 1
    scan = formats.read(Path(job.path), frame=settings.frame if several else 0, paths=files, channel=job.channel)
    flags = [f"frame-{settings.frame}-of-{scan.header.frames}"] if scan.header.frames > 1 else []
    labels = _labels_of(job, scan, flags)
    source_affine = scan.header.affine
    values, affine = geometry.to_canonical(_finite(scan, job.hounsfield, flags), source_affine)
    if labels is not None:
        labels = geometry.to_canonical(labels, source_affine)[0]
    if job.spacing_mm is not None and not same_spacing(geometry.spacing_mm(affine), job.spacing_mm):
        if labels is not None:
            labels = to_spacing(labels, affine, job.spacing_mm, order=0)[0]
        order = 3 if settings.interpolation == "cubic" else 1
        values, affine = to_spacing(values, affine, job.spacing_mm, order=order)
    body = find_body(values, hounsfield=job.hounsfield)
    if settings.crop:
        kept = _widened(body, settings.crop_margin_mm, affine, values.shape, labels)
        (z0, y0, x0), (z1, y1, x1) = kept
        values, affine = values[z0:z1, y0:y1, x0:x1], geometry.crop_affine(affine, kept[0])
        labels = None if labels is None else labels[z0:z1, y0:y1, x0:x1]
        body = _moved(body, kept[0])
    scaled = scale_intensity(values, body, hounsfield=job.hounsfield, settings=settings)
    return write_entry(
        folder,
        job.id,
        scaled.values,
        affine,
        labels,
        key=job.key,
        modality="CT" if job.hounsfield else job.modality,
        patient=job.patient,
        split=job.split,
        body_box=body,
        scale=scaled.scale,
        slope=scaled.slope,
        intercept=scaled.intercept,
        fill=scaled.fill,
        source_shape=scan.header.shape,
        source_affine=source_affine,
        source_path=job.path,
        label_path=job.label_path,
        targets=job.targets,
        flags=[*flags, *scaled.flags],
    )


def _labels_of(job: Job, scan: Scan, flags: list[str]) -> Array | None:
    if not job.label_path:
        return None
    return labels_on_grid(read_label(Path(job.label_path), scan.header, classes=dict(job.classes)), scan, flags)


def scale_intensity(values: Array, body: Box, *, hounsfield: bool, settings: StoreSettings) -> Scaled:
    """Return intensities as int16.

    CT is rounded to whole HU and clipped, so integer HU inside the range come back bit for bit. For all else two robust
    percentiles of the voxels in the body box become 0 and 16384; what lies beyond is kept as far as int16 reaches.
    The box, and not the whole scan, because a wide margin of air would push both percentiles into the noise.

    Args:
        values: Finite numbers, axes (z, y, x).
        body: First and one-past-last voxel of the body.
        hounsfield: Whether the values are HU.
        settings: Ranges and percentiles.
    """
    if hounsfield:
        low, high = settings.hu_range
        rounded = values if values.dtype.kind in "iub" else np.rint(values)
        clipped = np.clip(rounded.astype(np.int32 if rounded.dtype.kind in "ub" else rounded.dtype), low, high)
        return Scaled(
            values=clipped.astype(np.int16), scale=settings.ct_scale, slope=1.0, intercept=0.0, fill=low, flags=()
        )
    (z0, y0, x0), (z1, y1, x1) = body
    boxed = values[z0:z1, y0:y1, x0:x1].ravel()
    inside = boxed[:: max(1, boxed.size // _PERCENTILE_VOXELS)].astype(np.float64)
    bottom, top = (float(v) for v in np.percentile(inside, settings.percentiles))
    flags: tuple[str, ...] = ()
    if top <= bottom:
        bottom, top = float(values.min()), float(values.max())
        flags = ("narrow-intensities",)
    if top <= bottom:
        top, flags = bottom + 1.0, ("constant",)
    slope = (top - bottom) / MR_SCALE[1]
    stored = np.rint((values.astype(np.float64) - bottom) / slope)
    stored16 = np.clip(stored, -32768, 32767).astype(np.int16)
    fill = int(stored16.min())
    return Scaled(values=stored16, scale=MR_SCALE, slope=slope, intercept=bottom, fill=fill, flags=flags)


def labels_on_grid(labels: Scan, image: Scan, flags: list[str]) -> Array:
    """Return the labels as integers on the grid of the image.

    Grids count as one when no corner is off by more than a tenth of a voxel. Labels on another grid are resampled to
    the nearest voxel where they overlap the image, and ``flags`` gains "labels-resampled".

    Raises:
        FormatError: The labels are no whole numbers, or lie elsewhere.
    """
    path = labels.header.path
    values = labels.values
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise FormatError(path, "The labels hold values that are not finite. Labels are whole numbers from 0.")
        rounded = np.rint(values)
        worst = float(np.abs(values - rounded).max())
        if worst > 1e-3:
            raise FormatError(
                path, f"The labels are no whole numbers (off by up to {worst:.3g}). Is this an image, or probabilities?"
            )
        values = rounded
    low, high = int(values.min()), int(values.max())
    if low < -1 or high > 32767:
        raise FormatError(path, f"The labels reach from {low} to {high}; allowed are whole numbers from 0 to 32767.")
    integers = values.astype(np.int16)
    if labels.header.shape == image.header.shape and _corner_distance(labels, image) <= _GRID_TOLERANCE:
        return integers
    moved = geometry.resample_to_grid(
        integers, labels.header.affine, image.header.shape, image.header.affine, order=0, fill=0
    )
    if high > 0 and not np.greater(moved, 0).any():
        raise FormatError(
            path,
            f"The labels (shape {labels.header.shape}) lie outside the scan {image.header.path.name} "
            f"(shape {image.header.shape}) in the world. Check the pair, and the affine of the labels.",
        )
    flags.append("labels-resampled")
    return moved


def _corner_distance(labels: Scan, image: Scan) -> float:
    """Largest distance between corresponding corners, in voxels of the image."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.header.shape[::-1]], [1.0])).reshape(4, -1)
    there = np.linalg.inv(image.header.affine) @ labels.header.affine @ corners
    return float(np.abs(there - corners)[:3].max())


def _finite(scan: Scan, hounsfield: bool, flags: list[str]) -> Array:
    values: Array = scan.values
    if values.size == 0 or min(values.shape) == 0:
        raise FormatError(scan.header.path, f"The scan has no voxels (shape {values.shape}).")
    if values.dtype.kind != "f":
        return values
    good = np.isfinite(values)
    bad = int(values.size - np.count_nonzero(good))
    if bad == 0:
        return values
    if bad == values.size:
        raise FormatError(scan.header.path, "No voxel is finite. Write the scan out again from its source.")
    flags.append(f"nonfinite-{bad}")
    floor: Any = np.float64(-1024.0) if hounsfield else values[good].min()
    return np.where(good, values, floor.astype(values.dtype))


def _widened(body: Box, margin_mm: float, affine: Affine, shape: tuple[int, ...], labels: Array | None) -> Box:
    low, high = np.array(body[0]), np.array(body[1])
    steps = np.ceil(margin_mm / np.array(geometry.spacing_mm(affine))).astype(int)
    low, high = low - steps, high + steps
    if labels is not None and np.greater(labels, 0).any():
        points = np.argwhere(np.greater(labels, 0))
        low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0) + 1)
    low, high = np.maximum(low, 0), np.minimum(high, shape)
    if (low >= high).any():
        return whole(shape)
    return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))


def _moved(box: Box, by: tuple[int, int, int]) -> Box:
    (z0, y0, x0), (z1, y1, x1) = box
    z, y, x = by
    return (z0 - z, y0 - y, x0 - x), (z1 - z, y1 - y, x1 - x)
