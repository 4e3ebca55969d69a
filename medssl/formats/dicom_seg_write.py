"""Writing a label map as a DICOM SEG that refers to the slices of its series, so that viewers show it on them.

The SEG names the patient and the study as the series does: without that no archive files it with the series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl import __version__, geometry
from medssl.extras import library
from medssl.pool import isolated
from medssl.writing import atomic_write

__all__ = ["write_seg"]

_OFF_VOXELS = 0.02  # what rounding in the headers of a series leaves
_SERIES_NUMBER = 900
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_FLIP = np.diag([-1.0, -1.0, 1.0])  # LPS to RAS


def write_seg(
    path: Path,
    values_zyx: npt.NDArray[Any],
    sources: Sequence[Path],
    affine: npt.NDArray[np.float64],
    names: Mapping[int, str],
    members: Mapping[int, Sequence[int]] | None = None,
) -> None:
    """Write a label map as a binary DICOM SEG, beside its place first and then renamed.

    Args:
        path: Ends in .dcm.
        values_zyx: Label values on the grid of the series, (z, y, x).
        sources: The files of the series: one a slice, or one multi-frame file.
        affine: 4x4, RAS+ mm from (x, y, z) indices of that grid.
        names: Label value -> name, without the background. Segments are numbered from 1 in the order of the values.
        members: Label value -> all values that belong to its segment, where segments overlap: of regions, such as a
            whole tumour that holds its core. None where each is its own value alone.

    Raises:
        ValueError: The slices of the series are not those of the grid, or the series is of a kind that has no SEG.
        MissingDependencyError: highdicom is not installed.
    """
    import pydicom

    library("highdicom", purpose="to write DICOM SEG")
    from highdicom.seg import Segmentation, SegmentationTypeValues

    headers: list[Any] = isolated(_headers, [Path(one) for one in sources])
    for header in headers:  # in memory alone: series without names lack what may be empty in a SEG, but not missing
        for keyword in _MAY_BE_EMPTY:
            if keyword not in header:
                setattr(header, keyword, "")
    places = [place for header in headers for place in _places(header)]
    chosen = _planes(places, values_zyx.shape, affine)
    values = sorted(value for value in names if value > 0)
    planes = _segmented(values_zyx[chosen], values, members)
    try:
        made = Segmentation(
            source_images=headers,
            pixel_array=planes,
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=_segments([names[value] for value in values]),
            series_instance_uid=pydicom.uid.generate_uid(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=pydicom.uid.generate_uid(),
            instance_number=1,
            manufacturer="medssl",
            manufacturer_model_name="medssl predict",
            software_versions=__version__,
            device_serial_number="0",
            content_label="PREDICTION",
            series_description="medssl prediction",
            omit_empty_frames=bool(planes.any()),
        )
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"the series lacks what a SEG needs ({error}).") from error
    with atomic_write(path, suffix=".dcm") as aside:
        made.save_as(aside)


def _segmented(
    planes: npt.NDArray[Any], values: Sequence[int], members: Mapping[int, Sequence[int]] | None
) -> npt.NDArray[Any]:
    """Return the numbers of segments (planes, rows, columns), or where they overlap a mask of each, on a last axis."""
    if members is not None:
        return np.stack([np.isin(planes, list(members[value])) for value in values], axis=-1)
    numbers = np.zeros(int(max([0, *values, int(planes.max(initial=0))])) + 1, dtype=np.uint16)
    numbers[list(values)] = np.arange(1, len(values) + 1)
    found: npt.NDArray[Any] = numbers[planes].astype(np.uint8 if len(values) < 256 else np.uint16)
    return found


def _headers(sources: list[Path]) -> list[Any]:
    """Return the headers of the files of a series. Runs in a worker process."""
    import pydicom

    return [pydicom.dcmread(one, stop_before_pixels=True) for one in sources]


def _segments(names: Sequence[str]) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name="medssl", family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]


def _places(header: Any) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Return where each frame of a file lies: its first pixel, and 3x2 steps along a row and down a column, RAS mm."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        return [_place(header, header, header)]
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]

    def group(frame: Any, name: str) -> Any:
        for where in (frame, shared):
            if where is not None and name in where:
                return where[name].value[0]
        raise ValueError(f"the frames of the series have no {name}.")

    return [
        _place(
            group(one, "PlanePositionSequence"),
            group(one, "PlaneOrientationSequence"),
            group(one, "PixelMeasuresSequence"),
        )
        for one in frames
    ]


def _place(position: Any, direction: Any, measures: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    try:
        origin = np.array(position.ImagePositionPatient, dtype=np.float64)
        cosines = np.array(direction.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        down, along = (float(size) for size in measures.PixelSpacing)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError("the series does not say where its slices lie.") from error
    return _FLIP @ origin, _FLIP @ np.stack([cosines[0] * along, cosines[1] * down], axis=1)


def _planes(
    places: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]],
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
) -> list[int]:
    """Return the plane of the grid that each slice of the series is.

    Raises:
        ValueError: A slice is none of them.
    """
    found = []
    steps = np.asarray(affine, dtype=np.float64)[:3, :2]
    size = float(np.linalg.norm(steps, axis=0).min())
    extent = np.array([shape[2], shape[1]], dtype=np.float64)
    for origin, own in places:
        index = geometry.to_index(affine, origin[None])[0]  # (z, y, x)
        plane = int(np.rint(index[0]))
        off = float(np.abs(index - [plane, 0, 0]).max())
        drift = float((np.linalg.norm(own - steps, axis=0) / size * extent).max())
        if off > _OFF_VOXELS or drift > max(0.5, _OFF_VOXELS * extent.max()) or not 0 <= plane < shape[0]:
            raise ValueError("a slice of the series is no plane of the grid that was segmented (gaps, or turned).")
        found.append(plane)
    if len(set(found)) < len(found):
        raise ValueError("several slices of the series lie at one place.")
    return found
