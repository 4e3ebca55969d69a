"""Evaluation: scores with intervals, paired tests, the cases themselves, and the curve over labelled patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.evaluation.pooling import pooled_rows
from medssl.evaluation.wording import comparison_rows, size_rows, structure_rows
from medssl.reporting.blocks import Block, Charts, Details, Listing, Overlays, Section, Table, Text
from medssl.reporting.cases import Case, chosen_cases, draw_case
from medssl.reporting.charts import Marks, interval_chart
from medssl.reporting.findings import comparisons_of, pooled_of, sizes_of, structures_of
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane
from medssl.reporting.privacy import Cleaner
from medssl.reporting.words import counted, name_of, percent

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
        blocks += _scores(content, clean)
        if cases:
            blocks += _cases(folder, content, material, clean)
        blocks.append(_definitions(content))
    for folder, content in material.few_label:
        blocks += _few_label(folder, content, clean)
    return Section("evaluation", "Evaluation", blocks) if blocks else None


def _scores(content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    level = percent(float(content.get("settings", {}).get("level", 0.95)))
    blocks: list[Block] = []
    for name, run in content.get("runs", {}).items():
        heads, rows = structure_rows(structures_of(run["structures"]))
        told = f"{clean.text(name)}: mean over patients [{level} bootstrap interval over patients]"
        blocks.append(Table(heads, rows, caption=told))
        if run.get("failed"):
            lines = [(case, clean.text(str(reason))) for case, reason in run["failed"].items()]
            told = f"{counted(len(lines), 'case')} of {name} left without a score, and out of every mean."
            blocks += [Text(told, "bad"),
                       Table(("case", "why"), lines)]  # fmt: skip
    comparisons = comparisons_of(content.get("comparisons", ()))
    if comparisons:
        heads, rows = comparison_rows(comparisons)
        told = "Paired, per patient: Wilcoxon's signed-rank test, Holm's correction over the table"
        note = "A positive difference is good for Dice and NSD, a negative one for distances in mm."
        blocks.append(Table(*_filled(heads, rows), caption=told, note=note))
    return blocks


def _filled(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Return a table without the columns that are empty in every row."""
    kept = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _definitions(content: Mapping[str, Any]) -> Block:
    settings = content.get("settings", {})
    pairs = [(name_of(key), str(text)) for key, text in content.get("definitions", {}).items()]
    tolerances = dict(settings.get("tolerances_mm") or {})
    if "tolerance_mm" in settings:
        special = "; ".join(f"{name} {value:g} mm" for name, value in tolerances.items())
        pairs.append(("tolerance", f"{settings['tolerance_mm']:g} mm" + (f"; {special}" if special else "")))
    pairs.append(
        ("mean", "the mean over a patient's structures and cases, then over patients; the patient is the unit.")
    )
    return Details("What the measures mean here", (Listing(pairs),))


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


def _few_label(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    summary = content.get("summary") or {}
    sizes = sizes_of(summary.get("sizes", ()))
    comparisons = comparisons_of(summary.get("comparisons", ()))
    if not sizes:
        return []
    metric = name_of(str(summary.get("metric", "dice")))
    arms = list(dict.fromkeys(row.arm for row in sizes))
    baselines = {c.baseline for c in comparisons}
    curve = [
        Marks(arm, [(str(r.n), r.mean.estimate, r.mean.low, r.mean.high, r.draw_means) for r in sizes if r.arm == arm],
              colour=arms.index(arm))
        for arm in arms
    ]  # fmt: skip
    gains = [
        Marks(arm, [(str(c.n), c.result.mean.estimate, c.result.mean.low, c.result.mean.high, c.result.draw_means)
                    for c in comparisons if c.arm == arm], colour=arms.index(arm))
        for arm in arms if any(c.arm == arm for c in comparisons)
    ]  # fmt: skip
    level = percent(sizes[0].mean.level)
    drawn = [(f"{metric} on the test patients",
              interval_chart(curve, what=f"{metric} over labelled patients", x_name="labelled patients"),
              f"Mean with its {level} interval over patients and draws; small dots are single draws.")]  # fmt: skip
    if gains:
        told = f"Gain over {', '.join(sorted(baselines))}, {metric}"
        drawn.append((told, interval_chart(gains, what=told, x_name="labelled patients", baseline=0.0),
                      f"Mean paired difference per patient with its {level} interval."))  # fmt: skip
    blocks: list[Block] = [Text(f"Few labels: {folder.resolve().name}", "head"), Charts(drawn)]
    heads, rows = size_rows(sizes)
    blocks.append(Table(heads, rows, caption=f"{metric}, mean over test patients [{level} interval]"))
    if comparisons:
        heads, rows = comparison_rows(comparisons)
        told = "Paired by patient, draw and seed: Wilcoxon's signed-rank test, Holm's correction over the table"
        blocks.append(Table(*_filled(heads, rows), caption=told))
    pooled = pooled_of(content.get("pooled") or ())
    if pooled:
        told = f"Against scratch, pretraining runs of a method pooled [{level} interval over runs, draws and patients]"
        blocks.append(Table(*pooled_rows(pooled), caption=told))
    failed = content.get("failed") or {}
    if failed:
        lines = [(cell, clean.text(str(why))) for cell, why in failed.items()]
        blocks += [Text(f"{counted(len(lines), 'run')} failed.", "bad"), Table(("run", "why"), lines)]
    return [*blocks, _definitions(content)]
