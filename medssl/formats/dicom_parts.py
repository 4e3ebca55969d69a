"""Slices of one series to its volumes: acquisitions, phases, echoes and the like, where a place occurs several times.

Only places that repeat (or two grids of places that are dovetailed) are a reason to divide: a scanner may count
acquisitions, times and echoes up within one volume as well. The header values of `dicom_slices.MARKS` then say what is
what. Where none does, the order of times at each place serves, and at last that of instance numbers, which is a guess.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.formats.dicom_slices import MARKS, RANKED, Slice

__all__ = ["SAME_PLACE_MM", "Part", "disjoint", "divide", "places_of", "without_copies"]

SAME_PLACE_MM = 0.01
_EVEN_SHARE = 0.02
_WORTH = 3  # slices that a part has on average, where parts do not repeat every place


@dataclass(frozen=True, kw_only=True)
class Part:
    """One volume of a series.

    Attributes:
        slices: Its slices, in no order; copies left out.
        name: What tells it from the others, such as "AcquisitionNumber 2"; "" where it is the whole series.
        slug: The same for an id, such as "acquisition2".
        note: A sentence for a person; "" where there is nothing to say.
    """

    slices: tuple[Slice, ...]
    name: str = ""
    slug: str = ""
    note: str = ""


def without_copies(slices: Sequence[Slice]) -> list[Slice]:
    """Return the slices, each once, in the order of `Slice.order`."""
    by_instance: dict[str, Slice] = {}
    for one in sorted(slices, key=lambda one: (one.order, str(one.path))):
        by_instance.setdefault(one.instance, one)
    return list(by_instance.values())


def normal_of(one: Slice) -> npt.NDArray[np.float64] | None:
    """Return the unit normal of a slice's plane in LPS+, None where the file does not say how it lies."""
    if one.plane.cosines is None:
        return None
    normal = np.cross(one.plane.cosines[:3], one.plane.cosines[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def places_of(slices: Sequence[Slice]) -> list[list[Slice]] | None:
    """Return the slices by their place along the normal, in order; None where one has no place."""
    normal = normal_of(slices[0])
    if normal is None or any(one.position is None for one in slices):
        return None
    along = {id(one): float(np.dot(one.position or (), normal)) for one in slices}
    places: list[list[Slice]] = []
    last = -np.inf
    for one in sorted(slices, key=lambda one: along[id(one)]):
        if along[id(one)] - last > SAME_PLACE_MM:
            places.append([])
        places[-1].append(one)
        last = along[id(one)]
    for place in places:
        place.sort(key=lambda one: (one.order, str(one.path)))
    return places


def divide(slices: Sequence[Slice]) -> list[Part]:
    """Divide slices of one series and plane to its volumes.

    Args:
        slices: At least one; of the same rows, columns, orientation and pixel spacing.

    Returns:
        The volumes in the order of their values; one, without a name, where the slices make one volume or cannot be
        distinguished.
    """
    unique = without_copies(slices)
    places = places_of(unique)
    whole = [Part(slices=tuple(slices))]
    if places is None or len(unique) < 2:
        return whole
    most = max(len(place) for place in places)
    if most == 1 and (len(places) < 4 or _even(unique) or not (chosen := _dovetailed(unique))):
        return whole
    if most > 1:
        chosen = _telling(unique, most)
    if chosen:
        # A part that would itself be divided is: its files alone must make one volume again.
        return [finer for part in _named(unique, chosen) for finer in _finer(part)]
    if {len(place) for place in places} == {most}:
        return _ranked(places)
    return whole


def _finer(part: Part) -> list[Part]:
    found = divide(part.slices)
    return [part] if len(found) == 1 else [_joined(part, finer) for finer in found]


def _joined(part: Part, finer: Part) -> Part:
    return Part(
        slices=finer.slices,
        name=f"{part.name}, {finer.name}",
        slug=f"{part.slug}-{finer.slug}",
        note=f"{part.note}; of it {finer.note.removeprefix('part of a series: ')}",
    )


def _telling(slices: Sequence[Slice], most: int) -> tuple[str, ...]:
    """Return the fewest marks that together leave no place twice in any part; () where none do."""
    chosen: list[str] = []
    repeats = _repeats([slices])
    for mark in MARKS:
        parts = list(_by(slices, (*chosen, mark)).values())
        if len(parts) > max(most, len(slices) // _WORTH):
            continue
        left = _repeats(parts)
        if left < repeats:
            chosen.append(mark)
            repeats = left
        if repeats == 0:
            break
    if repeats:
        return ()
    for mark in chosen[:-1]:
        fewer = tuple(other for other in chosen if other != mark)
        if _repeats(list(_by(slices, fewer).values())) == 0:
            chosen.remove(mark)
    return tuple(chosen)


def _dovetailed(slices: Sequence[Slice]) -> tuple[str, ...]:
    """Return the mark that divides uneven slices to evenly spaced volumes of one region; () where none does."""
    for mark in MARKS:
        parts = list(_by(slices, (mark,)).values())
        if not 1 < len(parts) <= len(slices) // _WORTH or not all(_even(part) for part in parts):
            continue
        spans = [(min(span), max(span)) for part in parts if (span := _along(part))]
        shared = min(high for _, high in spans) - max(low for low, _ in spans)
        if shared > 0.5 * min(high - low for low, high in spans):
            return (mark,)
    return ()


def _named(slices: Sequence[Slice], marks: tuple[str, ...]) -> list[Part]:
    groups = _by(slices, marks)
    ordered = sorted(groups, key=lambda values: [_sortable(value) for value in values])
    parts = []
    for place, values in enumerate(ordered, 1):
        name = ", ".join(f"{mark} {value or 'missing'}" for mark, value in zip(marks, values, strict=True))
        slug = "-".join(f"{_short(mark)}{value or 'none'}" for mark, value in zip(marks, values, strict=True))
        parts.append(
            Part(
                slices=tuple(groups[values]),
                name=name,
                slug=re.sub(r"[^A-Za-z0-9.]+", "_", slug)[:40].strip("_."),
                note=f"part of a series: {name}; volume {place} of {len(ordered)}, each a scan of its own",
            )
        )
    return parts


def _ranked(places: Sequence[Sequence[Slice]]) -> list[Part]:
    """Share slices out by the order of times, or of instance numbers, at each place."""
    count = len(places[0])
    for mark in RANKED:
        values = [[_time(one.marks.get(mark)) for one in place] for place in places]
        if all(len(set(row)) == count and np.isfinite(row).all() for row in values):
            ranks = [np.argsort(row, kind="stable") for row in values]
            how = f"distinguished by the order of {mark}"
            break
    else:
        ranks = [np.arange(count) for _ in places]
        how = "which no header value distinguishes; the order of instance numbers was taken, which is a guess"
        mark = "order"
    return [
        Part(
            slices=tuple(place[rank[n]] for place, rank in zip(places, ranks, strict=True)),
            name=f"{mark} {n + 1} of {count}",
            slug=f"{_short(mark)}{n + 1}",
            note=f"part of a series: volume {n + 1} of {count} at the same places, {how}",
        )
        for n in range(count)
    ]


def disjoint(parts: Sequence[Part]) -> bool:
    """Tell whether no file holds slices of two parts."""
    owners: dict[Path, int] = {}
    return all(owners.setdefault(one.path, place) == place for place, part in enumerate(parts) for one in part.slices)


def _by(slices: Sequence[Slice], marks: tuple[str, ...]) -> Mapping[tuple[str, ...], list[Slice]]:
    groups: defaultdict[tuple[str, ...], list[Slice]] = defaultdict(list)
    for one in slices:
        groups[tuple(one.marks.get(mark, "") for mark in marks)].append(one)
    return groups


def _repeats(parts: Sequence[Sequence[Slice]]) -> int:
    return sum(len(part) - len(places_of(part) or ()) for part in parts)


def _along(slices: Sequence[Slice]) -> list[float]:
    normal = normal_of(slices[0])
    return sorted(float(np.dot(one.position or (), normal if normal is not None else 0.0)) for one in slices)


def _even(slices: Sequence[Slice]) -> bool:
    """Tell whether slices are evenly spaced, gaps of missing ones aside."""
    if len(slices) < 3:
        return False
    distances = np.diff(_along(slices))
    usual = float(np.median(distances))
    steps = distances / usual
    return bool((np.abs(steps - np.maximum(1.0, np.rint(steps))) <= _EVEN_SHARE + SAME_PLACE_MM / usual).all())


def _short(mark: str) -> str:
    words = {
        "AcquisitionNumber": "acquisition",
        "TemporalPositionIdentifier": "time",
        "EchoNumbers": "echo",
        "EchoTime": "te",
        "DiffusionBValue": "b",
        "ImageType": "",
        "SeriesNumber": "series",
        "StackID": "stack",
        "TriggerTime": "phase",
        "AcquisitionTime": "time",
        "ContentTime": "time",
        "ConvolutionKernel": "kernel",
        "InversionTime": "ti",
        "RepetitionTime": "tr",
        "FlipAngle": "flip",
    }
    return words.get(mark, mark.lower())


def _sortable(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _time(value: str | None) -> float:
    try:
        return float(value) if value else float("nan")
    except ValueError:
        return float("nan")
