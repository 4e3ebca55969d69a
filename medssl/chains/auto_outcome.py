"""What a comparison says at the end of ``medssl auto``: the verdict that `evaluate` wrote, and what follows from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.evaluation.score_table import SCORES, ScoreTable
from medssl.evaluation.statistics.comparison import first_metric
from medssl.evaluation.statistics.naming import of_what
from medssl.evaluation.statistics.summary_file import comparisons_in, scores_in
from medssl.evaluation.statistics.wording import interval_text, sentence

__all__ = ["Outcome", "outcome_of"]

_ADVICE = {
    "better": "Other draws of labels, and other pretraining runs, may differ.",
    "worse": "Train it longer, or use another method.",
    "inconclusive": "More test {unit}s, longer pretraining, or several draws of labels and runs would tell more.",
}


@dataclass(frozen=True)
class Outcome:
    """Scores of two arms on the same patients.

    Attributes:
        facts: ``patients``; ``metric``, and under its name (``dice``, ``auroc``, ``instance_miou``) each arm's, and
            ``difference``, as [estimate, low, high]; ``p`` and ``p_holm``; ``verdict`` ("better", "worse" or
            "inconclusive").
        sentence: The same in words.
    """

    facts: dict[str, Any]
    sentence: str


def outcome_of(scores: Path, *, arm: str, baseline: str) -> Outcome:
    """Read what ``evaluate`` wrote, and say what it means.

    Args:
        scores: scores.json, class_scores.json or part_scores.json of a run that was compared with another.
        arm: The run's name there.
        baseline: The other's.

    Raises:
        DataError: The file is of an earlier release.
        StopIteration: The file holds no comparison of these two.
    """
    content = json.loads(scores.read_text(encoding="utf-8"))
    rows = [row for row in comparisons_in(content, scores) if (row.arm, row.baseline) == (arm, baseline)]
    row = next(row for row in rows if row.metric == first_metric(rows))
    beside = scores.parent / SCORES
    table = ScoreTable.read(beside) if beside.is_file() else None
    own = {
        score.arm: score.interval
        for score in scores_in(content, scores)
        if score.metric == row.metric and score.target == row.target and score.arm in (arm, baseline)
    }
    found = row.difference
    facts = {
        "patients": found.patients,
        "metric": row.metric,
        row.metric: {name: (i.estimate, i.low, i.high) for name, i in own.items()},
        "difference": (found.estimate, found.low, found.high),
        "p": row.p,
        "p_holm": row.p_holm,
        "verdict": row.verdict,
    }
    told = ", ".join(f"{name} {interval_text(own[name], digits=row.of.digits)}" for name in (arm, baseline))
    answer = sentence(row, of=of_what(content, table))
    said = f"{row.of.words}: {told}.\n{answer}\n{_ADVICE[row.verdict].format(unit=row.unit)}"
    return Outcome(facts, said)
