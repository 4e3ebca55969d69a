"""One scan on its way into the store: read, turned, resampled, scaled, boxed, written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from medssl import formats, geometry
from medssl.errors import FormatError, UnfitError
from medssl.formats.scan import Scan, finite_voxels
from medssl.nameless import Nameless, nameless_job
from medssl.normalising import nonzero_moments
from medssl.store.accepting import how_to_accept
from medssl.store.body import Box, find_body, whole
from medssl.store.index import Record
from medssl.store.labelling import labels_or_reason
from medssl.store.options import StoreSettings
from medssl.store.regrid import regridded
from medssl.store.write import MR_SCALE, write_entry

__all__ = ["Job", "Scaled", "Source", "finite_values", "moved", "prepare", "read_source", "scale_intensity", "widened"]

Array = npt.NDArray[np.generic]
Affine = npt.NDArray[np.float64]
_PERCENTILE_VOXELS = 2_000_000
# Beginnings of a reader's warnings of what a store takes as it is, and a person should know before training.
_DOUBTS = (
    *("missing slices", "duplicate positions", "uneven slices", "uneven rescale", "stray slices", "spaced slices"),
    *("no positions", "no voxel size", "no HU", "no orientation", "padding in doubt"),
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where one channel of a case comes from. Plain values.

    Attributes:
        name: As the store calls it.
        path: As `Job` has it; "" where the case lacks this channel.
        paths: As `Job` has it, as for all that follow.
        modality: ...
        units: ...
        picture_channel: ...
        frame: Which frame of its file it is, where frames are channels; None where the file is the channel.
    """

    name: str
    path: str = ""
    paths: tuple[str, ...] = ()
    modality: str = "unknown"
    units: str = "arbitrary"
    picture_channel: str = ""
    frame: int | None = None

    @property
    def hounsfield(self) -> bool:
        """Whether the values are HU."""
        return self.units == "HU"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A scan or case to be stored. Plain values, so that it travels to a worker process.

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
        ignored: Label values that say "not known".
        strays: Label values that are no structures of the cohort, see `medssl.manifest.label_doubts`.
        label_fault: Why the label is not to be used, "" where it is.
        label_counted: Whether the manifest knows which values the label holds.
        picture_channel: What is taken of pictures in colour.
        channels: The channels of a case in their order, of which the first that is there gives the grid, ``path`` and
            the like; empty for a scan by itself, which `prepare` stores. See `prepare_case`.
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
    ignored: tuple[int, ...] = ()
    strays: tuple[int, ...] = ()
    label_fault: str = ""
    label_counted: bool = True
    picture_channel: str = ""
    channels: tuple[Source, ...] = ()

    @property
    def hounsfield(self) -> bool:
        """Whether the values are HU."""
        return self.units == "HU"

    @property
    def kept_path(self) -> str:
        """What the store keeps of ``path``."""
        return self.path if self.settings.privacy == "paths" else ""

    @property
    def kept_label_path(self) -> str | None:
        """What the store keeps of ``label_path``."""
        return self.label_path if self.settings.privacy == "paths" else None

    def nameless(self) -> Nameless:
        """Return what takes the names of its files out of texts; nothing where the store is to keep paths."""
        if self.settings.privacy == "paths":
            return Nameless({})
        of_channels = [path for source in self.channels for path in (source.path, *source.paths)]
        return nameless_job(self.id, [self.path, self.label_path, *self.paths, *of_channels])


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
        The scan's record, already written. Where its label is refused the scan is stored without, and the record says
        why.

    Raises:
        FormatError: The scan cannot be read.
        UnfitError: It holds what is not accepted.
    """
    settings = job.settings
    flags: list[str] = []
    scan, frame = read_source(job, settings, flags)
    finite = finite_values(scan, job.hounsfield, flags, accept=settings.accept)
    labels, refused = labels_or_reason(job, scan, flags, frame=frame, accept=settings.accept)
    source_affine = scan.header.affine
    (nonzero,) = nonzero_moments([finite])
    values, affine = geometry.to_canonical(finite, source_affine)
    stack, labels, affine = regridded(
        {"": values}, labels, affine, job.spacing_mm, settings, hounsfield=[""] if job.hounsfield else []
    )
    values = stack[""]
    body = find_body(values, hounsfield=job.hounsfield)
    if settings.crop:
        kept = widened(body, settings.crop_margin_mm, affine, values.shape, labels)
        (z0, y0, x0), (z1, y1, x1) = kept
        values, affine = values[z0:z1, y0:y1, x0:x1], geometry.crop_affine(affine, kept[0])
        labels = None if labels is None else labels[z0:z1, y0:y1, x0:x1]
        body = moved(body, kept[0])
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
        nonzero=nonzero,
        source_shape=scan.header.shape,
        source_affine=source_affine,
        source_path=job.kept_path,
        label_path=None if refused else job.kept_label_path,
        label_refused=job.nameless().text(refused),
        targets=job.targets,
        flags=job.nameless().value([*flags, *scaled.flags]),
    )


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
        # Cast to what holds every value and both ends: uint32 and uint64 hold no -1024, and more than int32 does.
        wide = np.minimum(rounded, np.uint64(max(high, 0))).astype(np.int64) if rounded.dtype.kind == "u" else rounded
        clipped = np.clip(wide.astype(np.int64) if wide.dtype.kind in "bi" else wide, low, high)
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


def read_source(source: Job | Source, settings: StoreSettings, flags: list[str]) -> tuple[Scan, int]:
    """Read the file of a scan or channel.

    Args:
        source: What to read.
        settings: Which frame of a 4D image is taken, where frames are no channels.
        flags: Gains what a person should know of the file.

    Returns:
        The scan, and which frame of its file it is.

    Raises:
        FormatError: It cannot be read.
        UnfitError: Its voxel size cannot be true.
    """
    files = [Path(p) for p in source.paths if len(source.paths) > 1]
    path, wanted = Path(source.path), settings.frame
    if isinstance(source, Source) and source.frame is not None:
        scan, frame = formats.read(path, frame=source.frame, paths=files, channel=source.picture_channel), source.frame
    else:
        several = wanted > 0 and formats.read_header(path, paths=files, channel=source.picture_channel).frames > 1
        frame = wanted if several else 0
        scan = formats.read(path, frame=frame, paths=files, channel=source.picture_channel)
        flags += [f"frame-{wanted}-of-{scan.header.frames}"] if scan.header.frames > 1 else []
    flags += [kind.replace(" ", "-") for kind in _DOUBTS if any(w.startswith(kind) for w in scan.header.warnings)]
    _credible(scan)
    return scan, frame


def _credible(scan: Scan) -> None:
    """Refuse a scan whose voxel size cannot be true: resampled, it would be nothing, or fill the memory.

    Raises:
        UnfitError: A voxel is smaller than a micrometre or larger than a metre, or has no size at all.
    """
    low, high = geometry.CREDIBLE_MM
    sizes = scan.header.spacing_mm
    if not all(low <= size <= high for size in sizes):
        said = " x ".join(f"{size:g}" for size in sizes)
        raise UnfitError(
            scan.header.path,
            f"The voxel size is {said} mm (z, y, x); allowed is {low:g} to {high:g}. Write the true size into the "
            "header.",
            "bad-geometry",
        )


def finite_values(scan: Scan, hounsfield: bool, flags: list[str], *, accept: Collection[str]) -> Array:
    """Return the values of a scan, where they are fit to be stored.

    Args:
        scan: The scan.
        hounsfield: Whether its values are HU.
        flags: Gains what was mended.
        accept: Kinds of faults that are stored all the same.

    Raises:
        FormatError: There is no voxel, or none that is finite.
        UnfitError: It holds what is not accepted.
    """
    values: Array = scan.values
    if values.size == 0 or min(values.shape) == 0:
        raise FormatError(scan.header.path, f"The scan has no voxels (shape {values.shape}).")
    if values.dtype.kind != "f":
        _refuse_constant(scan, values, accept)
        return values
    good = finite_voxels(values)
    bad = int(values.size - np.count_nonzero(good))
    if bad == 0:
        _refuse_constant(scan, values, accept)
        return values
    if bad == values.size:
        raise FormatError(scan.header.path, "No voxel is finite. Write the scan out again from its source.")
    if "nonfinite" not in accept:
        _refuse(scan, f"{bad} voxels are NaN, infinite or beyond what float32 holds.", "nonfinite")
    flags.append(f"nonfinite-{bad}")
    floor: Any = np.float64(-1024.0) if hounsfield else values[good].min()
    return np.where(good, values, floor.astype(values.dtype))


def _refuse_constant(scan: Scan, values: Array, accept: Collection[str]) -> None:
    if "constant" not in accept and values.size > 1 and values.min() == values.max():
        _refuse(scan, f"Every voxel has the value {values.min():g}.", "constant")


def _refuse(scan: Scan, what: str, kind: str) -> NoReturn:
    raise UnfitError(scan.header.path, f"{what} {how_to_accept(kind)}", kind)


def widened(body: Box, margin_mm: float, affine: Affine, shape: tuple[int, ...], labels: Array | None) -> Box:
    """Return a box with a margin, and with every labelled voxel, within the grid."""
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


def moved(box: Box, by: tuple[int, int, int]) -> Box:
    """Return a box as seen from another first voxel."""
    (z0, y0, x0), (z1, y1, x1) = box
    z, y, x = by
    return (z0 - z, y0 - y, x0 - x), (z1 - z, y1 - y, x1 - x)
