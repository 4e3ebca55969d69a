"""Probes with fixed rules: a simple classifier of frozen embeddings, fitted on one part and scored on another.

The published protocols differ in one number, the SVM's C, which papers chose on the test set. Here a protocol is a name
with everything fixed, and what is chosen is chosen on the training part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.evaluation.classes import balanced_accuracy
from medssl.evaluation.directions import directions
from medssl.randomness import numpy_generator

__all__ = ["PROBES", "SVM_GRID", "FewShot", "ProbeResult", "few_shot", "probe"]

Embeddings = npt.NDArray[np.floating]
SVM_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
NEIGHBOURS = 20
_FOLDS = 3
_SHOTS = 5  # counter that keeps the draws of few-shot tasks apart from others of the seed

PROBES: dict[str, str] = {
    "svm-c1": "linear SVM, C = 1 (scikit-learn's LinearSVC as it comes), of embeddings of length 1 once the training "
    "mean is taken off; papers leave it in",
    "svm-cv": f"linear SVM of standardised embeddings; C of {len(SVM_GRID)} from {SVM_GRID[0]:g} to {SVM_GRID[-1]:g} "
    f"by {_FOLDS}-fold cross-validation on the training part, split by patient",
    "knn": f"{NEIGHBOURS} nearest neighbours by cosine similarity, the training mean taken off, each with one vote; "
    "ties go to the nearest",
    "linear": "logistic regression of standardised embeddings, L2 penalty, C = 1",
}


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe scored.

    Attributes:
        protocol: One of `PROBES`.
        accuracy: Share of test items that were told right.
        balanced_accuracy: Mean over classes of the share found.
        chance: Share of the test part's most frequent class.
        right: For each test item whether it was told right, bool (N,).
        chosen: What was chosen on the training part, such as {"C": 0.1}; empty where the protocol fixes all.
        train: Items that were fitted.
        classes: Classes among them.
    """

    protocol: str
    accuracy: float
    balanced_accuracy: float
    chance: float
    right: npt.NDArray[np.bool_]
    chosen: dict[str, float]
    train: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Accuracies of few-shot tasks.

    Attributes:
        ways: Classes of a task.
        shots: Labelled items of each class.
        accuracies: One a draw.
        draws: How many tasks were drawn.
    """

    ways: int
    shots: int
    accuracies: tuple[float, ...]
    draws: int

    @property
    def mean(self) -> float:
        """Mean accuracy over the draws."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float:
        """Standard deviation over the draws (of a sample); 0 for a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


def probe(
    train_ND: Embeddings,
    train_classes: Sequence[Any],
    test_MD: Embeddings,
    test_classes: Sequence[Any],
    *,
    protocol: str = "svm-cv",
    train_patients: Sequence[str] | None = None,
    seed: int = 0,
) -> ProbeResult:
    """Fit a simple classifier on the training part and score it on the test part.

    Args:
        train_ND: Embeddings of the training part.
        train_classes: Their classes.
        test_MD: Embeddings of the test part.
        test_classes: Their classes; one that the training part lacks is always told wrong.
        protocol: One of `PROBES`.
        train_patients: Whose each training item is; folds are split by them. Everybody's own where left out.
        seed: Of the folds.

    Raises:
        ConfigError: There is no such protocol.
        DataError: Lengths differ, a value is not finite, or the training part has fewer than two classes.
    """
    if protocol not in PROBES:
        raise ConfigError(f"There is no probe '{protocol}'. {did_you_mean(protocol, PROBES)}")
    _, truth = _checked(train_ND, train_classes, test_MD, test_classes)
    fitted, wanted = truth[: len(train_classes)], truth[len(train_classes) :]
    patients = list(train_patients) if train_patients is not None else [str(row) for row in range(len(fitted))]
    train_UD, test_UD = directions(train_ND, test_MD)
    fit: dict[str, Callable[[], tuple[npt.NDArray[np.int64], dict[str, float]]]] = {
        "svm-c1": lambda: (_svm(train_UD, fitted, test_UD, 1.0), {}),
        "svm-cv": lambda: _svm_cv(train_ND, fitted, test_MD, patients, seed),
        "knn": lambda: (_neighbours(train_UD, fitted, test_UD, NEIGHBOURS), {}),
        "linear": lambda: (_logistic(train_ND, fitted, test_MD), {}),
    }
    predicted, chosen = fit[protocol]()
    right = predicted == wanted
    return ProbeResult(
        protocol=protocol,
        accuracy=float(right.mean()),
        balanced_accuracy=balanced_accuracy(wanted, predicted),
        chance=float(np.bincount(wanted).max() / len(wanted)),
        right=right,
        chosen=chosen,
        train=len(fitted),
        classes=len(set(fitted.tolist())),
    )


def few_shot(
    train_ND: Embeddings,
    train_classes: Sequence[Any],
    test_MD: Embeddings,
    test_classes: Sequence[Any],
    *,
    ways: int = 5,
    shots: int = 10,
    queries: int = 20,
    draws: int = 10,
    seed: int = 0,
) -> FewShot:
    """Score tasks of a few classes with a few labelled items each: a linear SVM (C = 1) of frozen embeddings.

    The mean of all training embeddings is taken off before rows are scaled to length 1; see `directions`.

    A draw takes ``ways`` classes, ``shots`` training items of each, and up to ``queries`` test items of each. It is a
    pure function of (seed, draw, the classes), so that all encoders meet the same tasks.

    Args:
        train_ND: Embeddings that shots are drawn from.
        train_classes: Their classes.
        test_MD: Embeddings that queries are drawn from.
        test_classes: Their classes.
        ways: Classes of a task, 2 or more.
        shots: Labelled items of each, 1 or more.
        queries: Most test items of each.
        draws: Tasks.
        seed: Names the draws.

    Raises:
        DataError: Too few classes have so many items.

    Reference:
        Sharma, Kaul, "Self-supervised few-shot learning on point clouds", NeurIPS 2020, arXiv:2009.14168 (the tasks).
    """
    names, truth = _checked(train_ND, train_classes, test_MD, test_classes)
    fitted, wanted = truth[: len(train_classes)], truth[len(train_classes) :]
    able = [number for number in range(len(names)) if (fitted == number).sum() >= shots and (wanted == number).any()]
    if ways < 2 or shots < 1 or draws < 1 or len(able) < ways:
        raise DataError(
            f"{ways} classes with {shots} labelled items each were asked for; so many and a test item: "
            f"{len(able)} of {len(names)}. Ask for fewer ways (2 or more) or shots (1 or more)."
        )
    train_UD, test_UD = directions(train_ND, test_MD)
    accuracies = []
    for draw in range(draws):
        generator = numpy_generator(seed, ways, shots, draw, _SHOTS)
        chosen = generator.choice(able, ways, replace=False)
        given = np.concatenate([generator.choice(np.flatnonzero(fitted == c), shots, replace=False) for c in chosen])
        asked = np.concatenate(
            [
                generator.choice(pool, min(queries, len(pool)), replace=False)
                for pool in (np.flatnonzero(wanted == c) for c in chosen)
            ]
        )
        predicted = _svm(train_UD[given], fitted[given], test_UD[asked], 1.0)
        accuracies.append(float((predicted == wanted[asked]).mean()))
    return FewShot(ways=ways, shots=shots, accuracies=tuple(accuracies), draws=draws)


def _checked(
    train: Embeddings, train_classes: Sequence[Any], test: Embeddings, test_classes: Sequence[Any]
) -> tuple[list[str], npt.NDArray[np.int64]]:
    if train.ndim != 2 or test.ndim != 2 or train.shape[1:] != test.shape[1:]:
        raise DataError(f"Embeddings of shapes {train.shape} and {test.shape} do not fit each other.")
    if len(train) != len(train_classes) or len(test) != len(test_classes):
        raise DataError(
            f"A probe needs one class for each embedding. Got {len(train)} and {len(train_classes)} to fit, "
            f"{len(test)} and {len(test_classes)} to score."
        )
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise DataError("Embeddings hold NaN or infinite values. Was the encoder's run stopped by a NaN?")
    if len({str(name) for name in train_classes}) < 2 or not len(test):
        raise DataError("A probe needs two classes or more to fit, and an item or more to score.")
    names, numbers = np.unique([str(name) for name in [*train_classes, *test_classes]], return_inverse=True)
    return names.tolist(), numbers.astype(np.int64)


def _svm(train: Embeddings, classes: npt.NDArray[np.int64], test: Embeddings, c: float) -> npt.NDArray[np.int64]:
    from sklearn.svm import LinearSVC

    # random_state: only where the dual is solved are coordinates visited in a random order
    model = LinearSVC(C=c, random_state=0, max_iter=5000).fit(train, classes)
    return np.asarray(model.predict(test), dtype=np.int64)


def _standardised(train: Embeddings, test: Embeddings) -> tuple[Embeddings, Embeddings]:
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0) * np.sqrt(train.shape[1])  # rows of length about 1
    return (train - mean) / spread, (test - mean) / spread


def _svm_cv(
    train: Embeddings, classes: npt.NDArray[np.int64], test: Embeddings, patients: Sequence[str], seed: int
) -> tuple[npt.NDArray[np.int64], dict[str, float]]:
    """Choose C on the training part, the smallest of equally good ones, and predict with it."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(_FOLDS, len(set(patients)))
    scores = dict.fromkeys(SVM_GRID, 0.0)
    if folds >= 2:
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        for fit, held_out in splitter.split(train, classes, groups=list(patients)):
            if len(set(classes[fit].tolist())) < 2:
                continue
            here, there = _standardised(train[fit], train[held_out])
            for c in SVM_GRID:
                scores[c] += float((_svm(here, classes[fit], there, c) == classes[held_out]).sum())
        best = max(scores.values())
        chosen = min(c for c in SVM_GRID if scores[c] == best)
    else:
        chosen = 1.0
    here, there = _standardised(train, test)
    return _svm(here, classes, there, chosen), {"C": chosen}


def _neighbours(
    train: Embeddings, classes: npt.NDArray[np.int64], test: Embeddings, count: int
) -> npt.NDArray[np.int64]:
    similarity = test @ train.T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(train))]
    voted = classes[nearest]
    predicted = np.empty(len(test), dtype=np.int64)
    for row, votes in enumerate(voted):
        counts = np.bincount(votes)
        predicted[row] = votes[np.argmax(counts[votes] == counts.max())]
    return predicted


def _logistic(train: Embeddings, classes: npt.NDArray[np.int64], test: Embeddings) -> npt.NDArray[np.int64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000)).fit(train, classes)
    return np.asarray(model.predict(test), dtype=np.int64)
