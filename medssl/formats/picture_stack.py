"""Slices of one scan as pictures in a folder: their order, their masks, and the scan that they make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from medssl.formats import images
from medssl.formats.scan import Scan, ScanHeader
from medssl.formats.table import format_of

__all__ = ["MASK_ENDING", "STACK", "masks_of", "natural", "numbered_name", "read_stack"]

STACK = "image-stack"
MASK_ENDING = re.compile(r"[_-](gt|seg|label|labels|labelmap|mask|segmentation|groundtruth|annotation)$", re.I)
_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$", re.S)


def numbered_name(stem: str) -> tuple[str, int, str] | None:
    """Return a name in three parts about its last number, None where it has none.

    Example:
        >>> numbered_name("slice_010_t2")
        ('slice_010_t', 2, '')
        >>> numbered_name("TCGA_CS_4941_7")
        ('TCGA_CS_4941_', 7, '')
    """
    match = _NUMBER.match(stem)
    return (match[1], int(match[2]), match[3]) if match else None


def natural(path: Path) -> tuple[str, int, str]:
    """Return a key that sorts slice_2 before slice_10."""
    return numbered_name(path.stem) or (path.stem, -1, "")


def masks_of(slices: Sequence[Path], folder: Path) -> list[Path | None]:
    """Return the mask of each slice in a folder: of its name and an ending, or in another folder of its name alone."""
    by_stem: dict[str, Path] = {}
    own = {Path(one) for one in slices}
    for path in sorted(folder.iterdir(), reverse=True):
        if format_of(path) == "image" and path not in own:
            by_stem[path.stem] = by_stem[MASK_ENDING.sub("", path.stem)] = path
    return [by_stem.get(Path(one).stem) for one in slices]


def read_stack(path: Path, paths: Sequence[Path], *, frame: int = 0, channel: str = "") -> Scan:
    """Read slices that are pictures; ``values`` has shape (slice, y, x).

    Args:
        path: The folder.
        paths: The slices in order.
        frame: 0; there are no others.
        channel: What to take of pictures in colour; see `images.read`.

    Raises:
        FormatError: A slice cannot be read, or they are of several sizes or types.
    """
    if frame != 0:
        raise FormatError(path, f"There is no frame {frame}: a stack of pictures has 1, counted from 0.")
    planes, warnings = [], set()
    for one in paths:
        with images.opened(Path(one)) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise FormatError(one, "A slice of the stack holds several pictures itself. Split it.")
            plane, said = images.grey_pixels(Path(one), picture, channel=channel)
        planes.append(plane)
        warnings |= set(said)
    kinds = {(plane.shape, plane.dtype.name) for plane in planes}
    if len(kinds) > 1:
        shown = ", ".join(f"{shape[1]} x {shape[0]} {dtype}" for shape, dtype in sorted(kinds)[:4])
        raise FormatError(
            path,
            f"Its {len(planes)} pictures are of several kinds ({shown}), so they are no slices of one scan. "
            "Leave out what is none, or read each by itself: medssl index ... pictures=single",
        )
    values = np.ascontiguousarray(np.stack(planes))
    slices, height, width = values.shape
    header = ScanHeader(
        path=path,
        paths=tuple(Path(one) for one in paths),
        format=STACK,
        shape=(slices, height, width),
        affine=images.picture_affine(width, height),
        dtype=values.dtype.name,
        warnings=(
            f"stack: {slices} pictures count as slices, the first as the lowest",
            "no voxel size: pictures have none; 256 mm along the longer side and cubic voxels were taken",
            *_gaps(paths),
            *sorted(warnings),
        ),
    )
    return Scan(header=header, values=values)


def _gaps(paths: Sequence[Path]) -> tuple[str, ...]:
    numbers = [natural(Path(one))[1] for one in paths]
    steps = np.diff(numbers)
    if not len(steps) or (steps == steps.min()).all():
        return ()
    step = int(steps.min())
    absent = [number for a, b in pairwise(numbers) for number in range(a + step, b, max(1, step))]
    return (f"missing slices: {len(absent)} numbers are left out, such as {absent[0]}",) if absent else ()
