"""Scores of regions: structures that overlap, each a union of label values, scored one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medssl.evaluation.overlap import LabelMap
from medssl.evaluation.scoring import StructureScore, score_case
from medssl.regions import Region

__all__ = ["region_mask", "score_regions"]


def region_mask(labels: LabelMap, region: Region) -> LabelMap:
    """Return 1 where a label map shows a region, -1 where it is not known, else 0; int8."""
    mask: LabelMap = np.isin(labels, region.values).astype(np.int8)
    if labels.dtype.kind == "i":
        mask[labels < 0] = -1
    return mask


def score_regions(
    truth: LabelMap,
    prediction: LabelMap,
    *,
    case: str,
    patient: str,
    regions: Sequence[Region],
    spacing_mm: Sequence[float],
    tolerance_mm: float | Mapping[str, float],
) -> list[StructureScore]:
    """Score every region of one case; the arguments are those of `scoring.score_case`.

    A score's ``label`` is the value that a prediction has where the region is the last to be written.
    """
    scores = []
    for region in regions:
        tolerance = float(tolerance_mm if isinstance(tolerance_mm, int | float) else tolerance_mm[region.name])
        (score,) = score_case(
            region_mask(truth, region),
            np.maximum(region_mask(prediction, region), 0),
            case=case,
            patient=patient,
            structures={1: region.name},
            spacing_mm=spacing_mm,
            tolerance_mm=tolerance,
        )
        scores.append(replace(score, label=region.written))
    return scores
