"""Scores of a classifier under many resamples of its patients at once. N cases, P patients, C classes, R resamples.

A resample says how often each patient was drawn. A score of sums over cases is a score of sums over patients, so all
resamples are a few matrix products, however many slices a patient has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, did_you_mean
from medssl.evaluation.class_summary import ClassPredictions

__all__ = ["RESAMPLED_METRICS", "resampled_scores"]

Values = npt.NDArray[np.float64]
RESAMPLED_METRICS = ("auroc", "auprc", "balanced_accuracy", "accuracy", "brier")


def resampled_scores(cases: ClassPredictions, metric: str, weight_RP: npt.ArrayLike) -> Values:
    """Return the metric in each resample, (R,): that of ``class_scores`` with every patient's cases repeated.

    NaN where it is not defined: a class that it needs was not drawn.

    Args:
        cases: The predictions.
        metric: One of `RESAMPLED_METRICS`.
        weight_RP: How often each patient was drawn, >= 0; patients in sorted order.

    Raises:
        ConfigError: There is no such metric.
    """
    if metric not in RESAMPLED_METRICS:
        raise ConfigError(f"There is no metric of classes '{metric}'. {did_you_mean(metric, RESAMPLED_METRICS)}")
    weight = np.asarray(weight_RP, dtype=float)
    _, owner = np.unique(np.array(cases.patients), return_inverse=True)
    own_NP = np.eye(weight.shape[1])[owner]
    if metric == "auroc":
        return _over_classes(cases, weight, lambda score, positive: _auroc(score, positive, own_NP, weight))
    if metric == "auprc":
        return _over_classes(cases, weight, lambda score, positive: _precision(score, positive, weight[:, owner]))
    right = (cases.predicted == cases.truth).astype(float)
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
    above = score[positive][:, None] - score[~positive][None, :]
    ordered = (above > 0) + 0.5 * (above == 0)
    ordered_PP = own_NP[positive].T @ ordered @ own_NP[~positive]
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


def _ratio(above: Values, below: Values) -> Values:
    result = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _mean_known(values: Values) -> Values:
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1).astype(float))
