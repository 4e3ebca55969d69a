"""An RTSTRUCT to a label map: its closed contours, painted into the slices of the scan that they were drawn on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import FormatError
from medssl.formats.dicom_contours import rasterise
from medssl.formats.dicom_label_grid import (
    Pixels2D,
    PlaneGrid,
    Structure,
    clean_name,
    grid_of_image,
    label_scan,
    merged,
)
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["read_rtstruct", "roi_names"]

_CLOSED = {"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", ""}
_ON_PLANE_VOXELS = 0.25
Polygons = dict[int, list[npt.NDArray[np.float64]]]


def roi_names(dataset: Any) -> dict[int, str]:
    """Return the names of the regions by their numbers."""
    return {
        int(item.ROINumber): clean_name(item.get("ROIName"), int(item.ROINumber))
        for item in dataset.get("StructureSetROISequence") or []
    }


def read_rtstruct(path: Path, dataset: Any, image: ScanHeader | None, classes: Mapping[int, str] | None) -> Scan:
    """Read an RTSTRUCT on the grid of its scan.

    A contour belongs to the slice nearest to it, if that is within half the distance between slices. Slices between
    contours are not filled. Points and open lines are passed over. All of this is said where it happens.

    Args:
        path: The file.
        dataset: Its content.
        image: The scan that it labels.
        classes: Label value -> name; None numbers the names of this file.

    Raises:
        FormatError: No contour lies on the scan, or it is not given.
    """
    if image is None:
        raise FormatError(path, "An RTSTRUCT has no grid of its own. Name the scan that it labels.")
    grid = grid_of_image(image)
    names = roi_names(dataset)
    skipped: Counter[str] = Counter()
    contours: dict[str, list[Polygons]] = defaultdict(list)
    total = 0
    for item in dataset.get("ROIContourSequence") or []:
        number = int(item.ReferencedROINumber)
        if number not in names:
            skipped["contours of a region that has no name or number"] += 1
            continue
        polygons = _on_slices(item.get("ContourSequence") or [], grid, skipped)
        total += len(item.get("ContourSequence") or [])
        if polygons:
            contours[names[number]].append(polygons)
    if total and not contours:
        why = "; ".join(f"{count} {what}" for what, count in skipped.items())
        raise FormatError(path, f"None of its {total} contours lies on the scan {image.path.name} ({why}).")
    structures = [_structure(name, regions, grid) for name, regions in sorted(contours.items())]
    values, notes = merged(path, grid.shape, structures, classes)
    if skipped:
        notes.append("structures in part: " + "; ".join(f"{count} {what}" for what, count in sorted(skipped.items())))
    notes += _unfilled(contours)
    return label_scan(path, grid, values, notes)


def _on_slices(contours: Sequence[Any], grid: PlaneGrid, skipped: Counter[str]) -> Polygons:
    """Return the polygons of a region by slice, as (row, column); each once, since twice the same would be none."""
    found: Polygons = defaultdict(list)
    known: set[tuple[int, bytes]] = set()
    for item in contours:
        kind = str(item.get("ContourGeometricType") or "").upper()
        numbers = _coordinates(item)
        if kind not in _CLOSED:
            skipped["contours that are points or open lines"] += 1
            continue
        if numbers.size < 9 or numbers.size % 3 or not np.isfinite(numbers).all():
            skipped["contours of fewer than three points"] += 1
            continue
        points = numbers.reshape(-1, 3)
        along = points @ grid.normal
        if np.ptp(along) > 2 * grid.half_step_mm * _ON_PLANE_VOXELS:
            skipped["contours that do not lie along the slices"] += 1
            continue
        place, away = grid.nearest(points.mean(axis=0))
        if away > grid.half_step_mm * (1 + 1e-6):
            skipped["contours beyond the slices of the scan"] += 1
            continue
        polygon = grid.indices(points, place)
        corners = np.round(polygon, 3)
        key = (place, corners[np.lexsort(corners.T)].tobytes())  # wherever it begins, whichever way it runs
        if key in known:
            skipped["contours that are there twice"] += 1
            continue
        known.add(key)
        found[place].append(polygon)
    return {place: polygons for place, polygons in found.items() if polygons}


def _coordinates(contour: Any) -> npt.NDArray[np.float64]:
    """Return ContourData. Its text is parsed here: an object for each of a million numbers takes minutes."""
    if "ContourData" not in contour:
        return np.empty(0)
    value = contour.get_item("ContourData").value
    if isinstance(value, bytes):
        text = value.decode("ascii").strip(" \0")
        return np.array([float(v) for v in text.replace(",", ".").split("\\") if v.strip()])
    return np.array([float(str(v).replace(",", ".")) for v in value or []])


def _structure(name: str, regions: Sequence[Polygons], grid: PlaneGrid) -> Structure:
    pieces: list[Pixels2D] = []
    for polygons in regions:
        for place, corners in sorted(polygons.items()):
            rows, columns = np.nonzero(rasterise(corners, (grid.rows, grid.columns)))
            pieces.append((place, rows, columns))

    def each() -> Iterator[Pixels2D]:
        yield from pieces

    return Structure(name=name, voxels=sum(len(rows) for _, rows, _ in pieces), pieces=each)


def _unfilled(contours: Mapping[str, Sequence[Polygons]]) -> list[str]:
    """Say of which structures slices between contours have none."""
    gaps = {}
    for name, regions in contours.items():
        places = sorted({place for polygons in regions for place in polygons})
        holes = places[-1] - places[0] + 1 - len(places)
        if holes:
            gaps[name] = holes
    if not gaps:
        return []
    said = ", ".join(f"{name} ({count})" for name, count in sorted(gaps.items())[:4])
    more = f" and {len(gaps) - 4} more" if len(gaps) > 4 else ""
    return [f"structures with gaps: slices between contours have none, and were not filled: {said}{more}"]
