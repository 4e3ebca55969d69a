"""Where the windows of a scan lie: alone, one in each part of the body, or at a drawn distance from each other.

Every draw takes a generator of its own, so a place is a pure function of it.

References:
    Chaitanya et al., "Contrastive learning of global and local features for medical image segmentation with limited
    annotations", NeurIPS 2020, arXiv:2006.10511: a volume is cut into S parts and a batch holds one slice of each.
    Qian et al., "Spatiotemporal contrastive video representation learning", CVPR 2021, arXiv:2008.03800: the distance
    of two clips of one video follows a decreasing distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from medssl.store.read import Store
from medssl.windows import WindowPlan

__all__ = ["Place", "Placer", "covering_origins", "draw_gap", "gap_distribution", "part_starts", "place_window"]

Triple = tuple[int, int, int]


class Place(NamedTuple):
    """A window: row of its scan in the store, and first voxel (z, y, x)."""

    item: int
    origin: Triple


class Placer:
    """Places the windows that belong together: ``plan.count`` of one scan or, for "frame", of one patient.

    Args:
        store: The scans.
        plan: Which windows are wanted.
        patients: A number for each scan that scans of one patient share.
        phases: Phase of scans by id, in cycles, for "frame"; scans without one are drawn uniformly.
        allowed: For each scan, in order, the indices along ``plan.axis`` that a window may be centred on; None allows
            every one. Used by single windows and by "partitions".
    """

    def __init__(
        self,
        store: Store,
        plan: WindowPlan,
        patients: Sequence[int],
        *,
        phases: Mapping[str, float] | None = None,
        allowed: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.store, self.plan, self.allowed = store, plan, allowed
        self._phase = [(phases or {}).get(entry.id) for entry in store.entries]
        of_patient: dict[int, list[int]] = {}
        for item, patient in enumerate(patients):
            of_patient.setdefault(patient, []).append(item)
        self._siblings = [[i for i in of_patient[patient] if i != item] for item, patient in enumerate(patients)]

    def places(
        self, item: int, generators: Sequence[np.random.Generator], *, index: int | None = None
    ) -> tuple[Place, ...]:
        """Draw the windows of a scan, one a generator.

        Args:
            item: The scan.
            generators: ``plan.count`` of them; where windows depend on each other, the first decides.
            index: Where single windows are centred along ``plan.axis``; None leaves it to the plan.
        """
        if self.plan.relation == "partitions":
            return tuple(self._in_part(item, part, g) for part, g in enumerate(generators))
        if self.plan.relation in {"gap", "frame"}:
            return self._pair(item, generators[0])
        places = []
        for generator in generators:
            origin = place_window(self.store, item, self.plan, generator)
            if index is not None:
                start = self._inside(item, index - (self.plan.size[self.plan.axis] - 1) // 2)
                origin = _with(origin, self.plan.axis, start)
            places.append(Place(item, origin))
        return tuple(places)

    def _in_part(self, item: int, part: int, generator: np.random.Generator) -> Place:
        axis, size, entry = self.plan.axis, self.plan.size[self.plan.axis], self.store.entries[item]
        origin = place_window(self.store, item, self.plan, generator)
        low, high = (entry.body_box[0][axis], entry.body_box[1][axis])
        if self.plan.placement != "body":
            low, high = 0, entry.shape[axis]
        starts = part_starts(low, high, size, part, self.plan.count)
        if self.allowed is not None:
            half = (size - 1) // 2
            chosen = [i - half for i in self.allowed[item]]
            within = [start for start in chosen if start in starts]
            middle = (starts.start + starts.stop - 1) / 2
            start = (
                within[int(generator.integers(len(within)))] if within else min(chosen, key=lambda s: abs(s - middle))
            )
        else:
            first, last = self._inside(item, starts.start), self._inside(item, starts.stop - 1)
            start = first + int(generator.integers(last - first + 1))
        return Place(item, _with(origin, axis, self._inside(item, start)))

    def _inside(self, item: int, start: int) -> int:
        """Return a start moved into the scan where the scan is long enough, else the one that centres the window."""
        axis = self.plan.axis
        spare = self.store.entries[item].shape[axis] - self.plan.size[axis]
        return min(max(start, 0), spare) if spare >= 0 else spare // 2

    def _pair(self, item: int, generator: np.random.Generator) -> tuple[Place, ...]:
        axis, entry = self.plan.axis, self.store.entries[item]
        origin = place_window(self.store, item, self.plan, generator)
        low, high = _range(self.store, item, self.plan, axis)
        steps = high - low + 1
        limit_mm = steps * entry.spacing_mm[axis]
        if self.plan.gap_mm is not None:
            limit_mm = min(limit_mm, self.plan.gap_mm)
        gap = min(int(draw_gap(generator, limit_mm, self.plan.gap_power) / entry.spacing_mm[axis]), steps - 1)
        first = low + int(generator.integers(steps - gap))
        starts = [first, first + gap]
        if generator.random() < 0.5:
            starts.reverse()
        other = self._other_frame(item, generator) if self.plan.relation == "frame" else item
        second = _with(origin, axis, starts[1])
        if other != item:
            second = self._carried(item, second, other)
        return Place(item, _with(origin, axis, starts[0])), Place(other, second)

    def _carried(self, item: int, origin: Triple, other: int) -> Triple:
        """Return the place in another scan that is as far along its range, axis by axis."""
        carried = []
        for axis, start in enumerate(origin):
            low, high = _range(self.store, item, self.plan, axis)
            there_low, there_high = _range(self.store, other, self.plan, axis)
            share = (start - low) / (high - low) if high > low else 0.5
            carried.append(there_low + round(share * (there_high - there_low)))
        return carried[0], carried[1], carried[2]

    def _other_frame(self, item: int, generator: np.random.Generator) -> int:
        """Draw another scan of the patient; by its cyclic distance in phase where phases are known."""
        siblings = self._siblings[item]
        if not siblings:
            return item
        own = self._phase[item]
        known = [(i, phase) for i in siblings if (phase := self._phase[i]) is not None]
        if own is None or not known:
            return siblings[int(generator.integers(len(siblings)))]
        wanted = draw_gap(generator, 0.5, self.plan.gap_power)
        misses = [abs(_cyclic(own, phase) - wanted) for _, phase in known]
        best = [i for (i, _), miss in zip(known, misses, strict=True) if miss <= min(misses) + 1e-9]
        return best[int(generator.integers(len(best)))]


def place_window(store: Store, item: int, plan: WindowPlan, generator: np.random.Generator) -> Triple:
    """Draw the first voxel (z, y, x) of a window of a scan.

    The window stays inside the scan wherever the scan is large enough, and is centred on it where it is not.

    Args:
        store: The scans.
        item: The scan.
        plan: Size and placement.
        generator: The window's own stream.
    """
    entry = store.entries[item]
    (low, high), size = entry.body_box, plan.size
    if plan.placement != "body":
        low, high = (0, 0, 0), entry.shape
    if plan.placement == "foreground" and generator.random() < plan.foreground_share:
        structures = store.foreground(item)
        if structures:
            points = structures[sorted(structures)[int(generator.integers(len(structures)))]]
            z, y, x = (int(v) for v in points[int(generator.integers(len(points)))])
            low, high = (z, y, x), (z + 1, y + 1, x + 1)
    origin = []
    for first, last, extent, wanted in zip(low, high, entry.shape, size, strict=True):
        room = (last - first) - wanted
        place = first + int(generator.integers(room + 1)) if room >= 0 else first + room // 2
        spare = extent - wanted
        origin.append(min(max(place, 0), spare) if spare >= 0 else spare // 2)
    return origin[0], origin[1], origin[2]


def covering_origins(box: tuple[Triple, Triple], window: Triple, *, overlap: float) -> list[Triple]:
    """Return origins of windows that cover a box, evenly spread and centred on it.

    Args:
        box: First and one-past-last voxel, (z, y, x).
        window: Size of a window.
        overlap: Least share of a window that its neighbour covers too, in [0, 1).

    Returns:
        As few origins as cover the box; where the box is the smaller, the window is centred and sticks out.

    Example:
        >>> covering_origins(((0, 0, 0), (8, 4, 2)), (4, 4, 4), overlap=0.0)
        [(0, 0, -1), (4, 0, -1)]
    """
    axes = []
    for first, last, size in zip(*box, window, strict=True):
        length = last - first
        if length <= size:
            axes.append([first - (size - length) // 2])
            continue
        step = max(1, int(size * (1.0 - overlap)))
        count = 1 + -(-(length - size) // step)
        axes.append([first + round(i * (length - size) / (count - 1)) for i in range(count)])
    return [(z, y, x) for z, y, x in product(*axes)]


def part_starts(low: int, high: int, size: int, part: int, parts: int) -> range:
    """Return where a window may begin so that its centre lies in one of the equal parts of an interval.

    Every start belongs to exactly one part and the tail to the last. The window stays in the interval where that
    leaves the part a start; where none is left (fewer voxels than parts, or long windows) the start whose centre is
    nearest to the part's is given.

    Args:
        low: First voxel of the interval.
        high: One past its last voxel.
        size: Voxels of the window.
        part: Which part, in [0, parts).
        parts: Number of parts.

    Example:
        >>> [list(part_starts(0, 10, 1, part, 4)) for part in range(4)]
        [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    """
    extent = high - low

    def first_from(edge: int) -> int:  # least start whose centre, low + start + size / 2, is at or past edge / parts
        return low - ((size * parts - 2 * extent * edge) // (2 * parts))

    begin, end = first_from(part), first_from(part + 1)
    inner, outer = (low, high - size + 1) if extent >= size else (begin, end)
    begin_inside, end_inside = max(begin, inner), min(end, outer)
    if begin_inside < end_inside:
        return range(begin_inside, end_inside)
    middle = low + (extent * (2 * part + 1) - (size - 1) * parts) // (2 * parts)
    nearest = min(max(middle, inner), outer - 1) if extent >= size else middle
    return range(nearest, nearest + 1)


def gap_distribution(gap: float, limit: float, power: float = 1.0) -> float:
    """Return the probability that a distance is at most ``gap``: F of CVRL, for ``gap`` in [0, ``limit``].

    F(k) = k (p + 1) / (p M) - k^(p + 1) / (p M^(p + 1)), whose density falls from (p + 1) / (p M) to 0 at M.

    Example:
        >>> [gap_distribution(gap, 4.0) for gap in (0, 1, 2, 4)]  # most pairs lie near each other
        [0.0, 0.4375, 0.75, 1.0]
    """
    share = min(max(gap / limit, 0.0), 1.0)
    return float(share * (power + 1) / power - share ** (power + 1) / power)


def draw_gap(generator: np.random.Generator, limit: float, power: float = 1.0) -> float:
    """Draw a distance in [0, ``limit``] from CVRL's decreasing distribution, by inverting F.

    Args:
        generator: The draw's stream.
        limit: Largest distance M.
        power: p of the distribution; 1 is the published, linearly decreasing density.
    """
    wanted = float(generator.random())
    low, high = 0.0, 1.0
    for _ in range(52):
        middle = (low + high) / 2
        low, high = (middle, high) if gap_distribution(middle, 1.0, power) < wanted else (low, middle)
    return limit * (low + high) / 2


def _cyclic(one: float, other: float) -> float:
    apart = abs(one - other) % 1.0
    return min(apart, 1.0 - apart)


def _range(store: Store, item: int, plan: WindowPlan, axis: int) -> tuple[int, int]:
    """Return the first and the last start of a window along an axis; equal where it has no choice."""
    entry, size = store.entries[item], plan.size[axis]
    low, high = (entry.body_box[0][axis], entry.body_box[1][axis])
    if plan.placement != "body":
        low, high = 0, entry.shape[axis]
    room, spare = high - low - size, entry.shape[axis] - size
    first, last = (low, low + room) if room >= 0 else (low + room // 2,) * 2
    if spare < 0:
        return spare // 2, spare // 2
    return min(max(first, 0), spare), min(max(last, 0), spare)


def _with(origin: Triple, axis: int, start: int) -> Triple:
    changed = list(origin)
    changed[axis] = start
    return changed[0], changed[1], changed[2]
