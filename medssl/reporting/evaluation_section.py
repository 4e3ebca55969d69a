"""Evaluation: scores with intervals, paired tests, the cases themselves, and the curve over labelled patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.evaluation.scoring import EmptyCounts, count_rows
from medssl.evaluation.statistics.wording import header, interval_text
from medssl.reporting.blocks import Block, Details, Overlays, Section, Table, Text
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
    for one in material.scored("segmentation"):
        folder, content = one.folder, one.content
        blocks += _scores(folder, content, clean)
        if cases:
            blocks += _cases(folder, content, material, clean)
        blocks.append(definition_block(content, _tolerances(content)))
    for one in material.scored():
        blocks += _plain(one.folder, one.content, clean)
    for one in material.over_labels(classes=False):
        blocks += arm_blocks(one.folder, one.content, clean)
    return Section("evaluation", "Evaluation", blocks) if blocks else None


def _plain(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    """Return comparisons and scores of a task that has no section of its own."""
    scores, compared = read_found(folder, content, clean)
    title = f"Scores of {clean.text(str(content.get('kind') or folder.resolve().name))}"
    blocks = comparison_blocks(compared, content)
    blocks += score_blocks(scores, compared, content, title=title, folder=folder)
    return [*blocks, *_failed(content, clean), definition_block(content)]


def _failed(content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    """Return the cases of each run that have no score, and why."""
    blocks: list[Block] = []
    for name, run in content.get("runs", {}).items():
        if run.get("failed"):
            lost = [(case, clean.text(str(reason))) for case, reason in run["failed"].items()]
            told = f"{counted(len(lost), 'case')} of {clean.text(name)} left without a score, and out of every mean."
            blocks += [Text(told, "bad"), Table(("case", "why"), lost)]
    return blocks


def _scores(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    """Return the comparison, Dice of every structure by run, what has no score, and every measure behind a click."""
    scores, compared = read_found(folder, content, clean)
    blocks = comparison_blocks(compared, content)
    arms = list(dict.fromkeys(row.arm for row in scores))
    dice = {(row.arm, row.target or "mean"): row for row in scores if row.metric == "dice"}
    targets = list(dict.fromkeys(target for _, target in dice))
    if targets:
        over = header([row.interval for row in dice.values()], unit=str(content.get("unit", "patient")))
        lines = [
            [target, *(interval_text(dice[arm, target].interval) if (arm, target) in dice else "" for arm in arms)]
            for target in sorted(targets, key=lambda target: target != "mean")
        ]
        blocks.append(
            Table(("Dice", *arms), lines, caption=f"Dice by structure, mean over patients [{over}]", matrix=True)
        )
    blocks += _failed(content, clean)
    for arm in arms:
        own = [replace(row, target=row.target or "mean") for row in scores if row.arm == arm]
        inside = score_blocks(own, [], content, title=f"{arm}: mean over patients", named=False)
        counts: Mapping[str, Any] = next(
            (run.get("counts", {}) for name, run in content.get("runs", {}).items() if clean.text(name) == arm), {}
        )
        heads, rows = count_rows({key: EmptyCounts(**found) for key, found in counts.items()})
        if rows:
            note = (
                "Absent: neither truth nor prediction shows it; it is left out of the means. Missed and invented "
                "structures score 0."
            )
            inside.append(Table(heads, rows, caption=f"{arm}: cases", note=note, matrix=True))
        blocks.append(Details(f"Every measure of {arm}", tuple(inside)))
    return blocks


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
        said = (
            f"Cases of {names[0]} by their mean Dice over structures, in the geometry of their source files, each "
            "cut where the structures are largest."
        )
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
