"""Scores of classifiers with intervals, and paired tests between them. The unit is the patient.

N cases, C classes. A resample draws patients with all their cases, so slices and second scans of one body never count
as independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.calibration import Decision
from medssl.evaluation.classes import CLASS_METRICS, class_scores
from medssl.evaluation.intervals import Interval
from medssl.evaluation.paired import holm
from medssl.randomness import numpy_generator

__all__ = ["ClassComparison", "ClassPredictions", "bootstrap_p", "compare_classifiers", "delong", "summarise_classes"]

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_RESAMPLES = 2000


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

    @property
    def one_a_patient(self) -> bool:
        """Whether every patient has one case."""
        return len(set(self.patients)) == len(self)

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

    def row(self) -> dict[str, Any]:
        """Return what JSON can hold of the predictions."""
        return {
            "classes": list(self.classes),
            "keys": list(self.keys),
            "patients": list(self.patients),
            "truth": self.truth.tolist(),
            "predicted": self.predicted.tolist(),
            "probability": [[round(float(v), 6) for v in own] for own in self.probability],
        }

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> ClassPredictions:
        """Return the predictions of what ``row`` gave.

        Raises:
            KeyError, ValueError: It is damaged.
        """
        return cls(
            tuple(row["keys"]),
            tuple(row["patients"]),
            np.array(row["truth"], dtype=np.int64),
            np.array(row["probability"], dtype=np.float64),
            np.array(row["predicted"], dtype=np.int64),
            tuple(row["classes"]),
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

    def scores(self, rows: npt.NDArray[np.int64] | None = None) -> dict[str, float]:
        """Return every metric over all cases, or over rows, which may repeat."""
        chosen = slice(None) if rows is None else rows
        return class_scores(self.probability[chosen], self.truth[chosen], self.predicted[chosen])


@dataclass(frozen=True, kw_only=True)
class ClassComparison:
    """One classifier against another on the same patients.

    Attributes:
        arm: The one.
        baseline: The other.
        metric: The metric.
        difference: Arm minus baseline, with an interval over patients.
        p: Two-sided, uncorrected.
        p_holm: Corrected for all comparisons of the table.
        test: "DeLong", or "bootstrap" over patients.
    """

    arm: str
    baseline: str
    metric: str
    difference: Interval
    p: float
    p_holm: float
    test: str


def summarise_classes(
    cases: ClassPredictions, *, level: float = 0.95, resamples: int = _RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Return every metric with a percentile interval that resamples patients.

    Resamples in which a metric is not defined (a class is missing) are left out of its interval.

    Raises:
        DataError: There is no case.
    """
    if not len(cases):
        raise DataError("No case of known class was predicted, so there is nothing to score.")
    drawn = [cases.scores(rows) for rows in _resampled(cases, resamples, seed)]
    exact = cases.scores()
    return {
        metric: _interval(exact[metric], np.array([scores[metric] for scores in drawn]), cases, level)
        for metric in CLASS_METRICS
    }


def compare_classifiers(
    runs: Mapping[str, ClassPredictions],
    pairs: Sequence[tuple[str, str]],
    *,
    metrics: Sequence[str] = ("auroc", "balanced_accuracy", "brier"),
    level: float = 0.95,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> list[ClassComparison]:
    """Test runs against each other on the cases that both have; Holm over all pairs and metrics.

    AUROC of two classes with one case a patient is tested as DeLong et al. do, all else by a bootstrap over patients:
    twice the smaller share of resampled differences on either side of 0.

    Args:
        runs: Cases of each run, by name.
        pairs: (run, baseline) by name.
        metrics: Which of `CLASS_METRICS`.
        level: Confidence level of the intervals.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        DataError: The runs of a pair share no case, or disagree about a class.
    """
    found: list[ClassComparison] = []
    for arm, baseline in pairs:
        shared = [key for key in runs[baseline].keys if key in set(runs[arm].keys)]
        if not shared or runs[arm].classes != runs[baseline].classes:
            raise DataError(f"Runs '{arm}' and '{baseline}' share no case, or tell other classes apart.")
        own, other = runs[arm].taken(shared), runs[baseline].taken(shared)
        if (own.truth != other.truth).any():
            raise DataError(f"Runs '{arm}' and '{baseline}' were trained on different classes of the same cases.")
        exact = {m: own.scores()[m] - other.scores()[m] for m in metrics}
        drawn: dict[str, list[float]] = {m: [] for m in metrics}
        for rows in _resampled(own, resamples, seed):
            ours, theirs = own.scores(rows), other.scores(rows)
            for metric in metrics:
                drawn[metric].append(ours[metric] - theirs[metric])
        for metric in metrics:
            differences = np.array(drawn[metric])
            p, test = bootstrap_p(differences), "bootstrap"
            if metric == "auroc" and len(own.classes) == 2 and own.one_a_patient:
                p, test = delong(own.probability[:, 1], other.probability[:, 1], own.truth == 1), "DeLong"
            if np.isnan(exact[metric]):
                p = float("nan")  # of cases of one class nothing can be told apart
            interval = _interval(exact[metric], differences, own, level)
            found.append(ClassComparison(arm=arm, baseline=baseline, metric=metric, difference=interval, p=p, p_holm=p,
                                         test=test))  # fmt: skip
    corrected = holm({str(i): row.p for i, row in enumerate(found)})
    return [replace(row, p_holm=corrected[str(i)]) for i, row in enumerate(found)]


def delong(one_N: Values, other_N: Values, positive_N: npt.NDArray[np.bool_]) -> float:
    """Return the two-sided p that two scores of the same independent cases have the same AUROC; 1 where they agree.

    Reference:
        DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
        characteristic curves", Biometrics 1988; the components by ranks as in Sun and Xu, IEEE SPL 2014.

    Args:
        one_N: A score of each case.
        other_N: Another score of each.
        positive_N: Which cases are positive; both kinds occur.
    """
    from scipy.stats import norm, rankdata

    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    if min(positives, negatives) < 2:
        return float("nan")
    of_positive, of_negative, areas = [], [], []
    for score in (one_N, other_N):
        ranks = rankdata(score)
        of_positive.append((ranks[positive_N] - rankdata(score[positive_N])) / negatives)
        of_negative.append(1 - (ranks[~positive_N] - rankdata(score[~positive_N])) / positives)
        areas.append(of_positive[-1].mean())
    covariance = np.cov(np.stack(of_positive)) / positives + np.cov(np.stack(of_negative)) / negatives
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = areas[0] - areas[1]
    if variance <= 1e-18:
        return 1.0 if abs(difference) < 1e-12 else 0.0
    return float(2 * norm.sf(abs(difference) / np.sqrt(variance)))


def _resampled(cases: ClassPredictions, resamples: int, seed: int) -> list[Whole]:
    owners = np.array(cases.patients)
    groups = [np.flatnonzero(owners == name) for name in np.unique(owners)]
    if len(groups) < 2:
        return []
    generator = numpy_generator(seed, len(groups), resamples)
    draws = generator.integers(0, len(groups), (resamples, len(groups)))
    return [np.concatenate([groups[g] for g in draw]) for draw in draws]


def _interval(exact: float, drawn: Values, cases: ClassPredictions, level: float) -> Interval:
    known = drawn[~np.isnan(drawn)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if known.size else (float("nan"), float("nan"))
    patients = len(set(cases.patients))
    return Interval(estimate=exact, low=float(low), high=float(high), level=level, cases=patients)


def bootstrap_p(differences: Values) -> float:
    """Return twice the smaller share of resampled differences on either side of 0; NaN is left out, 1 without any."""
    known = differences[~np.isnan(differences)]
    if not known.size:
        return 1.0
    sides = ((known <= 0).sum() + 1, (known >= 0).sum() + 1)
    return float(min(1.0, 2 * min(sides) / (known.size + 1)))
