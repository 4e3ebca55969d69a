"""What the numbers of a label file may be: whole, few, and each a class, or it is no label."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import UnfitError

__all__ = ["MAX_CLASSES", "label_numbers", "without_ignored"]

Numbers = npt.NDArray[np.integer]
MAX_CLASSES = 1000
_LARGEST = 32767  # what a store holds
_ROUNDING = 1e-3
_WHITE = 255


def label_numbers(
    path: Path, values: npt.NDArray[np.generic], notes: list[str], *, known: Collection[int] = ()
) -> Numbers:
    """Return the values of a label file as whole numbers.

    Floats that are off by rounding alone are rounded. A mask of 0 and 255 alone becomes one of 0 and 1. Negative
    numbers stay as they are; who stores or checks them decides.

    Args:
        path: The file, for errors.
        values: As they were read.
        notes: Gains a sentence for each liberty that was taken.
        known: Values that the data set names (classes, and what it ignores): 255 among them stays 255.

    Raises:
        UnfitError: The values are no classes.
    """
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        values = _rounded(path, values, notes)
    found = _distinct(values)
    low, high = int(found[0]), int(found[-1])
    if low < -_LARGEST - 1 or high > _LARGEST:
        raise UnfitError(
            path,
            f"The label reaches from {low} to {high}; allowed are whole numbers from 0 to {_LARGEST}.",
            "label-non-integer",
        )
    if len(found) > MAX_CLASSES:
        raise UnfitError(
            path,
            f"The label holds {len(found)} different values; this looks like an image. At most {MAX_CLASSES} "
            "classes are read.",
            "label-non-integer",
        )
    if high == _WHITE and _WHITE not in known and len(found) <= _WHITE // 2:
        if set(found.tolist()) <= {0, _WHITE}:
            notes.append("label of 0 and 255 alone: 255 is read as 1")
            mask: Numbers = np.equal(values, _WHITE).astype(np.uint8)
            return mask
        listed = ", ".join(str(v) for v in found[:6]) + (", ..." if len(found) > 6 else "")
        raise UnfitError(
            path,
            f"The label holds {listed}: whether 255 is a class, grey, or 'not known' is not said. Name 255 in "
            "dataset.json (as 'ignore' where it is not known), or write the classes as 0, 1, 2, ...",
            "label-grey-levels",
        )
    numbers: Numbers = values.astype(values.dtype if values.dtype.kind in "iu" else np.int32, copy=False)
    return numbers


def without_ignored(numbers: Numbers, ignored: Collection[int]) -> Numbers:
    """Return the numbers with -1 ("not known") where the data set says that a voxel is to be ignored."""
    marked = [value for value in ignored if value != -1]
    if not marked:
        return numbers
    there = np.isin(numbers, marked)
    return np.where(there, np.int32(-1), numbers.astype(np.int32)) if there.any() else numbers


def _rounded(path: Path, values: npt.NDArray[np.generic], notes: list[str]) -> npt.NDArray[np.generic]:
    if not np.isfinite(values).all():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise UnfitError(
            path,
            f"The label holds {bad} values that are not finite. Labels are whole numbers from 0.",
            "label-non-integer",
        )
    rounded = np.rint(values)
    worst = float(np.abs(values - rounded).max())
    if worst > _ROUNDING:
        raise UnfitError(
            path,
            f"The label holds no whole numbers (off by up to {worst:.3g}). Is this an image, or probabilities?",
            "label-non-integer",
        )
    if worst > 0:
        notes.append(f"label rounded to whole numbers: they were off by up to {worst:.1g}")
    if float(np.abs(rounded).max()) > 2**31 - 1:
        raise UnfitError(path, "The label holds values beyond 32 bits; no classes count so far.", "label-non-integer")
    whole: npt.NDArray[np.generic] = rounded.astype(np.int32)
    return whole


def _distinct(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return the values that occur, rising; counting is quicker than sorting where they span little."""
    low, high = int(values.min()), int(values.max())
    if high - low > 1 << 20:
        return np.unique(values).astype(np.int64)
    wide = values.dtype if values.dtype.itemsize >= 4 else np.dtype(np.int32)
    counts = np.bincount((values.astype(wide, copy=False) - low).ravel())
    return np.flatnonzero(counts).astype(np.int64) + low
