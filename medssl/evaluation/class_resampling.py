"""Scores of a classifier under many weightings of its patients at once. N cases, P patients, C classes, R weightings.

A weighting says how often each patient counts: 0 leaves one out. A score of sums over cases is a score of sums over
patients, so all weightings are a few matrix products, however many slices a patient has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, did_you_mean
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.classes import BINS
from medssl.evaluation.metrics import CLASS_METRICS

__all__ = ["resampled_scores"]

Values = npt.NDArray[np.float64]
_PAIRS = 4_000_000


def resampled_scores(cases: ClassPredictions, metric: str, weight_RP: npt.ArrayLike) -> Values:
    """Return the metric in each resample, (R,): that of ``class_scores`` with every patient's cases repeated.

    NaN where it is not defined: a class that it needs was not drawn.

    Args:
        cases: The predictions.
        metric: One of `CLASS_METRICS`.
        weight_RP: How often each patient was drawn, >= 0; patients in sorted order.

    Raises:
        ConfigError: There is no such metric.
    """
    if metric not in CLASS_METRICS:
        raise ConfigError(f"There is no metric of classes '{metric}'. {did_you_mean(metric, CLASS_METRICS)}")
    weight = np.asarray(weight_RP, dtype=float)
    _, owner = np.unique(np.array(cases.patients), return_inverse=True)
    own_NP = np.eye(weight.shape[1])[owner]
    if metric == "auroc":
        return _over_classes(cases, weight, lambda score, positive: _auroc(score, positive, own_NP, weight))
    if metric == "auprc":
        return _over_classes(cases, weight, lambda score, positive: _precision(score, positive, weight[:, owner]))
    right = (cases.predicted == cases.truth).astype(float)
    if metric == "f1":
        return _f1(cases, weight[:, owner])
    if metric == "ece":
        return _calibration_error(cases, weight[:, owner])
    if metric == "balanced_accuracy":
        of_class_NC = np.eye(len(cases.classes))[cases.truth]
        found = weight @ (own_NP.T @ (of_class_NC * right[:, None]))
        return _mean_known(_ratio(found, weight @ (own_NP.T @ of_class_NC)))
    if metric == "accuracy":
        each = right
    else:
        each = ((cases.probability - np.eye(len(cases.classes))[cases.truth]) ** 2).sum(axis=1)
    return _ratio(weight @ (own_NP.T @ each), weight @ own_NP.sum(axis=0))


def _over_classes(
    cases: ClassPredictions, weight: Values, score_of: Callable[[Values, npt.NDArray[np.bool_]], Values]
) -> Values:
    """Return the second class's score of two classes, else the mean over the classes that were drawn."""
    if len(cases.classes) == 2:
        return score_of(cases.probability[:, 1], cases.truth == 1)
    each = [score_of(cases.probability[:, c], cases.truth == c) for c in np.unique(cases.truth)]
    return _mean_known(np.stack(each, axis=1)) if len(each) > 1 else np.full(len(weight), np.nan)


def _auroc(score: Values, positive: npt.NDArray[np.bool_], own_NP: Values, weight: Values) -> Values:
    """Return the share of pairs in order, from the pairs in order between every two patients."""
    high, low = score[positive], score[~positive]
    ordered_PP = np.zeros((own_NP.shape[1], own_NP.shape[1]))
    step = max(1, _PAIRS // max(1, len(low)))  # tens of thousands of slices make more pairs than memory holds
    for start in range(0, len(high), step):
        part = high[start : start + step]
        ordered = (part[:, None] > low[None, :]) + 0.5 * (part[:, None] == low[None, :])
        ordered_PP += own_NP[positive][start : start + step].T @ (ordered @ own_NP[~positive])
    positives, negatives = (weight @ own_NP[rows].sum(axis=0) for rows in (positive, ~positive))
    return _ratio(((weight @ ordered_PP) * weight).sum(axis=1), positives * negatives)


def _precision(score: Values, positive: npt.NDArray[np.bool_], weight_RN: Values) -> Values:
    """Return average precision; equal scores are one threshold."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    drawn = weight_RN[:, order]
    hits = np.cumsum(drawn * positive[order], axis=1)[:, ends]
    precision = np.nan_to_num(_ratio(hits, np.cumsum(drawn, axis=1)[:, ends]))
    gained = np.diff(hits, axis=1, prepend=0.0)
    found = _ratio((gained * precision).sum(axis=1), hits[:, -1])
    found[np.isclose(drawn.sum(axis=1), hits[:, -1])] = np.nan  # no negative case was drawn
    return found


def _f1(cases: ClassPredictions, weight_RN: Values) -> Values:
    """Return F1 of the second of two classes, else the mean over the classes that truth or prediction show."""
    eye = np.eye(len(cases.classes))
    true_NC, called_NC = eye[cases.truth], eye[cases.predicted]
    each_RC = _ratio(2 * (weight_RN @ (true_NC * called_NC)), weight_RN @ (true_NC + called_NC))
    return np.nan_to_num(each_RC[:, 1]) if len(cases.classes) == 2 else _mean_known(each_RC)


def _calibration_error(cases: ClassPredictions, weight_RN: Values) -> Values:
    confidence = cases.probability.max(axis=1)
    right = (cases.probability.argmax(axis=1) == cases.truth).astype(float)
    of_bin_NB = np.eye(BINS)[np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)]
    apart_RB = np.abs(weight_RN @ (of_bin_NB * (confidence - right)[:, None]))
    return _ratio(apart_RB.sum(axis=1), weight_RN.sum(axis=1))


def _ratio(above: Values, below: Values) -> Values:
    result = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _mean_known(values: Values) -> Values:
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(float))
