"""Probes of clouds as earlier releases wrote them: fixed protocols and few-shot tasks, against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.reporting.blocks import Block, Details, Listing, Section, Table, Text
from medssl.reporting.material import Material
from medssl.reporting.privacy import Cleaner
from medssl.reporting.score_blocks import comparison_blocks, mean_and_spread, read_found, score_blocks

__all__ = ["probe_section"]


def probe_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None without probes."""
    blocks: list[Block] = []
    for folder, content in material.probes:
        blocks += _probes(folder, content, clean)
    return Section("probes", "Frozen encoders", blocks) if blocks else None


def _probes(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    encoders: Mapping[str, Any] = content.get("encoders", {})
    protocols: Mapping[str, str] = content.get("protocols", {})
    scores, compared = read_found(folder, content, clean)
    blocks: list[Block] = [
        Text(
            "The encoders as their runs left them; a simple classifier of their features is fitted on the training "
            "part and scored on the other. Nothing is chosen on what is scored."
        ),
        *comparison_blocks(compared, content),
        *score_blocks(scores, compared, content, title="Probes", folder=folder),
    ]
    tasks = next((found["few_shot"] for found in encoders.values()), ())
    if tasks:
        heads = ("encoder", *(f"{task['ways']}-way {task['shots']}-shot" for task in tasks))
        lines = [
            [clean.text(name), *(mean_and_spread(task["accuracies"]) for task in found["few_shot"])]
            for name, found in encoders.items()
        ]
        told = f"Few-shot accuracy: mean (SD) over {tasks[0]['draws']} tasks of drawn classes and drawn labelled items"
        blocks.append(Table(heads, lines, caption=told))
    if protocols:
        blocks.append(Details("What each probe is", (Listing(list(protocols.items())),)))
    return blocks
