"""Missing slices: told by positions, and by instance numbers and thickness where positions alone cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.formats.dicom_slices import Slice

__all__ = ["Gaps", "find_gaps"]

_MISSING_FROM = 1.5  # distances of this many usual ones and more are gaps
_NEAR = 0.05  # share by which a distance may differ from a multiple of another
_SPARSE_FROM = 2.0  # even distances of this many thicknesses are worth a word


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """What is known of the distances between slices.

    Attributes:
        usual: The distance that is taken for the affine, mm.
        wide: For each distance whether it is a gap beyond ``usual``.
        missing: How many slices are missing, about.
        warnings: What a person should know, each "kind: explanation".
    """

    usual: float
    wide: npt.NDArray[np.bool_]
    missing: int
    warnings: tuple[str, ...]


def find_gaps(slices: Sequence[Slice], along: npt.NDArray[np.float64]) -> Gaps:
    """Look for missing slices.

    Args:
        slices: At least two, in order, each at a place of its own.
        along: Their places along the normal in mm, rising.
    """
    distances = np.diff(along)
    usual = _usual(distances)
    wide = distances > _MISSING_FROM * usual
    true = _true_distance(slices, distances)
    if not wide.any():
        if true is None or usual < _MISSING_FROM * true:
            return Gaps(usual=usual, wide=wide, missing=0, warnings=_sparse(slices, usual))
        lost = int(np.sum(np.rint(distances / true) - 1))
        said = (
            f"missing slices: about {lost} of {lost + len(slices)}, between all slices: they lie {usual:.2f} mm apart "
            f"where {true:.2f} mm is the series' own distance; the places of those that are there are right"
        )
        return Gaps(usual=usual, wide=wide, missing=lost, warnings=(said,))
    if true is not None and true < usual:
        unit = true
        places = " (counted by the series' own distance)"
    else:
        unit, places = usual, ""
    lost = int(np.sum(np.maximum(0, np.rint(distances / unit) - 1)))
    where = int(np.flatnonzero(wide)[0])
    said = (
        f"missing slices: about {lost} in {int(wide.sum())} gaps, the first after slice {where + 1} of "
        f"{len(slices)} ({distances[where]:.2f} mm where {unit:.2f} is usual){places}; places beyond a gap are wrong"
    )
    return Gaps(usual=usual, wide=wide, missing=lost, warnings=(said,))


def _usual(distances: npt.NDArray[np.float64]) -> float:
    """Return the distance of neighbours: of the small ones where they are many enough not to be strays."""
    small = distances[distances < _MISSING_FROM * distances.min()]
    return float(np.median(small if 3 * len(small) >= len(distances) else distances))


def _true_distance(slices: Sequence[Slice], distances: npt.NDArray[np.float64]) -> float | None:
    """Return the distance at which the series was acquired, where numbers and headers agree on it."""
    thickness = _one([one.thickness for one in slices])
    between = _one([one.between for one in slices])
    counted = _per_number(slices, distances)
    if between:
        # Some write the gap and not the distance: then it is thinner than a slice, and numbers must bear it out.
        is_distance = not thickness or between >= (1 - _NEAR) * thickness or (counted and _close(counted, between))
        if is_distance and _multiples(distances, between):
            return between
    if counted and thickness and counted >= 0.75 * thickness:
        return counted
    if thickness and not _numbered(slices) and _multiples(distances, thickness) and _close(distances.min(), thickness):
        return thickness
    return None


def _per_number(slices: Sequence[Slice], distances: npt.NDArray[np.float64]) -> float | None:
    """Return the distance for a step of one in InstanceNumber; None where it is not the same everywhere."""
    if not _numbered(slices):
        return None
    steps = np.diff([one.number or 0.0 for one in slices])
    if not ((steps > 0).all() or (steps < 0).all()):
        return None
    each = distances / np.abs(steps)
    middle = float(np.median(each))
    return middle if bool((np.abs(each - middle) <= _NEAR * middle).all()) else None


def _numbered(slices: Sequence[Slice]) -> bool:
    return all(one.number is not None for one in slices) and len({one.number for one in slices}) == len(slices)


def _one(values: Sequence[float | None]) -> float | None:
    """Return the value that all slices share; None where one has none or they differ."""
    first = values[0]
    same = first is not None and first > 0 and all(v is not None and _close(v, first) for v in values)
    return first if same else None


def _multiples(distances: npt.NDArray[np.float64], unit: float) -> bool:
    steps = distances / unit
    return bool((np.abs(steps - np.maximum(1.0, np.rint(steps))) <= _NEAR * np.maximum(1.0, np.rint(steps))).all())


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _NEAR * max(abs(a), abs(b))


def _sparse(slices: Sequence[Slice], usual: float) -> tuple[str, ...]:
    thickness = _one([one.thickness for one in slices])
    if not thickness or usual < _SPARSE_FROM * thickness:
        return ()
    return (
        f"spaced slices: {thickness:g} mm thick and {usual:g} mm apart; nothing was imaged between them, or "
        "slices are missing",
    )
