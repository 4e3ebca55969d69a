"""Scores of part segmentation with intervals over patients. S shapes, R resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medssl.evaluation.intervals import Interval
from medssl.evaluation.parts import PartScores
from medssl.randomness import numpy_generator

__all__ = ["PART_METRICS", "summarise_parts"]

Values = npt.NDArray[np.float64]
PART_METRICS = ("instance_miou", "class_miou", "accuracy")
_RESAMPLES = 2000


def summarise_parts(
    scores: PartScores,
    classes: Sequence[str],
    patients: Sequence[str],
    points: npt.NDArray[np.integer],
    *,
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return every score with a percentile interval that resamples patients with all their shapes.

    A class of which a resample holds no shape is left out of that resample's class mIoU.

    Args:
        scores: Of the shapes.
        classes: Class of each shape, (S,).
        patients: Patient (or object) of each, (S,).
        points: Right and labelled points of each, (S, 2).
        level: Confidence level.
        resamples: R.
        seed: Of the resamples.
    """
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    _, kind = np.unique(np.asarray(classes), return_inverse=True)
    member = np.eye(int(kind.max()) + 1)[kind]
    generator = numpy_generator(seed, len(names), resamples)
    taken = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weight = taken[:, owner].astype(float)
    of_class = weight @ member
    with np.errstate(invalid="ignore"):
        by_class = np.where(of_class > 0, (weight * scores.shapes) @ member / of_class, np.nan)
    drawn: Mapping[str, Values] = {
        "instance_miou": weight @ scores.shapes / weight.sum(axis=1),
        "class_miou": np.nanmean(by_class, axis=1),
        "accuracy": weight @ points[:, 0] / (weight @ points[:, 1]),
    }
    exact = {name: float(getattr(scores, name)) for name in PART_METRICS}
    return {name: _interval(exact[name], drawn[name], len(names), level) for name in PART_METRICS}


def _interval(exact: float, drawn: Values, patients: int, level: float) -> Interval:
    low, high = (float("nan"),) * 2
    if patients > 1:
        low, high = (float(v) for v in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(estimate=exact, low=low, high=high, level=level, cases=patients)
