"""Scores that are no mean over patients (AUROC, balanced accuracy, mean IoU of classes) made to look like one.

The pseudo-value of a patient is P times the score of all P patients minus P - 1 times the score without that one. Their
spread over patients is that of the score, and crossed with runs and draws they are what a multi-reader study computes.
Of a mean over patients the pseudo-values are the values. `benchmarks/coverage.py` simulates the intervals.

Reference:
    Tukey, "Bias and confidence in not quite large samples", Annals of Mathematical Statistics 29, 1958.
    Dorfman, Berbaum, Metz, "Receiver operating characteristic rating analysis", Investigative Radiology 27, 1992.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["pseudo_values"]

Values = npt.NDArray[np.float64]


def pseudo_values(score_of: Callable[[Values], Values], patients: int) -> tuple[float, Values]:
    """Return a score, and the pseudo-value of each patient, (P,); NaN where the score is not defined without them.

    Args:
        score_of: Returns the score under each of R weightings of the patients, (R, P) -> (R,).
        patients: P.
    """
    everybody = np.ones((1, patients))
    scores = score_of(np.concatenate([everybody, 1.0 - np.eye(patients)]))
    return float(scores[0]), patients * scores[0] - (patients - 1) * scores[1:]
