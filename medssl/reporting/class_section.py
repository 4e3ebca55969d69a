"""Classifiers on the page: scores, reliability, confusion, cases right and wrong, and curves over labelled patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import MedSSLError
from medssl.evaluation.calibration import Decision, decision_words
from medssl.evaluation.statistics.naming import of_what
from medssl.reporting.blocks import Block, Charts, Overlays, Section, Table, Text
from medssl.reporting.charts import Series, line_chart
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane, Volume, cut_planes, grey_levels, named_planes
from medssl.reporting.privacy import Cleaner
from medssl.reporting.prose import counted
from medssl.reporting.score_blocks import arm_blocks, comparison_blocks, definition_block, read_found, score_blocks
from medssl.reporting.scored import found_of

__all__ = ["class_section"]

_EDGE = 200


def class_section(material: Material, *, cases: bool, clean: Cleaner) -> Section | None:
    """Return the section; None without scores of classifiers and comparisons of them.

    Args:
        material: What was given.
        cases: Whether single cases are shown.
        clean: Takes paths out of texts.
    """
    blocks: list[Block] = []
    for one in material.scored("classification"):
        folder, content = one.folder, one.content
        blocks += _scores(folder, content, clean)
        for name, run in content.get("runs", {}).items():
            blocks += _one_run(clean.text(name), run)
            if cases:
                blocks += _examples(clean.text(name), run, material, content.get("unit", "patient"))
        blocks.append(definition_block(content))
    for one in material.over_labels(classes=True):
        blocks += arm_blocks(one.folder, one.content, clean)
    return Section("classes", "Classifiers", blocks) if blocks else None


def _scores(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    scores, compared = read_found(folder, content, clean)
    owner = content.get("unit", "patient")
    patients = max((score.interval.patients for score in scores), default=0)
    split = f" of the split '{content['split']}'" if content.get("split") else ""
    of = of_what(content, found_of(folder, content).table).removeprefix("of ")
    title = f"{of[:1].upper()}{of[1:]}{': ' if of else ''}{counted(patients, owner)}{split}"
    blocks = comparison_blocks(compared, content)
    return [*blocks, *score_blocks(scores, compared, content, title=title, folder=folder)]


def _one_run(name: str, run: Mapping[str, Any]) -> list[Block]:
    """Return reliability, ROC curve and confusion of one run."""
    charts = []
    bins = [row for row in run.get("reliability") or () if row["cases"]]
    if len(bins) > 1:
        drawn = line_chart(
            [
                Series("share right", [(row["confidence"], row["accuracy"]) for row in bins]),
                Series("as confident as right", [(0.0, 0.0), (1.0, 1.0)]),
            ],
            what=f"Reliability of {name}",
            x_name="confidence of the likeliest class",
            zero=True,
        )
        counts = ", ".join(str(row["cases"]) for row in bins)
        charts.append((f"Reliability of {name}", drawn, f"Cases in the bins, from left to right: {counts}."))
    roc = run.get("roc") or ()
    if len(roc) > 1:
        drawn = line_chart(
            [Series("ROC", [(x, y) for x, y in roc]), Series("chance", [(0.0, 0.0), (1.0, 1.0)])],
            what=f"ROC curve of {name}",
            x_name="false positive rate",
            zero=True,
        )
        charts.append((f"ROC curve of {name}", drawn, "True positive rate over false positive rate."))
    classes, counts = list(run["classes"]), run["confusion"]
    rows = [
        [truth, *(str(n) for n in own), f"{own[i] / sum(own):.2f}" if sum(own) else "-"]
        for i, (truth, own) in enumerate(zip(classes, counts, strict=True))
    ]
    table = Table(
        ["truth", *(f"called {c}" for c in classes), "found"],
        rows,
        caption=f"{name}: what was called what",
        matrix=True,
    )
    said = [Text(f"{name}: {decision_words(Decision(**run['decision']), classes)}")] if run.get("decision") else []
    return [*([Charts(charts)] if charts else []), table, *said]


def _examples(name: str, run: Mapping[str, Any], material: Material, owner: str) -> list[Block]:
    said = f"The surest of those that are right and of those that are wrong, one a {owner}; p is the predicted class's."
    if owner != "patient":  # clouds have no slices to show
        shown = [(c["id"], c["truth"], c["predicted"], f"{c['probability']:.2f}") for c in run.get("examples") or ()]
        heads = ("cloud", "truth", "called", "p")
        return [Table(heads, shown, caption=f"{name}: clouds right and wrong", note=said)] if shown else []
    figures: list[tuple[str, str, Sequence[Plane]]] = []
    lost = 0
    for case in run.get("examples") or ():
        planes = _planes(case, material)
        right = case["truth"] == case["predicted"]
        place = f", slice {case['slice']}" if case["slice"] is not None else ""
        verdict = "right" if right else f"wrong: {case['truth']} called {case['predicted']}"
        told = (
            f"{case['id']}{place}: {verdict if not right else 'right, ' + case['truth']}, p = {case['probability']:.2f}"
        )
        if planes:
            figures.append((told, f"{case['id']} in three planes, {verdict}", planes))
        else:
            lost += 1
    blocks: list[Block] = []
    if figures:
        blocks = [Text(f"{name}: cases right and wrong", "head"), Text(said, "soft"), Overlays(figures, small=True)]
    if lost:
        blocks.append(Text(f"{counted(lost, 'case')} not shown: no store that was given holds them.", "soft"))
    return blocks


def _planes(case: Mapping[str, Any], material: Material) -> list[Plane]:
    """Return the planes of a case through its slice, or through the middle of the body."""
    for store in material.stores.values():
        for index, entry in enumerate(store.entries):
            if entry.id != case["id"]:
                continue
            at = [(a + b) // 2 for a, b in zip(*entry.body_box, strict=True)]
            if case["slice"] is not None:
                at[0] = int(case["slice"])
            planes = []
            for number, channel in enumerate(entry.channels):
                try:
                    values = store.values(index, number).astype(np.float32) * channel.slope + channel.intercept
                except (MedSSLError, OSError, ValueError):
                    return []
                levels = grey_levels(values, hounsfield=channel.modality == "CT")
                cut = cut_planes(Volume(values, entry.spacing_mm, *levels), at, edge=_EDGE)
                if channel.present:
                    planes += named_planes(cut, channel.name) if entry.more else cut
            return planes
    return []
