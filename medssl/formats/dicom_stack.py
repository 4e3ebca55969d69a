"""Slices to a volume: their order along the normal, the affine, and what is wrong with the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl import geometry
from medssl.formats.dicom_gaps import find_gaps
from medssl.formats.dicom_parts import SAME_PLACE_MM, places_of, without_copies
from medssl.formats.dicom_slices import Slice

__all__ = ["Stack", "stack_slices"]

_UNEVEN_SHARE = 0.02
_TILT_DEGREES = 0.5

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Slices in order.

    Attributes:
        frames: For each frame its slices, along the normal of the planes. All frames have the same positions.
        affine: 4x4, RAS+; sheared where the gantry was tilted.
        warnings: What a person should know, each "kind: explanation".
    """

    frames: tuple[tuple[Slice, ...], ...]
    affine: npt.NDArray[np.float64]
    warnings: tuple[str, ...]


def stack_slices(slices: Sequence[Slice], frames: Sequence[Sequence[Slice]] = ()) -> Stack:
    """Put slices of one plane orientation in order.

    Slices that occur in several copies count once. Where places still repeat, the first slice of each is kept. Gaps are
    not filled: the slices stay neighbours and the warning says where they are not.

    Args:
        slices: At least one; of the same rows, columns, orientation and pixel spacing.
        frames: The volumes that a file of several holds, each with one slice at each of the same places; none where
            the slices are one volume.
    """
    warnings: list[str] = []
    unique = without_copies(slices)
    if len(unique) < len(slices):
        warnings.append(f"copies: {len(slices) - len(unique)} files are copies of slices of this series; left out")
    plane = unique[0].plane
    if plane.spacing is None:
        warnings.append("no voxel size: PixelSpacing is missing; 1 mm was taken")
    if places_of(unique) is None:
        warnings.append("no positions: slices are in the order of their instance numbers; orientation is unknown")
        ordered = sorted(unique, key=lambda one: one.order[-2:])
        return Stack(
            frames=(tuple(ordered),),
            affine=_affine(ordered, np.zeros(3), np.array([0.0, 0.0, _thickness(ordered, warnings)])),
            warnings=tuple(warnings),
        )
    normal = np.cross(plane.cosines[:3], plane.cosines[3:]) if plane.cosines else np.array([0.0, 0.0, 1.0])
    normal /= np.linalg.norm(normal)
    volumes = tuple(_first_of_each_place(frame, warnings) for frame in frames or (unique,))
    first = volumes[0]
    positions = np.array([one.position for one in first])
    if len(first) == 1:
        warnings.append("one slice: its thickness was taken as the distance between slices")
        step = normal * _thickness(first, warnings)
    else:
        step = _step(first, positions, normal, warnings)
    return Stack(frames=volumes, affine=_affine(first, positions[0], step), warnings=tuple(warnings))


def _first_of_each_place(slices: Sequence[Slice], warnings: list[str]) -> tuple[Slice, ...]:
    """Sort slices along the normal; where several lie in one place, and nothing tells them apart, keep the first."""
    places = places_of(slices) or []
    extra = sum(len(place) - 1 for place in places)
    if extra:
        warnings.append(f"duplicate positions: {extra} slices lie where another does; the first of each place was kept")
    return tuple(place[0] for place in places)


def _step(slices: Sequence[Slice], positions: Points, normal: Points, warnings: list[str]) -> Points:
    """Return the vector from a slice to the next in LPS+ mm, and note gaps, uneven distances and tilt."""
    along = positions @ normal
    distances = np.diff(along)
    gaps = find_gaps(slices, along)
    usual, wide = gaps.usual, gaps.wide
    warnings.extend(gaps.warnings)
    even = distances[~wide]
    if float(np.ptp(even)) > _UNEVEN_SHARE * usual + SAME_PLACE_MM:
        warnings.append(
            f"uneven slices: distances from {even.min():.3f} to {even.max():.3f} mm; the median {usual:.3f} was taken"
        )
    between = positions[-1] - positions[0]
    exact = not wide.any() and float(np.ptp(even)) <= _UNEVEN_SHARE * usual + SAME_PLACE_MM
    # Evenly spaced slices: the mean step puts the last slice where it belongs. Otherwise the median serves most slices.
    step: Points = between / (len(positions) - 1) if exact else between / (along[-1] - along[0]) * usual
    cosine = float(np.dot(step, normal) / np.linalg.norm(step))
    tilt = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    if tilt > _TILT_DEGREES:
        warnings.append(f"gantry tilt: {tilt:.1f} degrees; the affine is sheared")
    on_line = positions[0] + np.outer((along - along[0]) / (along[-1] - along[0]), between)
    stray = float(np.linalg.norm(positions - on_line, axis=1).max())
    if stray > 0.1 * usual + SAME_PLACE_MM:
        warnings.append(f"stray slices: slices lie up to {stray:.2f} mm beside the line through the first and the last")
    return step


def _thickness(slices: Sequence[Slice], warnings: list[str]) -> float:
    thickness = slices[0].between or slices[0].thickness
    if thickness and thickness > 0:
        return thickness
    warnings.append("no slice distance: 1 mm was taken")
    return 1.0


def _affine(slices: Sequence[Slice], origin_lps: Points, step_lps: Points) -> npt.NDArray[np.float64]:
    plane = slices[0].plane
    between_rows, between_columns = plane.spacing or (1.0, 1.0)
    cosines = plane.cosines or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    distance = float(np.linalg.norm(step_lps))
    # x counts columns and so runs along a row; y counts rows.
    direction = np.stack([cosines[:3], cosines[3:], step_lps / distance], axis=1)
    return geometry.affine_from_itk(
        tuple(origin_lps.tolist()), (between_columns, between_rows, distance), tuple(direction.ravel().tolist())
    )
