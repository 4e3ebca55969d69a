"""Scores of a classifier. N cases, C classes; the last of two classes is the positive one.

Of more than two classes AUROC and AUPRC are the unweighted mean over classes of one class against the rest, F1 the mean
over classes that occur.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = [
    "auroc",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "calibration_error",
    "class_scores",
    "confusion",
    "f1",
    "precision_recall_curve",
    "reliability",
    "roc_curve",
]

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
BINS = 10


def class_scores(probability_NC: Values, truth_N: Whole, predicted_N: Whole) -> dict[str, float]:
    """Return every metric of `metrics.CLASS_METRICS`; NaN where it is not defined (a single class among the cases).

    Args:
        probability_NC: Probabilities, rows sum to 1.
        truth_N: Classes.
        predicted_N: Predicted classes.
    """
    classes = probability_NC.shape[1]
    return {
        "auroc": _over_classes(auroc, probability_NC, truth_N),
        "auprc": _over_classes(average_precision, probability_NC, truth_N),
        "balanced_accuracy": balanced_accuracy(truth_N, predicted_N),
        "f1": f1(truth_N, predicted_N, classes),
        "accuracy": float((truth_N == predicted_N).mean()),
        "ece": calibration_error(probability_NC, truth_N),
        "brier": brier(probability_NC, truth_N),
    }


def auroc(score_N: Values, positive_N: npt.NDArray[np.bool_]) -> float:
    """Return the share of (positive, negative) pairs that the score puts in order, ties counting half.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
        0.875
    """
    positives = int(positive_N.sum())
    negatives = len(positive_N) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, counts = np.unique(score_N, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal scores
    rank_sum = middle[place][positive_N].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(score_N: Values, positive_N: npt.NDArray[np.bool_]) -> float:
    """Return the sum over thresholds of precision times the recall gained; equal scores are one threshold."""
    if not positive_N.any() or positive_N.all():
        return float("nan")
    recall, precision = precision_recall_curve(score_N, positive_N)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def roc_curve(score_N: Values, positive_N: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Return false and true positive rates from (0, 0) to (1, 1), a point for each different score."""
    hits, misses = _cumulated(score_N, positive_N)
    return (
        np.concatenate([[0.0], misses / max(1, misses[-1])]),
        np.concatenate([[0.0], hits / max(1, hits[-1])]),
    )


def precision_recall_curve(score_N: Values, positive_N: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Return recall and precision at each different score, from the highest to the lowest."""
    hits, misses = _cumulated(score_N, positive_N)
    return hits / max(1, hits[-1]), hits / (hits + misses)


def balanced_accuracy(truth_N: Whole, predicted_N: Whole) -> float:
    """Return the mean recall of the classes that occur."""
    counts = np.bincount(truth_N)
    found = np.bincount(truth_N, weights=(truth_N == predicted_N).astype(float))
    present = counts > 0
    return float((found[present] / counts[present]).mean())


def f1(truth_N: Whole, predicted_N: Whole, classes: int) -> float:
    """Return F1 of the second of two classes, or the mean over classes that occur in truth or prediction."""
    hits = np.bincount(truth_N[truth_N == predicted_N], minlength=classes)
    sizes = np.bincount(truth_N, minlength=classes) + np.bincount(predicted_N, minlength=classes)
    each = 2 * hits / np.maximum(sizes, 1)
    return float(each[1]) if classes == 2 else float(each[sizes > 0].mean())


def brier(probability_NC: Values, truth_N: Whole) -> float:
    """Return the mean squared distance of the probabilities from the one-hot truth (Brier, 1950)."""
    wanted = np.eye(probability_NC.shape[1])[truth_N]
    return float(((probability_NC - wanted) ** 2).sum(axis=1).mean())


def calibration_error(probability_NC: Values, truth_N: Whole, *, bins: int = BINS) -> float:
    """Return the expected calibration error of the likeliest class.

    Reference:
        Naeini, Cooper, Hauskrecht, AAAI 2015; Guo et al., ICML 2017, arXiv:1706.04599, equation 3.
    """
    counts, confidence, accuracy = reliability(probability_NC, truth_N, bins=bins)
    known = counts > 0
    return float((counts[known] * np.abs(confidence[known] - accuracy[known])).sum() / counts.sum())


def reliability(probability_NC: Values, truth_N: Whole, *, bins: int = BINS) -> tuple[Whole, Values, Values]:
    """Return cases, mean confidence and accuracy in each of ``bins`` equal bins of the confidence; NaN if empty."""
    confidence = probability_NC.max(axis=1)
    right = probability_NC.argmax(axis=1) == truth_N
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return (
            counts,
            np.bincount(place, weights=confidence, minlength=bins) / counts,
            np.bincount(place, weights=right.astype(float), minlength=bins) / counts,
        )


def confusion(truth_N: Whole, predicted_N: Whole, classes: int) -> Whole:
    """Return how many cases of each class (row) were given each class (column), (C, C)."""
    return np.bincount(truth_N * classes + predicted_N, minlength=classes**2).reshape(classes, classes)


def _over_classes(
    metric: Callable[[Values, npt.NDArray[np.bool_]], float], probability_NC: Values, truth_N: Whole
) -> float:
    if probability_NC.shape[1] == 2:
        return metric(probability_NC[:, 1], truth_N == 1)
    each = np.array([metric(probability_NC[:, number], truth_N == number) for number in np.unique(truth_N)])
    return float(each.mean()) if len(each) > 1 else float("nan")


def _cumulated(score_N: Values, positive_N: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """Return positives and negatives with at least each different score, from the highest score on."""
    order = np.argsort(-score_N, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score_N[order])), len(order) - 1)
    hits = np.cumsum(positive_N[order])[ends].astype(float)
    return hits, ends + 1 - hits
