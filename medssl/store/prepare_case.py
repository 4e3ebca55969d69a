"""One case on its way into the store: every channel read, laid on the first one's grid, scaled by itself, written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import UnfitError
from medssl.formats.label_grid import grid_gap, turned_alike
from medssl.formats.scan import Scan, ScanHeader
from medssl.normalising import nonzero_moments
from medssl.store.body import find_body, joined
from medssl.store.index import Record
from medssl.store.labelling import labels_or_reason
from medssl.store.prepare import (
    Job,
    Source,
    finite_values,
    moved,
    read_source,
    scale_intensity,
    widened,
)
from medssl.store.regrid import regridded
from medssl.store.resample import onto_grid
from medssl.store.write import MR_SCALE, ChannelImage, write_entry

__all__ = ["prepare_case"]

Array = npt.NDArray[np.generic]
Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The first channel's grid, as its file has it and in canonical axes."""

    channel: str
    header: ScanHeader
    shape: tuple[int, int, int]
    affine: Affine


def prepare_case(folder: Path, job: Job) -> Record:
    """Put a case into the store.

    The first channel that the case has gives the grid. Others on that grid keep every voxel; others are resampled to
    it, linearly, and the flags say so. Voxel size, body box and crop are the case's, intensities each channel's own.

    Args:
        folder: The store.
        job: The case.

    Returns:
        Its record, already written.

    Raises:
        FormatError: A channel cannot be read.
        UnfitError: A channel holds what is not accepted, or lies elsewhere than the first.
    """
    settings = job.settings
    flags: list[str] = []
    grid: _Grid | None = None
    labels, refused = None, ""
    stack: dict[str, Array] = {}
    for source in job.channels:
        if not source.path:
            flags.append(f"channel-lacking: {source.name}")
            continue
        own: list[str] = []
        scan, frame = read_source(source, settings, own)
        values = finite_values(scan, source.hounsfield, own, accept=settings.accept)
        if grid is None:
            labels, refused = labels_or_reason(job, scan, flags, frame=frame, accept=settings.accept)
            turned, affine = geometry.to_canonical(values, scan.header.affine)
            grid = _Grid(channel=source.name, header=scan.header, shape=_triple(turned), affine=affine)
        else:
            turned = _on_grid(values, scan, source, grid, own, limit_mm=settings.channel_gap_mm)
        stack[source.name] = turned
        flags += [flag for flag in own if flag not in flags]
    assert grid is not None, "a case has a channel"
    affine = grid.affine
    nonzero = dict(zip(stack, nonzero_moments(list(stack.values())), strict=True))
    hounsfield = {source.name: source.hounsfield for source in job.channels}
    in_hu = [name for name in stack if hounsfield[name]]
    stack, labels, affine = regridded(stack, labels, affine, job.spacing_mm, settings, hounsfield=in_hu)
    shape = _triple(next(iter(stack.values())))
    body = joined([find_body(values, hounsfield=hounsfield[name]) for name, values in stack.items()], shape)
    if settings.crop:
        kept = widened(body, settings.crop_margin_mm, affine, shape, labels)
        box = tuple(slice(low, high) for low, high in zip(*kept, strict=True))
        stack = {name: values[box] for name, values in stack.items()}
        labels = None if labels is None else labels[box]
        affine, body = geometry.crop_affine(affine, kept[0]), moved(body, kept[0])
    images = []
    for source in job.channels:
        modality = "CT" if source.hounsfield else source.modality
        if source.name not in stack:
            scale = settings.ct_scale if source.hounsfield else MR_SCALE
            images.append(ChannelImage(name=source.name, values=None, modality=modality, scale=scale))
            continue
        scaled = scale_intensity(stack[source.name], body, hounsfield=source.hounsfield, settings=settings)
        flags += [flag for flag in scaled.flags if flag not in flags]
        images.append(
            ChannelImage(
                name=source.name,
                values=scaled.values,
                modality=modality,
                scale=scaled.scale,
                slope=scaled.slope,
                intercept=scaled.intercept,
                fill=scaled.fill,
                nonzero=nonzero[source.name],
                source_path=source.path * (settings.privacy == "paths"),
            )
        )
    return write_entry(
        folder,
        job.id,
        images,
        affine,
        labels,
        key=job.key,
        patient=job.patient,
        split=job.split,
        body_box=body,
        source_shape=grid.header.shape,
        source_affine=grid.header.affine,
        label_path=None if refused else job.kept_label_path,
        label_refused=job.nameless().text(refused),
        targets=job.targets,
        flags=job.nameless().value(flags),
    )


def _on_grid(values: Array, scan: Scan, source: Source, grid: _Grid, flags: list[str], *, limit_mm: float) -> Array:
    """Return a channel on the first one's grid, in canonical axes."""
    gap = grid_gap(scan.header, grid.header)
    if gap is None:
        return turned_alike(values, scan.header, grid.header)
    turned, affine = geometry.to_canonical(values, scan.header.affine)
    beyond = geometry.beyond_mm(grid.shape, grid.affine, turned.shape, affine)
    if beyond > limit_mm:
        raise UnfitError(
            scan.header.path,
            f"The channel {source.name} does not cover {grid.channel}, which reaches {beyond:.1f} mm beyond it. Check "
            f"that both show one body; channel_gap_mm={np.ceil(beyond):.0f} stores it, and fills what is not covered.",
            "channel-elsewhere",
        )
    flags.append(f"channel-resampled: {source.name} to the grid of {grid.channel}, {gap.words}")
    low = float(turned.min())
    result = onto_grid(turned, affine, grid.shape, grid.affine, fill=max(low, -1024.0) if source.hounsfield else low)
    if beyond > 0 and result.min() == result.max():
        what = f"The channel {source.name} and {grid.channel} lie in different places and do not overlap."
        raise UnfitError(
            scan.header.path, f"{what} Check the headers, and that both are of one visit.", "channel-elsewhere"
        )
    return result


def _triple(values: Array) -> tuple[int, int, int]:
    return values.shape[0], values.shape[1], values.shape[2]
