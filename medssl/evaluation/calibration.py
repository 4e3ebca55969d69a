"""What is chosen on validation cases, never on test cases: a temperature for the probabilities, and a threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import CheckpointError, DataError

__all__ = [
    "DECISION",
    "Decision",
    "best_threshold",
    "decide",
    "decision_words",
    "fitted_temperature",
    "mean_decision",
    "probabilities",
    "read_decision",
]

DECISION = "decision.json"  # lies beside the weights of a classifier, and goes wherever they go

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
_TEMPERATURES = (0.05, 20.0)
_SPREAD = 0.5  # of the logarithm of a temperature, before any case is seen


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How logits become probabilities, and probabilities a class.

    Attributes:
        temperature: Divides the logits.
        threshold: Of two classes the second is predicted from this probability on; None for more classes, where the
            likeliest is.
        cases: Validation cases that both were chosen on; 0 where nothing was chosen.
        why: Why nothing was chosen; empty where something was.
        members: Classifiers whose calibrated probabilities are averaged; each has its own temperature.
    """

    temperature: float = 1.0
    threshold: float | None = None
    cases: int = 0
    why: str = ""
    members: int = 1

    def predicted(self, probability_NC: Values) -> Whole:
        """Return the predicted classes, (N,)."""
        if self.threshold is not None and probability_NC.shape[1] == 2:
            return np.asarray(probability_NC[:, 1] >= self.threshold, dtype=np.int64)
        return np.asarray(probability_NC.argmax(axis=1), dtype=np.int64)


def read_decision(folder: Path, classes: Sequence[str]) -> Decision:
    """Return the temperature and threshold that a classifier's run chose; none chosen where it kept none.

    Raises:
        CheckpointError: They cannot be read.
    """
    path = folder / DECISION
    if not path.is_file():
        return Decision(threshold=0.5 if len(classes) == 2 else None, why="the run chose none")
    try:
        return Decision(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: temperature and threshold cannot be read ({error}).") from error


def decision_words(decision: Decision, classes: Sequence[str]) -> str:
    """Say how logits become a class, in one sentence.

    Example:
        >>> decision_words(Decision(temperature=1.5, threshold=0.3, cases=8), ["well", "ill"])
        'Probabilities are softmax(logits / 1.5); ill is predicted from 0.3 on. Both were chosen on 8 validation cases.'
    """
    if decision.threshold is not None and len(classes) == 2:
        called = f"{classes[1]} is predicted from {decision.threshold:.4g} on"
    else:
        called = "the likeliest class is predicted"
    how = f"softmax(logits / {decision.temperature:.4g})"
    if decision.members > 1:
        how = f"the mean over {decision.members} runs, each at its own temperature"
    if not decision.cases:
        origin = f"Nothing was chosen on validation cases{f' ({decision.why})' if decision.why else ''}."
    else:
        first = "Both were" if decision.threshold is not None else "The temperature was"
        origin = f"{first} chosen on {decision.cases} validation cases{' or more' if decision.members > 1 else ''}."
    return f"Probabilities are {how}; {called}. {origin}"


def mean_decision(decisions: Sequence[Decision]) -> Decision:
    """Return how the mean of several classifiers' calibrated probabilities becomes a class.

    Each has its own temperature, which is applied before the mean. The threshold of two classes is the mean of theirs.

    Example:
        >>> mean_decision([Decision(threshold=0.4), Decision(threshold=0.6)]).threshold
        0.5
    """
    if len(decisions) == 1:
        return decisions[0]
    thresholds = [one.threshold for one in decisions if one.threshold is not None]
    return Decision(
        threshold=float(np.mean(thresholds)) if len(thresholds) == len(decisions) else None,
        cases=min(one.cases for one in decisions),
        members=len(decisions),
    )


def probabilities(logits_NC: npt.ArrayLike, temperature: float = 1.0) -> Values:
    """Return softmax(logits / temperature), (N, C)."""
    scaled = np.asarray(logits_NC, dtype=np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Values = powers / powers.sum(axis=1, keepdims=True)
    return result


def fitted_temperature(logits_NC: npt.ArrayLike, truth_N: npt.ArrayLike) -> float:
    """Return the temperature in [0.05, 20] that is the likeliest, given the classes of the cases.

    Beside the likelihood of the paper stands a prior, a log-normal one around 1: three cases that all are right would
    else be best explained by certainty, and three wrong ones by knowing nothing. Of dozens of cases it hardly counts.

    Reference:
        Guo et al., "On calibration of modern neural networks", ICML 2017, arXiv:1706.04599, section 4.2.

    Args:
        logits_NC: Logits.
        truth_N: Classes.

    Raises:
        DataError: There is no case.
    """
    from scipy.optimize import minimize_scalar

    logits, truth = np.asarray(logits_NC, dtype=np.float64), np.asarray(truth_N)
    if not len(truth):
        raise DataError("A temperature was asked for, and there is no validation case to choose it on.")

    def negative_log_likelihood(log_temperature: float) -> float:
        chosen = probabilities(logits, float(np.exp(log_temperature)))[np.arange(len(truth)), truth]
        return float(-np.log(np.maximum(chosen, 1e-300)).sum()) + (log_temperature / _SPREAD) ** 2 / 2

    found = minimize_scalar(
        negative_log_likelihood, bounds=tuple(np.log(_TEMPERATURES)), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x))


def best_threshold(score_N: npt.ArrayLike, truth_N: npt.ArrayLike) -> float:
    """Return the threshold with the best balanced accuracy (Youden's J) of two classes.

    Thresholds lie half way between neighbouring scores. Of equally good ones the nearest to 0.5 is taken; where only
    one class is there, nothing can be chosen, and it is 0.5.

    Args:
        score_N: Probability of the second class.
        truth_N: Classes, 0 or 1.
    """
    score, truth = np.asarray(score_N, dtype=np.float64), np.asarray(truth_N)
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    if not positives or not negatives:
        return 0.5
    different = np.unique(score)
    candidates = np.concatenate([(different[1:] + different[:-1]) / 2, [0.5]])
    above = score[None, :] >= candidates[:, None]
    balanced = (above & (truth == 1)).sum(axis=1) / positives + (~above & (truth == 0)).sum(axis=1) / negatives
    best = candidates[balanced >= balanced.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def decide(logits_NC: npt.ArrayLike, truth_N: npt.ArrayLike) -> Decision:
    """Choose temperature and, of two classes, threshold on validation cases.

    Cases of a single class say nothing of either: the likeliest temperature would be that of certainty. Then nothing is
    chosen, and ``why`` says so.

    Args:
        logits_NC: Logits.
        truth_N: Classes; negative ones (not known) are left out.
    """
    logits, truth = np.asarray(logits_NC, dtype=np.float64), np.asarray(truth_N)
    logits, truth = logits[truth >= 0], truth[truth >= 0]
    two = logits.shape[1] == 2
    if len(np.unique(truth)) < 2:
        why = "the validation cases are all of one class" if len(truth) else ""
        return Decision(threshold=0.5 if two else None, why=why)
    temperature = fitted_temperature(logits, truth)
    threshold = best_threshold(probabilities(logits, temperature)[:, 1], truth) if two else None
    return Decision(temperature=temperature, threshold=threshold, cases=len(truth))
