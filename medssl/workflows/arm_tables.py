"""Comparisons over numbers of labelled patients, of segmenters, classifiers and probes: screen, JSON, CSV and curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.command import Command
from medssl.evaluation.curve import draw_arms
from medssl.evaluation.few_label import MAJORITY, Cell
from medssl.evaluation.metrics import UNITS, metric_of
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.grid import method_of
from medssl.evaluation.statistics.naming import of_what
from medssl.workflows import events
from medssl.workflows.score_files import (
    Scored,
    cell_lines,
    found_in,
    show_comparisons,
    show_notes,
    show_scores,
    write_scores,
)
from medssl.writing import atomic_write

__all__ = ["write_arms"]


def write_arms(
    table: ScoreTable,
    out: Path,
    *,
    name: str,
    kind: str,
    baseline: str,
    against: str,
    metric: str,
    metrics: Sequence[str],
    level: float,
    unit: str,
    overlap: Mapping[int, float],
    content: Mapping[str, Any],
    then: Command,
    missing: Sequence[Cell] = (),
    failed: Mapping[str, Mapping[str, str]] | None = None,
    pairs: Mapping[tuple[str, str], str] | None = None,
) -> Scored:
    """Show a comparison and write it as scores.parquet, NAME.json, NAME.csv (a line a run, draw and seed) and NAME.png.

    Args:
        table: The scores; METHOD-seed0, METHOD-seed1, ... are pretraining runs of one method.
        out: The folder.
        name: Name of the files: "few_label" or "probe".
        kind: What was learned: "segmentation", "classification" or "parts".
        baseline: The arm that all others are compared with; of ``pairs`` the one that is shown in grey.
        against: What it is, in words.
        metric: The metric that is compared.
        metrics: Those of the CSV.
        level: Confidence level.
        unit: Whose labels were drawn: "patient" or "object".
        overlap: For each number of labels the share that two draws have in common.
        content: What the JSON says beside scores and comparisons.
        then: The command to go on with.
        missing: Cells that are not done.
        failed: Cells that failed, and why.
        pairs: In place of a baseline for all: what was changed, as a noun, by (arm, baseline).
    """
    arms = [arm for arm in dict.fromkeys(map(method_of, table.runs)) if arm not in (baseline, MAJORITY)]

    def change(arm: str, other: str) -> str:
        if pairs is not None:
            return pairs[arm, other]
        return "pretraining" if len(arms) == 1 else f"pretraining ({arm})"

    found = found_in(
        table,
        list(pairs or [(arm, baseline) for arm in arms]),
        metrics=[metric],
        compared=[metric],
        level=level,
        unit=unit,
        overlap=overlap,
        change=change,
    )
    found = replace(found, missing=missing, failed=failed or {})
    patients = max(score.interval.patients for score in found.scores)
    show_scores(found, title=f"{metric_of(metric).words}, {patients} test {unit}s", unit=unit, baseline=baseline)
    show_comparisons(found, unit=unit, against=against, of=of_what({"kind": kind, **content}, table))
    for said in overlap_words(overlap, unit):
        events.message(said)
    show_notes(replace(found, scores=[s for s in found.scores if s.arm != MAJORITY]), [metric])
    events.message(f"unit: {UNITS[unit]}")
    full = {"protocol": name, "metric": metric, "baseline": baseline, "overlap": overlap, **content}
    full["definitions"] = {"unit": UNITS[unit], **content.get("definitions", {})}
    files = write_scores(found, out, f"{name}.json", kind=kind, unit=unit, metrics=metrics, content=full)
    lines, figure = out / f"{name}.csv", out / f"{name}.png"
    with atomic_write(lines) as aside:
        aside.write_text(cell_lines(table, metrics), encoding="utf-8")
    draw_arms(found.scores, found.comparisons, figure, against=against, owner=unit)
    return events.written(replace(found, written=(*files, lines, figure), next=then, figures=found.as_figures()))


def overlap_words(overlap: Mapping[int, float], unit: str) -> list[str]:
    """Say which draws have labelled patients in common, and what the intervals make of it."""
    alike = [str(n) for n, share in overlap.items() if share >= 1]
    some = [f"{share:.0%} with {n}" for n, share in overlap.items() if 0 < share < 1]
    told = []
    if some:
        told.append(
            f"two draws have labelled {unit}s in common ({', '.join(some)}), and are counted as that much less "
            "independent (Nadeau and Bengio)"
        )
    if alike:
        told.append(
            f"with {', '.join(alike)} labels all draws are of the same {unit}s: the luck of their choice is "
            "not included"
        )
    return told
