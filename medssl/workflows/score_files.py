"""What every kind of evaluation ends with: scores and comparisons of one table, on the screen and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.evaluation.few_label import Cell
from medssl.evaluation.metrics import METRICS, definitions_of, metric_of
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.evaluation.statistics.comparison import Comparison, Score, compare, scores_of
from medssl.evaluation.statistics.grid import cells_of
from medssl.evaluation.statistics.summary_file import as_json, write_summary
from medssl.evaluation.statistics.wording import (
    comparison_rows,
    header,
    notes_of,
    score_rows,
    sentences,
    told_together,
)
from medssl.sheet import Sheet
from medssl.spreadsheet import csv_text
from medssl.workflows import events
from medssl.workflows.earlier_scores import keep_earlier
from medssl.workflows.result import Result

__all__ = [
    "Scored",
    "cell_lines",
    "found_in",
    "show_comparisons",
    "show_notes",
    "show_scores",
    "write_scores",
]


@dataclass(frozen=True, kw_only=True)
class Scored(Result):
    """What an evaluation found; it wrote scores.parquet, the summary as JSON, and pictures.

    Attributes:
        scores: Every arm's scores.
        comparisons: Arms against each other, each with its verdict.
        table: The rows that both were computed from; None for a dry run.
        failed: Cases without a score and the reason, for each run; a few-label run that failed has the case "".
        missing: Of a few-label comparison, the cells that are not done: failed, or left to other shards.
    """

    scores: Sequence[Score] = ()
    comparisons: Sequence[Comparison] = ()
    table: ScoreTable | None = None
    failed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing: Sequence[Cell] = ()

    def sheet(self) -> Sheet:
        """Return scores with their intervals, and what each comparison says."""
        heads, rows = score_rows(self.scores) if self.scores else ((), ())
        told = {
            f"{group[0].arm} against {group[0].baseline}": sentences(group)[1]
            for group in told_together(self.comparisons)
        }
        return Sheet.of(type(self).__name__, {**told, **self._ending()}, heads, rows)

    def as_figures(self) -> dict[str, Any]:
        """Return scores and comparisons for the JSON of the command line."""
        return {"scores": as_json(self.scores), "comparisons": as_json(self.comparisons)}

    def score(self, arm: str, metric: str, *, target: str = "", how: str = "", labels: int | None = None) -> Score:
        """Return one score.

        Raises:
            StopIteration: There is none.
        """
        wanted = (arm, metric, target, how, labels)
        return next(s for s in self.scores if (s.arm, s.metric, s.target, s.how, s.labels) == wanted)


def found_in(
    table: ScoreTable,
    pairs: Sequence[tuple[str, str]] | str,
    *,
    metrics: Sequence[str],
    compared: Sequence[str],
    level: float,
    unit: str = "patient",
    pooled: bool = True,
    targets: bool = False,
    overlap: Mapping[int, float] | None = None,
    change: Callable[[str, str], str] | None = None,
) -> Scored:
    """Return the scores and comparisons of a table; see ``scores_of`` and ``compare``.

    Args:
        table: The scores.
        pairs: (arm, baseline) each, or the baseline of all.
        metrics: Metrics that are summarised.
        compared: Those that are compared.
        level: Confidence level.
        unit: What the patients' axis counts.
        pooled: Whether METHOD-seed0, METHOD-seed1, ... are runs of one arm.
        targets: Whether each structure gets scores of its own.
        overlap: For each number of labelled patients the share that two draws have in common.
        change: Returns what was changed between an arm and a baseline, as a noun.
    """
    return Scored(
        scores=scores_of(
            table,
            metrics=metrics,
            level=level,
            unit=unit,
            pooled=pooled,
            targets=targets,
            overlap=overlap,
        ),
        comparisons=compare(
            table,
            pairs,
            metrics=compared,
            level=level,
            unit=unit,
            pooled=pooled,
            overlap=overlap,
            change=change,
        ),
        table=table,
    )


def show_comparisons(found: Scored, *, unit: str, against: str = "", of: str = "") -> None:
    """Show the table of comparisons, and what each arm's first metric says in words.

    Args:
        found: The comparisons.
        unit: What the patients' axis counts.
        against: What the baseline is, in words.
        of: What the metric is of, in words.
    """
    if not found.comparisons:
        return
    told = f"Against {against}, on the same {unit}s and draws" if against else f"Paired, by {unit}"
    told += (
        f" [{header([row.difference for row in found.comparisons], unit=unit)}; p of the same t, Holm over the table]"
    )
    events.table(told, *comparison_rows(found.comparisons), key="comparisons")
    for rows in told_together(found.comparisons):
        events.message(sentences(rows, of=of)[1])


def show_notes(found: Scored, metrics: Sequence[str]) -> None:
    """Say what has no interval and why, and what the metrics are."""
    for note in notes_of(found.scores, found.comparisons):
        events.warning(note)
    for name in metrics:
        events.message(f"{metric_of(name).words}: {METRICS[name].definition}")


def write_scores(
    found: Scored, out: Path, name: str, *, kind: str, unit: str, metrics: Sequence[str], content: Mapping[str, Any]
) -> list[Path]:
    """Write scores.parquet, and NAME with the scores and comparisons that are computed from it.

    Scores of another evaluation that lie there are moved aside first.

    Args:
        found: What was found.
        out: The folder.
        name: Name of the summary.
        kind: "segmentation", "classification", "parts" or "probe".
        unit: What the patients' axis counts.
        metrics: Metrics whose definitions are written.
        content: What the summary says beside that.
    """
    table, summary = out / SCORES, out / name
    assert found.table is not None
    keep_earlier(out, found.table, name)
    found.table.write(table)
    full = {
        "kind": kind,
        "unit": unit,
        **content,
        "definitions": {**definitions_of(metrics), **content.get("definitions", {})},
        "scores": found.scores,
        "comparisons": found.comparisons,
    }
    write_summary(summary, full)
    return [table, summary]


def cell_lines(table: ScoreTable, metrics: Sequence[str]) -> str:
    """Return one line of CSV a run, draw and seed: how, n, arm, draw, seed and its score of every metric."""
    lines: dict[tuple[Any, ...], list[str]] = {}
    groups = table.frame.select("how", "labels").unique(maintain_order=True).rows()
    for place, metric in enumerate(metrics):
        for how, labels in groups:
            arms = cells_of(table, metric_of(metric), how=how, labels=labels, pooled=False)
            for arm, cells in arms.items():
                for (draw, seed), score in cells.single_scores(arm).items():
                    line = lines.setdefault((how, labels, arm, draw, seed), [""] * len(metrics))
                    line[place] = "" if score != score else f"{score:.5f}"
    return csv_text(["how", "n", "arm", "draw", "seed", *metrics], [[*key, *line] for key, line in lines.items()])


def show_scores(found: Scored, *, title: str, unit: str, baseline: str = "", key: str = "") -> None:
    """Show the table of scores."""
    told = header([score.interval for score in found.scores], unit=unit)
    heads, rows = score_rows(found.scores, baseline=baseline)
    events.table(f"{title} [{told}]", heads, rows, key=f"scores_{key}" if key else "scores")
