"""What a score is held against where nothing was learned: chance, and always naming the most frequent class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medssl.evaluation.score_table import ScoreTable

__all__ = ["MAJORITY", "Chance", "chance_of"]

MAJORITY = "always the most frequent class"
_BY_CHANCE = "by chance"


@dataclass(frozen=True)
class Chance:
    """A score without learning, and how it is come by, in words."""

    value: float
    words: str


def chance_of(metric: str, content: Mapping[str, Any], table: ScoreTable | None) -> Chance | None:
    """Return what no learning scores; None where nothing says it.

    Args:
        metric: The metric.
        content: The summary; parts of clouds say it there.
        table: The rows; of classifiers it is computed from them.
    """
    said = content.get("majority") or {}
    if metric in said:
        return Chance(float(said[metric]), "always the most frequent part")
    if metric == "auroc":
        return Chance(0.5, _BY_CHANCE)
    shares = _shares(table)
    if not shares:
        return None
    if metric == "balanced_accuracy":
        return Chance(1 / len(shares), _BY_CHANCE)
    if metric == "accuracy":
        return Chance(max(shares), MAJORITY)
    if metric == "auprc":
        share = shares[1] if len(shares) == 2 else sum(shares) / len(shares)
        return Chance(share, _BY_CHANCE)
    return None


def _shares(table: ScoreTable | None) -> list[float]:
    """Return the share of cases of each class that they show, in the order of the classes."""
    if table is None:
        return []
    import polars as pl

    first = (pl.col("metric") == "truth") & (pl.col("run") == table.runs[0])
    counts = table.frame.filter(first).group_by("target", maintain_order=True).agg(pl.col("value").sum())["value"]
    total = float(counts.sum() or 0)
    return [float(n) / total for n in counts if n] if total else []
