"""Summaries as rows of text, for a screen or a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medssl.evaluation.intervals import Interval
from medssl.evaluation.summary import Comparison, SizeSummary, StructureSummary

__all__ = ["comparison_rows", "interval_text", "p_text", "size_rows", "structure_rows"]

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def interval_text(interval: Interval | None, *, signed: bool = False, digits: int = 3) -> str:
    """Return an estimate and its interval; "not defined" where there is none, as for the AUROC of a single class.

    Example:
        >>> interval_text(Interval(estimate=0.81, low=0.8, high=0.824, level=0.95, cases=9))
        '0.810 [0.800, 0.824]'
    """
    if interval is None:
        return "-"
    if interval.estimate != interval.estimate:
        return "not defined"
    form = f"{'+' if signed else ''}.{digits}f"
    if interval.low != interval.low:
        return f"{interval.estimate:{form}} (no interval)"
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def p_text(p: float) -> str:
    """Return a p value as people write it, "-" where there is none.

    Example:
        >>> p_text(0.00004), p_text(0.0312)
        ('< 0.0001', '0.0312')
    """
    return "-" if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def structure_rows(summaries: Sequence[StructureSummary]) -> Table:
    """Return heads and rows of a table of structures."""
    heads = ("structure", "Dice", "HD95 mm", "NSD", "ASSD mm", "patients", "absent", "missed", "invented")
    rows = [
        (
            row.structure,
            interval_text(row.intervals.get("dice")),
            interval_text(row.intervals.get("hd95_mm"), digits=2),
            interval_text(row.intervals.get("nsd")),
            interval_text(row.intervals.get("assd_mm"), digits=2),
            str(row.patients),
            str(row.absent),
            str(row.missed),
            str(row.invented),
        )
        for row in summaries
    ]
    return heads, rows


def comparison_rows(comparisons: Sequence[Comparison]) -> Table:
    """Return heads and rows of a table of paired comparisons."""
    heads = ("run", "against", "n", "metric", "median difference", "mean difference", "p", "p Holm", "better", "worse",
             "draws better")  # fmt: skip
    rows = []
    for row in comparisons:
        draws = row.result.draw_means
        digits = 2 if row.metric.endswith("_mm") else 3
        sign = -1 if row.metric.endswith("_mm") else 1
        better, worse = (row.result.above, row.result.below)[::sign]
        rows.append(
            (
                row.arm,
                row.baseline,
                "" if row.n is None else str(row.n),
                row.metric,
                interval_text(row.result.median, signed=True, digits=digits),
                interval_text(row.result.mean, signed=True, digits=digits),
                p_text(row.result.p),
                p_text(row.p_holm),
                str(better),
                str(worse),
                f"{sum(sign * d > 0 for d in draws)}/{len(draws)}" if len(draws) > 1 else "",
            )
        )
    return heads, rows


def size_rows(sizes: Sequence[SizeSummary]) -> Table:
    """Return heads and rows of a table of arms and numbers of labelled patients."""
    heads = ("n", "arm", "mean", "SD over draws", "SD over patients", "draws", "seeds", "runs")
    rows = [
        (
            str(row.n),
            row.arm,
            interval_text(row.mean),
            "-" if row.sd_draws != row.sd_draws else f"{row.sd_draws:.3f}",
            "-" if row.sd_cases != row.sd_cases else f"{row.sd_cases:.3f}",
            str(len(row.draw_means)),
            str(row.seeds),
            str(row.cells),
        )
        for row in sizes
    ]
    return heads, rows
