"""From rows of scores to what is reported: means with intervals, spreads, paired tests. Pure functions.

A patient's score is the mean over their cases of the mean over structures, NaN (structure absent from both maps) left
out. Scores of several seeds of one draw are averaged before anything else. D draws, C patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.errors import DataError
from medssl.evaluation.few_label import CellResult
from medssl.evaluation.intervals import Interval, average_over_draws, bootstrap_mean, hierarchical_bootstrap
from medssl.evaluation.paired import PairedComparison, average_by_patient, holm, paired_comparison
from medssl.evaluation.scoring import StructureScore

__all__ = [
    "METRICS",
    "Comparison",
    "FewLabelSummary",
    "SizeSummary",
    "StructureSummary",
    "as_json",
    "compare_runs",
    "patient_scores",
    "summarise_few_label",
    "summarise_structures",
]

METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
ALL_STRUCTURES = "mean"
_Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StructureSummary:
    """One structure (or "mean", over structures) of one run.

    Attributes:
        structure: Its name.
        intervals: Mean over patients with its interval, for each metric; missing where no patient has a score.
        medians: Median over patients, for each metric.
        cases: Cases scored.
        patients: Patients scored.
        absent: Cases in which neither truth nor prediction has the structure: left out of every mean.
        missed: Cases in which only the truth has it (scored 0, distances the image's diagonal).
        invented: Cases in which only the prediction has it (scored likewise).
    """

    structure: str
    intervals: Mapping[str, Interval]
    medians: Mapping[str, float]
    cases: int
    patients: int
    absent: int
    missed: int
    invented: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against the baseline.

    Attributes:
        arm: The arm.
        baseline: What it is compared with.
        n: Number of labelled patients; None outside the few-label protocol.
        metric: The metric compared, mean over structures.
        result: Differences and test.
        p_holm: p corrected for all comparisons of the table.
    """

    arm: str
    baseline: str
    n: int | None
    metric: str
    result: PairedComparison
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class SizeSummary:
    """One arm at one number of labelled patients.

    Attributes:
        arm: The arm.
        n: Number of labelled patients.
        mean: Mean over patients of their averages over draws; the interval resamples patients and draws.
        sd_draws: Standard deviation, over draws, of the mean over patients; NaN with one draw.
        sd_cases: Standard deviation, over patients, of their averages over draws.
        draw_means: Mean over patients in each draw.
        seeds: Seeds averaged within a draw.
        cells: Fine-tuning runs that went in.
    """

    arm: str
    n: int
    mean: Interval
    sd_draws: float
    sd_cases: float
    draw_means: tuple[float, ...]
    seeds: int
    cells: int


@dataclass(frozen=True, kw_only=True)
class FewLabelSummary:
    """The tables of a few-label comparison."""

    metric: str
    sizes: tuple[SizeSummary, ...]
    comparisons: tuple[Comparison, ...]


def patient_scores(scores: Iterable[StructureScore], metric: str) -> dict[str, float]:
    """Return each patient's score: mean over structures, then over cases, NaN left out.

    Args:
        scores: Rows of one run.
        metric: One of `METRICS`.
    """
    by_case: dict[tuple[str, str], list[float]] = {}
    for score in scores:
        by_case.setdefault((score.patient, score.case), []).append(getattr(score, metric))
    means = [float(average_over_draws(np.array(values)[:, None])[0]) for values in by_case.values()]
    return average_by_patient([patient for patient, _ in by_case], means)


def summarise_structures(scores: Sequence[StructureScore], *, level: float = 0.95) -> list[StructureSummary]:
    """Summarise a run structure by structure, and last over all of them.

    Args:
        scores: Rows of one run.
        level: Confidence level of the intervals (percentile bootstrap over patients).

    Raises:
        DataError: If there are no rows.
    """
    if not scores:
        raise DataError("No case was scored, so there is nothing to summarise.")
    names = list(dict.fromkeys(score.structure for score in scores))
    groups = [(name, [s for s in scores if s.structure == name]) for name in names]
    if len(names) > 1:
        groups.append((ALL_STRUCTURES, list(scores)))
    return [_structure(name, rows, level) for name, rows in groups]


def _structure(name: str, rows: Sequence[StructureScore], level: float) -> StructureSummary:
    intervals, medians = {}, {}
    for metric in METRICS:
        values = np.array(list(patient_scores(rows, metric).values()))
        values = values[~np.isnan(values)]
        if values.size:
            intervals[metric] = bootstrap_mean(values, level=level)
            medians[metric] = float(np.median(values))
    return StructureSummary(
        structure=name,
        intervals=intervals,
        medians=medians,
        cases=len({row.case for row in rows}),
        patients=len({row.patient for row in rows}),
        absent=sum(row.empty == "both" for row in rows),
        missed=sum(row.empty == "prediction" for row in rows),
        invented=sum(row.empty == "truth" for row in rows),
    )


def compare_runs(
    runs: Mapping[str, Sequence[StructureScore]],
    pairs: Sequence[tuple[str, str]],
    *,
    metrics: Sequence[str] = ("dice", "hd95_mm", "nsd"),
    level: float = 0.95,
) -> list[Comparison]:
    """Test runs against each other on the patients that both have, Holm over all pairs and metrics.

    Args:
        runs: Rows of each run, by name.
        pairs: (run, baseline) by name.
        metrics: Metrics to test; one that no patient has in both runs is left out.
        level: Confidence level of the intervals.

    Raises:
        DataError: If the runs of a pair share no patient.
    """
    results: list[tuple[str, str, str, PairedComparison]] = []
    for arm, baseline in pairs:
        for metric in metrics:
            own, reference = (patient_scores(runs[name], metric) for name in (arm, baseline))
            shared = [patient for patient in reference if patient in own]
            if not shared:
                raise DataError(f"Runs '{arm}' and '{baseline}' share no patient. Compare runs on the same test scans.")
            differences = np.array([own[p] - reference[p] for p in shared])
            if not np.isnan(differences).all():
                results.append((arm, baseline, metric, paired_comparison(differences, level=level)))
    corrected = holm({str(i): result.p for i, (*_, result) in enumerate(results)})
    return [
        Comparison(arm=arm, baseline=baseline, n=None, metric=metric, result=result, p_holm=corrected[str(i)])
        for i, (arm, baseline, metric, result) in enumerate(results)
    ]


def summarise_few_label(
    cells: Sequence[CellResult], *, baseline: str, metric: str = "dice", level: float = 0.95
) -> FewLabelSummary:
    """Aggregate the cells of a few-label comparison.

    Arms are compared on the (draw, seed) pairs that both have done; Holm's correction runs over all arms and sizes.

    Args:
        cells: Finished cells.
        baseline: The arm that the others are compared with; without its cells there are no comparisons.
        metric: The metric, mean over structures.
        level: Confidence level of the intervals.

    Raises:
        DataError: If no cell is done, or two cells were scored on different patients.
    """
    if not cells:
        raise DataError("No cell of the comparison is done yet. Run some, then summarise.")
    table: dict[tuple[str, int], dict[tuple[int, int], dict[str, float]]] = {}
    for result in cells:
        cell = result.cell
        table.setdefault((cell.arm, cell.n), {})[cell.draw, cell.seed] = patient_scores(result.scores, metric)
    everyone = {frozenset(scores) for group in table.values() for scores in group.values()}
    if len(everyone) > 1:
        odd = sorted(frozenset.union(*everyone) - frozenset.intersection(*everyone))
        raise DataError(
            f"Cells were scored on different test patients ({len(odd)} are not in all of them). "
            "Use one fixed test split for the whole comparison."
        )
    patients = sorted(next(iter(everyone)))
    ordered = sorted(table, key=lambda pair: (pair[1], pair[0] != baseline))
    sizes = tuple(_size(arm, n, table[arm, n], patients, level) for arm, n in ordered)
    pairs = {}
    for arm, n in ordered:
        against = table.get((baseline, n), {})
        shared = sorted(set(table[arm, n]) & set(against))
        if arm != baseline and shared:
            own, other = ({k: source[k] for k in shared} for source in (table[arm, n], against))
            pairs[arm, n] = paired_comparison(_by_draw(own, patients) - _by_draw(other, patients), level=level)
    corrected = holm({f"{arm}\n{n}": result.p for (arm, n), result in pairs.items()})
    comparisons = tuple(
        Comparison(arm=arm, baseline=baseline, n=n, metric=metric, result=result, p_holm=corrected[f"{arm}\n{n}"])
        for (arm, n), result in pairs.items()
    )
    return FewLabelSummary(metric=metric, sizes=sizes, comparisons=comparisons)


def _by_draw(runs: Mapping[tuple[int, int], Mapping[str, float]], patients: Sequence[str]) -> _Scores:
    """Return each draw's scores averaged over its seeds, shape (D, C)."""
    draws = sorted({draw for draw, _ in runs})
    return np.stack(
        [
            average_over_draws(np.array([[s[p] for p in patients] for (d, _), s in sorted(runs.items()) if d == draw]))
            for draw in draws
        ]
    )


def _size(
    arm: str, n: int, runs: Mapping[tuple[int, int], Mapping[str, float]], patients: Sequence[str], level: float
) -> SizeSummary:
    scores_DC = _by_draw(runs, patients)
    draw_means = average_over_draws(scores_DC.T)
    of_patient = average_over_draws(scores_DC)
    of_patient = of_patient[~np.isnan(of_patient)]
    nan = float("nan")
    return SizeSummary(
        arm=arm,
        n=n,
        mean=hierarchical_bootstrap(scores_DC, level=level),
        sd_draws=float(np.std(draw_means, ddof=1)) if len(draw_means) > 1 else nan,
        sd_cases=float(np.std(of_patient, ddof=1)) if len(of_patient) > 1 else nan,
        draw_means=tuple(float(m) for m in draw_means),
        seeds=len({seed for _, seed in runs}),
        cells=len(runs),
    )


def as_json(value: Any) -> Any:
    """Turn summaries into what JSON can hold: dataclasses to mappings, NaN to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
