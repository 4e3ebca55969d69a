"""Scores and comparisons on the page, the same for every task and protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.evaluation.metrics import METRICS
from medssl.evaluation.statistics.comparison import Comparison, Score
from medssl.evaluation.statistics.wording import comparison_rows, header, notes_of, score_rows
from medssl.reporting.blocks import Block, Charts, Details, Listing, Table, Text
from medssl.reporting.chance import chance_of
from medssl.reporting.charts import Marks, interval_chart
from medssl.reporting.privacy import Cleaner
from medssl.reporting.prose import counted
from medssl.reporting.scored import found_of

__all__ = ["arm_blocks", "comparison_blocks", "definition_block", "mean_and_spread", "read_found", "score_blocks"]

_PLAIN = {"n": "labelled", "p Holm": "p corrected (Holm)"}  # heads of the terminal's tables, in plain words


def read_found(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> tuple[list[Score], list[Comparison]]:
    """Return the scores and comparisons of an evaluation, names of arms free of paths."""
    own = found_of(folder, content)
    scores = [replace(row, arm=clean.text(row.arm)) for row in own.scores]
    found = [replace(row, arm=clean.text(row.arm), baseline=clean.text(row.baseline)) for row in own.comparisons]
    return scores, found


def score_blocks(
    scores: list[Score],
    compared: list[Comparison],
    content: Mapping[str, Any],
    *,
    title: str,
    folder: Path | None = None,
    named: bool = True,
) -> list[Block]:
    """Return the table of scores with a row of what no learning scores, and why some have no interval.

    Args:
        scores: The scores.
        compared: Comparisons, for what they leave out.
        content: The summary.
        title: The table's.
        folder: Where the rows of the scores lie; without, no row of chance is made.
        named: Whether arm and number of labels have columns; else the title says them.
    """
    unit = str(content.get("unit", "patient"))
    over = header([score.interval for score in scores], unit=unit)
    heads, rows = score_rows(scores, baseline=str(content.get("baseline", "")))
    if folder is not None and scores:
        rows = [*rows, *_chance_row(heads, scores, content, folder)]
    if not named:
        kept = [place for place, head in enumerate(heads) if head not in ("n", "arm")]
        heads, rows = [heads[place] for place in kept], [[row[place] for place in kept] for row in rows]
    heads = [_PLAIN.get(head, head) for head in heads]
    blocks: list[Block] = [Table(heads, rows, caption=f"{title} [{over}]")]
    notes = notes_of(scores, compared)
    return [*blocks, *([Text(" ".join(notes), "soft")] if notes else [])]


def _chance_row(heads: list[str], scores: list[Score], content: Mapping[str, Any], folder: Path) -> list[list[str]]:
    """Return the row of what is scored without learning; none where nothing says it."""
    table = found_of(folder, content).table
    row = dict.fromkeys(heads, "")
    for name in dict.fromkeys(score.metric for score in scores):
        chance = chance_of(name, content, table)
        head = f"{METRICS[name].words}, {METRICS[name].unit}" if METRICS[name].unit else METRICS[name].words
        if chance is not None and head in row:
            row[head] = f"{chance.value:.{METRICS[name].digits}f}"
    if not any(row.values()):
        return []
    row["arm"] = "without learning"
    return [list(row.values())]


def comparison_blocks(compared: list[Comparison], content: Mapping[str, Any]) -> list[Block]:
    """Return the table of comparisons; nothing without any."""
    if not compared:
        return []
    unit = str(content.get("unit", "patient"))
    over = header([row.difference for row in compared], unit=unit)
    told = f"Paired, by {unit} [{over}; p of the same t distribution, Holm's correction over the table]"
    lower = sorted({row.of.words for row in compared if row.of.better == "lower"})
    note = f"A negative difference is good for {' and '.join(lower)}." if lower else ""
    heads, rows = comparison_rows(compared)
    heads = [_PLAIN.get(head, head) for head in heads]
    return [Table(heads, rows, caption=told, note=note)]


def arm_blocks(folder: Path, content: Mapping[str, Any], clean: Cleaner) -> list[Block]:
    """Return a comparison over numbers of labels: curves, gains, tables and what failed."""
    scores, compared = read_found(folder, content, clean)
    if not scores:
        return []
    metric, unit = METRICS[scores[0].metric].words, str(content.get("unit", "patient"))
    what = "Probes of frozen encoders" if content.get("protocol") == "probe" else "Few labels"
    blocks: list[Block] = [Text(f"{what}: {clean.text(folder.resolve().name)}", "head")]
    over = header([score.interval for score in scores], unit=unit)
    charts = []
    for how in dict.fromkeys(score.how for score in scores):
        start = f"{how}: " if how else ""
        own = [score for score in scores if score.how == how]
        told = f"{start}{metric} on the test {unit}s"
        drawn = interval_chart(
            [
                Marks(arm, [_mark(s) for s in own if s.arm == arm], colour=number)
                for number, arm in enumerate(dict.fromkeys(s.arm for s in own))
            ],
            what=told,
            x_name=f"labelled {unit}s",
        )
        charts.append((told, drawn, f"{over}; small dots are runs, of a single one draws."))
        gains = [row for row in compared if row.how == how]
        if gains:
            several = len({row.baseline for row in gains}) > 1
            told = f"{start}gain over {'what each is compared with' if several else gains[0].baseline}, {metric}"
            arms = list(dict.fromkeys(s.arm for s in own))
            marks = [
                Marks(
                    f"{arm} over {baseline}" if several else arm,
                    [_mark(row) for row in gains if (row.arm, row.baseline) == (arm, baseline)],
                    colour=arms.index(arm),
                )
                for arm, baseline in dict.fromkeys((row.arm, row.baseline) for row in gains)
            ]
            charts.append((told, interval_chart(marks, what=told, x_name=f"labelled {unit}s", baseline=0.0), ""))
    title = f"{content['target']}: {metric}" if content.get("target") else metric
    blocks += [Charts(charts), *comparison_blocks(compared, content)]
    blocks += score_blocks(scores, compared, content, title=title, folder=folder)
    tasks = next(iter((content.get("few_shot") or {"": []}).values()))
    if tasks:
        heads = ("encoder", *(f"{task['ways']}-way {task['shots']}-shot" for task in tasks))
        told = f"Few-shot accuracy: mean (SD) over {tasks[0]['draws']} tasks of drawn classes and drawn labelled items"
        rows = [
            [clean.text(arm), *(mean_and_spread(task["accuracies"]) for task in own)]
            for arm, own in content["few_shot"].items()
        ]
        blocks.append(Table(heads, rows, caption=told))
    failed = content.get("failed") or {}
    if failed:
        lines = [(cell, clean.text(str(why))) for cell, why in failed.items()]
        blocks += [Text(f"{counted(len(lines), 'run')} failed.", "bad"), Table(("run", "why"), lines)]
    return [*blocks, definition_block(content)]


def definition_block(content: Mapping[str, Any], more: Mapping[str, str] | None = None) -> Block:
    """Return what the measures mean."""
    pairs = [
        (METRICS[key].words if key in METRICS else key, str(text))
        for key, text in content.get("definitions", {}).items()
    ]
    pairs += [(name, str(text)) for name, text in (content.get("probes") or {}).items()]
    return Details("What the measures mean here", (Listing([*pairs, *(more or {}).items()]),))


def mean_and_spread(values: Sequence[float]) -> str:
    """Return a mean with the standard deviation of a sample in brackets."""
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)) ** 0.5
    return f"{mean:.3f} ({spread:.3f})"


def _mark(row: Score | Comparison) -> tuple[str, float, float, float, tuple[float, ...]]:
    interval = row.interval if isinstance(row, Score) else row.difference
    dots = row.run_means if len(row.run_means) > 1 else row.draw_means
    return str(row.labels), interval.estimate, interval.low, interval.high, dots
