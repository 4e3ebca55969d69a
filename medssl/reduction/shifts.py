"""The shift at which two fields agree best: all shifts at once, then neighbour by neighbour, then a fraction of a cell.

Source of the search over all shifts: D. Padfield, "Masked object registration in the Fourier domain", IEEE
Transactions on Image Processing 21 (2012).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Field", "Shift", "best_shift", "climb", "correlation", "fraction", "moved", "overlap"]

_LEAST_OVERLAP = 0.4  # of the smaller field
Field = npt.NDArray[np.float32]
Shift = tuple[int, int, int]


def best_shift(one: Field, two: Field) -> Shift:
    """Return the shift of ``two`` at which the two correlate best, of all at which they overlap enough."""
    from scipy.fft import irfftn, next_fast_len, rfftn

    shape = [next_fast_len(a + b - 1, real=True) for a, b in zip(one.shape, two.shape, strict=True)]

    def transformed(field: npt.NDArray[Any], turned: bool = False) -> npt.NDArray[Any]:
        spectrum: npt.NDArray[Any] = rfftn(field.astype(np.float64), shape)
        return np.conj(spectrum) if turned else spectrum

    one, two = one - one.mean(), two - two.mean()
    a, a2, a1 = transformed(one), transformed(one * one), transformed(np.ones(one.shape))
    b, b2, b1 = transformed(two, True), transformed(two * two, True), transformed(np.ones(two.shape), True)
    count = np.maximum(np.rint(irfftn(a1 * b1, shape)), 0.0)
    safe = np.maximum(count, 1.0)
    sum_a, sum_b = irfftn(a * b1, shape), irfftn(a1 * b, shape)
    product = irfftn(a * b, shape) - sum_a * sum_b / safe
    spread = (irfftn(a2 * b1, shape) - sum_a**2 / safe) * (irfftn(a1 * b2, shape) - sum_b**2 / safe)
    limit = 1e-9 * float(np.var(one) * np.var(two)) * float(min(one.size, two.size)) ** 2
    enough = (count >= _LEAST_OVERLAP * min(one.size, two.size)) & (spread > limit)
    score = np.where(enough, np.abs(product) / np.sqrt(np.maximum(spread, limit + 1e-300)), -1.0)
    place = np.unravel_index(int(np.argmax(score)), score.shape)
    shift = [int(p) if p < a_n else int(p) - n for p, a_n, n in zip(place, one.shape, shape, strict=True)]
    return shift[0], shift[1], shift[2]


def climb(one: Field, two: Field, start: Shift, reach: int) -> Shift:
    """Return the best shift of the detail around a start: all within reach first, then neighbour by neighbour."""
    sums = _sums(one), _sums(two)
    seen: dict[Shift, float] = {}

    def value(shift: Shift) -> float:
        if shift not in seen:
            seen[shift] = _quick_correlation(one, two, sums, shift)
        return seen[shift]

    steps = range(-reach, reach + 1)
    best = max(
        ((start[0] + z, start[1] + y, start[2] + x) for z, y, x in itertools.product(steps, repeat=3)), key=value
    )
    for _ in range(4 * reach):
        around = [(best[0] + z, best[1] + y, best[2] + x) for z, y, x in itertools.product((-1, 0, 1), repeat=3)]
        better = max(around, key=value)
        if value(better) <= value(best):
            break
        best = better
    return best


def fraction(one: Field, two: Field, shift: Shift) -> tuple[float, ...]:
    """Return the fraction of a cell by which the second is to be moved besides; a parabola through neighbours gives it.

    It is 0 where details do not agree better for it.
    """
    middle = abs(correlation(one, two, shift, trim=1))
    found = []
    for axis in range(3):
        beside = []
        for step in (-1, 1):
            near = list(shift)
            near[axis] += step
            beside.append(abs(correlation(one, two, (near[0], near[1], near[2]), trim=1)))
        bend = beside[0] - 2 * middle + beside[1]
        found.append(float(np.clip(0.5 * (beside[0] - beside[1]) / bend, -0.5, 0.5)) if bend < -1e-9 else 0.0)
    nearer = abs(correlation(one, moved(two, tuple(found)), shift, trim=1))
    return tuple(found) if nearer > middle else (0.0, 0.0, 0.0)


def moved(field: Field, fraction: tuple[float, ...]) -> Field:
    """Return a field moved by a fraction of a cell along each axis, (z, y, x); itself where there is none."""
    from scipy.ndimage import shift

    if not any(fraction):
        return field
    result: Field = shift(field, fraction, order=1, mode="nearest")
    return result


def overlap(
    one: tuple[int, ...], two: tuple[int, ...], shift: Shift, trim: int = 0
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the second, moved by the shift, lies in the first, and that part of the second."""
    places, parts = [], []
    for a, b, step in zip(one, two, shift, strict=True):
        start, stop = max(0, step), max(max(0, step), min(a, b + step))
        cut = trim if stop - start > 2 * trim + 2 else 0
        places.append(slice(start + cut, stop - cut))
        parts.append(slice(start + cut - step, stop - cut - step))
    return tuple(places), tuple(parts)


def correlation(one: Field, two: Field, shift: Shift, trim: int = 0) -> float:
    """Return the correlation of two fields where they overlap, less ``trim`` cells a side; 0 of too small a part."""
    places, parts = overlap(one.shape, two.shape, shift, trim)
    a, b = one[places].astype(np.float64), two[parts].astype(np.float64)
    if a.size < 2 or a.size < 0.5 * _LEAST_OVERLAP * min(one.size, two.size):
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / spread if spread > 1e-12 * a.size else 0.0


def _sums(field: Field) -> npt.NDArray[np.float64]:
    """Return the sums of a field and of its square over every box from the first corner: (2, z + 1, y + 1, x + 1)."""
    wide = field.astype(np.float64)
    table = np.zeros((2, *(n + 1 for n in field.shape)))
    table[:, 1:, 1:, 1:] = np.stack([wide, wide * wide]).cumsum(1).cumsum(2).cumsum(3)
    return table


def _quick_correlation(
    one: Field, two: Field, sums: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], shift: Shift
) -> float:
    """Return the size of `correlation` with a trim of 1, of two fields with means near 0, to five digits or so."""
    boxes = overlap(one.shape, two.shape, shift, 1)
    a, b = one[boxes[0]], two[boxes[1]]
    if a.size < 2 or a.size < 0.5 * _LEAST_OVERLAP * min(one.size, two.size):
        return 0.0
    (sum_a, square_a), (sum_b, square_b) = (_in_box(table, box) for table, box in zip(sums, boxes, strict=True))
    spread = (square_a - sum_a**2 / a.size) * (square_b - sum_b**2 / a.size)
    if spread <= (1e-12 * a.size) ** 2:
        return 0.0
    return float(abs(float(np.einsum("zyx,zyx->", a, b)) - sum_a * sum_b / a.size) / np.sqrt(spread))


def _in_box(table: npt.NDArray[np.float64], box: tuple[slice, ...]) -> tuple[float, float]:
    z, y, x = box
    edges = table[:, z.start :: z.stop - z.start, y.start :: y.stop - y.start, x.start :: x.stop - x.start]
    corners = np.diff(np.diff(np.diff(edges[:, :2, :2, :2], axis=1), axis=2), axis=3)
    return float(corners[0, 0, 0, 0]), float(corners[1, 0, 0, 0])
