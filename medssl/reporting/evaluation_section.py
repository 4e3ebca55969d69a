"""Evaluation: scores with intervals, paired tests, the cases themselves, and the curve over labelled patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.evaluation.scoring import EmptyCounts, count_rows
from medssl.reporting.blocks import Block, Overlays, Section, Table, Text
from medssl.reporting.cases import Case, chosen_cases, draw_case
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane
from medssl.reporting.privacy import Cleaner
from medssl.reporting.prose import counted
from medssl.reporting.score_blocks import arm_blocks, comparison_blocks, definition_block, read_found, score_blocks

__all__ = ["evaluation_section"]

_TRUTH = "truth"


def evaluation_section(material: Material, *, cases: bool, clean: Cleaner) -> Section | None:
    """Return the section; None without scores and few-label comparisons.

    Args:
        material: What was given.
        cases: Whether the best, median and worst case are shown.
        clean: Takes paths out of texts.
    """
    blocks: list[Block] = []
    for folder, content in material.scores:
        blocks += _scores(folder, content, clean)
        if cases:
            blocks += _cases(folder, content, material, clean)
        blocks.append(definition_block(content, _tolerances(content)))
    for folder, content in material.few_label:
        blocks += arm_blocks(folder, content, clean)
    return Section("evaluation", "Evaluation", blocks) if blocks else None


def _scores(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    scores, compared = read_found(folder, content, clean)
    blocks: list[Block] = []
    for name, run in content.get("runs", {}).items():
        shown = clean.text(name)
        own = [replace(row, target=row.target or "mean") for row in scores if row.arm == shown]
        blocks += score_blocks(own, [], content, title=f"{shown}: mean over patients")
        heads, rows = count_rows({key: EmptyCounts(**counts) for key, counts in run.get("counts", {}).items()})
        if rows:
            note = "Absent: neither truth nor prediction shows it, left out of means; missed and invented score 0."
            blocks.append(Table(heads, rows, caption=f"{shown}: cases", note=note))
        if run.get("failed"):
            lines = [(case, clean.text(str(reason))) for case, reason in run["failed"].items()]
            told = f"{counted(len(lines), 'case')} of {name} left without a score, and out of every mean."
            blocks += [Text(told, "bad"),
                       Table(("case", "why"), lines)]  # fmt: skip
    return [*blocks, *comparison_blocks(compared, content)]


def _tolerances(content: Mapping[str, Any]) -> dict[str, str]:
    settings = content.get("settings", {})
    said = {}
    if "tolerance_mm" in settings:
        special = "; ".join(f"{name} {value:g} mm" for name, value in (settings.get("tolerances_mm") or {}).items())
        said["tolerance"] = f"{settings['tolerance_mm']:g} mm" + (f"; {special}" if special else "")
    said["mean"] = "the mean over a patient's structures and cases, then over patients; the patient is the unit."
    return said


def _cases(folder: Path, content: Mapping[str, Any], material: Material, clean: Cleaner) -> list[Block]:
    """Return the best, the median and the worst case of the first run as overlays."""
    names = list(content.get("runs", {}))
    if not names:
        return []
    found, problem = chosen_cases(folder, names[0])
    compared = names[1] if len(names) > 1 else None
    figures: list[tuple[str, str, Sequence[Plane]]] = []
    problems = [problem] if problem else []
    for case in found:
        planes, why = draw_case(case, folder=folder, run=names[0], compared=compared, material=material)
        if planes:
            figures.append((_caption(case), _described(case, names[0]), planes))
        else:
            problems.append(f"{case.id}: {why}")
    blocks: list[Block] = []
    if figures:
        third = any(len(plane.paths) > 2 for _, _, planes in figures for plane in planes)
        said = (f"Cases of {names[0]} by their mean Dice over structures, in the geometry of their source files, each "
                "cut where the structures are largest.")  # fmt: skip
        labels = [_TRUTH, names[0], *([compared] if third and compared else [])]
        blocks = [Text("Best, median and worst case", "head"), Text(said, "soft"), Overlays(figures, contours=labels)]
    if problems:
        told = "No picture of some cases: " + "; ".join(clean.text(p) for p in problems)
        blocks.append(Text(told, "soft"))
    return blocks


def _caption(case: Case) -> str:
    worst = f"; lowest for {case.lowest[0]}, {case.lowest[1]:.3f}" if case.lowest else ""
    return f"{case.rank}: {case.id}, mean Dice {case.dice:.3f}{worst}"


def _described(case: Case, run: str) -> str:
    return f"{case.rank} case {case.id} in three planes, with contours of the truth and of {run}; Dice {case.dice:.3f}"
