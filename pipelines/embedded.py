"""What a probe is given: embeddings with their classes and patients, one part to fit on and one to score on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Embedded"]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The embeddings of one encoder: N to fit a classifier on, M to score it on.

    Attributes:
        fit, score: Float32, (N, D) and (M, D).
        fit_classes, score_classes: Names of their classes.
        fit_patients, score_patients: Whose each is.
    """

    fit: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    fit_classes: tuple[str, ...]
    score_classes: tuple[str, ...]
    fit_patients: tuple[str, ...]
    score_patients: tuple[str, ...]
