"""Parts of clouds on the page: mean IoU with intervals, by class, against each other, and some clouds to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.evaluation.wording import interval_text, p_text
from medssl.reporting.blocks import Block, Details, Listing, Picture, Section, Table
from medssl.reporting.intervals import interval_of, number_of
from medssl.reporting.material import Material
from medssl.reporting.pictures import picture_of_file
from medssl.reporting.privacy import Cleaner
from medssl.reporting.words import counted, percent

__all__ = ["parts_section"]

_SCORES = {"instance_miou": "mean IoU of shapes", "class_miou": "mean IoU of classes", "accuracy": "points right"}


def parts_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None where no parts were scored."""
    blocks: list[Block] = []
    for folder, content in material.part_scores:
        blocks += _scores(folder, content, clean)
    return Section("parts", "Parts of clouds", blocks) if blocks else None


def _scores(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    runs: Mapping[str, Any] = content["runs"]
    first = next(iter(runs.values()))["scores"]["instance_miou"]
    owner = content.get("unit", "patient")
    blocks: list[Block] = [
        Table(
            ("run", *_SCORES.values()),
            [[clean.text(name), *(interval_text(interval_of(found["scores"][key])) for key in _SCORES)]
             for name, found in runs.items()],
            caption=f"Clouds of the split '{content['split']}' "
                    f"[{percent(float(first['level']))} bootstrap interval over {counted(int(first['cases']), owner)}]",
        )
    ]  # fmt: skip
    if content["comparisons"]:
        told = f"Mean IoU of shapes, paired by {owner}: Wilcoxon's signed-rank test, Holm's correction over the table"
        lines = [
            [clean.text(row["arm"]), clean.text(row["baseline"]),
             interval_text(interval_of(row["result"]["mean"]), signed=True), p_text(number_of(row["result"]["p"])),
             p_text(number_of(row["p_holm"]))]
            for row in content["comparisons"]
        ]  # fmt: skip
        blocks.append(Table(("run", "against", "difference", "p", "p Holm"), lines, caption=told))
    heads = [clean.text(name) for name in runs]
    classes = list(dict.fromkeys(name for found in runs.values() for name in found["by_class"]))
    if len(classes) > 1:
        lines = [
            [clean.text(name), str(content.get("clouds", {}).get(name, "")),
             *(_number(found["by_class"].get(name)) for found in runs.values())]
            for name in classes
        ]  # fmt: skip
        blocks.append(Table(("class", "clouds", *heads), lines, caption="Mean IoU by class"))
    of_part = [found.get("by_part", {}) for found in runs.values()]  # scores of earlier releases have none
    lines = [
        [clean.text(name), *(_number(found.get(part)) for found in of_part)]
        for part, name in content.get("parts", {}).items()
        if any(part in found for found in of_part)
    ]
    if lines:
        blocks.append(Table(("part", *heads), lines, caption="IoU by part, mean over the clouds whose class has it"))
    blocks += _examples(folder)
    blocks.append(Details("How parts are scored", (Listing(list(content["definitions"].items())),)))
    return blocks


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _examples(folder: Path) -> list[Block]:
    path = folder / "part_examples.png"
    try:
        source, width, height = picture_of_file(path)
    except OSError:
        return []
    told = "True parts above, what was predicted below: of the first run the best, the middle and the worst cloud."
    return [Picture(source, width, height, "clouds with true and predicted parts", told)]
