"""DICOM series: found in a tree of files, sorted by position, read as one scan."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from medssl.formats.dicom_aside import LabelObjectError
from medssl.formats.dicom_contrast import TOLD_BY_PART
from medssl.formats.dicom_parts import Part, disjoint, divide, places_of
from medssl.formats.dicom_pixels import PADDING_HU, padding_in_doubt, read_voxels, to_invert
from medssl.formats.dicom_slices import SetAsideError, Slice, read_slices, starts_as_dicom
from medssl.formats.dicom_stack import Stack, stack_slices
from medssl.formats.rescale import rescaled_dtype
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import format_of, is_dicom_name, is_scan_name

__all__ = [
    "LabelObjectError",
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
    """Slices that make one volume (or one volume a frame), in order, and their header.

    Where one SeriesInstanceUID holds several volumes, ``part`` says which one this is, in a sentence, and ``slug`` in
    a word for an id; both are "" otherwise.
    """

    stack: Stack
    header: ScanHeader
    part: str = ""
    slug: str = ""


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
    """Group DICOM files to volumes; see ``find_series``.

    Slices belong together where patient, study, SeriesInstanceUID, orientation, voxel size and shape agree. Volumes of
    one series at the same places (phases, echoes, b-values) are distinguished by ``dicom_parts``.
    """
    errors: list[FormatError] = []
    aside: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    slices: list[Slice] = []
    for path in paths:
        try:
            slices.extend(read_slices(path))
        except LabelObjectError as error:
            errors.append(error)  # never gathered: each may belong to another series
        except SetAsideError as error:
            aside[path.parent, error.reason].append(path)
        except FormatError as error:
            errors.append(error)
    groups, mixed = _groups(slices)
    for path, reason in mixed.items():
        aside[path.parent, reason].append(path)
    for (_, reason), files in aside.items():
        more = f" So are {len(files) - 1} more files of this folder." if len(files) > 1 else ""
        errors.append(SetAsideError(files[0], reason + more, tuple(files)))
    found: list[Series] = []
    for group in groups:
        try:
            found.extend(_volumes(group))
        except FormatError as error:
            errors.append(error)
    found.sort(key=lambda series: [str(path) for path in sorted(series.header.paths)])
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
    values = read_voxels(series.stack.frames[frame], header.shape, np.dtype(header.dtype))
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
    shapes = "; ".join(f"{one.header.path} {one.header.shape} {one.slug}".strip() for one in found[:4])
    raise FormatError(path, f"There are {len(found)} series here, one was expected ({shapes}). Name the files of one.")


def _dicom_files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        if not recursive:
            folders.clear()
        for name in sorted(names):
            path = Path(parent) / name
            if name.startswith(".") or is_scan_name(path):
                continue
            if name.upper() == "DICOMDIR" or is_dicom_name(path) or (format_of(path) is None and starts_as_dicom(path)):
                yield path


def _groups(slices: Sequence[Slice]) -> tuple[list[list[Slice]], dict[Path, str]]:
    """Return the slices of each series and plane, and the files whose frames lie in several, with the reason."""
    by_series: defaultdict[tuple[str, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        by_series[one.owner, one.series, one.pixels.modality].append(one)
    groups = [group for members in by_series.values() for home in _homes(members) for group in _planes(home)]
    owners: defaultdict[Path, set[int]] = defaultdict(set)
    for place, group in enumerate(groups):
        for one in group:
            owners[one.path].add(place)
    mixed = {
        path: f"The frames of this file lie in {len(places)} planes, or have {len(places)} sizes: no one volume. "
        "Divide it, for example with dcm2niix."
        for path, places in owners.items()
        if len(places) > 1
    }
    kept = [[one for one in group if one.path not in mixed] for group in groups]
    return [group for group in kept if group], mixed


def _planes(slices: Sequence[Slice]) -> Iterator[list[Slice]]:
    groups: list[list[Slice]] = []
    for one in slices:
        group = next((group for group in groups if group[0].plane.same(one.plane)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    yield from groups


def _homes(members: Sequence[Slice]) -> Iterator[list[Slice]]:
    """Divide a series that lies in several folders: folders that hold all of it are copies, others parts of one."""
    folders: defaultdict[Path, list[Slice]] = defaultdict(list)
    for one in members:
        folders[one.path.parent].append(one)
    if not members[0].series:
        yield from folders.values()  # nothing but the folder says which slices belong together
        return
    every = {one.instance for one in members}
    whole = [folder for folder in sorted(folders) if {one.instance for one in folders[folder]} == every]
    if len(whole) < 2:
        yield list(members)
        return
    # The whole ones are scans of their own, which the check reports as copies; what else there is goes to the first.
    others = [one for folder, inside in folders.items() if folder not in whole for one in inside]
    yield [*folders[whole[0]], *others]
    for folder in whole[1:]:
        yield folders[folder]


def _volumes(group: Sequence[Slice]) -> Iterator[Series]:
    parts = divide(group)
    if len(parts) == 1:
        yield _series(group, stack_slices(group))
        return
    if disjoint(parts):
        shown = Counter(_contrast(part.slices) for part in parts)
        kept = {one.instance: place for place, part in enumerate(parts) for one in part.slices}
        for place, part in enumerate(parts):
            every = [one for one in group if kept[one.instance] == place]  # with the copies, of which it is said
            made = _series(every, stack_slices(every), part)
            name = made.header.fields.get("contrast", "")
            yield _distinguished(made, name, part) if name and shown[name] > 1 else made
        return
    paths = {one.path for one in group}
    if len({tuple(_places(part)) for part in parts}) > 1:
        raise SetAsideError(
            min(paths),
            f"This file holds {len(parts)} volumes of different places ({parts[0].name}; {parts[1].name}). "
            "Divide it, for example with dcm2niix.",
        )
    named = "; ".join(part.name for part in parts[:6]) + ("; ..." if len(parts) > 6 else "")
    yield _series(
        group,
        stack_slices(group, [part.slices for part in parts]),
        note=f"several volumes: one file holds {len(parts)} ({named})",
    )


def _contrast(slices: Sequence[Slice]) -> str:
    """Return the contrast that all slices show, "" where they show several: frames of one file have no one name."""
    found = {one.fields.get("contrast", "") for one in slices}
    return found.pop() if len(found) == 1 else ""


def _distinguished(series: Series, name: str, part: Part) -> Series:
    """Name a volume of which another of its series shows the same contrast: t1_time2."""
    told = {"contrast": f"{name}_{part.slug.lower()}", "contrast_rule": TOLD_BY_PART}
    return replace(series, header=replace(series.header, fields=series.header.fields | told))


def _places(part: Part) -> list[tuple[int, ...]]:
    return [tuple(round(v * 10) for v in place[0].position or ()) for place in places_of(part.slices) or []]


def _series(group: Sequence[Slice], stack: Stack, part: Part | None = None, note: str = "") -> Series:
    first = stack.frames[0]
    pixels = first[0].pixels
    every = [one for frame in stack.frames for one in frame]
    notes = [*stack.warnings, *dict.fromkeys(text for one in every for text in one.notes), *([note] if note else [])]
    units = "arbitrary"
    scaled = [one.rescale is not None for one in every]
    if pixels.modality == "CT":
        if all(scaled) and pixels.rescale_type in ("", "HU", "US"):
            units = "HU"
        else:
            notes.append("no HU: slices of this CT have no rescale slope and intercept, or another unit")
    elif any(scaled) and not all(scaled):
        notes.append(f"uneven rescale: {scaled.count(False)} of {len(every)} slices have no slope and intercept")
    if any(to_invert(one) for one in every):
        notes.append("inverted: stored as MONOCHROME1 (high is dark); turned so that high is bright")
    if any(padding_in_doubt(one) for one in every):
        notes.append("padding in doubt: PixelPaddingValue is a number of HU that tissue has too; nothing was masked")
    dtypes = {
        rescaled_dtype(one.pixels.stored_dtype, [one.rescale or (1.0, 0.0) for one in every], bits=one.pixels.bits)
        for one in every
    }
    dtype = np.result_type(*dtypes)
    if pixels.modality == "CT" and any(one.pixels.padding for one in every):
        dtype = np.result_type(dtype, np.min_scalar_type(PADDING_HU))
    # In slice order, then the files that were left out: the same paths give the same series and the same warnings.
    paths = tuple(dict.fromkeys(one.path for one in (*every, *sorted(group, key=lambda one: str(one.path)))))
    parents = {path.parent for path in paths}
    folder = parents.pop() if len(parents) == 1 else Path(os.path.commonpath([str(path) for path in paths]))
    contrast = _contrast(every)
    header = ScanHeader(
        path=paths[0] if len(paths) == 1 else folder,
        paths=paths,
        format="dicom",
        shape=(len(first), first[0].plane.rows, first[0].plane.columns),
        affine=stack.affine,
        dtype=dtype.name,
        frames=len(stack.frames),
        units=units,
        modality=pixels.modality,
        fields={name: value for name, value in first[0].fields.items() if contrast or not name.startswith("contrast")},
        warnings=tuple(notes),
    )
    return Series(stack=stack, header=header, part=part.note if part else "", slug=part.slug if part else "")
