"""What a classifier said of cases whose class is known. N cases, C classes; the unit is the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medssl.evaluation.calibration import Decision
from medssl.evaluation.classes import class_scores

__all__ = ["ClassPredictions"]

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassPredictions:
    """Predictions of cases whose class is known.

    Attributes:
        keys: What names each case: the scan, with the slice where a case is one.
        patients: The patient of each.
        truth: Classes, (N,).
        probability: (N, C).
        predicted: Predicted classes, (N,).
        classes: Names of the classes.
    """

    keys: tuple[str, ...]
    patients: tuple[str, ...]
    truth: Whole
    probability: Values
    predicted: Whole
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.keys)

    def by_patient(self, decision: Decision) -> ClassPredictions:
        """Return one case a patient, their probabilities averaged; all cases where a patient has two classes."""
        owners = np.array(self.patients)
        names = np.unique(owners)
        groups = [np.flatnonzero(owners == name) for name in names]
        if any(len(set(self.truth[group].tolist())) > 1 for group in groups):
            return self
        probability = np.stack([self.probability[group].mean(axis=0) for group in groups])
        return ClassPredictions(
            tuple(names.tolist()),
            tuple(names.tolist()),
            np.array([self.truth[group[0]] for group in groups]),
            probability,
            decision.predicted(probability),
            self.classes,
        )

    def taken(self, keys: Sequence[str]) -> ClassPredictions:
        """Return the cases with these keys, in this order."""
        place = {key: row for row, key in enumerate(self.keys)}
        rows = [place[key] for key in keys]
        return replace(
            self,
            keys=tuple(keys),
            patients=tuple(self.patients[row] for row in rows),
            truth=self.truth[rows],
            probability=self.probability[rows],
            predicted=self.predicted[rows],
        )

    def scores(self) -> dict[str, float]:
        """Return every metric over all cases."""
        return class_scores(self.probability, self.truth, self.predicted)
