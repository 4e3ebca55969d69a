"""How well two scans agree: both on one grid, moved until they agree best.

What is compared is the correlation of the detail (what a blur of five voxels takes away) inside of both bodies, where
the two overlap: two patients of one protocol agree in their outlines, but not in that.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.formats.scan import Scan
from medssl.reduction import grids, shifts
from medssl.reduction.evenness import evenness
from medssl.reduction.explained import Explained, Limits, explained_at, explained_of
from medssl.reduction.hashes import Variant
from medssl.reduction.inside import Mask, detail_of, independent, inside
from medssl.reduction.shifts import Field, Shift
from medssl.reduction.slice_thickness import Thicker, thick_slices, thicker

__all__ = ["WORTH_A_LOOK", "Agreement", "compare"]

WORTH_A_LOOK = 0.40  # score below which no number of slices, and no function of intensities, makes two scans copies
_HOPELESS = 0.30  # score below which intensities are compared and no better shift is looked for; copies reach 0.70
_COARSE = 32
_FINE = 80
_LEAST_INSIDE = 0.4  # of the smaller body's cells that must lie inside the other
_PLAIN = 0.9  # score from which the shift that was found is not doubted
_INSIDE = 1.0 - 1e-4  # of a moved cell
_FEWEST = 27  # cells inside both, below which there is nothing to tell by
_ALL = 1.0 - 1e-6  # a score of 1 would be evidence without end
_ONE_SIZE = 0.01  # voxels that differ by less are taken as equally large
_OPEN = 0.2  # of a voxel: a shift nearer to a whole number is taken to be that


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well two scans agree where they agree best.

    Attributes:
        score: Correlation of the detail inside both bodies, 0 to 1; a changed sign counts as agreement.
        evidence: By how many standard deviations that lies above what strangers come to, given how many independent
            cells lie inside both: the same score tells less of a small or smooth body. 0 where nobody looked.
        explained: Share of the second's variance that is a function of the first's intensities alone, 1 for a copy in
            8 bits or with another intercept; over all voxels or inside both bodies, where it is more, or of the detail
            once sharpness is matched, for a blur is no function of single voxels. None where voxels do not lie on
            voxels.
        function: How far the one's numbers are a function of the other's, inside both bodies: 1 for a copy in 8 bits,
            in another window or with the sign changed; None where voxels do not lie on voxels.
        equal: Share of the smaller one's voxels, background left out, that hold the very same number in the other, less
            what chance would give; 0 where voxels do not lie on voxels.
        correlation: Correlation of the images where they overlap; negative where the sign was changed.
        overlap: Share of the smaller scan that lies within the other.
        shift_mm: How far the second was moved, (z, y, x), so that its first voxel lies there in the first scan.
        unevenness: How many times more the worst 5 % of small patches disagree than the median one, once sharpness is
            matched where the score is worth a look. Noise and smoothing spread over the image; a heart that beat in
            between is all in one place.
    """

    score: float
    evidence: float
    explained: float | None
    function: float | None
    equal: float
    correlation: float
    overlap: float
    shift_mm: tuple[float, float, float]
    unevenness: float

    @classmethod
    def of_score(cls, score: float) -> Agreement:
        """Return the agreement of what a score alone tells: equal arrays, clouds, pairs nobody looked at."""
        return cls(
            score=score,
            evidence=0.0,
            explained=1.0 if score == 1.0 else None,
            function=1.0 if score == 1.0 else None,
            equal=1.0 if score == 1.0 else 0.0,
            correlation=score,
            overlap=1.0 if score > 0.0 else 0.0,
            shift_mm=(0.0, 0.0, 0.0),
            unevenness=0.0,
        )


def compare(first: Scan, second: Scan, *, variant: Variant | None = None) -> Agreement:
    """Return how well two scans agree at the shift at which they agree best.

    Both are averaged onto cubes, at most 80 along the longest side. All shifts are tried on a coarser grid, the
    neighbours of the best then on the fine one, and a fraction of a cube last. Scans with voxels of one size, or with
    slices several times as thick in one, are then cut to what they share and averaged anew. Scans with the same number
    of voxels are taken to have the same voxel size, for headers are lost more often than that.

    Args:
        first: A scan.
        second: Another.
        variant: How the second's axes are to be turned first.
    """
    turn = variant or Variant()
    one_mm: tuple[float, ...]
    one, one_mm, one_begin = _canonical(first)
    two, two_mm, two_begin = _canonical(second)
    header_mm = two_begin - one_begin if turn == Variant() else None
    if one.shape == two.shape:  # and so is the grid, whatever became of the header
        header_mm = np.zeros(3)
    turned = two.transpose(turn.order)
    turned_mm: tuple[float, ...] = tuple(two_mm[axis] for axis in turn.order)
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in turn.flips)]
    if turned.shape == one.shape:
        turned_mm = one_mm
    limits = _limits(one, turned, first, second)
    seen = _aligned((one, turned), (one_mm, turned_mm), limits, header_mm=header_mm)
    overlap, shift_mm = seen.overlap, seen.shift_mm
    told: Explained | None = None
    thick = thicker(one_mm, turned_mm)
    if thick is not None and seen.score >= WORTH_A_LOOK:
        one, turned, shift_mm = _on_thick_slices((one, turned), (one_mm, turned_mm), limits, thick, shift_mm)
        one_mm = turned_mm = turned_mm if thick.second else one_mm
    offset = np.zeros(3, dtype=np.intp)
    if max(abs(a / b - 1) for a, b in zip(one_mm, turned_mm, strict=True)) < _ONE_SIZE:
        # Where a shift by whole voxels will do, both are cut to what they share and averaged alike, so nothing is lost
        # to cells that lie differently. The second round mends a wrong rounding of the first.
        hopeless = seen.score < _HOPELESS
        steps = shift_mm / np.array(one_mm)
        offset = np.rint(steps).astype(np.intp) if hopeless else _whole(one, turned, steps, limits)
        for _ in range(2):
            places, parts = shifts.overlap(one.shape, turned.shape, (int(offset[0]), int(offset[1]), int(offset[2])))
            shared = one[places], turned[parts]
            limits = _limits(*shared, first, second)  # what lies beyond, padding say, has no say in it
            if hopeless:
                seen = replace(seen, shift_mm=np.zeros(3))
                told = explained_of(*shared, limits)
                break
            seen = _aligned(shared, (one_mm, one_mm), limits, start=(0, 0, 0))
            step = np.rint(seen.shift_mm / np.array(one_mm)).astype(np.intp)
            if not step.any():
                told = explained_of(*shared, limits)
                break
            offset = offset + step
    even = evenness(*seen.pair, match=seen.score >= WORTH_A_LOOK)
    z_mm, y_mm, x_mm = (offset * np.array(one_mm) + seen.shift_mm).tolist()
    return Agreement(
        score=seen.score,
        evidence=seen.evidence,
        explained=max(told.share, even.matched) if told else None,
        function=told.function if told else None,
        equal=told.equal if told else 0.0,
        correlation=seen.correlation,
        overlap=overlap,
        shift_mm=(z_mm, y_mm, x_mm),
        unevenness=even.unevenness,
    )


@dataclass(frozen=True)
class _Aligned:
    """An `Agreement` of two arrays, the shift as an array."""

    score: float
    evidence: float
    correlation: float
    overlap: float
    shift_mm: npt.NDArray[np.float64]
    pair: tuple[tuple[Field, Field], tuple[Field, Field], Shift]  # as `evenness` takes it, which only the last is asked


def _aligned(
    arrays: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    sizes_mm: tuple[tuple[float, ...], tuple[float, ...]],
    limits: Limits,
    start: Shift | None = None,
    header_mm: npt.NDArray[np.float64] | None = None,
) -> _Aligned:
    """Move the second array until it agrees best with the first, from a shift in cells or from all there are.

    Where ``header_mm`` says how far to move it, that is tried as well: what was blanked can hide the best shift.
    """
    spans = list(zip(arrays, sizes_mm, limits, strict=True))
    longest = max(n * size for array, mm, _ in spans for n, size in zip(array.shape, mm, strict=True))
    coarse_mm = longest / _COARSE
    fine_mm = min(coarse_mm, max(longest / _FINE, min(sorted(mm)[1] for mm in sizes_mm)))
    fields = [_on_grid(array, mm, fine_mm, limit) for array, mm, limit in spans]
    starts = [_starts(array.shape, mm, fine_mm) for array, mm, _ in spans]
    detail = [detail_of(field) for field in fields]
    reach = 1
    placed = start
    if start is None:
        cubes = (fine_mm,) * 3
        rough = [_on_grid(field, cubes, coarse_mm, limit) for field, limit in zip(fields, limits, strict=True)]
        begins = [_starts(field.shape, cubes, coarse_mm) for field in fields]
        shift_mm = np.array(shifts.best_shift(rough[0], rough[1])) * coarse_mm + begins[0] - begins[1]
        z, y, x = np.rint(shift_mm / fine_mm).astype(int).tolist()
        placed, reach = (z, y, x), max(1, round(coarse_mm / fine_mm))
    assert placed is not None
    shift = shifts.climb(detail[0], detail[1], placed, reach)
    masks = [
        inside(field, tuple(math.ceil(size / fine_mm - _ONE_SIZE) for size in mm))
        for field, mm in zip(fields, sizes_mm, strict=True)
    ]
    looked = _Looked((fields[0], fields[1]), (detail[0], detail[1]), (masks[0], masks[1]))
    best = _seen(looked, shift, shifts.fraction(detail[0], detail[1], shift))
    if header_mm is not None and best.score < _PLAIN:
        cells = (header_mm - starts[0] + starts[1]) / fine_mm
        z, y, x = np.rint(cells).astype(int).tolist()
        if (z, y, x) != shift:
            told = _seen(looked, (z, y, x), tuple((cells - (z, y, x)).tolist()))
            best = max(best, told, key=lambda one: one.score)
    return replace(best, shift_mm=best.shift_mm * fine_mm + starts[0] - starts[1])


@dataclass(frozen=True)
class _Looked:
    """Two scans on one grid of cubes: intensities, their detail, and which cells are inside the body."""

    fields: tuple[Field, Field]
    details: tuple[Field, Field]
    masks: tuple[Mask, Mask]


def _seen(looked: _Looked, shift: Shift, fraction: tuple[float, ...]) -> _Aligned:
    """Return how well two scans agree at a shift in cells and a fraction; ``shift_mm`` of it is in cells."""
    one, two = looked.fields
    moved, moved_detail = shifts.moved(two, fraction), shifts.moved(looked.details[1], fraction)
    places, parts = shifts.overlap(one.shape, two.shape, shift)
    both = looked.masks[0][places] & (shifts.moved(looked.masks[1].astype(np.float32), fraction) >= _INSIDE)[parts]
    score, evidence = 0.0, 0.0
    if np.count_nonzero(both) >= max(_FEWEST, _LEAST_INSIDE * min(np.count_nonzero(mask) for mask in looked.masks)):
        score, evidence = _inside_both((one[places], moved[parts]), both)
    return _Aligned(
        score=score,
        evidence=evidence,
        correlation=shifts.correlation(one, moved, shift),
        overlap=both.size / min(one.size, two.size),
        shift_mm=np.array(shift) + np.array(fraction),
        pair=((one, moved), (looked.details[0], moved_detail), shift),
    )


def _inside_both(parts: tuple[Field, Field], both: Mask) -> tuple[float, float]:
    """Return score and evidence of two parts that lie on each other, by the cells that are inside both bodies."""
    edges = tuple(slice(1, -1) if n > 4 else slice(None) for n in both.shape)  # there the blur has half of its cells
    one, two = (detail_of(part, both)[edges] for part in parts)
    kept = both[edges]
    if not kept.any():
        return 0.0, 0.0
    a, b = one[kept].astype(np.float64), two[kept].astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a * a).sum() * (b * b).sum()))
    score = min(1.0, abs(float((a * b).sum())) / spread) if spread > 1e-12 * a.size else 0.0
    free = max(0.0, independent(one, two, kept) - 3.0)
    return score, float(np.arctanh(min(score, _ALL)) * np.sqrt(free))


def _limits(one: npt.NDArray[Any], two: npt.NDArray[Any], first: Scan, second: Scan) -> Limits:
    """Return the intensities between which the voxels of each of two scans are looked at."""
    hounsfield = first.header.units == "HU", second.header.units == "HU"
    return grids.clip_limits(one, hounsfield=hounsfield[0]), grids.clip_limits(two, hounsfield=hounsfield[1])


def _whole(
    one: npt.NDArray[Any], two: npt.NDArray[Any], shift: npt.NDArray[np.float64], limits: Limits
) -> npt.NDArray[np.intp]:
    """Return a shift in whole voxels; where a fraction leaves it open which, the one that explains most."""
    z, y, x = (range(math.floor(step + _OPEN), math.ceil(step - _OPEN) + 1) for step in shift.tolist())
    ways = list(itertools.product(z, y, x))
    best = max(ways, key=lambda way: explained_at(one, two, way, limits)) if len(ways) > 1 else ways[0]
    return np.array(best, dtype=np.intp)


def _on_thick_slices(
    arrays: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    sizes_mm: tuple[tuple[float, ...], tuple[float, ...]],
    limits: Limits,
    thick: Thicker,
    shift_mm: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Return both scans on the thicker one's slices, in the way that explains most, and the second's shift in mm."""
    at = int(thick.second)
    thin, coarse = arrays[1 - at], arrays[at]
    sign = 1 if thick.second else -1
    coarse_mm = np.array(sizes_mm[at])
    best, result = -1.0, (*arrays, shift_mm)
    begin = sign * float(shift_mm[thick.axis]) / sizes_mm[1 - at][thick.axis]
    for made, place in thick_slices(thin, thick.axis, thick.times, begin):
        pair = (made, coarse) if thick.second else (coarse, made)
        shift = np.rint(shift_mm / coarse_mm).astype(int)
        shift[thick.axis] = sign * place
        z, y, x = shift.tolist()
        told = explained_at(*pair, (z, y, x), limits)
        if told > best:
            best, result = told, (*pair, shift * coarse_mm)
    return result


def _canonical(
    scan: Scan,
) -> tuple[npt.NDArray[Any], tuple[float, float, float], npt.NDArray[np.float64]]:
    """Return voxels in canonical orientation, their size, and where the first voxel's corner lies in mm, (z, y, x)."""
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    mm = geometry.spacing_mm(affine)
    return values, mm, np.asarray(affine, dtype=np.float64)[2::-1, 3] - np.array(mm) / 2


def _on_grid(values: npt.NDArray[Any], mm: tuple[float, ...], cell_mm: float, limits: tuple[float, float]) -> Field:
    """Return a scan clipped to the limits, averaged onto cubes of ``cell_mm``."""
    low, high = limits
    result: npt.NDArray[Any] = np.clip(values, low, high)
    if values.dtype.kind == "f":
        result = np.nan_to_num(result, nan=low)
    # The axis that shrinks most goes first, and the later ones have less to do.
    for axis in sorted(range(3), key=lambda axis: mm[axis]):
        result = grids.cells(result, axis, mm[axis], cell_mm)
    return np.ascontiguousarray(result, dtype=np.float32)


def _starts(shape: tuple[int, ...], mm: tuple[float, ...], cell_mm: float) -> npt.NDArray[np.float64]:
    return np.array([grids.start_of(n, size, cell_mm) for n, size in zip(shape, mm, strict=True)])
