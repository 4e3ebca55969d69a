"""One look at a scan: every fingerprint that finding its copies needs, from one reading of its voxels.

Imports neither polars nor torch: this is what worker processes run.
"""

from __future__ import annotations

import json
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
from medssl.nameless import nameless_job
from medssl.reduction import grids, hashes, keypoints

__all__ = ["VERSION", "Failure", "Fingerprint", "Target", "fingerprint", "fingerprint_of", "read_target", "targets_of"]

VERSION = 6  # of everything below that changes a fingerprint; files of another version are made again
_SMALL = 32  # voxels along each axis of the grid that the hashes are taken from
_CHUNK = 1 << 18  # voxels that are worked on at a time, so that they stay near the processor
_FINE_POINTS, _COARSE_POINTS = 64, 32
_THIN = 16  # cells along the shortest side
_TEXTURE = 32  # voxels along each axis of the block that texture is measured in


@dataclass(frozen=True, kw_only=True)
class Target:
    """A scan to look at. Plain values only, so that it travels to a worker process.

    Attributes:
        id: Its name in the manifest.
        path: The file, or the folder of a DICOM series.
        paths: The files of a DICOM series, a stack of pictures, or a header and its data; empty for a one-file scan.
        channel: What is taken of pictures in colour.
        file_hash: Of its bytes, as the manifest has it; "" where it has none.
        ordered: Whether the order of its files counts in that hash; slices of DICOM say themselves where they lie.
    """

    id: str
    path: str
    paths: tuple[str, ...] = ()
    channel: str = ""
    file_hash: str = ""
    ordered: bool = True

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
        slices: uint64 (z,), the hash of each slice from the feet upwards, 63 bits.
        points: int16 (n, 4), see `keypoints`: log2 of the size of a cell in mm, and the place (z, y, x) in quarters of
            a cell from the middle of the scan.
        point_codes: uint64 (n,), the hash of what lies around each point, 63 bits.
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
    slices: hashes.Code
    points: npt.NDArray[np.int16]
    point_codes: hashes.Code
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
        whole = file_hash(target.files, ordered=target.ordered)
        return fingerprint_of(scan, id=target.id, size_bytes=size, mtime_ns=changed, file_hash=whole)
    except FormatError as error:
        reason = error.reason
    except FileNotFoundError:
        reason = "The file is not there."
    except PermissionError:
        reason = "Permission denied. Give the user who runs this the right to read it."
    except MemoryError:
        reason = "There was not enough memory to read it. Use fewer workers, or a machine with more memory."
    except Exception as error:  # what a reader raises over one file is that file's fault, not the folder's
        reason = f"It could not be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
    clean = nameless_job(target.id, [target.path, *target.paths])  # the reason is kept in the table
    return Failure(id=target.id, size_bytes=size, mtime_ns=changed, reason=clean.text(reason))


def read_target(target: Target) -> Scan:
    """Read the scan, be it one file or a DICOM series.

    Raises:
        FormatError: It cannot be read.
    """
    return read(Path(target.path), paths=[Path(name) for name in target.paths], channel=target.channel)


def fingerprint_of(scan: Scan, *, id: str, size_bytes: int, mtime_ns: int, file_hash: str) -> Fingerprint:  # noqa: A002
    """Return the fingerprint of a scan in memory.

    Statistics are of a sample of the intensities, in units of the file, ``p005 p50 p995 mean std``, and of the image
    between its 0.5 % and 99.5 % intensities, which a new scale does not change: ``entropy`` in bits of a 64-bin
    histogram, ``body`` the share of voxels that are foreground, ``edge_z edge_y edge_x`` the mean difference of
    neighbours along an axis in the middle as a share of that range (a sharper kernel or less smoothing raises it).
    What tells the better of two copies: ``levels``, how many different intensities the sample holds, ``clipped``, the
    share of it at the lowest and at the highest one, and ``slices`` and ``held``, how many slices and voxels are left
    without outer planes of one value (padding).

    Args:
        scan: The scan.
        id: Its name in the manifest.
        size_bytes: Bytes of its files.
        mtime_ns: Latest time of change of its files.
        file_hash: SHA-256 of its files.
    """
    header = scan.header
    values, affine = geometry.to_canonical(scan.values, header.affine)
    spacing = geometry.spacing_mm(affine)
    shape = (int(values.shape[0]), int(values.shape[1]), int(values.shape[2]))
    taken = grids.sample(values, hounsfield=header.units == "HU")
    limits = grids.limits_of(taken)
    extents = [n * s for n, s in zip(shape, spacing, strict=True)]
    planes_mm = [max(keypoints.cell_mm(mm), keypoints.finest_mm(s)) for mm, s in zip(extents, spacing, strict=True)]
    planes = _planes(values, limits, spacing, planes_mm)
    thumbs = planes
    for axis in (1, 2):
        thumbs = grids.block_means(thumbs, axis, np.linspace(0, thumbs.shape[axis], _SMALL + 1))
    small = grids.block_means(thumbs, 0, np.linspace(0, len(thumbs), _SMALL + 1))
    mask = grids.foreground(small)
    box = grids.foreground_box(mask)
    box_mm = [(stop - start) / _SMALL * n * s for (start, stop), n, s in zip(box, shape, spacing, strict=True)]
    # What was padded around an image would change what lies around the points near its border. The cells stay as they
    # are, so that air which a window made even moves none.
    inside = grids.image_box(values)
    held = [_cells_within(*axis) for axis in zip(shape, spacing, planes_mm, inside, strict=True)]
    points, codes = _points(planes[inside[0], held[1], held[2]], extents, spacing, planes_mm)
    return Fingerprint(
        id=id,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        file_hash=file_hash,
        content_hash=content_hash(scan.values, header.affine),
        shape=shape,
        spacing_mm=(round(spacing[0], 4), round(spacing[1], 4), round(spacing[2], 4)),
        field=hashes.coefficients(small),
        box=hashes.coefficients(small, box),
        box_mm=(round(box_mm[0], 2), round(box_mm[1], 2), round(box_mm[2], 2)),
        slices=hashes.plane_bits(thumbs),
        points=points,
        point_codes=codes,
        statistics=_statistics(values, taken, limits, mask, inside),
    )


def _planes(
    values: npt.NDArray[Any], limits: tuple[float, float], spacing: tuple[float, float, float], cells_mm: list[float]
) -> grids.Field:
    """Return every axial slice on cells of these (z, y, x) mm in plane, 0 at the lower limit, 1 at the upper.

    This is the one look at the whole scan.
    """
    low, high = limits
    # A cell of many voxels is known from every second one as well; two along each axis are the least.
    thin = [max(1, int(cell / size / 2 + 1e-6)) for cell, size in zip(cells_mm[1:], spacing[1:], strict=True)]
    rows, columns = (slice((n - 1) % k // 2, None, k) for n, k in zip(values.shape[1:], thin, strict=True))
    full = values.shape
    values = values[:, rows, columns]
    sizes = [mm * n / kept for mm, n, kept in zip(spacing, full, values.shape, strict=True)]
    step = max(1, _CHUNK // max(1, values.shape[1] * values.shape[2]))
    made = []
    for begin in range(0, len(values), step):
        chunk = values[begin : begin + step]
        if chunk.dtype.kind in "iu":
            chunk = np.clip(chunk, math.floor(low), math.ceil(high))  # integers stay so: four times as quick
        else:
            chunk = np.clip(chunk, low, high)
            chunk = np.where(np.isnan(chunk), low, chunk) if np.isnan(chunk.sum()) else chunk
        made.append(grids.cells(grids.cells(chunk, 1, sizes[1], cells_mm[1]), 2, sizes[2], cells_mm[2]))
    planes: grids.Field = np.concatenate(made)
    planes -= np.float32(low)
    planes *= np.float32(1.0 / (high - low) if high > low else 0.0)
    return planes


def _cells_within(length: int, voxel_mm: float, cell_mm: float, part: slice) -> slice:
    """Return the `grids.cells` of an axis that lie within these voxels."""
    if part.stop - part.start == length:
        return slice(None)
    start = grids.start_of(length, voxel_mm, cell_mm)
    first = math.ceil((part.start * voxel_mm - start) / cell_mm - 1e-6)
    stop = math.floor((part.stop * voxel_mm - start) / cell_mm + 1e-6)
    return slice(max(0, first), max(first + 1, stop))


def _points(
    planes: grids.Field, extents: list[float], spacing: tuple[float, float, float], planes_mm: list[float]
) -> tuple[npt.NDArray[np.int16], hashes.Code]:
    """Return the points of two grids of cubic cells, each of cells twice as large as before; of a thin scan, three.

    The size of a cell follows from the longest side; there are two, so that a cut scan shares one with the whole.
    None is smaller than a voxel.
    """
    finest = keypoints.finest_mm(min(spacing))
    cell = max(keypoints.cell_mm(max(extents)), finest)
    sizes = [_FINE_POINTS, _COARSE_POINTS]
    if min(extents) < _THIN * cell and cell > finest:  # a thin scan has no detail along its short axis on these
        cell, sizes = cell / 2, [_FINE_POINTS, *sizes]
    field = planes
    for axis, size in enumerate((spacing[0], *planes_mm[1:])):
        field = grids.cells(field, axis, size, cell) if cell != size else field
    # Cells lie in the middle of the scan, so places are counted from there.
    found = []
    for number, most in enumerate(sizes):
        if number:
            for axis, length in enumerate(field.shape):
                field = grids.cells(field, axis, 1.0, min(2.0, length))
            cell *= 2
        places, codes = keypoints.keypoints(field, most)
        places = places - np.array(field.shape, dtype=np.int16) * 2
        scale = np.full((len(places), 1), round(math.log2(cell)), dtype=np.int16)
        found.append((np.concatenate([scale, places], axis=1), codes))
    return np.concatenate([places for places, _ in found]), np.concatenate([codes for _, codes in found])


def _statistics(
    values: npt.NDArray[Any],
    taken: grids.Sample,
    limits: tuple[float, float],
    mask: npt.NDArray[np.bool_],
    held: tuple[slice, ...],
) -> dict[str, float]:
    low, high = limits
    scale = 1.0 / (high - low) if high > low else 0.0
    size = max(1, taken.size)
    grey = (np.clip((taken.levels - low) * scale, 0.0, 1.0) * 63.999).astype(np.uint8)
    share = np.bincount(grey, weights=taken.counts, minlength=64) / size
    present = share[share > 0]
    mean = float((taken.levels * taken.counts).sum()) / size
    result = {
        "p005": low,
        "p50": taken.quantiles([50.0])[0],
        "p995": high,
        "mean": mean,
        "std": math.sqrt(float(((taken.levels - mean) ** 2 * taken.counts).sum()) / size),
        "entropy": float(-(present * np.log2(present)).sum()),
        "body": float(mask.mean()),
        "levels": float(len(taken.levels)),
        "clipped": float(sum(taken.counts[place] for place in {0, len(taken.counts) - 1} if len(taken.counts))) / size,
        "slices": float(held[0].stop - held[0].start),
        "held": float(math.prod(part.stop - part.start for part in held)),
    }
    # At full resolution, for texture would not survive leaving voxels out.
    middle = values[tuple(_middle(n) for n in values.shape)].astype(np.float32)
    if values.dtype.kind == "f":
        middle = np.nan_to_num(middle, nan=low)
    scaled = np.clip((middle - np.float32(low)) * np.float32(scale), 0.0, 1.0)
    for axis, name in enumerate(("edge_z", "edge_y", "edge_x")):
        steps = np.abs(np.diff(scaled, axis=axis))
        result[name] = float(steps.mean(dtype=np.float64)) if steps.size else 0.0
    return {name: float(f"{number:.6g}") for name, number in result.items()}


def _middle(length: int, most: int = _TEXTURE) -> slice:
    size = min(most, max(min(length, 2), length // 2))
    start = (length - size) // 2
    return slice(start, start + size)


def targets_of(rows: Sequence[Mapping[str, Any]]) -> list[Target]:
    """Return the targets of a manifest's rows, readable volumes only."""
    return [
        Target(
            id=row["id"],
            path=row["path"],
            paths=tuple(row["paths"]) if row["format"] == "dicom" or len(row["paths"]) > 1 else (),
            channel=json.loads(row.get("fields") or "{}").get("picture_channel", ""),
            file_hash=row.get("file_hash") or "",
            ordered=row["format"] != "dicom",
        )
        for row in rows
        if row["error"] is None and row.get("kind", "volume") == "volume"
    ]
