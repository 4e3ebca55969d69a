"""What frozen embeddings already know: nearest neighbours and a linear probe, split by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError

__all__ = ["ProbeScore", "effective_rank", "feature_spread", "knn_probe", "linear_probe"]

Embeddings = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """How well a class can be read off embeddings.

    Attributes:
        accuracy: Share of items whose class was predicted right.
        balanced_accuracy: Mean over classes of the share found: 1 / classes by chance, however rare a class is.
        chance: Share of the most frequent class: the accuracy of always guessing it.
        items: Items that were predicted.
        classes: Classes among them.
    """

    accuracy: float
    balanced_accuracy: float
    chance: float
    items: int
    classes: int


def knn_probe(
    embeddings_BD: Embeddings, labels: Sequence[str | int], patients: Sequence[str], *, neighbours: int = 5
) -> ProbeScore:
    """Predict each item's class from its nearest neighbours among the items of all other patients.

    Cosine similarity; every neighbour has one vote, and of classes with as many votes the one with the nearest voter
    wins. Leaving the whole patient out keeps a second scan of the same body from answering.

    Args:
        embeddings_BD: Embeddings, shape (B, D), any scale.
        labels: Class of each item.
        patients: Patient of each item.
        neighbours: Number of voters, >= 1; fewer where fewer items are left.

    Raises:
        DataError: If the lengths differ, a value is not finite, or all items are of one patient.
    """
    _check(embeddings_BD, labels, patients)
    if neighbours < 1:
        raise DataError(f"A nearest-neighbour probe needs at least one neighbour. Got {neighbours}.")
    unit = embeddings_BD / np.maximum(np.linalg.norm(embeddings_BD, axis=1, keepdims=True), 1e-12)
    classes, truth = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    predicted = np.empty_like(truth)
    for item in range(len(truth)):
        others = np.flatnonzero(owner != owner[item])
        similarity = unit[others] @ unit[item]
        nearest = others[np.argsort(-similarity, kind="stable")[:neighbours]]
        votes = np.bincount(truth[nearest], minlength=len(classes))
        winners = votes[truth[nearest]] == votes.max()
        predicted[item] = truth[nearest[np.argmax(winners)]]
    return _score(truth, predicted)


def linear_probe(
    embeddings_BD: Embeddings, labels: Sequence[str | int], patients: Sequence[str], *, folds: int = 5, c: float = 1.0
) -> ProbeScore:
    """Predict each item's class with a logistic regression fitted on other patients, by cross-validation.

    Features are standardised on the fitting patients; L2 penalty with strength 1 / ``c``; folds are split by patient
    and stratified by class as far as patients allow.

    Args:
        embeddings_BD: Embeddings, shape (B, D).
        labels: Class of each item.
        patients: Patient of each item.
        folds: Number of folds, >= 2; fewer where there are fewer patients.
        c: Inverse strength of the penalty, > 0.

    Raises:
        DataError: If the lengths differ, a value is not finite, or there are fewer than two patients or classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(embeddings_BD, labels, patients)
    classes, truth = np.unique(np.asarray([str(label) for label in labels]), return_inverse=True)
    if len(classes) < 2:
        raise DataError("A linear probe needs items of at least two classes. Found one.")
    num_folds = min(folds, len(set(patients)), max(2, int(np.bincount(truth).min())))
    predicted = np.empty_like(truth)
    splitter = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=0)
    for fit, held_out in splitter.split(embeddings_BD, truth, groups=list(patients)):
        if len(set(truth[fit].tolist())) < 2:
            predicted[held_out] = truth[fit][0]
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
        predicted[held_out] = model.fit(embeddings_BD[fit], truth[fit]).predict(embeddings_BD[held_out])
    return _score(truth, predicted)


def effective_rank(embeddings_BD: Embeddings) -> float:
    """Return how many directions centred embeddings really use: exp(entropy of the normalised singular values).

    Between 1 (one direction; 0 where all embeddings are equal) and min(B - 1, D).

    Args:
        embeddings_BD: Embeddings, shape (B, D), B >= 2.

    Reference:
        Roy and Vetterli, "The effective rank", EUSIPCO 2007; Garrido et al., "RankMe", ICML 2023, arXiv:2210.02885
        (there without centring).
    """
    import torch

    from medssl.objectives import diagnostics

    values = np.asarray(embeddings_BD, dtype=np.float64)
    if np.ptp(values, axis=0).max() <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return 0.0
    return float(diagnostics.effective_rank(torch.from_numpy(values)))


def feature_spread(embeddings_BD: Embeddings) -> float:
    """Return the spread of L2-normalised embeddings: sqrt(D) * mean over dimensions of their standard deviation.

    0 where all point the same way (collapse), about 1 where they are even on the sphere (Chen and He, SimSiam, CVPR
    2021, arXiv:2011.10566, section 4.1).

    Args:
        embeddings_BD: Embeddings, shape (B, D).
    """
    import torch

    from medssl.objectives import diagnostics

    return float(diagnostics.feature_spread(torch.from_numpy(np.asarray(embeddings_BD, dtype=np.float64))))


def _check(embeddings_BD: Embeddings, labels: Sequence[str | int], patients: Sequence[str]) -> None:
    if embeddings_BD.ndim != 2 or not len(embeddings_BD) == len(labels) == len(patients):
        raise DataError(
            f"A probe needs one label and one patient for each embedding. Got embeddings of shape "
            f"{embeddings_BD.shape}, {len(labels)} labels and {len(patients)} patients."
        )
    if not np.isfinite(embeddings_BD).all():
        raise DataError("Embeddings hold NaN or infinite values. Was the encoder's run stopped by a NaN?")
    if len(set(patients)) < 2:
        raise DataError("A probe leaves patients out, so it needs at least two. Found one.")


def _score(truth: npt.NDArray[np.intp], predicted: npt.NDArray[np.intp]) -> ProbeScore:
    right = truth == predicted
    counts = np.bincount(truth)
    recall = np.bincount(truth, weights=right.astype(float)) / counts
    return ProbeScore(
        accuracy=float(right.mean()),
        balanced_accuracy=float(recall.mean()),
        chance=float(counts.max() / len(truth)),
        items=len(truth),
        classes=len(counts),
    )
