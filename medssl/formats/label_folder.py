"""A label that is a folder of one mask a structure, such as TotalSegmentator's ``segmentations/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError, UnfitError
from medssl.formats.label_grid import grid_gap
from medssl.formats.label_values import label_numbers
from medssl.formats.reading import read, read_header
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import FORMATS, is_scan_name

__all__ = ["folder_header", "is_mask_folder", "mask_files", "read_mask_folder", "structure_of"]


def is_mask_folder(path: Path) -> bool:
    """Tell whether a folder holds files that are masks by their names."""
    return path.is_dir() and bool(mask_files(path))


def mask_files(path: Path) -> tuple[Path, ...]:
    """Return the masks of a folder, by name."""
    return tuple(sorted(p for p in path.iterdir() if p.is_file() and p.name[:1] != "." and is_scan_name(p)))


def structure_of(path: Path) -> str:
    """Return the name of the structure that a mask's file says.

    Example:
        >>> structure_of(Path("segmentations/kidney_left.nii.gz"))
        'kidney_left'
    """
    ending = FORMATS.suffix_of(path)
    return path.name[: -len(ending)] if ending else path.stem


def folder_header(path: Path) -> ScanHeader:
    """Return the header of the first mask, for the folder.

    Raises:
        FormatError: It cannot be read.
    """
    files = mask_files(path)
    return replace(read_header(files[0]), path=path, paths=files)


def read_mask_folder(path: Path, classes: Mapping[int, str]) -> tuple[Scan, list[str]]:
    """Read a folder of masks as one label.

    Where masks overlap, the one with fewer voxels keeps the voxel (a vessel is not lost in its organ); of equals that
    with the smaller number.

    Args:
        path: The folder.
        classes: Value -> name of the cohort; a mask gets the value of its file's name. Without any, masks are
            numbered from 1 in the order of their names.

    Returns:
        The label in canonical axes, and what there is to say of it.

    Raises:
        FormatError: A mask cannot be read.
        UnfitError: A mask has no number, holds several values, or lies on another grid than the first.
    """
    files = mask_files(path)
    named = [structure_of(file) for file in files]
    numbers = {name: value for value, name in sorted(classes.items(), reverse=True) if value > 0}
    if not numbers:
        numbers = {name: place for place, name in enumerate(sorted(named), start=1)}
    unnumbered = [name for name in named if name not in numbers]
    if unnumbered:
        raise UnfitError(
            path,
            f"The structure '{unnumbered[0]}' ({len(unnumbered)} in all) has no number among the classes of the "
            "cohort. Run index on the folder again.",
            "label-unreadable",
        )
    first: ScanHeader | None = None
    affine = np.eye(4)
    owner: npt.NDArray[np.int16] = np.zeros((0, 0, 0), np.int16)
    sizes = np.zeros(max(numbers.values()) + 1, np.int64)
    notes: list[str] = []
    shared = np.zeros((0, 0, 0), bool)
    for file, name in zip(files, named, strict=True):
        scan = read(file)
        if scan.header.frames > 1:
            raise UnfitError(path, f"The mask {file.name} has {scan.header.frames} frames.", "label-frames")
        mask, own = _mask(file, scan, notes)
        if first is None:
            first, affine = scan.header, own
            owner, shared = np.zeros(mask.shape, np.int16), np.zeros(mask.shape, bool)
        else:
            gap = grid_gap(scan.header, first)
            if gap is not None:
                raise UnfitError(
                    path,
                    f"The mask {file.name} lies on another grid than {files[0].name}: {gap.words}.",
                    "label-shape-differs",
                )
        number = numbers[name]
        sizes[number] = np.count_nonzero(mask)
        taken = mask & (owner > 0)
        shared |= taken
        rivals = sizes[owner]
        stronger = (rivals > sizes[number]) | ((rivals == sizes[number]) & (owner > number)) | (owner == 0)
        owner[mask & stronger] = number
    if first is None:
        raise FormatError(path, "The folder holds no mask.")
    doubled = int(np.count_nonzero(shared))
    notes = list(dict.fromkeys(notes))
    if doubled:
        notes.append(f"label masks overlap in {doubled} voxels: the smaller structure keeps them")
    header = replace(first, path=path, paths=files, shape=(len(owner), *owner.shape[1:]), affine=affine)
    return Scan(header=header, values=owner), notes


def _mask(file: Path, scan: Scan, notes: list[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    numbers = label_numbers(file, scan.values, notes)
    found = np.unique(numbers)
    if len(found[found != 0]) > 1:
        listed = ", ".join(str(v) for v in found[:6])
        raise UnfitError(file, f"A mask of one structure holds 0 and one value. Found {listed}.", "label-grey-levels")
    turned, affine = geometry.to_canonical(numbers != 0, scan.header.affine)
    return np.ascontiguousarray(turned).astype(bool), affine
