"""Scores of part segmentation: intersection over union of the parts of shapes, by shape and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError

__all__ = ["PartScores", "part_ious", "part_scores", "resampled_parts", "shape_iou"]

Whole = npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class PartScores:
    """How well parts were found.

    Attributes:
        instance_miou: Mean IoU over shapes.
        class_miou: Mean over classes of the mean over their shapes.
        accuracy: Share of the labelled points of all shapes that are right.
        by_class: Mean IoU of each class's shapes.
        by_part: IoU of each part, mean over the shapes whose class has it.
        shapes: IoU of each shape, (N,).
    """

    instance_miou: float
    class_miou: float
    accuracy: float
    by_class: dict[str, float]
    by_part: dict[int, float]
    shapes: npt.NDArray[np.float64]


def shape_iou(truth: Whole, predicted: Whole, parts: Sequence[int]) -> float:
    """Return the mean IoU of the parts of one shape; as `part_ious`.

    Example:
        >>> shape_iou(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), [0, 1, 2])  # 1/2, 2/3, and 1: nobody shows part 2
        0.7222222222222222
    """
    return float(part_ious(truth, predicted, parts).mean())


def part_ious(truth: Whole, predicted: Whole, parts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the IoU of each part of one shape; points whose truth is below 0 are left out.

    Args:
        truth: Part of each point, (P,).
        predicted: Likewise.
        parts: The parts that shapes of this class may have.

    Raises:
        DataError: Lengths differ, no point has a label, or the class has no parts.
    """
    if truth.shape != predicted.shape or truth.ndim != 1 or not parts:
        raise DataError(
            f"Parts of shapes {truth.shape} and {predicted.shape}, of {len(parts)} parts, cannot be scored."
        )
    known = truth >= 0
    if not known.any():
        raise DataError("None of the shape's points has a label, so its parts cannot be scored.")
    here, there = truth[known], predicted[known]
    ious = []
    for part in parts:
        either = int(((here == part) | (there == part)).sum())
        ious.append(int(((here == part) & (there == part)).sum()) / either if either else 1.0)
    return np.array(ious)


def part_scores(
    truths: Sequence[Whole], predictions: Sequence[Whole], classes: Sequence[str], parts_of: Mapping[str, Sequence[int]]
) -> PartScores:
    """Return the scores of many shapes.

    Args:
        truths: Part of each point, one array a shape.
        predictions: Likewise.
        classes: Class of each shape.
        parts_of: Class -> the parts that its shapes may have.

    Raises:
        DataError: There is no shape, lengths differ, or a class has no parts.
    """
    if not truths or not len(truths) == len(predictions) == len(classes):
        raise DataError(f"{len(truths)} shapes, {len(predictions)} predictions and {len(classes)} classes were given.")
    ious = [part_ious(t, p, parts_of.get(c, ())) for t, p, c in zip(truths, predictions, classes, strict=True)]
    each = np.array([found.mean() for found in ious])
    of_part: dict[int, list[float]] = {}
    for found, own in zip(ious, classes, strict=True):
        for part, iou in zip(parts_of[own], found, strict=True):
            of_part.setdefault(part, []).append(float(iou))
    names = sorted(set(classes))
    where = np.asarray(classes)
    by_class = {name: float(each[where == name].mean()) for name in names}
    right = sum(int((t[t >= 0] == p[t >= 0]).sum()) for t, p in zip(truths, predictions, strict=True))
    return PartScores(
        instance_miou=float(each.mean()),
        class_miou=float(np.mean(list(by_class.values()))),
        accuracy=right / sum(int((t >= 0).sum()) for t in truths),
        by_class=by_class,
        by_part={part: float(np.mean(found)) for part, found in sorted(of_part.items())},
        shapes=each,
    )


def resampled_parts(
    iou_S: npt.NDArray[np.float64],
    points_S2: npt.NDArray[np.float64],
    classes: Sequence[str],
    patients: Sequence[str],
    metric: str,
    weight_RP: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return a score of S shapes under R weightings of their P patients at once, (R,).

    Args:
        iou_S: IoU of each shape.
        points_S2: Right and labelled points of each.
        classes: Class of each.
        patients: Patient of each.
        metric: "instance_miou", "class_miou" (over the classes that count in a weighting) or "point_accuracy".
        weight_RP: How often each patient counts, in sorted order.
    """
    weight = weight_RP[:, np.unique(np.asarray(patients), return_inverse=True)[1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "point_accuracy":
            result: npt.NDArray[np.float64] = weight @ points_S2[:, 0] / (weight @ points_S2[:, 1])
            return result
        names, kind = np.unique(np.asarray(classes), return_inverse=True)
        member = np.ones((len(iou_S), 1)) if metric == "instance_miou" else np.eye(len(names))[kind]
        shapes = weight @ member
        by_class = np.where(shapes > 0, (weight * iou_S) @ member / shapes, np.nan)
        mean: npt.NDArray[np.float64] = np.nanmean(by_class, axis=1)
    return mean
