"""Overlap of two label maps: Dice, intersection over union and volumes, structure by structure.

What an empty mask scores is part of the definition, since tools differ in it: a structure that neither map has scores
NaN (it is left out of means, and counted), a structure that only one of them has scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError

__all__ = ["Overlap", "check_label_maps", "overlap"]

LabelMap = npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How well one structure of a prediction covers that of the truth.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|), in [0, 1]; NaN where both are empty.
        iou: |A and B| / |A or B|, in [0, 1]; NaN where both are empty.
        truth_voxels: Voxels of the structure in the truth.
        prediction_voxels: Voxels of the structure in the prediction.
        truth_ml: Volume in the truth, ml.
        prediction_ml: Volume in the prediction, ml.
        empty: "" where both have the structure, else who lacks it: "both", "truth" or "prediction".
    """

    dice: float
    iou: float
    truth_voxels: int
    prediction_voxels: int
    truth_ml: float
    prediction_ml: float
    empty: str


def check_label_maps(truth: LabelMap, prediction: LabelMap, spacing_mm: Sequence[float]) -> None:
    """Refuse label maps that cannot be compared voxel by voxel.

    Args:
        truth: Label map, 2D or 3D.
        prediction: Label map.
        spacing_mm: Voxel size in mm, in the order of the axes.

    Raises:
        DataError: If the shapes differ, the values are not whole numbers, or a voxel size is not positive.
    """
    if truth.shape != prediction.shape:
        raise DataError(
            f"A prediction has shape {prediction.shape} and its label map {truth.shape}. "
            "They must lie on the same grid; predict in the source geometry."
        )
    for name, values in (("truth", truth), ("prediction", prediction)):
        if values.dtype.kind not in "biu":
            raise DataError(f"The {name} has values of type {values.dtype}. Label maps hold whole numbers.")
    if len(spacing_mm) != truth.ndim or not all(0 < s < np.inf for s in spacing_mm):
        raise DataError(
            f"Voxel size {tuple(spacing_mm)} mm does not fit {truth.ndim} axes. One size > 0 for each axis."
        )


def overlap(
    truth: LabelMap, prediction: LabelMap, structures: Sequence[int], *, spacing_mm: Sequence[float]
) -> dict[int, Overlap]:
    """Score the overlap of each structure, all in one pass over the voxels.

    Args:
        truth: Label map of whole numbers, 2D or 3D.
        prediction: Label map on the same grid.
        structures: Label values >= 0 to score. Other values count as background; voxels whose truth is negative are
            ignored.
        spacing_mm: Voxel size in mm, in the order of the axes.

    Returns:
        One `Overlap` for each structure, in the order asked for.

    Raises:
        DataError: If the maps cannot be compared (see `check_label_maps`).

    Example:
        >>> truth = np.zeros((12, 12), int); truth[4:8, 4:8] = 1
        >>> overlap(truth, np.roll(truth, 1, axis=1), [1], spacing_mm=(1, 1))[1].dice
        0.75
    """
    check_label_maps(truth, prediction, spacing_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    largest = max(structures, default=0)
    known = truth >= 0
    of_truth = _counts(truth[known], largest)
    of_prediction = _counts(prediction[known], largest)
    of_both = _counts(truth[known & (truth == prediction)], largest)
    return {s: _score(int(of_truth[s]), int(of_prediction[s]), int(of_both[s]), voxel_ml=voxel_ml) for s in structures}


def _counts(values: LabelMap, largest: int) -> npt.NDArray[np.intp]:
    """Return how often 0 ... ``largest`` occur; other values fall into one more bin."""
    capped = values.astype(np.intp)
    capped[(capped < 0) | (capped > largest)] = largest + 1
    return np.bincount(capped, minlength=largest + 2)


def _score(in_truth: int, in_prediction: int, in_both: int, *, voxel_ml: float) -> Overlap:
    total = in_truth + in_prediction
    if total == 0:
        dice, iou, empty = float("nan"), float("nan"), "both"
    else:
        dice, iou = 2 * in_both / total, in_both / (total - in_both)
        empty = "truth" if in_truth == 0 else "prediction" if in_prediction == 0 else ""
    return Overlap(
        dice=dice,
        iou=iou,
        truth_voxels=in_truth,
        prediction_voxels=in_prediction,
        truth_ml=in_truth * voxel_ml,
        prediction_ml=in_prediction * voxel_ml,
        empty=empty,
    )
