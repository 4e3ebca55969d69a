"""Frozen encoders: probes by fixed protocols and few-shot tasks, with intervals, against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medssl.evaluation.wording import interval_text, p_text
from medssl.reporting.blocks import Block, Details, Listing, Section, Table, Text
from medssl.reporting.intervals import interval_of, number_of
from medssl.reporting.material import Material
from medssl.reporting.privacy import Cleaner
from medssl.reporting.words import percent

__all__ = ["probe_section"]


def probe_section(material: Material, *, clean: Cleaner) -> Section | None:
    """Return the section; None without probes."""
    blocks: list[Block] = []
    for _, content in material.probes:
        blocks += _probes(content, clean)
    return Section("probes", "Frozen encoders", blocks) if blocks else None


def _probes(content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    encoders: Mapping[str, Any] = content["encoders"]
    protocols: Mapping[str, str] = content["protocols"]
    level = percent(float(content["settings"]["level"]))
    owner = content.get("unit", "patient")
    rows = [
        [clean.text(name), *(interval_text(interval_of(row["accuracy"])) for row in found["probes"])]
        for name, found in encoders.items()
    ]
    chance = next(iter(encoders.values()))["probes"][0]["chance"]
    blocks: list[Block] = [
        Text("The encoders as their runs left them; a simple classifier of their features is fitted on the training "
             "part and scored on the other. Nothing is chosen on what is scored."),
        Table(("encoder", *protocols), rows, caption=f"Accuracy [{level} bootstrap interval over {owner}s]",
              note=f"Always naming the most frequent class scores {chance:.3f}."),
    ]  # fmt: skip
    tasks = next(iter(encoders.values()))["few_shot"]
    if tasks:
        heads = ("encoder", *(f"{task['ways']}-way {task['shots']}-shot" for task in tasks))
        lines = [[clean.text(name), *(_few(task["accuracies"]) for task in found["few_shot"])]
                 for name, found in encoders.items()]  # fmt: skip
        told = f"Few-shot accuracy: mean (SD) over {tasks[0]['draws']} tasks of drawn classes and drawn labelled items"
        blocks.append(Table(heads, lines, caption=told))
    if content["comparisons"]:
        told = f"Paired, per {owner}: Wilcoxon's signed-rank test, Holm's correction over the table"
        lines = [
            [clean.text(row["arm"]), clean.text(row["baseline"]), row["protocol"],
             interval_text(interval_of(row["result"]["mean"]), signed=True), p_text(number_of(row["result"]["p"])),
             p_text(number_of(row["p_holm"]))]
            for row in content["comparisons"]
        ]  # fmt: skip
        heads = ("encoder", "against", "probe", "difference of accuracy", "p", "p Holm")
        blocks.append(Table(heads, lines, caption=told))
    blocks.append(Details("What each probe is", (Listing(list(protocols.items())),)))
    return blocks


def _few(accuracies: Sequence[float]) -> str:
    mean = sum(accuracies) / len(accuracies)
    spread = (sum((a - mean) ** 2 for a in accuracies) / max(1, len(accuracies) - 1)) ** 0.5
    return f"{mean:.3f} ({spread:.3f})"
