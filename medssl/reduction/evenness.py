"""Whether two scans disagree everywhere alike, as a copy does, or in one place, as a heart that beat in between.

A blur and another voxel size take detail away where there is most of it; what moved does the same where it moved. So
sharpness is matched first: what is left then of a smoothed copy is little and even, and what moved stands out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medssl.reduction import shifts
from medssl.reduction.shifts import Field, Shift

__all__ = ["Evenness", "evenness", "matched"]

_BLUR = 5  # cells, the blur that takes detail away
_PATCH = 4
_FLAT = 1e-3  # of the range of intensities
_EQUAL = 0.005  # below this, 1 - correlation of patches is rounding and interpolation
_WIDTHS = (3, 5)  # cells of the means by which sharpness is matched
_RIM = 2  # cells at the border, which the widest mean reaches beyond
_THICK = 12  # cells of an axis from which its border is left out
_ALONG = ((0,), (1, 2))  # axes of them, and both: slices are thicker than voxels are wide
_SAMPLES = 24  # cells along each axis, at least, by which the weights are found


class Evenness(NamedTuple):
    """How two scans that lie on each other disagree.

    Attributes:
        unevenness: See `medssl.reduction.agreement.Agreement`.
        matched: Share of the variance of the detail that the other's explains once sharpness is matched, 0 to 1.
    """

    unevenness: float
    matched: float


def evenness(fields: tuple[Field, Field], details: tuple[Field, Field], shift: Shift, match: bool = True) -> Evenness:
    """Return how evenly two scans agree, from patches of 4^3 cells weighted by the contrast that both have there.

    What is flat in one scan alone (a face taken out, a window's end) is left out, and so is what its border reaches.

    Args:
        fields: Intensities of both, (z, y, x), on one size of cell.
        details: What a blur takes away of them.
        shift: Cells by which the second lies in the first.
        match: Match sharpness first; what it explains is 0 without.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    parts = shifts.overlap(fields[0].shape, fields[1].shape, shift, 1)
    flat = []
    for field, part in zip(fields, parts, strict=True):
        spread = maximum_filter(field, 3) - minimum_filter(field, 3)
        flat.append((spread <= _FLAT * (field.max() - field.min()))[part])
    one, two = (detail[part] for detail, part in zip(details, parts, strict=True))
    if (flat[0] ^ flat[1]).any():
        seen = ~maximum_filter(flat[0] ^ flat[1], _BLUR + 2)
        one, two = one * seen, two * seen
    if 0 in one.shape:
        return Evenness(0.0, 0.0)  # moved so, the two share nothing
    told = 0.0
    if match:
        one, two = max(matched(one, two), matched(two, one), key=lambda both: _explained(*both))
        told = _explained(one, two)
    size = [min(_PATCH, n) for n in one.shape]
    count = [n // k for n, k in zip(one.shape, size, strict=True)]

    def sums(field: Field) -> npt.NDArray[np.float64]:
        whole = field[tuple(slice(0, n * k) for n, k in zip(count, size, strict=True))]
        blocks = whole.reshape(count[0], size[0], count[1], size[1], count[2], size[2])
        total: npt.NDArray[np.float64] = blocks.sum(axis=(1, 3, 5), dtype=np.float64).ravel()
        return total

    products = sums(one * two)
    weight = np.sqrt(sums(one * one) * sums(two * two))
    if not weight.sum() > 0:
        return Evenness(0.0, told)
    patches = products / np.maximum(weight, 1e-30) * np.sign(products.sum())
    order = np.argsort(patches, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    low, middle = (float(patches[order][min(np.searchsorted(share, q), len(order) - 1)]) for q in (0.05, 0.5))
    return Evenness((1.0 - low) / (1.0 - middle + _EQUAL), told)


def matched(one: Field, two: Field) -> tuple[Field, Field]:
    """Return the first field as sharp as the second, and the second, both without the border of long axes.

    The first becomes the sum of itself and of its means over 3 and 5 cells along the slices, across them and both, with
    the weights by which it comes nearest to the second (least squares): seven numbers, whatever the number of cells.

    Args:
        one: (z, y, x), detail, its mean about 0.
        two: Of the same shape.
    """
    from scipy.ndimage import uniform_filter

    means = [one]
    for width in _WIDTHS:
        along, across = (
            uniform_filter(one, [min(width, n) if axis in axes else 1 for axis, n in enumerate(one.shape)])
            for axes in _ALONG
        )
        both = uniform_filter(across, [min(width, one.shape[0]), 1, 1])
        means += [along, across, both]
    inner = tuple(slice(_RIM, -_RIM) if n >= _THICK else slice(None) for n in one.shape)
    means, two = [mean[inner] for mean in means], two[inner]
    thin = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in two.shape)
    told = [field[thin] for field in (*means, two)]
    products = np.zeros((len(told), len(told)))
    for row, a in enumerate(told):
        for column, b in enumerate(told[: row + 1]):
            products[row, column] = products[column, row] = float((a * b).sum(dtype=np.float64))
    weights = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=1e-9)[0]
    made: Field = np.zeros_like(two)
    for weight, mean in zip(weights.tolist(), means, strict=True):
        made += np.float32(weight) * mean
    return made, two


def _explained(one: Field, two: Field) -> float:
    """Return the squared correlation of two fields whose means are about 0."""
    both, first, second = (float((a * b).sum(dtype=np.float64)) for a, b in ((one, two), (one, one), (two, two)))
    return both * both / (first * second) if first > 0 and second > 0 else 0.0
