"""Looking at a candidate pair itself: both scans on one grid, moved until they agree best, and how well they then do.

A perceptual hash only proposes. What decides is the correlation of the detail (what a blur of five voxels takes away)
where the two overlap: two patients of one protocol agree in their outlines, but not in that. It needs voxels of 5 mm or
less: coarser ones hold no detail by which two bodies differ, and such pairs should be looked at by a person.

Source of the search over all shifts: D. Padfield, "Masked object registration in the Fourier domain", IEEE
Transactions on Image Processing 21 (2012).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.formats.scan import Scan
from medssl.reduction import grids
from medssl.reduction.fingerprint import Fingerprint
from medssl.reduction.hashes import Variant
from medssl.reduction.thinned import Thicker, thicker, thinned

__all__ = [
    "EXPLAINED",
    "RELATED",
    "RELATED_STRANGERS",
    "SAME_FUNCTION",
    "SAME_IMAGE",
    "SAME_VALUES",
    "UNEVEN",
    "Agreement",
    "Level",
    "Verdict",
    "compare",
    "verify",
]

# SAME_IMAGE, UNEVEN, EXPLAINED and RELATED_STRANGERS are what the rule of benchmarks/reduction_limits.py gives.
SAME_IMAGE = 0.68  # correlation of the detail from which two scans are one image
SAME_VALUES = 0.99  # share of the variance that a change of intensities alone explains
UNEVEN = 6.94  # unevenness from which two scans are one body at two moments: 9.9 and more for ED and ES, of copies 4.0
SAME_FUNCTION = 0.40  # from which one image in a narrow window is the other, where `SAME_VALUES` holds
EXPLAINED = 0.81  # share of the variance below which two scans on one grid are two bodies, however alike in detail
RELATED = 0.55  # from which scans of one patient show one body at one time, or nearly
RELATED_STRANGERS = 0.74  # the same of scans that nobody says are of one patient; brains of two reached 0.65
_LEAST_OVERLAP = 0.4  # of the smaller scan
_COARSE = 32
_FINE = 80
_BLUR = 5
_PATCH = 4
_FLAT = 1e-3  # of the range of intensities
_EQUAL = 0.005  # below this, 1 - correlation of patches is rounding and interpolation
_ONE_SIZE = 0.01  # voxels that differ by less are taken as equally large
_OPEN = 0.2  # of a voxel: a shift nearer to a whole number is taken to be that
_SAMPLES = 48
_BINS = 256
Field = npt.NDArray[np.float32]
Shift = tuple[int, int, int]
Limits = tuple[tuple[float, float], tuple[float, float]]


class Level(StrEnum):
    """What two scans are to each other. They are never merged: each asks for something else."""

    SAME_FILE = "same file"
    SAME_ARRAY = "same array"
    SAME_IMAGE = "same image"
    RELATED = "related"
    SAME_PATIENT = "same patient"
    DIFFERENT = "different"

    @property
    def is_copy(self) -> bool:
        """Whether one of the two may be left out: a copy of the file, of the array or of the image."""
        return self in (Level.SAME_FILE, Level.SAME_ARRAY, Level.SAME_IMAGE)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well two scans agree where they agree best.

    Attributes:
        score: Correlation of the detail over the whole overlap, 0 to 1; a changed sign counts as agreement.
        explained: Share of the second's variance that is a function of the first's intensities alone, 1 for a copy in
            8 bits or with another intercept; None where voxels do not lie on voxels.
        correlation: Correlation of the images where they overlap; negative where the sign was changed.
        overlap: Share of the smaller scan that lies within the other.
        shift_mm: How far the second was moved, (z, y, x), so that its first voxel lies there in the first scan.
        unevenness: How many times more the worst 5 % of small patches disagree than the median one. Noise and smoothing
            spread over the image; a heart that beat in between is all in one place.
    """

    score: float
    explained: float | None
    correlation: float
    overlap: float
    shift_mm: tuple[float, float, float]
    unevenness: float


_EXACT = Agreement(score=1.0, explained=1.0, correlation=1.0, overlap=1.0, shift_mm=(0.0, 0.0, 0.0), unevenness=0.0)
_UNSEEN = Agreement(score=0.0, explained=None, correlation=0.0, overlap=0.0, shift_mm=(0.0, 0.0, 0.0), unevenness=0.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What looking at a pair came to.

    Attributes:
        level: What they are to each other.
        agreement: The numbers behind it.
        variant: How the second's axes were turned first.
    """

    level: Level
    agreement: Agreement
    variant: Variant


def verify(
    first: Fingerprint,
    second: Fingerprint,
    scans: tuple[Scan, Scan] | None = None,
    *,
    variant: Variant | None = None,
    same_patient: bool = False,
) -> Verdict:
    """Say what two scans are to each other.

    "related" is another kernel, phase or echo of one acquisition, or a repetition; what is done with it is the user's
    policy. Two frames of a beating heart agree as well as a smoothed copy does (0.8 to 0.98 for cine MRI), but what
    differs is all in one place; a copy differs everywhere alike or not at all. Between scans of one patient whose
    voxels lie on each other, one must besides be a function of the other's intensities to be its copy.

    Heads and hearts of two patients agree by chance up to a point, most of all where slices are thick. So scans that
    the manifest does not give to one patient need `RELATED_STRANGERS` to be related, for that moves scans between
    splits, and, where voxels lie on each other, `EXPLAINED` to be copies. A narrow window takes most of the detail
    away, but what is left is a function of the other's intensities: then `SAME_FUNCTION` is enough.

    Args:
        first: Fingerprint of the first.
        second: Fingerprint of the second.
        scans: Both scans; needed only where neither file nor array is the same. Without them such a pair is
            "same patient" or "different", with the score 0.
        variant: How the second's axes are to be turned, as the hashes found.
        same_patient: Whether the manifest says so.
    """
    if first.file_hash == second.file_hash or first.content_hash == second.content_hash:
        level = Level.SAME_FILE if first.file_hash == second.file_hash else Level.SAME_ARRAY
        return Verdict(level=level, agreement=_EXACT, variant=Variant())
    rest = Level.SAME_PATIENT if same_patient else Level.DIFFERENT
    variant = variant or Variant()
    if scans is None:
        return Verdict(level=rest, agreement=_UNSEEN, variant=variant)
    seen = compare(*scans, variant=variant)
    explained = 1.0 if seen.explained is None else seen.explained
    least = SAME_VALUES if same_patient else EXPLAINED
    whole = seen.explained is not None and seen.explained >= SAME_VALUES and seen.score >= SAME_FUNCTION
    if whole or (seen.score >= SAME_IMAGE and explained >= least and seen.unevenness <= UNEVEN):
        level = Level.SAME_IMAGE
    else:
        level = Level.RELATED if seen.score >= (RELATED if same_patient else RELATED_STRANGERS) else rest
    return Verdict(level=level, agreement=seen, variant=variant)


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
    one, one_mm = _canonical(first)
    two, two_mm = _canonical(second)
    turned = two.transpose(turn.order)
    turned_mm: tuple[float, ...] = tuple(two_mm[axis] for axis in turn.order)
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in turn.flips)]
    if turned.shape == one.shape:
        turned_mm = one_mm
    limits = _limits(one, turned, first, second)
    seen = _aligned((one, turned), (one_mm, turned_mm), limits)
    overlap, explained, shift_mm = seen.overlap, None, seen.shift_mm
    thick = thicker(one_mm, turned_mm)
    if thick is not None and seen.score >= SAME_FUNCTION:
        one, turned, shift_mm = _on_thick_slices((one, turned), (one_mm, turned_mm), limits, thick, shift_mm)
        one_mm = turned_mm = turned_mm if thick.second else one_mm
    offset = np.zeros(3, dtype=np.intp)
    if max(abs(a / b - 1) for a, b in zip(one_mm, turned_mm, strict=True)) < _ONE_SIZE:
        # Where a shift by whole voxels will do, both are cut to what they share and averaged alike, so nothing is lost
        # to cells that lie differently. The second round mends a wrong rounding of the first.
        offset = _whole(one, turned, shift_mm / np.array(one_mm), limits)
        for _ in range(2):
            places, parts = _overlap(one.shape, turned.shape, (int(offset[0]), int(offset[1]), int(offset[2])))
            shared = one[places], turned[parts]
            limits = _limits(*shared, first, second)  # what lies beyond, padding say, has no say in it
            seen = _aligned(shared, (one_mm, one_mm), limits, start=(0, 0, 0))
            step = np.rint(seen.shift_mm / np.array(one_mm)).astype(np.intp)
            if not step.any():
                explained = max(_explained(*shared, limits), _explained(*shared[::-1], limits[::-1]))
                break
            offset = offset + step
    z_mm, y_mm, x_mm = (offset * np.array(one_mm) + seen.shift_mm).tolist()
    return Agreement(
        score=seen.score,
        explained=explained,
        correlation=seen.correlation,
        overlap=overlap,
        shift_mm=(z_mm, y_mm, x_mm),
        unevenness=seen.unevenness,
    )


@dataclass(frozen=True)
class _Aligned:
    """An `Agreement` of two arrays, the shift as an array."""

    score: float
    correlation: float
    overlap: float
    shift_mm: npt.NDArray[np.float64]
    unevenness: float


def _aligned(
    arrays: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    sizes_mm: tuple[tuple[float, ...], tuple[float, ...]],
    limits: Limits,
    start: Shift | None = None,
) -> _Aligned:
    """Move the second array until it agrees best with the first, from a shift in cells or from all there are."""
    spans = list(zip(arrays, sizes_mm, limits, strict=True))
    longest = max(n * size for array, mm, _ in spans for n, size in zip(array.shape, mm, strict=True))
    coarse_mm = longest / _COARSE
    fine_mm = min(coarse_mm, max(longest / _FINE, min(sorted(mm)[1] for mm in sizes_mm)))
    fields = [_on_grid(array, mm, fine_mm, limit) for array, mm, limit in spans]
    starts = [_starts(array.shape, mm, fine_mm) for array, mm, _ in spans]
    detail = [_detail(field) for field in fields]
    reach = 1
    if start is None:
        cubes = (fine_mm,) * 3
        rough = [_on_grid(field, cubes, coarse_mm, limit) for field, limit in zip(fields, limits, strict=True)]
        begins = [_starts(field.shape, cubes, coarse_mm) for field in fields]
        shift_mm = np.array(_best_shift(rough[0], rough[1])) * coarse_mm + begins[0] - begins[1]
        z, y, x = np.rint(shift_mm / fine_mm).astype(int).tolist()
        start, reach = (z, y, x), max(1, round(coarse_mm / fine_mm))
    shift = _climb(detail[0], detail[1], start, reach)
    moved_detail, fraction = _fractional(detail[0], detail[1], shift)
    score = abs(_correlation(detail[0], moved_detail, shift, trim=1))
    moved = _moved(fields[1], fraction)
    places = _overlap(fields[0].shape, fields[1].shape, shift)
    share = np.prod([s.stop - s.start for s in places[0]]) / min(fields[0].size, fields[1].size)
    return _Aligned(
        score=min(1.0, score),
        correlation=_correlation(fields[0], moved, shift),
        overlap=float(share),
        shift_mm=(np.array(shift) + fraction) * fine_mm + starts[0] - starts[1],
        unevenness=_unevenness((fields[0], moved), (detail[0], moved_detail), shift),
    )


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
    best = max(ways, key=lambda way: _explained_at(one, two, way, limits)) if len(ways) > 1 else ways[0]
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
    for made, place in thinned(thin, thick.axis, thick.times, begin):
        pair = (made, coarse) if thick.second else (coarse, made)
        shift = np.rint(shift_mm / coarse_mm).astype(int)
        shift[thick.axis] = sign * place
        z, y, x = shift.tolist()
        told = _explained_at(*pair, (z, y, x), limits)
        if told > best:
            best, result = told, (*pair, shift * coarse_mm)
    return result


def _canonical(scan: Scan) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    return values, geometry.spacing_mm(affine)


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


def _unevenness(fields: tuple[Field, Field], details: tuple[Field, Field], shift: Shift) -> float:
    """Return `Agreement.unevenness`, from patches of 4^3 cells weighted by the contrast that both have there.

    What is flat in one scan alone (a face taken out, a window's end) is left out, and so is what its border reaches.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    parts = _overlap(fields[0].shape, fields[1].shape, shift, 1)
    flat = []
    for field, part in zip(fields, parts, strict=True):
        spread = maximum_filter(field, 3) - minimum_filter(field, 3)
        flat.append((spread <= _FLAT * (field.max() - field.min()))[part])
    one, two = (detail[part] for detail, part in zip(details, parts, strict=True))
    if (flat[0] ^ flat[1]).any():
        seen = ~maximum_filter(flat[0] ^ flat[1], _BLUR + 2)
        one, two = one * seen, two * seen
    size = [min(_PATCH, n) for n in one.shape]
    if 0 in size:
        return 0.0  # moved so, the two share nothing
    count = [n // k for n, k in zip(one.shape, size, strict=True)]

    def sums(field: Field) -> npt.NDArray[np.float64]:
        whole = field[tuple(slice(0, n * k) for n, k in zip(count, size, strict=True))]
        blocks = whole.reshape(count[0], size[0], count[1], size[1], count[2], size[2])
        total: npt.NDArray[np.float64] = blocks.sum(axis=(1, 3, 5), dtype=np.float64).ravel()
        return total

    products = sums(one * two)
    weight = np.sqrt(sums(one * one) * sums(two * two))
    if not weight.sum() > 0:
        return 0.0
    patches = products / np.maximum(weight, 1e-30) * np.sign(products.sum())
    order = np.argsort(patches, kind="stable")
    share = np.cumsum(weight[order]) / weight.sum()
    low, middle = (float(patches[order][min(np.searchsorted(share, q), len(order) - 1)]) for q in (0.05, 0.5))
    return (1.0 - low) / (1.0 - middle + _EQUAL)


def _detail(field: Field) -> Field:
    from scipy.ndimage import uniform_filter

    result: Field = field - uniform_filter(field, size=[min(_BLUR, n) for n in field.shape], mode="nearest")
    return result


def _best_shift(one: Field, two: Field) -> Shift:
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


def _overlap(
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


def _correlation(one: Field, two: Field, shift: Shift, trim: int = 0) -> float:
    places, parts = _overlap(one.shape, two.shape, shift, trim)
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
    """Return the size of `_correlation` with a trim of 1, of two fields with means near 0, to five digits or so."""
    boxes = _overlap(one.shape, two.shape, shift, 1)
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


def _explained_at(one: npt.NDArray[Any], two: npt.NDArray[Any], shift: Shift, limits: Limits) -> float:
    places, parts = _overlap(one.shape, two.shape, shift)
    return _explained(one[places], two[parts], limits)


def _explained(one: npt.NDArray[Any], two: npt.NDArray[Any], limits: Limits) -> float:
    """Return the share of the second's variance that the first's intensity explains: eta squared, adjusted.

    Both are clipped to their limits: a few bright voxels, all in one bin, can hold much of the variance.
    """
    steps = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in one.shape)
    a, b = one[steps].astype(np.float64).ravel(), two[steps].astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = (np.clip(taken[finite], *ends) for taken, ends in zip((a, b), limits, strict=True))
    if not a.size or b.var() == 0.0:
        return 0.0
    bins = np.unique(np.quantile(a, np.linspace(0, 1, _BINS + 1)))
    which = np.searchsorted(bins[1:-1], a, side="right")
    count = np.bincount(which)
    means = np.bincount(which, weights=b) / np.maximum(count, 1)
    free = a.size - np.count_nonzero(count)  # of few voxels, as many bins would explain anything
    if free < 1:
        return 0.0
    return float(max(0.0, 1.0 - ((b - means[which]) ** 2).sum() / free / b.var(ddof=1)))


def _climb(one: Field, two: Field, start: Shift, reach: int) -> Shift:
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


def _fractional(one: Field, two: Field, shift: Shift) -> tuple[Field, tuple[float, ...]]:
    """Return the second's detail moved by the fraction of a voxel that a parabola through the neighbours gives."""
    middle = abs(_correlation(one, two, shift, trim=1))
    fraction = []
    for axis in range(3):
        beside = []
        for step in (-1, 1):
            near = list(shift)
            near[axis] += step
            beside.append(abs(_correlation(one, two, (near[0], near[1], near[2]), trim=1)))
        bend = beside[0] - 2 * middle + beside[1]
        fraction.append(float(np.clip(0.5 * (beside[0] - beside[1]) / bend, -0.5, 0.5)) if bend < -1e-9 else 0.0)
    moved = _moved(two, tuple(fraction))
    if abs(_correlation(one, moved, shift, trim=1)) <= middle:
        return two, (0.0, 0.0, 0.0)
    return moved, tuple(fraction)


def _moved(field: Field, fraction: tuple[float, ...]) -> Field:
    from scipy.ndimage import shift

    if not any(fraction):
        return field
    result: Field = shift(field, fraction, order=1, mode="nearest")
    return result
