"""Comparisons of classifiers over numbers of labelled patients: on the screen, as JSON, as CSV and as a curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.evaluation.class_arms import ArmTable, ClassCell, arm_rows, gain_rows
from medssl.evaluation.class_resampling import RESAMPLED_METRICS, resampled_scores
from medssl.evaluation.classes import CLASS_DEFINITIONS
from medssl.evaluation.curve import draw_arms
from medssl.evaluation.summary import as_json
from medssl.spreadsheet import csv_text
from medssl.writing import written_aside
from pipelines import console

__all__ = ["write_arm_table"]


def write_arm_table(
    table: ArmTable,
    cells: Sequence[ClassCell],
    out: Path,
    *,
    name: str,
    against: str,
    level: float,
    content: Mapping[str, Any],
    then: str,
) -> None:
    """Show a comparison and write it as NAME.json, NAME.csv (a line a cell) and NAME.png.

    Args:
        table: The comparison.
        cells: What it was made of.
        out: The folder.
        name: Name of the files.
        against: What the baseline is, in words.
        level: Confidence level of the intervals.
        content: What the JSON says beside the table; ``unit`` is whose labels were drawn, patients where it is missing.
        then: The command to go on with.
    """
    owner = content.get("unit", "patient")
    unit = CLASS_DEFINITIONS["unit"] if owner == "patient" else f"the {owner}: intervals and tests resample {owner}s."
    definitions = {key: CLASS_DEFINITIONS[key] for key in RESAMPLED_METRICS} | {"unit": unit}
    percent = f"{100 * level:g} %"
    console.table(
        f"{table.metric}, {table.patients} test {owner}s [{percent} interval over runs, draws and {owner}s]",
        *arm_rows(table),
        key="scores",
    )
    if table.comparisons:
        console.table(
            f"Against {against}, on the same {owner}s and draws (bootstrap, Holm over the table)",
            *gain_rows(table),
            key="comparisons",
        )
    for key in (table.metric, "unit"):
        console.say(f"{key}: {definitions[key]}")
    listing, lines, figure = out / f"{name}.json", out / f"{name}.csv", out / f"{name}.png"
    full = {
        "protocol": name,
        "kind": "classification",
        "definitions": definitions,
        **content,
        "table": table,
    }
    with written_aside(listing) as aside:
        aside.write_text(json.dumps(as_json(full), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    with written_aside(lines) as aside:
        aside.write_text(_cell_lines(cells), encoding="utf-8")
    draw_arms(table, figure, against=against, owner=owner)
    console.done([listing, lines, figure], then, table=as_json(table))


def _cell_lines(cells: Sequence[ClassCell]) -> str:
    rows = []
    for cell in cells:
        everybody = np.ones((1, len(set(cell.cases.patients))))
        scores = [float(resampled_scores(cell.cases, metric, everybody)[0]) for metric in RESAMPLED_METRICS]
        shown = ["" if score != score else f"{score:.5f}" for score in scores]
        rows.append([cell.how, cell.n, cell.arm, cell.draw, cell.seed, *shown])
    return csv_text(["how", "n", "arm", "draw", "seed", *RESAMPLED_METRICS], rows)
