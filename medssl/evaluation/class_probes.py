"""Probes that give probabilities: linear and nearest neighbours, what is free chosen on training patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.evaluation.directions import directions

__all__ = ["CLASS_PROBES", "C_GRID", "K_GRID", "ProbeFit", "class_probe"]

Embeddings = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
K_GRID = (1, 3, 5, 10, 20)
TEMPERATURE = 0.07
_FOLDS = 3
_FLOOR = 1e-3  # a probability of 0 must not outweigh everything else in a mean of logarithms

CLASS_PROBES: dict[str, str] = {
    "linear": "logistic regression of standardised embeddings, L2 penalty, classes weighted alike; C of "
    f"{', '.join(f'{c:g}' for c in C_GRID)} by {_FOLDS}-fold cross-validation on the labelled training patients",
    "knn": "nearest neighbours by cosine similarity s, the training mean taken off, weighted exp(s / 0.07); k of "
    f"{', '.join(map(str, K_GRID))} by {_FOLDS}-fold cross-validation on the labelled training patients",
}


@dataclass(frozen=True)
class ProbeFit:
    """What a probe says of the test part.

    Attributes:
        probability: (M, C).
        chosen: What was chosen on the training part: C or k.
        folds: Folds that it was chosen by; 0 where there were too few patients, and 1 (or k = 1) was taken.
    """

    probability: Values
    chosen: float
    folds: int


def class_probe(
    train_ND: Embeddings,
    train_N: Whole,
    patients: Sequence[str],
    test_MD: Embeddings,
    *,
    how: str,
    classes: int,
    seed: int = 0,
) -> ProbeFit:
    """Fit a probe on labelled embeddings and return its probabilities for others.

    Of the grid the value with the highest mean log-probability of the true class over held-out training patients is
    taken, each class counting alike; of equally good ones the first. Folds are split by patient.

    Args:
        train_ND: Embeddings that are fitted.
        train_N: Their classes, of which every one occurs.
        patients: Whose each is.
        test_MD: Embeddings that are told apart.
        how: One of `CLASS_PROBES`.
        classes: Number of classes.
        seed: Of the folds.

    Reference:
        Wu et al., CVPR 2018, arXiv:1805.01978 (weighted neighbours, temperature 0.07).

    Raises:
        ConfigError: There is no such probe.
        DataError: Shapes do not fit, a value is not finite, or a class has no training item.
    """
    if how not in CLASS_PROBES:
        raise ConfigError(f"There is no probe '{how}'. {did_you_mean(how, CLASS_PROBES)}")
    _check(train_ND, train_N, patients, test_MD, classes)
    grid, fit = (C_GRID, _linear) if how == "linear" else (K_GRID, _neighbours)
    usual = grid.index(1.0)
    chosen, folds = _chosen(train_ND, train_N, patients, grid, fit, classes, seed, usual)
    return ProbeFit(fit(train_ND, train_N, test_MD, chosen, classes), chosen, folds)


_Fit = Callable[[Embeddings, Whole, Embeddings, float, int], Values]


def _chosen(
    train: Embeddings,
    truth: Whole,
    patients: Sequence[str],
    grid: Sequence[float],
    fit: _Fit,
    classes: int,
    seed: int,
    usual: int,
) -> tuple[float, int]:
    from sklearn.model_selection import StratifiedGroupKFold

    rarest = min(len({p for p, c in zip(patients, truth, strict=True) if c == own}) for own in range(classes))
    folds = min(_FOLDS, rarest)
    if folds < 2:
        return grid[usual], 0
    negative_log_likelihood = np.zeros((len(grid), len(truth)))
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for own, held_out in splitter.split(train, truth, groups=list(patients)):
        for row, value in enumerate(grid):
            found = fit(train[own], truth[own], train[held_out], value, classes)[
                np.arange(len(held_out)), truth[held_out]
            ]
            negative_log_likelihood[row, held_out] = -np.log(np.maximum(found, _FLOOR))
    of_class = np.stack([negative_log_likelihood[:, truth == c].mean(axis=1) for c in range(classes)])
    return grid[int(of_class.mean(axis=0).argmin())], folds


def _linear(train: Embeddings, truth: Whole, test: Embeddings, c: float, classes: int) -> Values:
    from sklearn.linear_model import LogisticRegression

    result = np.zeros((len(test), classes))
    present = np.unique(truth)
    if len(present) == 1:
        result[:, present[0]] = 1.0
        return result
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0)
    model = LogisticRegression(C=c, max_iter=1000, class_weight="balanced")
    model.fit((train - mean) / spread, truth)
    result[:, present] = model.predict_proba((test - mean) / spread)
    return result


def _neighbours(train: Embeddings, truth: Whole, test: Embeddings, k: float, classes: int) -> Values:
    train, test = directions(train, test)
    similarity = test @ train.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(int(k), len(train))]
    near = np.take_along_axis(similarity, nearest, axis=1)
    weight = np.exp((near - near[:, :1]) / TEMPERATURE)
    votes = (weight[..., None] * np.eye(classes)[truth[nearest]]).sum(axis=1)
    result: Values = votes / votes.sum(axis=1, keepdims=True)
    return result


def _check(train: Embeddings, truth: Whole, patients: Sequence[str], test: Embeddings, classes: int) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise DataError(f"Embeddings of shapes {train.shape} and {test.shape} do not fit each other.")
    if not len(train) == len(truth) == len(patients):
        raise DataError(
            f"A probe needs a class and a patient for each embedding. Got {len(train)} embeddings, {len(truth)} "
            f"classes and {len(patients)} patients."
        )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise DataError("Embeddings hold NaN or infinite values. Was the encoder's run stopped by a NaN?")
    lacking = sorted(set(range(classes)) - set(truth.tolist()))
    if lacking:
        raise DataError(f"The labelled part lacks the classes number {', '.join(map(str, lacking))} of {classes}.")
