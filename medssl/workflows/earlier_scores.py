"""Scores that another evaluation left in a folder are moved aside, and that is said: nothing is lost in silence."""

from __future__ import annotations

from pathlib import Path

from medssl.errors import DataError
from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.workflows import events

__all__ = ["SUMMARIES", "keep_earlier"]

SUMMARIES = ("scores.json", "class_scores.json", "part_scores.json", "probe.json", "few_label.json")
_BESIDE = ("part_examples.png", *(f"{name}.{end}" for name in ("probe", "few_label") for end in ("csv", "png")))
_KEY = ("run", "how", "seed", "draw", "labels", "item", "target", "metric")


def keep_earlier(out: Path, table: ScoreTable, name: str) -> Path | None:
    """Move what an earlier evaluation wrote aside where the new scores do not hold it all.

    Done again, or with more runs and cases, an evaluation takes the place of its earlier self.

    Args:
        out: The folder that scores are about to be written into.
        table: The new scores.
        name: Name of their summary.

    Returns:
        Where the earlier ones lie now; None where there were none, or none that would be lost.
    """
    there = [out / summary for summary in SUMMARIES if (out / summary).is_file()]
    old = out / SCORES
    if not old.is_file() and all(path.name == name for path in there):
        return None
    if all(path.name == name for path in there) and _held(old, table):
        return None
    number = next(n for n in range(1, 10_000) if not (out / f"earlier-scores-{n}").exists())
    aside = out / f"earlier-scores-{number}"
    aside.mkdir()
    for path in (old, *there, *(out / beside for beside in _BESIDE)):
        if path.is_file():
            path.rename(aside / path.name)
    events.warning(f"{out} held the scores of another evaluation; they are kept in {aside}")
    return aside


def _held(old: Path, table: ScoreTable) -> bool:
    """Return whether every figure of an earlier table has one in the new table."""
    try:
        earlier = ScoreTable.read(old).frame.select(_KEY)
    except DataError:
        return False  # of an earlier release or damaged: kept, for nobody can say what it holds
    return earlier.join(table.frame.select(_KEY), on=_KEY, how="anti", nulls_equal=True).is_empty()
