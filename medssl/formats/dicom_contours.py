"""Polygons to pixels, by the even-odd rule.

A pixel belongs where its centre lies inside, or on a line: programs that trace the centres of the outermost pixels and
programs that trace their edges both get their masks back. Contours of one slice are taken together, so that a contour
in another is a hole, whether it is drawn by itself (XOR) or joined to the outer one by a line back and forth (keyhole).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["rasterise"]

_ON_LINE = 2e-4  # pixels; decimal strings hold about ten digits, of which this is safely above the last
_DIGITS = 4


def rasterise(polygons: Sequence[npt.NDArray[np.float64]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the pixels of closed polygons.

    Args:
        polygons: Corners (n, 2) as (row, column), in pixels from the centre of the first.
        shape: Rows and columns.

    Returns:
        The mask (rows, columns).
    """
    rows, columns = shape
    turns = np.zeros((rows, columns + 1), dtype=np.int32)  # how often a row's scan goes in or out before a column
    on_line = np.zeros((rows, columns), dtype=bool)
    for polygon in polygons:
        begin = np.round(np.asarray(polygon, dtype=np.float64), _DIGITS)
        end = np.roll(begin, -1, axis=0)
        flat = begin[:, 0] == end[:, 0]
        _lines(on_line, begin[flat], end[flat])
        begin, end = begin[~flat], end[~flat]
        up = begin[:, 0] > end[:, 0]
        low, high = np.where(up[:, None], end, begin), np.where(up[:, None], begin, end)
        first = np.clip(np.ceil(low[:, 0]), 0, rows).astype(np.intp)
        last = np.clip(np.floor(high[:, 0]), -1, rows - 1).astype(np.intp)
        counts = np.maximum(0, last - first + 1)
        edge = np.repeat(np.arange(len(low)), counts)
        row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
        slope = (high[edge, 1] - low[edge, 1]) / (high[edge, 0] - low[edge, 0])
        crossing = low[edge, 1] + (row - low[edge, 0]) * slope
        centre = np.rint(crossing)
        hit = (np.abs(crossing - centre) <= _ON_LINE) & (centre >= 0) & (centre < columns)
        on_line[row[hit], centre[hit].astype(np.intp)] = True
        counted = row < high[edge, 0]  # a corner between two edges counts once
        place = np.clip(np.ceil(crossing[counted]), 0, columns).astype(np.intp)
        np.add.at(turns, (row[counted], place), 1)
    inside: npt.NDArray[np.bool_] = np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
    return inside | on_line


def _lines(on_line: npt.NDArray[np.bool_], begin: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> None:
    """Mark the pixels whose centres lie on edges along a row."""
    rows, columns = on_line.shape
    for (row, a), (_, b) in zip(begin, end, strict=True):
        place = round(row)
        if abs(row - place) <= _ON_LINE and 0 <= place < rows:
            left = max(0, int(np.ceil(min(a, b) - _ON_LINE)))
            on_line[place, left : max(left, min(columns, int(np.floor(max(a, b) + _ON_LINE)) + 1))] = True
