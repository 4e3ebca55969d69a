"""The one interval and the one p value: a t interval over crossed means, with Satterthwaite's degrees of freedom.

Every pretraining run is fine-tuned on every draw of labelled patients, and scored on every test patient: three axes
that were sampled and are crossed. G runs, D draws, P patients; Z at the front stands for any batch of such blocks.

The variance of a mean over all of them is taken as the sum, over the axes, of the variance of that axis's means divided
by their number. An axis with one entry adds nothing: its luck is not included, and ``Interval`` says so by its counts.
`benchmarks/coverage.py` simulates how often such intervals hold the truth.

Reference:
    Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2, 1946.
    Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003 (draws that overlap).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError

__all__ = ["FEWEST_PATIENTS", "Interval", "crossed_interval", "crossed_variance", "p_of"]

Values = npt.NDArray[np.float64]
FEWEST_PATIENTS = 3  # a t interval of two values is 12.7 standard errors wide on either side and says nothing
_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval, and what varied in it.

    Attributes:
        estimate: The mean, or the score that ``crossed_interval`` was told.
        low: Lower end; NaN where there is no interval, and ``note`` says why.
        high: Upper end.
        level: Confidence level, such as 0.95.
        runs: Pretraining runs (of a difference, those of its first arm); 1 where the luck of a run is not included.
        draws: Draws of labelled patients; likewise.
        patients: Test patients (or clouds, where each is an object of its own).
        error: Standard error of the estimate.
        freedom: Degrees of freedom of the t distribution.
        note: Why there is no interval; "" where there is one.
    """

    estimate: float
    low: float
    high: float
    level: float
    runs: int
    draws: int
    patients: int
    error: float = _NAN
    freedom: float = _NAN
    note: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def sampled(self) -> tuple[str, ...]:
        """The axes that varied: of "runs", "draws" and "patients" those with more than one entry."""
        counts = {"runs": self.runs, "draws": self.draws, "patients": self.patients}
        return tuple(axis for axis, count in counts.items() if count > 1)


def crossed_variance(
    own_ZGDP: npt.ArrayLike, other_ZBDP: npt.ArrayLike | None = None, *, overlap: float = 0.0
) -> tuple[Values, Values]:
    """Return the squared standard error of the mean, or of a difference of means, and its degrees of freedom, (Z).

    Draws and patients are paired: the same in both arms. Runs are not, so that those of either arm add a part.

    Args:
        own_ZGDP: Scores.
        other_ZBDP: Scores of the arm that is subtracted, with B runs of its own.
        overlap: Share of labelled patients that two draws have in common, in [0, 1). Draws from few patients are alike,
            and their spread is less than that between independent ones (Nadeau and Bengio).
    """
    own = np.asarray(own_ZGDP, dtype=np.float64)
    other = None if other_ZBDP is None else np.asarray(other_ZBDP, dtype=np.float64)
    gap = own.mean(axis=-3) - (0.0 if other is None else other.mean(axis=-3))  # (Z, D, P)
    draws = gap.shape[-2]
    parts = [_part(arm.mean(axis=(-1, -2))) for arm in (own, other) if arm is not None]
    again = overlap / (1 - overlap) if draws > 1 else 0.0
    parts += [_part(gap.mean(axis=-1), again=again), _part(gap.mean(axis=-2))]
    variance = np.sum([own for own, _ in parts], axis=0)
    below = np.sum([own**2 / freedom for own, freedom in parts], axis=0)
    freedom = np.divide(variance**2, below, out=np.full_like(variance, np.nan), where=below > 0)
    return variance, freedom


def _part(means: Values, *, again: float = 0.0) -> tuple[Values, float]:
    """Return what one axis adds to the squared standard error, and its degrees of freedom; 0 of a single entry."""
    count = means.shape[-1]
    if count < 2:
        return np.zeros(means.shape[:-1]), 1.0
    added: Values = means.var(axis=-1, ddof=1) * (1 / count + again)
    return added, count - 1.0


def crossed_interval(
    own_GDP: npt.ArrayLike,
    other_BDP: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
    estimate: float | None = None,
    overlap: float = 0.0,
    bounds: Sequence[float] = (-math.inf, math.inf),
    logit: bool = False,
) -> Interval:
    """Return the mean over runs, draws and patients, or the difference of two such means, with its interval.

    Args:
        own_GDP: Scores by pretraining run, draw and patient; pseudo-values where a score is no mean over patients.
        other_BDP: Scores of the arm that is subtracted, of the same draws and patients.
        level: Confidence level in (0, 1).
        estimate: The score itself, where the scores are pseudo-values of it; their mean where left out.
        overlap: See `crossed_variance`. At 1 all draws are of the same patients, and are no axis: only the runs of
            fine-tuning differ, so that draws count as one.
        bounds: Range of the score; an interval is cut to it.
        logit: Whether the interval is symmetric on the logit scale between the bounds: of scores such as AUROC, whose
            error shrinks towards the ends, plain intervals hold the truth too seldom (.82 to .94 where logit ones do in
            .96 and more, 20 to 80 patients).

    Raises:
        DataError: There are no scores, shapes do not fit, or the level is not allowed.
    """
    from scipy.stats import t

    own = np.asarray(own_GDP, dtype=np.float64)
    other = None if other_BDP is None else np.asarray(other_BDP, dtype=np.float64)
    if own.ndim != 3 or not own.size or (other is not None and other.shape[1:] != own.shape[1:]):
        raise DataError(
            f"An interval needs scores by run, draw and patient, of the same draws and patients in both arms. "
            f"Got shapes {own.shape}{'' if other is None else f' and {other.shape}'}."
        )
    if not 0 < level < 1:
        raise DataError(f"A confidence level lies in (0, 1). Got {level}. Try 0.95.")
    if overlap >= 1:
        own, other = own.mean(axis=1, keepdims=True), None if other is None else other.mean(axis=1, keepdims=True)
        overlap = 0.0
    middle = float(own.mean() - (0.0 if other is None else other.mean())) if estimate is None else estimate
    runs, draws, patients = own.shape
    found = {"estimate": middle, "level": level, "runs": runs, "draws": draws, "patients": patients}
    finite = np.isfinite(own).all() and (other is None or bool(np.isfinite(other).all()))
    variance, freedom = crossed_variance(own, other, overlap=overlap) if finite else (np.array(_NAN),) * 2
    error, scale = math.sqrt(variance), max(1e-12, float(np.abs(own).max(initial=0.0)))
    few = "1 patient is" if patients == 1 else f"{patients} patients are"
    note = (
        "not defined"
        if not math.isfinite(middle)
        else f"{few} too few for an interval"
        if patients < FEWEST_PATIENTS
        else "not defined without one of the patients"
        if not finite
        else "every patient gives the same value, so an interval cannot be computed"
        if error <= 1e-9 * scale
        else ""
    )
    if note:
        return Interval(**found, low=_NAN, high=_NAN, note=note)
    half = float(t.ppf((1 + level) / 2, freedom)) * error
    low, high = max(bounds[0], middle - half), min(bounds[1], middle + half)
    if logit and bounds[0] < middle < bounds[1] and all(map(math.isfinite, bounds)):
        low, high = _logit_ends(middle, half, *bounds)
    return Interval(**found, low=low, high=high, error=error, freedom=float(freedom))


def _logit_ends(middle: float, half: float, least: float, most: float) -> tuple[float, float]:
    """Return the ends of an interval that is symmetric on the logit scale; its half width there by the delta method."""
    share, width = (middle - least) / (most - least), half / (most - least)
    place, reach = math.log(share / (1 - share)), min(700.0, width / (share * (1 - share)))
    ends = [1 / (1 + math.exp(min(700.0, -at))) for at in (place - reach, place + reach)]
    return least + ends[0] * (most - least), least + ends[1] * (most - least)


def p_of(interval: Interval) -> float:
    """Return the two-sided p that the truth is 0, of the same t distribution as the interval; NaN where it has none."""
    from scipy.stats import t

    if not interval.known:
        return _NAN
    return float(2 * t.sf(abs(interval.estimate) / interval.error, interval.freedom))
