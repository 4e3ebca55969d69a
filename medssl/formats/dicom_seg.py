"""A DICOM SEG to a label map: binary, fractional or a label map, on the slices of its scan wherever they coincide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.errors import FormatError
from medssl.formats.dicom_header import number, numbers
from medssl.formats.dicom_label_grid import (
    Pixels2D,
    PlaneGrid,
    Structure,
    clean_name,
    grid_of_image,
    label_scan,
    merged,
)
from medssl.formats.dicom_parts import SAME_PLACE_MM
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["read_seg", "segment_names"]

_THRESHOLD = 0.5
_OFF_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class _Frame:
    index: int
    segment: int  # 0 where pixels say it, as in a label map
    origin: npt.NDArray[np.float64]
    row: npt.NDArray[np.float64]
    column: npt.NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float


def segment_names(dataset: Any) -> dict[int, str]:
    """Return the names of the segments by their numbers; number 0, where there is one, is the background."""
    found = {}
    for item in dataset.get("SegmentSequence") or []:
        value = int(item.SegmentNumber)
        if value > 0:
            found[value] = clean_name(item.get("SegmentLabel") or item.get("SegmentDescription"), value)
    return found


def read_seg(path: Path, dataset: Any, image: ScanHeader | None, classes: Mapping[int, str] | None) -> Scan:
    """Read a SEG on the grid of its scan where voxels coincide, else on the grid of its frames.

    Voxels of a fractional segmentation count from half of the largest value on.

    Args:
        path: The file.
        dataset: Its content, pixels included.
        image: The scan that it labels; None gives the grid of its frames.
        classes: Label value -> name; None numbers the names of this file.

    Raises:
        FormatError: Its frames do not lie on a grid, or its pixels cannot be read.
    """
    names = segment_names(dataset)
    kind = str(dataset.get("SegmentationType") or "BINARY").upper()
    frames = _frames(path, dataset, names, kind)
    notes: list[str] = []
    least = 1
    if kind == "FRACTIONAL":
        most = int(number(dataset, "MaximumFractionalValue") or 255)
        least = int(np.ceil(_THRESHOLD * most))
        what = str(dataset.get("SegmentationFractionalType") or "fraction").lower()
        notes.append(f"structures from fractions: a {what} of at least {least} of {most} counts")
    shape = (int(dataset.Rows), int(dataset.Columns))
    grid = _own_grid(path, frames, shape) if image is None else grid_of_image(image)
    places = [grid.place_of_plane(f.origin, f.row, f.column, f.spacing, shape) for f in frames]
    if any(place is None for place in places):
        grid = _own_grid(path, frames, shape)
        places = [grid.place_of_plane(f.origin, f.row, f.column, f.spacing, shape) for f in frames]
        if any(place is None for place in places):
            raise FormatError(path, "The frames of this segmentation do not lie on one grid.")
    outside: dict[int, dict[int, int]] = {segment: {} for segment in names}
    # The frames of a label map hold every segment: unpacked once, as large as the scan.
    whole = {f.index: _decode(path, dataset, f.index) for f in frames if f.segment == 0}
    held = {index: set(np.unique(pixels).tolist()) for index, pixels in whole.items()}
    unnamed = sorted(set().union(*held.values()) - {0, *names}) if held else []
    if unnamed:
        raise FormatError(path, f"It holds the value {unnamed[0]}, which no segment describes.")

    def pieces(segment: int) -> Iterator[Pixels2D]:
        for frame, found in zip(frames, places, strict=True):
            if frame.segment != segment and segment not in held.get(frame.index, ()):
                continue
            assert found is not None
            place, matrix = found
            pixels = whole[frame.index] if frame.segment == 0 else _decode(path, dataset, frame.index)
            rows, columns = np.nonzero(pixels == segment if frame.segment == 0 else pixels >= least)
            here = matrix @ np.stack([rows, columns, np.ones_like(rows)])
            inside = (here >= 0).all(axis=0) & (here[0] < grid.rows) & (here[1] < grid.columns)
            outside[segment][frame.index] = int(len(rows) - np.count_nonzero(inside))
            yield place, here[0][inside], here[1][inside]

    sizes = {segment: sum(len(rows) for _, rows, _ in pieces(segment)) for segment in names}
    structures = [
        Structure(name=name, voxels=sizes[segment], pieces=lambda segment=segment: pieces(segment))  # type: ignore[misc]
        for segment, name in names.items()
    ]
    values, more = merged(path, grid.shape, structures, classes)
    notes += more
    lost = sum(sum(counts.values()) for counts in outside.values())
    if lost:
        notes.append(f"structures in part: {lost} voxels lie outside of the scan")
    return label_scan(path, grid, values, notes)


def _frames(path: Path, dataset: Any, names: Mapping[int, str], kind: str) -> list[_Frame]:
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    found = []
    each = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    promised = int(number(dataset, "NumberOfFrames") or 1)
    if len(each) != promised:
        raise FormatError(path, f"NumberOfFrames is {promised}, and {len(each)} frames are described.")
    for index, own in enumerate(each):
        groups = [own, *shared]
        position = numbers(_inner(groups, "PlanePositionSequence"), "ImagePositionPatient", 3)
        cosines = numbers(_inner(groups, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        measures = _inner(groups, "PixelMeasuresSequence")
        spacing = numbers(measures, "PixelSpacing", 2)
        if position is None or cosines is None or spacing is None or min(spacing) <= 0:
            raise FormatError(path, f"Frame {index + 1} of this segmentation does not say where it lies.")
        said = number(_inner(groups, "SegmentIdentificationSequence"), "ReferencedSegmentNumber")
        if kind != "LABELMAP" and (said is None or int(said) not in names):
            raise FormatError(path, f"Frame {index + 1} belongs to the segment {said}, which is not described.")
        between = number(measures, "SpacingBetweenSlices", strict=False)
        thickness = number(measures, "SliceThickness", strict=False)
        found.append(
            _Frame(
                index=index,
                segment=0 if kind == "LABELMAP" else int(said or 0),
                origin=np.array(position),
                row=np.array(cosines[:3]),
                column=np.array(cosines[3:]),
                spacing=(spacing[0], spacing[1]),
                thickness=abs(between or thickness or 0.0),
            )
        )
    return found


def _inner(groups: Sequence[Any], keyword: str) -> Any:
    for group in groups:
        if group.get(keyword):
            return group.get(keyword)[0]
    return {}


def _own_grid(path: Path, frames: Sequence[_Frame], shape: tuple[int, int]) -> PlaneGrid:
    """Return the grid that the frames lie on; slices that have none are left empty."""
    first = frames[0]
    normal = np.cross(first.row, first.column)
    along = np.array([float(f.origin @ normal) for f in frames])
    heights = np.sort(along)
    heights = heights[np.concatenate([[True], np.diff(heights) > SAME_PLACE_MM])]
    distances = np.diff(heights)
    step = float(distances.min()) if len(distances) else first.thickness or 1.0
    steps = distances / step
    if len(steps) and float(np.abs(steps - np.rint(steps)).max()) > _OFF_SHARE:
        raise FormatError(path, "The frames of this segmentation are unevenly spaced, and its scan has other slices.")
    count = 1 + int(np.rint(steps).sum())
    origin = frames[int(np.argmin(along))].origin
    if count > 1:  # the mean step puts the last slice where it belongs
        step = float(heights[-1] - heights[0]) / (count - 1)
    affine = geometry.affine_from_itk(
        tuple(origin.tolist()),
        (first.spacing[1], first.spacing[0], step),
        tuple(np.stack([first.row, first.column, normal], axis=1).ravel().tolist()),
    )
    return PlaneGrid(
        origins=origin + np.outer(np.arange(count) * step, normal),
        row=first.row,
        column=first.column,
        spacing=first.spacing,
        rows=shape[0],
        columns=shape[1],
        affine=affine,
    )


def _decode(path: Path, dataset: Any, index: int) -> npt.NDArray[Any]:
    from pydicom.pixels import pixel_array

    try:
        pixels: npt.NDArray[Any] = pixel_array(dataset, index=index)
    except Exception as error:  # damaged pixel data raises whatever the decoder meets first
        raise FormatError(path, f"Frame {index + 1} cannot be read ({type(error).__name__}: {error}).") from error
    return pixels
