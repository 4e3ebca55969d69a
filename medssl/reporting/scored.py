"""What an evaluation found, computed from scores.parquet; the JSON beside it says what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from medssl.errors import DataError, MedSSLError
from medssl.evaluation.few_label import SCRATCH
from medssl.evaluation.metrics import CLASS_METRICS, METRICS, PART_METRICS, SEGMENTATION_METRICS, definitions_of
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.evaluation.statistics.comparison import Comparison, Score, compare, scores_of
from medssl.evaluation.statistics.grid import method_of
from medssl.evaluation.statistics.summary_file import FORMAT, as_json, comparisons_in, scores_in

__all__ = ["Found", "found_of", "summary_of_table"]

_RANDOM = "random"
_KINDS = {  # a metric that rows of the kind have -> the kind, what is summarised, what is compared
    "dice": ("segmentation", SEGMENTATION_METRICS, ("dice", "hd95_mm", "nsd")),
    "probability": ("classification", CLASS_METRICS, ("auroc", "balanced_accuracy", "brier")),
    "shape_iou": ("parts", PART_METRICS, PART_METRICS[:1]),
}


@dataclass(frozen=True)
class Found:
    """Scores and comparisons of one evaluation.

    Attributes:
        scores: Every arm's scores.
        comparisons: Arms against each other.
        table: The rows; None where they are not there.
        note: Why they were not used; "" where they were, or are not there.
    """

    scores: Sequence[Score]
    comparisons: Sequence[Comparison]
    table: ScoreTable | None = None
    note: str = ""


def found_of(folder: Path, content: Mapping[str, Any]) -> Found:
    """Return what an evaluation found: of its rows where they are there, else as its summary says.

    Args:
        folder: Where scores.parquet and the summary lie.
        content: The summary: which metrics, arms and level were asked for.

    Raises:
        DataError: The summary is of an earlier release or damaged.
    """
    scores, rows = scores_in(content, folder), comparisons_in(content, folder)
    path = folder / SCORES
    if not path.is_file() or not scores:
        return Found(scores, rows)
    overlap = tuple((int(n), float(share)) for n, share in (content.get("overlap") or {}).items())
    unit = str(content.get("unit", "patient"))
    try:
        return _computed(path, path.stat().st_mtime_ns, tuple(scores), tuple(rows), unit, overlap)
    except MedSSLError as error:
        own = "the figures of the summary beside it are shown"
        return Found(scores, rows, None, f"{folder.resolve().name}: {own}: {error}")


def summary_of_table(path: Path) -> dict[str, Any]:
    """Return a summary of rows that have none beside them; what was asked is read off the rows.

    Every arm is compared with "scratch" or "random" where one is called so, else the first with the others.

    Raises:
        DataError: It is no table of scores, or of no kind that is known here.
    """
    table = ScoreTable.read(path)
    metrics = set(table.frame["metric"].unique())
    known = tuple(name for name in METRICS if name in metrics)
    kinds = [row for name, row in _KINDS.items() if name in metrics] + ([("", known, known[:1])] if known else [])
    if not kinds:
        raise DataError(f"{path}: scores of {', '.join(sorted(metrics))}, which no report is made of.")
    name, summarised, compared = kinds[0]
    arms = list(dict.fromkeys(method_of(run) for run in table.runs))
    base = next((arm for arm in (SCRATCH, _RANDOM) if arm in arms), "")
    pooled = len(arms) < len(table.runs)
    pairs: str | list[tuple[str, str]] = base or [(arms[0], other) for other in arms[1:]]
    scores = scores_of(table, metrics=summarised, pooled=pooled, targets=name == "segmentation")
    rows = compare(table, pairs, metrics=compared, pooled=pooled)
    return {
        "format": FORMAT,
        "kind": name,
        "unit": "patient",
        "baseline": base,
        "definitions": definitions_of(summarised),
        "scores": as_json(scores),
        "comparisons": as_json(rows),
    }


@lru_cache(maxsize=64)  # sections and headline ask for the same
def _computed(
    path: Path,
    written_ns: int,
    scores: tuple[Score, ...],
    rows: tuple[Comparison, ...],
    unit: str,
    overlap: tuple[tuple[int, float], ...],
) -> Found:
    """Compute what a summary holds from the rows at ``path``, which were written at ``written_ns``."""
    table = ScoreTable.read(path)
    arms = {score.arm for score in scores}
    pooled = not arms <= set(table.runs)
    if not arms <= ({method_of(run) for run in table.runs} if pooled else arms):
        raise DataError(f"{SCORES} is of another evaluation, of {', '.join(table.runs[:4])}")
    level, shared = scores[0].interval.level, dict(overlap)
    changes = {(row.arm, row.baseline): row.change for row in rows}
    return Found(
        scores_of(
            table,
            metrics=list(dict.fromkeys(score.metric for score in scores)),
            level=level,
            unit=unit,
            pooled=pooled,
            targets=any(score.target for score in scores),
            overlap=shared,
        ),
        compare(
            table,
            list(changes),
            metrics=list(dict.fromkeys(row.metric for row in rows)),
            level=level,
            unit=unit,
            pooled=pooled,
            overlap=shared,
            change=lambda arm, baseline: changes[arm, baseline],
        ),
        table,
    )
