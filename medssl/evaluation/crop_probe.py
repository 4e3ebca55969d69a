"""The crop probe: how well features of small crops tell where a crop lies, and how much of each structure it holds.

A ridge regression on the crops of some patients, its penalty chosen there by leaving each patient's crops out in turn,
and R2 on crops of others: 1 for all that there is to know, 0 for naming the mean. It costs about what embedding the
crops costs, so it can be asked again and again while a network trains; labels are needed for content alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError

__all__ = ["PENALTIES", "ridge_r2"]

Values = npt.NDArray[np.floating]
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # a crop, of features of length near 1
_FOLDS = 5


def ridge_r2(train_ND: Values, targets_NT: Values, patients: Sequence[str], test_MD: Values, truth_MT: Values) -> float:
    """Return R2 on the test crops, the mean over those targets that vary; below 0 is worse than naming the mean.

    Channels are standardised and divided by the root of their number. The mean that R2 goes by is the training crops'.

    Args:
        train_ND: Features of the crops that are fitted.
        targets_NT: What is asked of each.
        patients: Whose each is.
        test_MD: Features of crops of other patients.
        truth_MT: What is true of them.

    Raises:
        DataError: Shapes do not fit, or a value is not finite.
    """
    if train_ND.shape[1:] != test_MD.shape[1:] or len(train_ND) != len(targets_NT) or len(test_MD) != len(truth_MT):
        raise DataError(
            f"A crop probe needs features and a target for each crop. Got {train_ND.shape} and {targets_NT.shape}, "
            f"{test_MD.shape} and {truth_MT.shape}."
        )
    if not all(np.isfinite(part).all() for part in (train_ND, targets_NT, test_MD, truth_MT)):
        raise DataError("Features or targets of crops hold NaN or infinite values.")
    told = (targets_NT.std(axis=0) > 1e-9) & (truth_MT.std(axis=0) > 1e-9)
    if not told.any():
        return 0.0
    mean, spread = train_ND.mean(axis=0), train_ND.std(axis=0)
    over = np.where(spread > 1e-8, spread, np.inf) * np.sqrt(train_ND.shape[1])
    here, there = ((part - mean) / over for part in (train_ND.astype(np.float64), test_MD.astype(np.float64)))
    wanted = targets_NT[:, told].astype(np.float64)
    centre, width = wanted.mean(axis=0), wanted.std(axis=0)
    wanted = (wanted - centre) / width
    owner = np.unique(list(patients), return_inverse=True)[1]
    fold = owner % min(_FOLDS, int(owner.max()) + 1)
    missed = np.zeros(len(PENALTIES))
    for number in range(int(fold.max()) + 1) if fold.max() else ():
        own = fold != number
        for row, said in enumerate(_ridge(here[own], wanted[own], here[~own])):
            missed[row] += ((said - wanted[~own]) ** 2).sum()
    best = int(missed.argmin()) if fold.max() else PENALTIES.index(1.0)
    said = _ridge(here, wanted, there)[best]
    asked = (truth_MT[:, told] - centre) / width
    return float((1 - ((asked - said) ** 2).sum(axis=0) / (asked**2).sum(axis=0)).mean())


def _ridge(train: Values, wanted: Values, test: Values) -> list[Values]:
    """Return what a ridge regression says of the test part, for each penalty: from the kernel, as crops are few."""
    mean = wanted.mean(axis=0)
    values, vectors = np.linalg.eigh(train @ train.T)
    across, turned = test @ train.T @ vectors, vectors.T @ (wanted - mean)
    return [across @ (turned / (np.maximum(values, 0) + penalty)[:, None]) + mean for penalty in PENALTIES]
