"""Reading one scan to the facts of its row: geometry, intensities, hashes, and how its label fits.

Imports neither polars nor torch: this is what worker processes run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError
from medssl.formats.label_grid import grid_gap
from medssl.formats.label_map import label_header
from medssl.formats.parts import files_of
from medssl.formats.reading import read, read_header
from medssl.formats.scan import Scan, ScanHeader, finite_voxels
from medssl.manifest.describe_label import label_facts, label_geometry
from medssl.manifest.freshness import file_hash, label_facts_of, same_bytes, size_and_time, stamp, stamps_of
from medssl.manifest.sources import Source

__all__ = [
    "CONTENT_SCHEME",
    "content_hash",
    "describe",
    "file_hash",
    "intensity_facts",
    "lies_on",
    "refresh",
    "size_and_time",
]

CONTENT_SCHEME = "2:"  # begins every content hash; those of another scheme cannot be compared
_CHUNK = 1 << 20
_MAX_EXACT = 1 << 24  # voxels of a float image up to which percentiles are exact
_CT_AIR_HU = -900.0
_MAX_CLASSES = 1024


def describe(source: Source, depth: str = "full") -> dict[str, Any]:
    """Return the facts of one scan. Whatever is wrong with it becomes the row's ``error``, never an exception.

    Args:
        source: What to read.
        depth: "full" reads the voxels; "header" leaves intensities, hashes and the label's values null.

    Returns:
        Columns of the manifest; those that need a look at the other rows (id, patient, split) are left out.
    """
    row: dict[str, Any] = {
        "path": str(source.path),
        "paths": [str(path) for path in source.paths or (source.path,)],
        "label_path": str(source.label_path) if source.label_path else None,
        "flags": [],
        "notes": [],
        "error": source.error,
    }
    try:
        files = source.paths or ((source.path,) if source.error else files_of(source.path))
        row["paths"] = [str(path) for path in files]
        # Before reading, so that what changes meanwhile is noticed by the next run.
        row |= stamp(files).columns()
        if source.label_path:
            _stamp_label(source.label_path, depth, row)
        if source.error is None:
            _read(source, depth, row)
    except FormatError as error:
        row["error"] = error.reason
    except FileNotFoundError:
        row["error"] = source.error or "The file is not there."
    except PermissionError:
        row["error"] = source.error or "Permission denied. Give the user who runs this the right to read it."
    except MemoryError:
        row["error"] = "There was not enough memory to read it. Use fewer workers, or a machine with more memory."
    except OSError as error:
        row["error"] = source.error or f"It cannot be read: {error.strerror or error}."
    except Exception as error:  # a plugin's own error must not end the folder; the row says what it was
        row["error"] = f"It could not be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
    return row


def refresh(source: Source, depth: str, known: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the facts of a scan, those of an earlier row where the bytes of its files are the same.

    Args:
        source: What to read.
        depth: As for `describe`.
        known: The earlier row, where only its bytes can tell whether it holds; None to read in any case.
    """
    if known is not None and same_bytes(known):
        try:
            return {**known, **stamps_of(known)}
        except (OSError, FormatError):
            pass  # it went while it was looked at; reading says so
    return describe(source, depth)


def _stamp_label(path: Path, depth: str, row: dict[str, Any]) -> None:
    try:
        row |= label_facts_of(path, full=depth == "full")
    except FormatError:
        return  # reading the label says what is wrong with it
    except OSError as error:  # where it is not there the scan is still one
        row["flags"].append("label-unreadable")
        row["notes"].append(f"label unreadable: {error.strerror or error}")


def _read(source: Source, depth: str, row: dict[str, Any]) -> None:
    if depth == "header":
        header = _header_of(source)
        row.update(_header_facts(header, source))
        _say_part(source, row)
        if source.label_path:
            label_geometry(source, header, row)
        return
    scan = _scan_of(source)
    header = scan.header
    row.update(_header_facts(header, source))
    _say_part(source, row)
    row["file_hash"] = file_hash(map(Path, row["paths"]), ordered=header.format != "dicom")
    row["content_hash"] = content_hash(scan.values, header.affine)
    facts, flags = intensity_facts(scan.values)
    row.update(facts)
    row["flags"] += flags
    if source.label_path:
        label_facts(source, scan, row)


def _say_part(source: Source, row: dict[str, Any]) -> None:
    if source.part:
        row["notes"].append(source.part.partition("\t")[0])
        row["fields"] = json.dumps(json.loads(row["fields"]) | {"part": source.part}, sort_keys=True)


def _header_of(source: Source) -> ScanHeader:
    return read_header(source.path, paths=source.paths, channel=source.picture_channel)


def _scan_of(source: Source) -> Scan:
    return read(source.path, paths=source.paths, channel=source.picture_channel)


def _header_facts(header: ScanHeader, source: Source) -> dict[str, Any]:
    said = {"modality": header.modality, "units": header.units}
    if source.picture_channel:
        said["picture_channel"] = source.picture_channel
    return {
        "format": header.format,
        "modality": header.modality,
        "units": header.units,
        "shape": list(header.shape),
        "spacing_mm": [float(s) for s in header.spacing_mm],
        "affine": [float(v) for v in header.affine.ravel()],
        "orientation": header.orientation,
        "dtype": header.dtype,
        "frames": header.frames,
        "notes": list(header.warnings),
        "fields": json.dumps(header.fields | said, sort_keys=True),
    }


def intensity_facts(values: npt.NDArray[np.generic]) -> tuple[dict[str, Any], list[str]]:
    """Return percentiles, extremes and the count of non-finite voxels, and what they give away.

    Percentiles are exact for integers, and for floats up to 16 million voxels; beyond that they are those of every
    n-th voxel. They are of finite voxels, interpolated linearly, as `numpy.percentile` has them.
    """
    flat = values.reshape(-1)
    nonfinite = 0
    if flat.dtype.kind == "f":
        finite = finite_voxels(flat)
        nonfinite = int(flat.size - np.count_nonzero(finite))
        flat = flat[finite] if nonfinite else flat
    if not flat.size:
        return {"nonfinite": nonfinite}, ["nonfinite"]
    low, high = float(flat.min()), float(flat.max())
    sample = flat if flat.dtype.kind in "iub" or flat.size <= _MAX_EXACT else flat[:: -(-flat.size // _MAX_EXACT)]
    p005, p50, p995 = _percentiles(sample, low, high)
    flags = (["nonfinite"] if nonfinite else []) + (["constant"] if low == high else [])
    whole = flat.dtype.kind in "iub" or bool((flat[:: max(1, flat.size // 100_000)] % 1 == 0).all())
    if low <= _CT_AIR_HU and high > 0 and (whole or _resampled_ct(p005, p995, low, high)):
        flags.append("looks-like-ct")
    if low != high and low >= 0 and whole and _is_patchy(values):
        flags.append("looks-like-labels")
    if low >= 0 and p50 >= 0 and high > 2000:
        flags.append("ct-offset")  # kept only where the scan is a CT; see assemble.py
    facts = {"p005": p005, "p50": p50, "p995": p995, "min": low, "max": high, "nonfinite": nonfinite}
    return facts, flags


def _resampled_ct(p005: float, p995: float, low: float, high: float) -> bool:
    """Tell whether fractional values are interpolated HU: air at the bottom, no more than metal on top."""
    return -1100 <= p005 <= -800 and 0 < p995 <= 4000 and low >= -4100 and high <= 40_000


def _percentiles(sample: npt.NDArray[Any], low: float, high: float) -> list[float]:
    wanted = (0.5, 50.0, 99.5)
    if sample.dtype.kind not in "iub" or high - low > 1 << 20:
        return [float(p) for p in np.percentile(sample, wanted)]
    # Counting is many times quicker than sorting, and exact.
    base = sample.min()
    # Taken off first where 64 unsigned bits would not fit into signed ones.
    counts = np.bincount(
        (sample - base).astype(np.int64) if sample.dtype == np.uint64 else sample.astype(np.int64) - int(base)
    )
    cumulative = np.cumsum(counts)
    result = []
    for percent in wanted:
        place = (sample.size - 1) * percent / 100
        below = int(np.searchsorted(cumulative, int(place), side="right"))
        above = int(np.searchsorted(cumulative, min(int(place) + 1, sample.size - 1), side="right"))
        result.append(float(base) + below + (above - below) * (place - int(place)))
    return result


def _is_patchy(values: npt.NDArray[Any]) -> bool:
    """Tell whether whole numbers lie in flat patches, as classes do: inside, neighbours are nearly always equal."""
    if values.max() > _MAX_CLASSES:
        return False
    left, right = values[:, :, :-1], values[:, :, 1:]
    inside = (left != 0) & (right != 0)
    count = int(np.count_nonzero(inside))
    return count > 0 and float(np.count_nonzero(inside & (left == right))) / count > 0.95


def content_hash(values: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> str:
    """Return a hash of the voxels that is the same whatever file, type or axis order they are kept in.

    The array is turned to canonical orientation and taken as the narrowest of uint8, int16 and float32 that holds every
    voxel, for hashing fewer bytes is quicker. As float32 every NaN counts as the same, and so do the two zeros. Spacing
    and position are left out: a copy whose header was lost is a copy.

    Args:
        values: Voxels (z, y, x).
        affine: Their affine.

    Returns:
        ``CONTENT_SCHEME`` and 64 hexadecimal digits.
    """
    turned = geometry.to_canonical(values, affine)[0]
    dtype = _narrowest(turned)
    digest = hashlib.sha256(f"{turned.shape}{dtype}".encode())
    step = max(1, _CHUNK // max(1, turned[:1].nbytes))
    for begin in range(0, len(turned), step):
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and counted with what is no number
            plain = np.ascontiguousarray(turned[begin : begin + step], dtype=dtype)
        if dtype == "<f4":
            plain = plain + np.float32(0.0)
            if turned.dtype.kind == "f":
                plain[np.isnan(plain)] = np.float32(np.nan)
        digest.update(plain.data)
    return CONTENT_SCHEME + digest.hexdigest()


def _narrowest(values: npt.NDArray[Any]) -> str:
    """Return "u1", "<i2" or "<f4": the first that holds every value."""
    if values.dtype.kind not in "iub" and not all(_whole(plane) for plane in values):
        return "<f4"
    if values.dtype == np.uint8 or not values.size:
        return "u1"
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        return "u1"
    return "<i2" if low >= -32768 and high <= 32767 else "<f4"


def _whole(plane: npt.NDArray[Any]) -> bool:
    """Tell whether all values are whole numbers that int16 holds; NaN is none."""
    return plane.dtype.kind == "f" and bool(((plane == np.rint(plane)) & (np.abs(plane) <= 32768)).all())


def lies_on(label: Path, image: Path) -> bool:
    """Tell whether a label has its image's grid, from both headers; true where one cannot be read, which is told later.

    Args:
        label: The label's file.
        image: The image's file.
    """
    try:
        there = read_header(image)
        return grid_gap(label_header(label, there), there) is None
    except (FormatError, OSError):
        return True
