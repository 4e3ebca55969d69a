"""Probes: simple classifiers of frozen embeddings, of scans and of clouds. What is free is chosen on training patients.

The published protocols differ in one number, the SVM's C, which papers chose on the test set. Here a probe is a name
with everything fixed or chosen on the labelled part alone; those that end in a number are as papers have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.evaluation.calibration import probabilities
from medssl.evaluation.directions import directions

__all__ = ["C_GRID", "K_GRID", "PROBES", "SVM_GRID", "ProbeFit", "class_probe"]

Embeddings = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
K_GRID = (1, 3, 5, 10, 20)
SVM_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
RIDGE_GRID = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
NEIGHBOURS = 20
TEMPERATURE = 0.07
_FOLDS = 3
_TIE = 1e-6  # settles equal votes
_FLOOR = 1e-3  # a probability of 0 must not outweigh everything else in a mean of logarithms
_BY_FOLDS = f"by {_FOLDS}-fold cross-validation on the labelled training patients"
_SCORES = "probabilities are the softmax of its scores, not calibrated"

PROBES: dict[str, str] = {
    "linear": "logistic regression of standardised embeddings, L2 penalty, classes weighted alike; C of "
    f"{', '.join(f'{c:g}' for c in C_GRID)} {_BY_FOLDS}",
    "knn": "nearest neighbours by cosine similarity s, the training mean taken off, weighted exp(s / 0.07); k of "
    f"{', '.join(map(str, K_GRID))} {_BY_FOLDS}",
    "svm": f"linear SVM of standardised embeddings; C of {len(SVM_GRID)} from {SVM_GRID[0]:g} to {SVM_GRID[-1]:g} "
    f"{_BY_FOLDS}; {_SCORES}",
    "ridge": "ridge regression of standardised embeddings on each class against the rest, classes weighted alike; "
    f"penalty of {', '.join(f'{a:g}' for a in RIDGE_GRID)} {_BY_FOLDS}; {_SCORES}",
    "svm-c1": "linear SVM, C = 1 (scikit-learn's LinearSVC as it comes), of embeddings of length 1 once the training "
    f"mean is taken off; papers leave it in; {_SCORES}",
    "knn-20": f"{NEIGHBOURS} nearest neighbours by cosine similarity, the training mean taken off, each with one vote; "
    "ties go to the nearest",
    "linear-c1": "logistic regression of standardised embeddings, L2 penalty, C = 1",
}


@dataclass(frozen=True)
class ProbeFit:
    """What a probe says of the test part.

    Attributes:
        probability: (M, C); 0 of classes that the training part lacks.
        predicted: Classes, (M,).
        chosen: What was chosen on the training part: C, k or a penalty; NaN where the probe fixes all.
        folds: Folds that it was chosen by; 0 where there were too few patients, and the usual value was taken.
    """

    probability: Values
    predicted: Whole
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
    taken, each class counting alike; of equally good ones the first. An SVM's is that with the most right, of equally
    good ones the smallest. Folds are split by patient.

    Args:
        train_ND: Embeddings that are fitted.
        train_N: Their classes.
        patients: Whose each is.
        test_MD: Embeddings that are distinguished.
        how: One of `PROBES`.
        classes: Number of classes.
        seed: Of the folds.

    Reference:
        Wu et al., CVPR 2018, arXiv:1805.01978 (weighted neighbours, temperature 0.07).

    Raises:
        ConfigError: There is no such probe.
        DataError: Shapes do not fit, a value is not finite, or there is no training item.
    """
    if how not in PROBES:
        raise ConfigError(f"There is no probe '{how}'. {did_you_mean(how, PROBES)}")
    _check(train_ND, train_N, patients, test_MD)
    present, own = np.unique(train_N, return_inverse=True)
    grid, fit, by_hits = _RULES[how]
    value, folds, chosen = grid[0], 0, float("nan")
    if len(grid) > 1 and len(present) > 1:
        choose = _most_right if by_hits else _likeliest
        value, folds = choose(train_ND, own, patients, grid, fit, seed)
        chosen = float(value)
    probability = _fitted(fit, train_ND, train_N, test_MD, value, classes)
    # of two classes the second from one half on, as decisions are made elsewhere
    called = probability[:, 1] >= 0.5 if classes == 2 else probability.argmax(axis=1)
    return ProbeFit(probability, np.asarray(called, dtype=np.int64), chosen, folds)


_Fit = Callable[[Embeddings, Whole, Embeddings, float], Values]  # of classes that all occur: their probabilities


def _fitted(fit: _Fit, train: Embeddings, truth: Whole, test: Embeddings, value: float, classes: int) -> Values:
    """Return probabilities of all classes, 0 of those that do not occur; a single one is certain."""
    present, own = np.unique(truth, return_inverse=True)
    result = np.zeros((len(test), classes))
    result[:, present] = fit(train, own, test, value) if len(present) > 1 else 1.0
    return result


def _likeliest(
    train: Embeddings, truth: Whole, patients: Sequence[str], grid: Sequence[float], fit: _Fit, seed: int
) -> tuple[float, int]:
    """Return the value with the highest mean log-probability, and the folds; 1 where a class has one patient."""
    from sklearn.model_selection import StratifiedGroupKFold

    classes = int(truth.max()) + 1
    rarest = min(len({p for p, c in zip(patients, truth, strict=True) if c == own}) for own in range(classes))
    folds = min(_FOLDS, rarest)
    if folds < 2:
        return 1.0, 0
    negative_log_likelihood = np.zeros((len(grid), len(truth)))
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for own, held_out in splitter.split(train, truth, groups=list(patients)):
        for row, value in enumerate(grid):
            said = _fitted(fit, train[own], truth[own], train[held_out], value, classes)
            found = said[np.arange(len(held_out)), truth[held_out]]
            negative_log_likelihood[row, held_out] = -np.log(np.maximum(found, _FLOOR))
    of_class = np.stack([negative_log_likelihood[:, truth == c].mean(axis=1) for c in range(classes)])
    return grid[int(of_class.mean(axis=0).argmin())], folds


def _most_right(
    train: Embeddings, truth: Whole, patients: Sequence[str], grid: Sequence[float], fit: _Fit, seed: int
) -> tuple[float, int]:
    """Return the smallest of the values with the most right, and the folds; 1 where there are too few to hold out."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(_FOLDS, len(set(patients)), int(np.bincount(truth).max()))
    if folds < 2:
        return 1.0, 0
    hits = dict.fromkeys(grid, 0)
    classes = int(truth.max()) + 1
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    for own, held_out in splitter.split(train, truth, groups=list(patients)):
        if len(set(truth[own].tolist())) < 2:
            continue
        for value in grid:
            found = _fitted(fit, train[own], truth[own], train[held_out], value, classes).argmax(axis=1)
            hits[value] += int((found == truth[held_out]).sum())
    return min(value for value in grid if hits[value] == max(hits.values())), folds


def _standardised(train: Embeddings, test: Embeddings, width: float = 1.0) -> tuple[Embeddings, Embeddings]:
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0) * width
    return (train - mean) / spread, (test - mean) / spread


def _softmax(scores: Values) -> Values:
    """Return the softmax of scores; margins of two classes are one column."""
    return probabilities(np.stack([np.zeros(len(scores)), scores], axis=1) if scores.ndim == 1 else scores)


def _linear(train: Embeddings, truth: Whole, test: Embeddings, c: float) -> Values:
    return _logistic(train, truth, test, c, max_iter=1000, class_weight="balanced")


def _linear_c1(train: Embeddings, truth: Whole, test: Embeddings, c: float) -> Values:
    return _logistic(train, truth, test, c, max_iter=2000)


def _logistic(train: Embeddings, truth: Whole, test: Embeddings, c: float, **how: Any) -> Values:
    from sklearn.linear_model import LogisticRegression

    here, there = _standardised(train, test)
    found: Values = LogisticRegression(C=c, **how).fit(here, truth).predict_proba(there)
    return found


def _neighbours(train: Embeddings, truth: Whole, test: Embeddings, k: float) -> Values:
    train, test = directions(train, test)
    similarity = test @ train.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(int(k), len(train))]
    near = np.take_along_axis(similarity, nearest, axis=1)
    weight = np.exp((near - near[:, :1]) / TEMPERATURE)
    votes = (weight[..., None] * np.eye(int(truth.max()) + 1)[truth[nearest]]).sum(axis=1)
    result: Values = votes / votes.sum(axis=1, keepdims=True)
    return result


def _neighbours_20(train: Embeddings, truth: Whole, test: Embeddings, _: float) -> Values:
    """Return the share of each class among the neighbours; of classes with most votes the nearest's is above."""
    train, test = directions(train, test)
    nearest = np.argsort(-(test @ train.T), axis=1, kind="stable")[:, : min(NEIGHBOURS, len(train))]
    voted = truth[nearest]
    shares: Values = np.eye(int(truth.max()) + 1)[voted].mean(axis=1)
    most = np.take_along_axis(shares, voted, axis=1) == shares.max(axis=1, keepdims=True)
    first = np.take_along_axis(voted, most.argmax(axis=1)[:, None], axis=1)
    np.put_along_axis(shares, first, np.take_along_axis(shares, first, axis=1) + _TIE, axis=1)
    return shares / (1 + _TIE)


def _svm(train: Embeddings, truth: Whole, test: Embeddings, c: float) -> Values:
    return _margins(*_standardised(train, test, float(np.sqrt(train.shape[1]))), truth, c)  # rows of length about 1


def _svm_c1(train: Embeddings, truth: Whole, test: Embeddings, c: float) -> Values:
    here, there = directions(train, test)
    return _margins(here, there, truth, c)


def _margins(train: Embeddings, test: Embeddings, truth: Whole, c: float) -> Values:
    from sklearn.svm import LinearSVC

    # random_state: only where the dual is solved are coordinates visited in a random order
    return _softmax(LinearSVC(C=c, random_state=0, max_iter=5000).fit(train, truth).decision_function(test))


def _ridge(train: Embeddings, truth: Whole, test: Embeddings, penalty: float) -> Values:
    from sklearn.linear_model import RidgeClassifier

    here, there = _standardised(train, test)
    model = RidgeClassifier(alpha=penalty * train.shape[1], class_weight="balanced").fit(here, truth)
    return _softmax(model.decision_function(there))


# What is chosen from (the first where there is nothing to choose), how it is fitted, and whether by hits alone.
_RULES: dict[str, tuple[Sequence[float], _Fit, bool]] = {
    "linear": (C_GRID, _linear, False),
    "knn": (K_GRID, _neighbours, False),
    "svm": (SVM_GRID, _svm, True),
    "ridge": (RIDGE_GRID, _ridge, False),
    "svm-c1": ((1.0,), _svm_c1, True),
    "knn-20": ((NEIGHBOURS,), _neighbours_20, True),
    "linear-c1": ((1.0,), _linear_c1, True),
}


def _check(train: Embeddings, truth: Whole, patients: Sequence[str], test: Embeddings) -> None:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise DataError(f"Embeddings of shapes {train.shape} and {test.shape} do not fit each other.")
    if not len(train) == len(truth) == len(patients):
        raise DataError(
            f"A probe needs a class and a patient for each embedding. Got {len(train)} embeddings, {len(truth)} "
            f"classes and {len(patients)} patients."
        )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise DataError("Embeddings hold NaN or infinite values. Was the encoder's run stopped by a NaN?")
    if not len(train):
        raise DataError("A probe needs labelled items to fit, and there is none.")
