"""The dense probe: one linear classifier of the features at each place, fitted on the places of few labelled cases.

Three choices decide what such a probe shows; on small U-Nets they were worth more than the method was:

* Blocks (the levels of a pyramid, hand-made features, position) are standardised channel by channel and divided by the
  root of their number of channels before one L2 penalty, so that a level of 256 channels weighs what one of 8 does.
* Places are drawn by structure, so the fitted prior is not that of cases. The bias towards foreground is the one with
  the highest Dice on the labelled cases, each predicted by a fit without its patient, not a correction of the prior.
* Penalty and bias are chosen together, on the labelled patients alone.

The classifier is a multinomial logistic regression. Dice of drawn places weighs each by how many it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError

__all__ = [
    "PENALTIES",
    "DenseFit",
    "Overlaps",
    "Scales",
    "best_bias",
    "dense_probe",
    "drawn_places",
    "legendre",
    "overlaps",
]

Values = npt.NDArray[np.floating]
Whole = npt.NDArray[np.int64]
Names = Sequence[str] | npt.NDArray[np.str_]
PENALTIES = (1e-2, 1e-3, 1e-4)  # over the mean loss of a place
_USUAL = 1e-3  # where one patient is labelled and nothing can be held out
_FOLDS = 3
_BIASES = 61
_NEVER = -1e9  # the logit of a class that a fit has not seen
_DEGREE = 4


def legendre(position_P3: Values, degree: int = _DEGREE) -> npt.NDArray[np.float32]:
    """Return what a linear probe needs to outline a place: products of Legendre polynomials of the coordinates.

    Args:
        position_P3: In [-1, 1]; what lies beyond is clipped.
        degree: Largest total degree; 4 gives 34 features, the constant left out.
    """
    powers = np.polynomial.legendre.legvander(np.clip(position_P3, -1, 1), degree)  # (P, 3, degree + 1)
    found = [
        powers[:, 0, a] * powers[:, 1, b] * powers[:, 2, c]
        for a in range(degree + 1)
        for b in range(degree + 1 - a)
        for c in range(degree + 1 - a - b)
        if a + b + c
    ]
    return np.stack(found, axis=1).astype(np.float32)


def drawn_places(labels_P: Whole, count: int, generator: np.random.Generator) -> tuple[Whole, npt.NDArray[np.float64]]:
    """Draw places of a sample by structure: half of them background, the rest shared by the structures that it shows.

    Args:
        labels_P: Structure of each place; -1 is never drawn.
        count: Places wanted; fewer where there are not enough.
        generator: Of the draw.

    Returns:
        Rows, rising, and how many places of the same structure each stands for.
    """
    shown = [int(number) for number in np.unique(labels_P) if number > 0]
    wanted = dict.fromkeys(shown, max(1, count // (2 * len(shown)))) if shown else {}
    wanted[0] = count - sum(wanted.values()) if shown else count
    rows, weights = [], []
    for number, some in wanted.items():
        there = np.flatnonzero(labels_P == number)
        if not len(there):
            continue
        chosen = there if len(there) <= some else generator.choice(there, some, replace=False)
        rows.append(chosen)
        weights.append(np.full(len(chosen), len(there) / len(chosen)))
    if not rows:
        return np.zeros(0, np.int64), np.zeros(0)
    every, weight = np.concatenate(rows), np.concatenate(weights)
    order = np.argsort(every)
    return every[order].astype(np.int64), weight[order]


@dataclass(frozen=True)
class Scales:
    """Of each block the channels' means, and what they are divided by: deviation times the root of their number.

    Attributes:
        mean: (D,), the blocks one after the other.
        over: (D,).
    """

    mean: Values
    over: Values

    @classmethod
    def of(cls, blocks: Sequence[Values]) -> Scales:
        """Return the scales of blocks, (N, C) each; a channel that does not vary is left at 0."""
        mean = [block.mean(axis=0, dtype=np.float64) for block in blocks]
        over = []
        for block in blocks:
            spread = block.std(axis=0, dtype=np.float64)
            over.append(np.where(spread > 1e-8, spread, np.inf) * np.sqrt(block.shape[1]))
        return cls(np.concatenate(mean), np.concatenate(over))

    def applied(self, blocks: Sequence[Values]) -> Values:
        """Return the blocks side by side, scaled, float32 (N, D)."""
        found: Values = ((np.concatenate(blocks, axis=1) - self.mean) / self.over).astype(np.float32)
        return found


@dataclass(frozen=True)
class DenseFit:
    """A fitted probe: places are of the class with the largest ``features @ weight + offset``.

    Attributes:
        weight: (D, K + 1), of features as they come, block after block; the first class is the background.
        offset: (K + 1,), the bias towards foreground in it.
        penalty: What was chosen.
        bias: What was chosen, added to the logits of all structures.
        dice: Of the labelled cases, each predicted without its patient where there are two or more; what was maximised.
        folds: That it was chosen by; 0 where one patient is labelled.
    """

    weight: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]
    penalty: float
    bias: float
    dice: float
    folds: int

    @property
    def chosen(self) -> dict[str, float]:
        """What was chosen, for a summary."""
        return {"penalty": self.penalty, "bias": self.bias, "dice": self.dice, "folds": self.folds}


def dense_probe(
    blocks: Sequence[Values],
    truth: Whole,
    stands_for: Values,
    cases: Names,
    patients: Names,
    *,
    structures: int,
    seed: int = 0,
) -> DenseFit:
    """Fit the probe on drawn places of labelled cases; N of them.

    Args:
        blocks: Features, (N, C) each.
        truth: 0 for background, 1 to K for structures, (N,).
        stands_for: How many places of its case each stands for, (N,).
        cases: The case of each.
        patients: Its patient: folds are split by patient.
        structures: K.
        seed: Of the folds.

    Raises:
        DataError: Shapes do not fit, a feature is not finite, or no place shows a structure.
    """
    _check(blocks, truth, stands_for, cases, patients)
    scales = Scales.of(blocks)
    features = scales.applied(blocks)
    case = np.unique(list(cases), return_inverse=True)[1]
    owner = np.unique(list(patients), return_inverse=True)[1]
    folds = min(_FOLDS, int(owner.max()) + 1)
    grid: Sequence[float] = PENALTIES if folds > 1 else (_USUAL,)
    fold = np.random.default_rng(seed).permutation(int(owner.max()) + 1)[owner] % folds
    logits = [np.full((len(truth), structures + 1), _NEVER, np.float32) for _ in grid]
    # from the strongest penalty on, each fit starting where the last one ended
    for number in range(folds if folds > 1 else 0):
        own, start = fold != number, None
        for penalty, found in zip(grid, logits, strict=True):
            start = _fitted(features[own], truth[own], penalty, structures, start)
            found[~own] = features[~own] @ start[0] + start[1]
    if folds < 2:
        weight, offset = _fitted(features, truth, _USUAL, structures, None)
        logits[0][:] = features @ weight + offset
    chosen = [best_bias(found, truth, stands_for, case, structures=structures) for found in logits]
    best = int(np.argmax([dice for _, dice in chosen]))
    bias, dice = chosen[best]
    if folds > 1:
        weight, offset = _fitted(features, truth, grid[best], structures, None)
    own = weight / scales.over[:, None]
    shifted = offset - scales.mean @ own + np.array([0.0, *[bias] * structures])
    return DenseFit(
        own.astype(np.float32), shifted.astype(np.float32), grid[best], bias, dice, folds if folds > 1 else 0
    )


def best_bias(logits: Values, truth: Whole, stands_for: Values, case: Whole, *, structures: int) -> tuple[float, float]:
    """Return the bias towards foreground with the highest mean Dice of cases, and that Dice; of equals the middle one.

    Args:
        logits: (N, K + 1), the background first.
        truth: (N,).
        stands_for: (N,).
        case: Number of the case of each, (N,).
        structures: K.
    """
    named = logits[:, 1:].argmax(axis=1) + 1
    margin = np.clip(logits[:, 0] - logits[:, 1:].max(axis=1), -50, 50).astype(np.float64)  # foreground from here on
    tried = np.unique(np.quantile(margin, np.linspace(0, 1, min(_BIASES, len(margin))), method="nearest"))
    between = np.concatenate([tried[:1] - 1, (tried[1:] + tried[:-1]) / 2, tried[-1:] + 1])
    scores = np.array(
        [
            overlaps(np.where(margin < bias, named, 0), truth, stands_for, case, structures=structures).mean_dice()
            for bias in between
        ]
    )
    best = np.flatnonzero(scores >= np.nanmax(scores) - 1e-12)
    middle = int(best[len(best) // 2])
    return float(between[middle]), float(scores[middle])


@dataclass(frozen=True)
class Overlaps:
    """Places of cases that truth, prediction and both show; M cases.

    Attributes:
        both: (M, K).
        truth: (M, K).
        predicted: (M, K).
    """

    both: Values
    truth: Values
    predicted: Values

    def dice(self) -> Values:
        """Return 2 both / (truth + predicted), (M, K); NaN where neither shows the structure."""
        size = self.truth + self.predicted
        return np.where(size > 0, 2 * self.both / np.where(size > 0, size, 1), np.nan)

    def mean_dice(self) -> float:
        """Return the mean over cases of the mean over the structures that they show."""
        dice = self.dice()
        known = np.isfinite(dice)
        shown = known.any(axis=1)
        if not shown.any():
            return float("nan")
        sums = np.where(known, dice, 0).sum(axis=1)[shown] / known.sum(axis=1)[shown]
        return float(sums.mean())


def overlaps(
    predicted: Whole, truth: Whole, stands_for: Values, case: Whole, *, structures: int, cases: int | None = None
) -> Overlaps:
    """Count the overlap of prediction and truth in each case; see `Overlaps`.

    Args:
        predicted: (N,), 0 for background.
        truth: (N,); places of -1 are left out.
        stands_for: (N,).
        case: (N,).
        structures: K.
        cases: M; None: as many as ``case`` names.
    """
    width = structures + 1
    count = cases if cases is not None else int(case.max()) + 1
    known = truth >= 0

    def counted(of: Whole, which: npt.NDArray[np.bool_]) -> Values:
        use = known & which
        sums = np.bincount(case[use] * width + of[use], stands_for[use], minlength=count * width)
        return np.asarray(sums.reshape(count, width)[:, 1:])

    every = np.ones(len(truth), bool)
    return Overlaps(counted(truth, predicted == truth), counted(truth, every), counted(predicted, every))


def dice_rows(
    found: Overlaps, items: Sequence[tuple[str, str]], names: Sequence[str], *, arm: str, labels: int, draw: int
) -> list[tuple[object, ...]]:
    """Return the Dice of every item and structure as rows of a `ScoreTable`, with a note on what is empty.

    Args:
        found: Of M items and K structures.
        items: Id and patient of each.
        names: The structures.
        arm: The arm.
        labels: Number of labelled patients.
        draw: Their draw.
    """
    dice, rows = found.dice(), list[tuple[object, ...]]()
    for row, (item, patient) in enumerate(items):
        for column, name in enumerate(names):
            parts = (("truth", found.truth), ("prediction", found.predicted))
            lacking = [word for word, of in parts if not of[row, column]]
            note = "both" if len(lacking) == 2 else "".join(lacking)
            rows.append((arm, "", 0, draw, labels, item, patient, name, "dice", float(dice[row, column]), note))
    return rows


def in_order(labels: Whole, names: Mapping[int, str]) -> Whole:
    """Return 0 for background and 1, 2, ... for the structures in the order of names, in place of their numbers.

    Args:
        labels: Numbers of structures, or 0.
        names: The structures by number.
    """
    table = np.zeros(max(names) + 1, np.int64)
    table[list(names)] = np.arange(1, len(names) + 1)
    return np.asarray(table[labels])


def _fitted(
    features: Values, truth: Whole, penalty: float, structures: int, start: tuple[Values, Values] | None
) -> tuple[Values, Values]:
    """Return weights (D, K + 1) and offsets (K + 1,) of a logistic regression; its mean loss plus penalty |w|^2 / 2."""
    from scipy.optimize import minimize

    present, own = np.unique(truth, return_inverse=True)
    count, width = features.shape
    classes = len(present)
    target = np.zeros((count, classes), np.float32)
    target[np.arange(count), own] = 1

    def loss(flat: Values) -> tuple[float, Values]:
        weight, offset = flat[:-classes].reshape(width, classes), flat[-classes:]
        scores = features @ weight.astype(np.float32) + offset.astype(np.float32)
        scores -= scores.max(axis=1, keepdims=True)
        likely = np.exp(scores)
        total = likely.sum(axis=1, keepdims=True)
        fit = float((np.log(total[:, 0]) - (scores * target).sum(axis=1)).mean(dtype=np.float64))
        gap = (likely / total - target) / count
        slope = np.concatenate([(features.T @ gap + penalty * weight).ravel(), gap.sum(axis=0)])
        return fit + 0.5 * penalty * float((weight**2).sum()), slope.astype(np.float64)

    first = np.zeros((width + 1) * classes)
    if start is not None:
        first = np.concatenate([start[0][:, present].ravel(), start[1][present]]).astype(np.float64)
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": 1e-7, "gtol": 1e-5}).x
    weight, offset = np.zeros((width, structures + 1)), np.full(structures + 1, _NEVER)
    weight[:, present], offset[present] = found[:-classes].reshape(width, classes), found[-classes:]
    return weight, offset


def _check(blocks: Sequence[Values], truth: Whole, stands_for: Values, cases: Names, patients: Names) -> None:
    lengths = {len(block) for block in blocks} | {len(truth), len(stands_for), len(cases), len(patients)}
    if len(lengths) != 1:
        raise DataError(f"A dense probe needs features, a truth, a case and a patient for each place. Got {lengths}.")
    if not all(np.isfinite(block).all() for block in blocks):
        raise DataError("Features hold NaN or infinite values. Was the encoder's run stopped by a NaN?")
    if not (truth > 0).any():
        raise DataError("No labelled place shows a structure, so there is nothing to fit a dense probe to.")
