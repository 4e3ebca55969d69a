"""Classifiers on the page: scores, reliability, confusion, cases right and wrong, and curves over labelled patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import MedSSLError
from medssl.evaluation.class_arms import arm_rows, gain_rows
from medssl.evaluation.wording import interval_text, p_text
from medssl.reporting.blocks import Block, Charts, Details, Listing, Overlays, Section, Table, Text
from medssl.reporting.charts import Marks, Series, interval_chart, line_chart
from medssl.reporting.class_findings import arm_table_of
from medssl.reporting.intervals import interval_of, number_of
from medssl.reporting.material import Material
from medssl.reporting.pictures import Plane, Volume, cut_planes, grey_levels, named_planes
from medssl.reporting.privacy import Cleaner
from medssl.reporting.words import counted, name_of, percent

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
    for _, content in material.class_scores:
        blocks += _scores(content, clean)
        for name, run in content.get("runs", {}).items():
            blocks += _one_run(clean.text(name), run)
            if cases:
                blocks += _examples(clean.text(name), run, material, content.get("unit", "patient"))
        blocks.append(_definitions(content))
    for folder, content in material.class_arms:
        blocks += _arms(folder, content, clean)
    return Section("classes", "Classifiers", blocks) if blocks else None


def _scores(content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    runs = content.get("runs", {})
    metrics = list(dict.fromkeys(metric for run in runs.values() for metric in run["scores"]))
    rows = [
        [clean.text(name), *(interval_text(interval_of(run["scores"][m])) for m in metrics)]
        for name, run in runs.items()
    ]
    intervals = [interval for run in runs.values() for interval in run["scores"].values()]
    level = percent(float(intervals[0]["level"])) if intervals else "95 %"
    owner = content.get("unit", "patient")
    patients = max((int(i["cases"]) for i in intervals), default=0)
    blocks: list[Block] = [
        Table(
            ["run", *map(name_of, metrics)],
            rows,
            caption=f"{counted(patients, owner)} of the split '{content.get('split', '')}' "
            f"[{level} bootstrap interval over {owner}s]",
        )
    ]
    compared = content.get("comparisons") or ()
    if compared:
        lines = [
            [clean.text(c["arm"]), clean.text(c["baseline"]), name_of(c["metric"]),
             interval_text(interval_of(c["difference"]), signed=True), p_text(number_of(c["p"])),
             p_text(number_of(c["p_holm"])), c["test"]]
            for c in compared
        ]  # fmt: skip
        heads = ["run", "against", "metric", "difference", "p", "p Holm", "test"]
        note = "A negative difference of the Brier score or of the calibration error is good."
        blocks.append(Table(heads, lines, caption=f"Paired, by {owner}: Holm's correction over the table", note=note))
    return blocks


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
            what=f"ROC curve of {name}", x_name="false positive rate", zero=True,
        )  # fmt: skip
        charts.append((f"ROC curve of {name}", drawn, "True positive rate over false positive rate."))
    classes, counts = list(run["classes"]), run["confusion"]
    rows = [
        [truth, *(str(n) for n in own), f"{own[i] / sum(own):.2f}" if sum(own) else "-"]
        for i, (truth, own) in enumerate(zip(classes, counts, strict=True))
    ]
    table = Table(["truth", *(f"called {c}" for c in classes), "found"], rows, caption=f"{name}: what was called what")
    return [*([Charts(charts)] if charts else []), table]


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


def _arms(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    table = arm_table_of(content["table"])
    metric, owner = name_of(table.metric), content.get("unit", "patient")
    what = "Probes of frozen encoders" if content.get("protocol") == "probe" else "Few labels"
    blocks: list[Block] = [Text(f"{what}: {clean.text(folder.resolve().name)}", "head")]
    charts = []
    for how in dict.fromkeys(row.how for row in table.scores):
        arms = list(dict.fromkeys(row.arm for row in table.scores if row.how == how))
        curve = [
            Marks(arm, [(str(r.n), r.mean.estimate, r.mean.low, r.mean.high, r.run_means)
                        for r in table.scores if (r.how, r.arm) == (how, arm)], colour=i)
            for i, arm in enumerate(arms)
        ]  # fmt: skip
        drawn = interval_chart(curve, what=f"{metric}, {how}, over labelled {owner}s", x_name=f"labelled {owner}s")
        charts.append((f"{how}: {metric}", drawn, f"Intervals over runs, draws and {owner}s; small dots are runs."))
        gains = [
            Marks(arm, [(str(c.n), c.difference.estimate, c.difference.low, c.difference.high, c.run_means)
                        for c in table.comparisons if (c.how, c.arm) == (how, arm)], colour=i)
            for i, arm in enumerate(arms) if any((c.how, c.arm) == (how, arm) for c in table.comparisons)
        ]  # fmt: skip
        if gains:
            told = f"{how}: gain over {table.comparisons[0].baseline}, {metric}"
            charts.append((told, interval_chart(gains, what=told, x_name=f"labelled {owner}s", baseline=0.0), ""))
    blocks.append(Charts(charts))
    heads, rows = arm_rows(table)
    blocks.append(
        Table(heads, rows, caption=f"{content.get('target', '')}: {counted(table.patients, f'test {owner}')}")
    )
    if table.comparisons:
        heads, rows = gain_rows(table)
        told = f"Against {table.comparisons[0].baseline}: bootstrap over runs, draws and {owner}s, Holm over the table"
        blocks.append(Table(heads, rows, caption=told))
    failed = content.get("failed") or {}
    if failed:
        lines = [(cell, clean.text(str(why))) for cell, why in failed.items()]
        blocks += [Text(f"{counted(len(lines), 'run')} failed.", "bad"), Table(("run", "why"), lines)]
    return [*blocks, _definitions(content)]


def _definitions(content: Mapping[str, Any]) -> Block:
    pairs = [(name_of(key), str(text)) for key, text in content.get("definitions", {}).items()]
    pairs += [(name, str(text)) for name, text in (content.get("probes") or {}).items()]
    return Details("What the measures mean here", (Listing(pairs),))
