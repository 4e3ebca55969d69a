"""The one comparison: an arm against a baseline on the same patients, with its interval, its p and its verdict.

`compare` is the only place where a verdict is made; whoever shows one takes it from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medssl.errors import DataError
from medssl.evaluation.metrics import METRICS, Metric, metric_of
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.crossed import Interval, crossed_interval, p_of
from medssl.evaluation.statistics.grid import Grid, cells_of, grids_of, unfinished_in
from medssl.evaluation.statistics.holm import holm
from medssl.sheet import Sheet, ShowsItself

__all__ = [
    "FEWEST_FOR_VERDICT",
    "Comparison",
    "Score",
    "Verdict",
    "compare",
    "first_metric",
    "scores_of",
]

Verdict = Literal["better", "worse", "inconclusive"]
# A test that assumes nothing of the differences' distribution cannot fall below 2 / 2^P: .063 with five patients.
FEWEST_FOR_VERDICT = 6
_OF_TWO_CLASSES = ("auroc", "auprc")  # not defined of cases of one class, and in no other case
_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one arm scored.

    Attributes:
        arm: The arm: a run, or a method with several pretraining runs.
        how: How it was fitted; "" where that is not distinguished.
        labels: Number of labelled patients; None where not known.
        target: Structure or class; "" for all together.
        metric: The metric.
        interval: The score with its interval.
        run_means: The score of each pretraining run.
        draw_means: The score of each draw.
    """

    arm: str
    how: str
    labels: int | None
    target: str
    metric: str
    interval: Interval
    run_means: tuple[float, ...]
    draw_means: tuple[float, ...]

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Score:
        """Return the score of what JSON holds of it.

        Raises:
            KeyError, TypeError: It is damaged, or of an earlier release.
        """
        return cls(**_filled(row, "interval"))


@dataclass(frozen=True, kw_only=True)
class Comparison(ShowsItself):
    """An arm against a baseline: what was estimated, and what may be said of it.

    Attributes:
        arm: The arm.
        baseline: What is subtracted.
        how: How both were fitted; "" where that is not distinguished.
        labels: Number of labelled patients; None where not known.
        target: Structure or class; "" for all together.
        metric: The metric; its row in `metrics.METRICS` has unit and direction.
        change: What was changed, as a noun: "pretraining"; "" where it is only known that there are two arms.
        unit: What the patients' axis counts: "patient", "cloud" or "object".
        difference: Arm minus baseline, with its interval; its counts and ``sampled`` say what varied.
        baseline_runs: Pretraining runs of the baseline.
        run_means: The difference of each pretraining run of the arm.
        draw_means: The difference of each draw.
        above: Patients with a difference above 0; -1 where the metric has no score of a patient.
        below: Patients with a difference below 0; likewise.
        ahead: Pairs of a run and a draw in which the arm was better.
        left_out: Patients without a score in one of the arms' cells.
        unfinished: Draws (and seeds) that not every run of both arms has been through; they are left out.
        p: Two-sided, of the interval's t distribution; NaN where there is no interval.
        p_holm: Corrected for all questions of the table (Holm).
        questions: How many those are.
        verdict: "better" or "worse" where p after Holm's correction is below 1 - level, else "inconclusive".
        reason: Why, in words.
    """

    arm: str
    baseline: str
    how: str
    labels: int | None
    target: str
    metric: str
    change: str
    unit: str
    difference: Interval
    baseline_runs: int
    run_means: tuple[float, ...]
    draw_means: tuple[float, ...]
    above: int
    below: int
    ahead: int
    left_out: int
    p: float
    unfinished: int = 0
    p_holm: float = _NAN
    questions: int = 1
    verdict: Verdict = "inconclusive"
    reason: str = ""

    @property
    def of(self) -> Metric:
        """The metric's row."""
        return METRICS[self.metric]

    def sheet(self) -> Sheet:
        """Return what was found: the difference with its interval, p, the verdict and why."""
        one = self.difference
        around = f" [{one.low:+.3f}, {one.high:+.3f}]" if one.known else ""
        return Sheet.of(
            f"Comparison: {self.arm} against {self.baseline}, {self.of.words}",
            {
                "labelled": self.labels,
                "difference": f"{one.estimate:+.3f}{around}",
                "p (Holm)": self.p_holm,
                "verdict": self.verdict,
                "why": self.reason,
            },
        )

    @property
    def pairs(self) -> int:
        """Pairs of a run and a draw."""
        return len(self.run_means) * len(self.draw_means)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Comparison:
        """Return the comparison of what JSON holds of it.

        Raises:
            KeyError, TypeError: It is damaged, or of an earlier release.
        """
        return cls(**_filled(row, "difference"))


def scores_of(
    table: ScoreTable,
    *,
    metrics: Sequence[str],
    level: float = 0.95,
    unit: str = "patient",
    pooled: bool = True,
    targets: bool = False,
    overlap: Mapping[int, float] | None = None,
) -> list[Score]:
    """Return every arm's score, in the order of numbers of labelled patients and of the table.

    Args:
        table: The scores.
        metrics: Metrics to summarise.
        level: Confidence level of the intervals.
        unit: What the patients' axis counts.
        pooled: Whether METHOD-seed0, METHOD-seed1, ... are runs of one arm.
        targets: Whether each structure gets rows of its own before that of all together.
        overlap: For each number of labelled patients the share that two draws have in common.
    """
    found = []
    for how, labels in _groups(table):
        chosen = _targets(table) if targets else []
        for target in [*(chosen if len(chosen) > 1 else []), None]:
            for name in metrics:
                metric = metric_of(name)
                for arm, cells in cells_of(table, metric, how=how, labels=labels, target=target, pooled=pooled).items():
                    grids = grids_of([cells])
                    if grids is None:
                        continue  # its runs have no draw in common yet
                    (grid,) = grids
                    found.append(
                        Score(
                            arm=arm,
                            how=how,
                            labels=labels,
                            target=target or "",
                            metric=name,
                            run_means=_means(grid.score_of, 1),
                            draw_means=_means(grid.score_of, 0),
                            interval=_interval(grid, None, metric, level, _shared(overlap, labels), unit),
                        )
                    )
    return found


def compare(
    table: ScoreTable,
    pairs: Sequence[tuple[str, str]] | str,
    *,
    metrics: Sequence[str],
    level: float = 0.95,
    unit: str = "patient",
    pooled: bool = True,
    overlap: Mapping[int, float] | None = None,
    change: Callable[[str, str], str] | None = None,
) -> list[Comparison]:
    """Compare arms on the draws, cases and patients that both have; Holm's correction over all that is asked.

    Args:
        table: The scores.
        pairs: (arm, baseline) each; or a baseline, with which every other arm is compared.
        metrics: Metrics to compare.
        level: Confidence level of the intervals; a verdict needs p below 1 - level after Holm's correction.
        unit: What the patients' axis counts.
        pooled: Whether METHOD-seed0, METHOD-seed1, ... are runs of one arm.
        overlap: For each number of labelled patients the share that two draws have in common.
        change: Returns what was changed between an arm and a baseline, as a noun; "" where that is not known.

    Raises:
        DataError: Two arms share no case, or disagree about its class.
    """
    found: list[Comparison] = []
    for how, labels in _groups(table):
        for name in metrics:
            metric = metric_of(name)
            arms = cells_of(table, metric, how=how, labels=labels, pooled=pooled)
            asked = [(arm, pairs) for arm in arms if arm != pairs] if isinstance(pairs, str) else pairs
            for arm, baseline in asked:
                if arm not in arms or baseline not in arms:
                    continue
                try:
                    grids = grids_of([arms[arm], arms[baseline]])
                except DataError as error:
                    raise DataError(f"'{arm}' and '{baseline}': {error}") from error
                if grids is None:
                    continue
                row = _compared(arm, baseline, how, labels, metric, grids, level, unit, overlap)
                found.append(
                    replace(
                        row,
                        change=change(arm, baseline) if change else "",
                        unfinished=unfinished_in([arms[arm], arms[baseline]]),
                    )
                )
    corrected = holm({str(place): row.p for place, row in enumerate(found)})
    return [
        _judged(replace(row, p_holm=corrected[str(place)], questions=len(found))) for place, row in enumerate(found)
    ]


def _compared(
    arm: str,
    baseline: str,
    how: str,
    labels: int | None,
    metric: Metric,
    grids: Sequence[Grid],
    level: float,
    unit: str,
    overlap: Mapping[int, float] | None,
) -> Comparison:
    own, other = grids
    interval = _interval(own, other, metric, level, _shared(overlap, labels), unit)
    gap_GD = own.score_of - other.score_of.mean(axis=0, keepdims=True)
    of_patient = own.values.mean(axis=(0, 1)) - other.values.mean(axis=(0, 1))
    counted = metric.over == "patients"
    return Comparison(
        arm=arm,
        baseline=baseline,
        how=how,
        labels=labels,
        target="",
        metric=metric.name,
        change="",
        unit=unit,
        difference=interval,
        baseline_runs=len(other.score_of),
        run_means=_means(gap_GD, 1),
        draw_means=_means(gap_GD, 0),
        above=int((of_patient > 0).sum()) if counted else -1,
        below=int((of_patient < 0).sum()) if counted else -1,
        ahead=int((metric.sign * gap_GD > 0).sum()),
        left_out=own.left_out,
        p=p_of(interval),
    )


def _judged(row: Comparison) -> Comparison:
    """Return the comparison with its verdict: better or worse only where p after Holm's correction says so."""
    found, alpha = row.difference, 1 - row.difference.level
    if not found.known:
        same = found.estimate == 0 and found.patients >= 2
        return replace(row, reason="both score the same" if same else found.note)
    if found.patients < FEWEST_FOR_VERDICT:
        crossed = "the interval excludes 0, but " if row.p < alpha else ""
        return replace(
            row,
            reason=f"{crossed}{found.patients} {row.unit}s are too few: a distribution-free "
            f"test needs {FEWEST_FOR_VERDICT}",
        )
    if not row.p < alpha:
        return replace(row, reason="the interval includes 0")
    if not row.p_holm < alpha:
        return replace(
            row,
            reason=f"the interval excludes 0, but the test does not once it is corrected for {row.questions} questions",
        )
    better = row.of.sign * found.estimate > 0
    reason = "an improvement" if better else "a loss"
    floor, threshold = 2 * 0.5**found.patients, alpha / row.questions
    if floor > threshold:
        reason += (
            f"; with {found.patients} {row.unit}s this relies on the t distribution, because a distribution-free test "
            f"cannot give p below {floor:.2g}, and Holm's first threshold is {threshold:.2g}"
        )
    return replace(row, verdict="better" if better else "worse", reason=reason)


def _interval(own: Grid, other: Grid | None, metric: Metric, level: float, overlap: float, unit: str) -> Interval:
    score = own.score - (0.0 if other is None else other.score)
    runs, draws, _ = own.values.shape
    note = "" if own.patients else f"no {unit} has a score"
    if not note and metric.name in _OF_TWO_CLASSES and math.isnan(score):
        note = "all cases are of one class, so it is not defined"
    if note:
        nothing = {"estimate": _NAN, "low": _NAN, "high": _NAN, "level": level}
        return Interval(**nothing, runs=runs, draws=draws, patients=len(own.patients), note=note)
    values = None if other is None else other.values
    bounds = (metric.low, metric.high) if other is None else (metric.low - metric.high, metric.high - metric.low)
    found = crossed_interval(
        own.values,
        values,
        level=level,
        estimate=score,
        overlap=overlap,
        bounds=bounds,
        logit=other is None and metric.over != "patients",
    )
    return replace(found, note=found.note.replace("patient", unit))


def first_metric(comparisons: Sequence[Comparison]) -> str:
    """Return the metric that a headline speaks of: Dice, AUROC or mean IoU where they were compared, else the first."""
    compared = [row.metric for row in comparisons]
    return next((name for name in ("dice", "auroc", "instance_miou") if name in compared), compared[0])


def _groups(table: ScoreTable) -> list[tuple[str, int | None]]:
    found = table.frame.select("how", "labels").unique(maintain_order=True).rows()
    return sorted(found, key=lambda group: (list(dict.fromkeys(h for h, _ in found)).index(group[0]), group[1] or 0))


def _targets(table: ScoreTable) -> list[str]:
    return list(table.frame["target"].unique(maintain_order=True))


def _shared(overlap: Mapping[int, float] | None, labels: int | None) -> float:
    return 0.0 if overlap is None or labels is None else overlap.get(labels, 0.0)


def _means(score_GD: Any, over: int) -> tuple[float, ...]:
    return tuple(float(v) for v in score_GD.mean(axis=over))


def _filled(row: Mapping[str, Any], interval: str) -> dict[str, Any]:
    """Return a row of JSON with NaN in place of null, and its interval."""
    numbers = {name: _NAN if value is None and name in ("p", "p_holm") else value for name, value in row.items()}
    own: dict[str, Any] = {name: _NAN if value is None else value for name, value in row[interval].items()}
    lists = {name: tuple(_NAN if v is None else v for v in row[name]) for name in ("run_means", "draw_means")}
    return {**numbers, **lists, interval: Interval(**own)}
