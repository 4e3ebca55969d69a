"""Looking at a candidate pair itself: both scans on one grid, moved until they agree best, and how well they then do.

A perceptual hash only proposes. What decides is the correlation of the detail (what a blur of five voxels takes away)
where the two overlap: two patients of one protocol agree in their outlines, but not in that. It needs voxels of 5 mm or
less: coarser ones hold no detail by which two bodies differ, and such pairs should be looked at by a person.

Source of the search over all shifts: D. Padfield, "Masked object registration in the Fourier domain", IEEE
Transactions on Image Processing 21 (2012).
"""

from __future__ import annotations

import itertools
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

__all__ = [
    "RELATED",
    "SAME_IMAGE",
    "SAME_VALUES",
    "Agreement",
    "Level",
    "Verdict",
    "compare",
    "verify",
]

SAME_IMAGE = 0.70  # correlation of the detail from which two scans are one image
SAME_VALUES = 0.99  # share of the variance that a change of intensities alone explains
RELATED = 0.55  # from which they show one body at one time, or nearly
_LEAST_OVERLAP = 0.4  # of the smaller scan
_COARSE = 32
_FINE = 80
_BLUR = 5
_SAMPLES = 96
_BINS = 256
Field = npt.NDArray[np.float32]
Shift = tuple[int, int, int]


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
            8 bits or with another intercept; None where the two are not on one grid.
        correlation: Correlation of the images where they overlap; negative where the sign was changed.
        overlap: Share of the smaller scan that lies within the other.
        shift_mm: How far the second was moved, (z, y, x), so that its first voxel lies there in the first scan.
    """

    score: float
    explained: float | None
    correlation: float
    overlap: float
    shift_mm: tuple[float, float, float]


_EXACT = Agreement(score=1.0, explained=1.0, correlation=1.0, overlap=1.0, shift_mm=(0.0, 0.0, 0.0))
_UNSEEN = Agreement(score=0.0, explained=None, correlation=0.0, overlap=0.0, shift_mm=(0.0, 0.0, 0.0))


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
    policy. Two frames of a beating heart agree as well as a smoothed copy does (0.92 to 0.99 for cine MRI), so between
    scans of one patient on one grid the intensities decide: one must be a function of the other to be its copy.

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
    repeated = same_patient and seen.explained is not None and seen.explained < SAME_VALUES
    if seen.score >= SAME_IMAGE and not repeated:
        level = Level.SAME_IMAGE
    else:
        level = Level.RELATED if seen.score >= RELATED else rest
    return Verdict(level=level, agreement=seen, variant=variant)


def compare(first: Scan, second: Scan, *, variant: Variant | None = None) -> Agreement:
    """Return how well two scans agree at the shift at which they agree best.

    Both are averaged onto a grid of the coarser voxel size, at most 80 voxels along the longest side. All shifts are
    tried on a coarser grid, the neighbours of the best then on the fine one, and a fraction of a voxel last. Scans
    with the same number of voxels are taken to have the same voxel size, for headers are lost more often than that.

    Args:
        first: A scan.
        second: Another.
        variant: How the second's axes are to be turned first.
    """
    turn = variant or Variant()
    one, one_mm = _canonical(first)
    two, two_mm = _canonical(second)
    turned = two.transpose(turn.order)
    turned_mm = tuple(two_mm[axis] for axis in turn.order)
    turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in turn.flips)]
    if turned.shape == one.shape:
        turned_mm = one_mm
    longest = max(
        max(n * s for n, s in zip(a.shape, mm, strict=True)) for a, mm in ((one, one_mm), (turned, turned_mm))
    )
    coarse_mm, fine_mm = longest / _COARSE, max(longest / _FINE, min(max(one_mm), max(turned_mm)))
    fine_mm = min(fine_mm, coarse_mm)
    looks = [
        [_on_grid(array, mm, cell, scan.header.units == "HU") for cell in (coarse_mm, fine_mm)]
        for array, mm, scan in ((one, one_mm, first), (turned, turned_mm, second))
    ]
    rough = _best_shift(looks[0][0], looks[1][0])
    centre = [round(step * coarse_mm / fine_mm) for step in rough]
    reach = max(1, round(coarse_mm / fine_mm))
    detail = [_detail(look[1]) for look in looks]
    shift = _climb(detail[0], detail[1], (centre[0], centre[1], centre[2]), reach)
    moved_detail, fraction = _fractional(detail[0], detail[1], shift)
    score = abs(_correlation(detail[0], moved_detail, shift, trim=1))
    same_grid = turned.shape == one.shape and max(abs(s + f) for s, f in zip(shift, fraction, strict=True)) < 0.5
    moved = _moved(looks[1][1], fraction)
    correlation = _correlation(looks[0][1], moved, shift)
    places = _overlap(looks[0][1].shape, looks[1][1].shape, shift)
    share = np.prod([s.stop - s.start for s in places[0]]) / min(looks[0][1].size, looks[1][1].size)
    shift_mm = [float((step + part) * fine_mm) for step, part in zip(shift, fraction, strict=True)]
    return Agreement(
        score=min(1.0, score),
        explained=max(_explained(one, turned), _explained(turned, one)) if same_grid else None,
        correlation=correlation,
        overlap=float(share),
        shift_mm=(shift_mm[0], shift_mm[1], shift_mm[2]),
    )


def _canonical(scan: Scan) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    values, affine = geometry.to_canonical(scan.values, scan.header.affine)
    return values, geometry.spacing_mm(affine)


def _on_grid(values: npt.NDArray[Any], mm: tuple[float, ...], cell_mm: float, hounsfield: bool) -> Field:
    """Return a scan clipped, averaged onto cubes of ``cell_mm`` from its first face on."""
    low, high = grids.clip_limits(values, hounsfield=hounsfield)
    result: npt.NDArray[Any] = np.clip(np.nan_to_num(values.astype(np.float32), nan=low), low, high)
    for axis, (length, size) in enumerate(zip(values.shape, mm, strict=True)):
        cells = max(1, int(length * size / cell_mm + 1e-6))
        edges = np.minimum(np.arange(cells + 1) * (cell_mm / size), length)
        edges = edges if length * size >= cell_mm else np.array([0.0, length])
        if cell_mm < size:  # between voxels by interpolation: cubes smaller than a voxel would be steps
            centres = (edges[:-1] + edges[1:]) / 2 - 0.5
            result = _interpolated(result, axis, np.clip(centres, 0, length - 1))
        else:
            result = grids.block_means(result, axis, edges)
    return np.ascontiguousarray(result, dtype=np.float32)


def _interpolated(values: npt.NDArray[Any], axis: int, places: npt.NDArray[np.float64]) -> Field:
    below = np.minimum(np.floor(places).astype(np.intp), values.shape[axis] - 1)
    above = np.minimum(below + 1, values.shape[axis] - 1)
    weight = (places - below).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    result: Field = np.take(values, below, axis) * (1 - weight) + np.take(values, above, axis) * weight
    return result


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


def _explained(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> float:
    """Return the share of the second's variance that the first's intensity, voxel by voxel, explains (eta squared)."""
    steps = tuple(slice(None, None, max(1, n // _SAMPLES)) for n in one.shape)
    a, b = one[steps].astype(np.float64).ravel(), two[steps].astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    if not a.size or b.var() == 0.0:
        return 0.0
    bins = np.unique(np.quantile(a, np.linspace(0, 1, _BINS + 1)))
    which = np.searchsorted(bins[1:-1], a, side="right")
    count = np.bincount(which)
    means = np.bincount(which, weights=b) / np.maximum(count, 1)
    return float(1.0 - ((b - means[which]) ** 2).mean() / b.var())


def _climb(one: Field, two: Field, start: Shift, reach: int) -> Shift:
    """Return the best shift of the detail around a start: all within reach first, then neighbour by neighbour."""
    seen: dict[Shift, float] = {}

    def value(shift: Shift) -> float:
        if shift not in seen:
            seen[shift] = abs(_correlation(one, two, shift, trim=1))
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
