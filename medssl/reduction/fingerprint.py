"""One look at a scan: every fingerprint that finding its copies needs, from one reading of its voxels.

Imports neither polars nor torch: this is what worker processes run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError
from medssl.formats.reading import read
from medssl.formats.scan import Scan
from medssl.manifest.describe import content_hash, file_hash, size_and_time
from medssl.reduction import grids, hashes

__all__ = ["VERSION", "Failure", "Fingerprint", "Target", "fingerprint", "fingerprint_of", "read_target", "targets_of"]

VERSION = 1  # of everything below that changes a fingerprint; files of another version are made again
SLAB_MM = 4.0
MAX_SLABS = 512  # thicker slabs where a header claims more than two metres
_THUMB = 64
_BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class Target:
    """A scan to look at. Plain values only, so that it travels to a worker process.

    Attributes:
        id: Its name in the manifest.
        path: The file, or the folder of a DICOM series.
        paths: The files of a DICOM series; empty for a one-file scan.
    """

    id: str
    path: str
    paths: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """Every file that the scan is made of."""
        return [Path(name) for name in self.paths or (self.path,)]


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What is kept of a scan to find its copies.

    Attributes:
        id: Its name in the manifest.
        size_bytes: Bytes of its files together.
        mtime_ns: Latest time of change of its files.
        file_hash: SHA-256 of the files.
        content_hash: SHA-256 of the voxels in canonical orientation, whatever file, type or axis order they came in.
        shape: Voxels (z, y, x), in canonical orientation as everything below.
        spacing_mm: (z, y, x).
        field: float16 (8, 8, 8), coefficients of the whole field; see `hashes`.
        box: float16 (8, 8, 8), coefficients of the box of the foreground.
        box_mm: Size of that box (z, y, x).
        slab_mm: Thickness of a slab.
        slabs: uint64 (n,), the hash of each slab from the feet upwards, 63 bits.
        slices: uint64 (z,), the hash of each slice from the feet upwards, 63 bits.
        statistics: Names and numbers of intensities and texture; see `fingerprint_of`.
    """

    id: str
    size_bytes: int
    mtime_ns: int
    file_hash: str
    content_hash: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    field: hashes.Coefficients
    box: hashes.Coefficients
    box_mm: tuple[float, float, float]
    slab_mm: float
    slabs: hashes.Code
    slices: hashes.Code
    statistics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A scan that could not be looked at, and why."""

    id: str
    size_bytes: int
    mtime_ns: int
    reason: str


def fingerprint(target: Target) -> Fingerprint | Failure:
    """Read a scan and return its fingerprint. Whatever is wrong with it becomes a `Failure`, never an exception."""
    size, changed = 0, 0
    try:
        size, changed = size_and_time(target.files)
        scan = read_target(target)
        return fingerprint_of(scan, id=target.id, size_bytes=size, mtime_ns=changed, file_hash=file_hash(target.files))
    except FormatError as error:
        reason = error.reason
    except FileNotFoundError:
        reason = "The file is not there."
    except PermissionError:
        reason = "Permission denied. Give the user who runs this the right to read it."
    except MemoryError:
        reason = "There was not enough memory to read it. Use fewer workers, or a machine with more memory."
    except Exception as error:  # a reader's surprise at one file is that file's fault, not the folder's
        reason = f"It could not be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
    return Failure(id=target.id, size_bytes=size, mtime_ns=changed, reason=reason)


def read_target(target: Target) -> Scan:
    """Read the scan, be it one file or a DICOM series.

    Raises:
        FormatError: It cannot be read.
    """
    files = target.files
    if target.paths:
        from medssl.formats import dicom

        return dicom.read_series(dicom.series_of(tuple(files)))
    return read(files[0])


def fingerprint_of(scan: Scan, *, id: str, size_bytes: int, mtime_ns: int, file_hash: str) -> Fingerprint:  # noqa: A002
    """Return the fingerprint of a scan in memory.

    Statistics are of the intensities, in units of the file, ``p005 p50 p995 mean std``, and of the image between its
    0.5 % and 99.5 % intensities, which a new scale does not change: ``entropy`` in bits of a 64-bin histogram,
    ``body`` the share of voxels that are foreground, ``edge_z edge_y edge_x`` the mean difference of neighbours along
    an axis as a share of that range (a sharper kernel or less smoothing raises it).

    Args:
        scan: The scan.
        id: Its name in the manifest.
        size_bytes: Bytes of its files.
        mtime_ns: Latest time of change of its files.
        file_hash: SHA-256 of its files.
    """
    header = scan.header
    values, affine = geometry.to_canonical(scan.values, header.affine)
    limits = grids.clip_limits(values, hounsfield=header.units == "HU")
    thumbs = _plane_thumbs(values, limits)
    edges = np.linspace(0, len(thumbs), _THUMB + 1)
    small = grids.block_means(thumbs, 0, edges)
    mask = grids.foreground(small)
    small_box = grids.foreground_box(mask)
    spacing = geometry.spacing_mm(affine)
    shape = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
    box_mm = [(stop - start) / _THUMB * n * s for (start, stop), n, s in zip(small_box, shape, spacing, strict=True)]
    slab_mm = max(SLAB_MM, shape[0] * spacing[0] / MAX_SLABS)
    return Fingerprint(
        id=id,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        file_hash=file_hash,
        content_hash=content_hash(scan.values, header.affine),
        shape=shape,
        spacing_mm=(round(spacing[0], 4), round(spacing[1], 4), round(spacing[2], 4)),
        field=hashes.coefficients(grids.in_box(small, ((0.0, _THUMB),) * 3, _BLOCK)),
        box=hashes.coefficients(grids.in_box(small, small_box, _BLOCK)),
        box_mm=(round(box_mm[0], 2), round(box_mm[1], 2), round(box_mm[2], 2)),
        slab_mm=slab_mm,
        slabs=_slab_hashes(thumbs, spacing[0], slab_mm),
        slices=hashes.plane_bits(grids.block_means(grids.block_means(thumbs, 1, _HALVES), 2, _HALVES)),
        statistics=_statistics(values, limits, mask),
    )


_HALVES = np.linspace(0, _THUMB, _BLOCK + 1)


def _plane_thumbs(values: npt.NDArray[Any], limits: tuple[float, float]) -> grids.Field:
    """Return every axial slice, clipped to the limits, as 64x64 means: (z, 64, 64)."""
    low, high = limits
    result = np.empty((len(values), _THUMB, _THUMB), dtype=np.float32)
    along = [np.linspace(0, n, _THUMB + 1) for n in values.shape[1:]]
    for place, plane in enumerate(values):
        clipped = np.nan_to_num(np.asarray(plane, dtype=np.float32), nan=low, posinf=high, neginf=low)
        np.clip(clipped, low, high, out=clipped)
        rows = grids.block_means(clipped, 0, along[0])
        result[place] = grids.block_means(rows, 1, along[1])
    return result


def _slab_hashes(thumbs: grids.Field, slice_mm: float, slab_mm: float) -> hashes.Code:
    """Return the hash of each slab, taken in the box of its own foreground, so that a crop along z changes none."""
    slices = slab_mm / slice_mm
    count = max(1, math.floor(len(thumbs) / slices))  # what is left over at the top is less than a slab
    slabs = grids.block_means(thumbs, 0, np.minimum(np.arange(count + 1) * slices, len(thumbs)))
    pictures = [grids.in_box(slab, grids.foreground_box(grids.foreground(slab)), _BLOCK) for slab in slabs]
    return hashes.plane_bits(np.stack(pictures))


def _statistics(values: npt.NDArray[Any], limits: tuple[float, float], mask: npt.NDArray[np.bool_]) -> dict[str, float]:
    low, high = limits
    # The middle half along each axis, at full resolution: texture would not survive leaving voxels out.
    middle = values[tuple(_middle(n) for n in values.shape)].astype(np.float64)
    middle = np.nan_to_num(middle, nan=low, posinf=high, neginf=low)
    extent = high - low
    scaled = np.clip((middle - low) / extent, 0.0, 1.0) if extent > 0 else np.zeros(middle.shape)
    counts = np.histogram(scaled, bins=64, range=(0.0, 1.0))[0] / scaled.size
    present = counts[counts > 0]
    result = {
        "p005": low,
        "p50": float(np.median(middle)),
        "p995": high,
        "mean": float(middle.mean()),
        "std": float(middle.std()),
        "entropy": float(-(present * np.log2(present)).sum()),
        "body": float(mask.mean()),
    }
    for axis, name in enumerate(("edge_z", "edge_y", "edge_x")):
        steps = np.abs(np.diff(scaled, axis=axis))
        result[name] = float(steps.mean()) if steps.size else 0.0
    return {name: float(f"{number:.6g}") for name, number in result.items()}


def _middle(length: int, most: int = 128) -> slice:
    size = min(most, max(min(length, 2), length // 2))
    start = (length - size) // 2
    return slice(start, start + size)


def targets_of(rows: Sequence[Mapping[str, Any]]) -> list[Target]:
    """Return the targets of a manifest's rows, readable volumes only."""
    return [
        Target(id=row["id"], path=row["path"], paths=tuple(row["paths"]) if row["format"] == "dicom" else ())
        for row in rows
        if row["error"] is None and row.get("kind", "volume") == "volume"
    ]
