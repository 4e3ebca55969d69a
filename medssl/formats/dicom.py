"""DICOM series: found in a tree of files, sorted by position, read as one scan."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.dicom_slices import SetAsideError, Slice, read_slices, starts_as_dicom
from medssl.formats.dicom_stack import Stack, stack_slices
from medssl.formats.rescale import apply_rescale, rescaled_dtype
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import format_of, is_dicom_name, is_scan_name

__all__ = [
    "Series",
    "SetAsideError",
    "find_series",
    "group_files",
    "read",
    "read_header",
    "read_series",
    "series_header",
    "series_of",
]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Slices that make one volume (or one volume a frame), in order, and their header."""

    stack: Stack
    header: ScanHeader


def find_series(folder: Path, *, recursive: bool = True) -> tuple[list[Series], list[FormatError]]:
    """Find every series below a folder.

    Args:
        folder: Searched with its subfolders. Files without a DICOM suffix count where they have DICOM's mark.
        recursive: Whether to search subfolders.

    Returns:
        The series, in the order of their first files, and what is none: a ``FormatError`` for each damaged file,
        a ``SetAsideError`` for each kind of object in each folder that is rightly no volume (localisers, reports).
    """
    return group_files(_dicom_files(Path(folder), recursive=recursive))


def group_files(paths: Iterable[Path]) -> tuple[list[Series], list[FormatError]]:
    """Group DICOM files to series by SeriesInstanceUID, orientation and shape; see ``find_series``."""
    errors: list[FormatError] = []
    aside: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    slices: list[Slice] = []
    for path in paths:
        try:
            slices.extend(read_slices(path))
        except SetAsideError as error:
            aside[path.parent, error.reason].append(path)
        except FormatError as error:
            errors.append(error)
    for (_, reason), files in aside.items():
        more = f" So are {len(files) - 1} more files of this folder." if len(files) > 1 else ""
        errors.append(SetAsideError(files[0], reason + more))
    found = []
    for group in _groups(slices):
        try:
            found.append(_series(group))
        except FormatError as error:
            errors.append(error)
    found.sort(key=lambda series: str(min(series.header.paths)))
    return found, errors


def series_of(paths: Sequence[Path]) -> Series:
    """Return the one series that these files make, such as ``ScanHeader.paths``.

    Args:
        paths: Its files, in any order. Files that were left out of the series (copies, duplicates) may be among them.

    Raises:
        FormatError: A file cannot be read, or the files make none or several series.
    """
    first = Path(paths[0]) if paths else Path()
    found, errors = group_files(Path(path) for path in paths)
    if errors:
        raise errors[0]
    return _only(found, first.parent, errors)


def series_header(series: Series) -> ScanHeader:
    """Return what is known of a series without its voxels."""
    return series.header


def read_series(series: Series, *, frame: int = 0) -> Scan:
    """Read the voxels of a series.

    Args:
        series: From ``find_series`` or ``series_of``.
        frame: Which volume, where there are several.

    Raises:
        FormatError: A file cannot be decoded, or there is no such frame.
    """
    header = series.header
    if not 0 <= frame < header.frames:
        raise FormatError(header.path, f"There is no frame {frame}: the series has {header.frames}, counted from 0.")
    slices = series.stack.frames[frame]
    dtype = np.dtype(header.dtype)
    values = np.empty(header.shape, dtype=dtype)
    places: dict[Path, list[int]] = defaultdict(list)
    for place, one in enumerate(slices):
        places[one.path].append(place)
    for path, where in places.items():
        pixels = _decode(path)
        for place in where:
            one = slices[place]
            stored = pixels[one.index] if pixels.ndim == 3 else pixels
            if stored.shape != header.shape[1:]:
                raise FormatError(path, f"The pixels have shape {stored.shape}; the header says {header.shape[1:]}.")
            if _to_invert(one):
                low, high = (-(1 << (one.pixels.bits - 1)), (1 << (one.pixels.bits - 1)) - 1)
                total = low + high if one.pixels.signed else (1 << one.pixels.bits) - 1
                stored = (total - stored.astype(np.int64)).astype(stored.dtype)
            values[place] = apply_rescale(stored, *(one.rescale or (1.0, 0.0)), dtype)
    return Scan(header=header, values=values)


def read(path: Path, *, frame: int = 0) -> Scan:
    """Read the one series of a folder, or a single (multi-frame) file."""
    return read_series(_one_series(Path(path)), frame=frame)


def read_header(path: Path) -> ScanHeader:
    """Read the header of the one series of a folder, or of a single (multi-frame) file."""
    return _one_series(Path(path)).header


def _one_series(path: Path) -> Series:
    found, errors = find_series(path) if path.is_dir() else group_files([path])
    series = _only(found, path, errors)
    damaged = [error for error in errors if not isinstance(error, SetAsideError)]
    if not damaged:
        return series
    note = f"damaged files: {len(damaged)} beside the series could not be read, the first is {damaged[0]}"
    return replace(series, header=replace(series.header, warnings=(*series.header.warnings, note)))


def _only(found: Sequence[Series], path: Path, errors: Sequence[FormatError]) -> Series:
    if len(found) == 1:
        return found[0]
    if not found and errors:
        raise errors[0]
    if not found:
        raise FormatError(path, "There is no DICOM series here.")
    shapes = "; ".join(f"{one.header.path} {one.header.shape}" for one in found[:4])
    raise FormatError(path, f"There are {len(found)} series here, one was expected ({shapes}). Name the files of one.")


def _dicom_files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        if not recursive:
            folders.clear()
        for name in sorted(names):
            path = Path(parent) / name
            if name.startswith(".") or name.upper() == "DICOMDIR" or is_scan_name(path):
                continue
            if is_dicom_name(path) or (format_of(path) is None and starts_as_dicom(path)):
                yield path


def _groups(slices: Sequence[Slice]) -> Iterator[list[Slice]]:
    """Yield the slices of each volume: same series, same plane; the same folder too where a series lies in several."""
    by_series: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    for one in slices:
        by_series[one.series, one.pixels.modality].append(one)
    for members in by_series.values():
        homes: dict[str, set[Path]] = defaultdict(set)
        for one in members:
            homes[one.instance].add(one.path.parent)
        # A series spread over folders is one; a series copied to another folder is two, which the check then reports.
        copied = any(len(parents) > 1 for parents in homes.values()) or not members[0].series
        groups: list[tuple[Path | None, list[Slice]]] = []
        for one in members:
            home = one.path.parent if copied else None
            for known, group in groups:
                if known == home and group[0].plane.same(one.plane):
                    group.append(one)
                    break
            else:
                groups.append((home, [one]))
        for _, group in groups:
            yield group


def _series(group: Sequence[Slice]) -> Series:
    stack = stack_slices(group)
    first = stack.frames[0]
    pixels = first[0].pixels
    notes = list(stack.warnings)
    every = [one for frame in stack.frames for one in frame]
    units = "arbitrary"
    if pixels.modality == "CT":
        if all(one.rescale is not None for one in every) and pixels.rescale_type in ("", "HU", "US"):
            units = "HU"
        else:
            notes.append("no HU: slices of this CT have no rescale slope and intercept, or another unit")
    if any(_to_invert(one) for one in every):
        notes.append("inverted: stored as MONOCHROME1 (high is dark); turned so that high is bright")
    dtypes = {
        rescaled_dtype(one.pixels.stored_dtype, [one.rescale or (1.0, 0.0) for one in every], bits=one.pixels.bits)
        for one in every
    }
    # In slice order, then the files that were left out: the same paths give the same series and the same warnings.
    paths = tuple(dict.fromkeys(one.path for one in (*every, *sorted(group, key=lambda one: str(one.path)))))
    parents = {path.parent for path in paths}
    folder = parents.pop() if len(parents) == 1 else Path(os.path.commonpath([str(path) for path in paths]))
    header = ScanHeader(
        path=paths[0] if len(paths) == 1 else folder,
        paths=paths,
        format="dicom",
        shape=(len(first), first[0].plane.rows, first[0].plane.columns),
        affine=stack.affine,
        dtype=np.result_type(*dtypes).name,
        frames=len(stack.frames),
        units=units,
        modality=pixels.modality,
        fields=dict(first[0].fields),
        warnings=tuple(notes),
    )
    return Series(stack=stack, header=header)


def _to_invert(one: Slice) -> bool:
    # Photometric inversion is for display: numbers that measure something (HU, activity) mean the same either way.
    return one.pixels.inverted and one.pixels.modality not in ("CT", "PT", "NM")


def _decode(path: Path) -> npt.NDArray[Any]:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            pixels: npt.NDArray[Any] = dataset.pixel_array
    except PermissionError:
        raise FormatError(path, "Permission denied. Give the user who runs this the right to read it.") from None
    except (NotImplementedError, RuntimeError) as error:
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        name = syntax.name if syntax is not None else "unknown"
        raise FormatError(
            path,
            f"The pixels cannot be unpacked (transfer syntax {name}: {str(error).strip().splitlines()[0]}). Install "
            "pylibjpeg with its plugins, or convert the file with gdcmconv --raw.",
        ) from error
    except Exception as error:  # damaged pixel data raises whatever the decoder meets first
        raise FormatError(path, f"The pixels cannot be read ({type(error).__name__}: {error}).") from error
    return pixels
