"""Parts of clouds on the page: mean IoU with intervals, by class, against each other, and some clouds to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.evaluation.statistics.naming import named_few
from medssl.reporting.blocks import Block, Picture, Section, Table
from medssl.reporting.material import Material
from medssl.reporting.pictures import picture_of_file
from medssl.reporting.privacy import Cleaner
from medssl.reporting.score_blocks import comparison_blocks, definition_block, read_found, score_blocks

__all__ = ["parts_section"]


def parts_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None where no parts were scored."""
    blocks: list[Block] = []
    for one in material.scored("parts"):
        blocks += _scores(one.folder, one.content, clean)
    return Section("parts", "Parts of clouds", blocks) if blocks else None


def _scores(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    runs: Mapping[str, Any] = content.get("runs", {})
    scores, compared = read_found(folder, content, clean)
    title = f"Clouds of the split '{content['split']}'" if content.get("split") else "Clouds"
    blocks = comparison_blocks(compared, content)
    blocks += score_blocks(scores, compared, content, title=title, folder=folder)
    heads = [clean.text(name) for name in runs]
    classes = list(dict.fromkeys(name for found in runs.values() for name in found["by_class"]))
    if len(classes) > 1:
        lines = [
            [
                clean.text(name),
                str(content.get("clouds", {}).get(name, "")),
                *(_number(found["by_class"].get(name)) for found in runs.values()),
            ]
            for name in classes
        ]
        blocks.append(Table(("class", "clouds", *heads), lines, caption="Mean IoU by class", matrix=True))
    of_part = [found.get("by_part", {}) for found in runs.values()]  # scores of earlier releases have none
    lines = [
        [clean.text(name), *(_number(found.get(part)) for found in of_part)]
        for part, name in content.get("parts", {}).items()
        if any(part in found for found in of_part)
    ]
    if lines:
        told = "IoU by part, mean over the clouds whose class has it"
        blocks.append(Table(("part", *heads), lines, caption=told, matrix=True))
    blocks += _examples(folder, content, clean)
    blocks.append(definition_block(content))
    return blocks


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _examples(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    path = folder / "part_examples.png"
    try:
        source, width, height = picture_of_file(path)
    except OSError:
        return []
    names = named_few([clean.text(str(name)) for name in content.get("parts_shown", ())], "parts")
    runs = " and ".join(clean.text(name) for name in content.get("runs", {}))
    told = "Rows from above: the true parts, then what each run predicted. Columns: of the first run the best, the "
    told += "middle and the worst cloud."
    alt = f"clouds with their true parts and those of {runs}" if runs else "clouds with true and predicted parts"
    return [Picture(source, width, height, f"{alt}: {names}" if names else alt, told)]
