"""The scores of one case: a row for each structure, with everything a table of scores holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medssl.evaluation.overlap import LabelMap, check_label_maps, overlap
from medssl.evaluation.surface import image_diagonal_mm, surface_score

__all__ = ["EmptyCounts", "StructureScore", "count_rows", "empty_counts", "score_case"]


@dataclass(frozen=True, kw_only=True)
class StructureScore:
    """One row of a table of scores; `overlap.Overlap` and `surface.SurfaceScore` say what the numbers mean.

    Attributes:
        case: The scan's id.
        patient: Pseudonymous key of the patient, the unit of every test and interval.
        label: Label value of the structure.
        structure: Its name.
        dice: See `Overlap`, as are the next.
        iou: ...
        hd95_mm: See `SurfaceScore`, as are the next.
        assd_mm: ...
        nsd: ...
        tolerance_mm: ...
        truth_ml: Volume in the truth, ml.
        prediction_ml: Volume in the prediction, ml.
        truth_voxels: Voxels of the structure in the truth.
        prediction_voxels: Voxels of the structure in the prediction.
        empty: "", "both", "truth" or "prediction": who lacks the structure.
    """

    case: str
    patient: str
    label: int
    structure: str
    dice: float
    iou: float
    hd95_mm: float
    assd_mm: float
    nsd: float
    tolerance_mm: float
    truth_ml: float
    prediction_ml: float
    truth_voxels: int
    prediction_voxels: int
    empty: str

    def row(self) -> dict[str, Any]:
        """Return the score as a mapping from column to value."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class EmptyCounts:
    """How many cases showed a structure.

    Attributes:
        cases: Cases scored.
        patients: Patients scored.
        absent: Cases in which neither truth nor prediction has the structure: left out of every mean.
        missed: Cases in which only the truth has it (scored 0, distances the image's diagonal).
        invented: Cases in which only the prediction has it (scored likewise).
    """

    cases: int
    patients: int
    absent: int
    missed: int
    invented: int


def empty_counts(scores: Sequence[StructureScore]) -> dict[str, EmptyCounts]:
    """Return, for each structure, in how many cases who lacks it."""
    found = {}
    for name in dict.fromkeys(score.structure for score in scores):
        rows = [score for score in scores if score.structure == name]
        found[name] = EmptyCounts(
            cases=len({row.case for row in rows}),
            patients=len({row.patient for row in rows}),
            absent=sum(row.empty == "both" for row in rows),
            missed=sum(row.empty == "prediction" for row in rows),
            invented=sum(row.empty == "truth" for row in rows),
        )
    return found


def count_rows(counts: Mapping[str, EmptyCounts]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return heads and rows of a table of how many cases showed each structure."""
    heads = ("structure", "cases", "patients", "absent", "missed", "invented")
    return heads, [(name, *(str(number) for number in asdict(own).values())) for name, own in counts.items()]


def score_case(
    truth: LabelMap,
    prediction: LabelMap,
    *,
    case: str,
    patient: str,
    structures: Mapping[int, str],
    spacing_mm: Sequence[float],
    tolerance_mm: float | Mapping[str, float],
) -> list[StructureScore]:
    """Score every structure of one case.

    Args:
        truth: Label map of whole numbers, (z, y, x); negative where unknown, where nothing is scored.
        prediction: Label map on the same grid.
        case: The scan's id.
        patient: The patient's key.
        structures: Name of each label value to score, without the background.
        spacing_mm: Voxel size in mm, (z, y, x).
        tolerance_mm: Tolerance of the surface Dice: one for all, or one for each structure's name.

    Raises:
        DataError: If the maps do not lie on the same grid or do not hold whole numbers.
    """
    check_label_maps(truth, prediction, spacing_mm)
    if truth.dtype.kind == "i" and truth.min(initial=0) < 0:
        prediction = np.where(truth < 0, 0, prediction)
    overlaps = overlap(truth, prediction, list(structures), spacing_mm=spacing_mm)
    boxes = _boxes(truth, prediction, structures)
    diagonal = image_diagonal_mm(truth.shape, spacing_mm)
    scores = []
    for label, name in structures.items():
        tolerance = float(tolerance_mm if isinstance(tolerance_mm, int | float) else tolerance_mm[name])
        box = boxes[label]
        surface = surface_score(
            truth[box] == label,
            prediction[box] == label,
            spacing_mm=spacing_mm,
            tolerance_mm=tolerance,
            diagonal_mm=diagonal,
        )
        scores.append(
            StructureScore(
                case=case, patient=patient, label=label, structure=name, **asdict(overlaps[label]), **asdict(surface)
            )
        )
    return scores


def _boxes(truth: LabelMap, prediction: LabelMap, structures: Mapping[int, str]) -> dict[int, tuple[slice, ...]]:
    """Return, in one pass for all structures, the box that holds each of them in both maps."""
    from scipy.ndimage import find_objects

    largest = max(structures, default=0)
    nowhere = (slice(0, 0),) * truth.ndim
    # find_objects ignores values < 1 and above max_label
    found = [find_objects(m.astype(np.int32, copy=False), max_label=largest) for m in (truth, prediction)]
    boxes = {}
    for label in structures:
        both = [f[label - 1] for f in found if f[label - 1] is not None]
        boxes[label] = tuple(
            slice(min(b[a].start for b in both), max(b[a].stop for b in both)) if both else nowhere[a]
            for a in range(truth.ndim)
        )
    return boxes
