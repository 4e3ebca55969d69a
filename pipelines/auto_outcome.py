"""What a comparison says, in one honest sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Outcome", "outcome_of"]

_FEWEST = 6  # patients of which a two-sided Wilcoxon test can reach p < 0.05: 2 / 2**6


@dataclass(frozen=True)
class Outcome:
    """Dice of two arms on the same patients.

    Attributes:
        facts: ``patients``; ``dice`` of each arm and ``difference`` as [estimate, low, high]; ``p``; ``verdict``
            ("better", "worse" or "open").
        sentence: The same in words.
    """

    facts: dict[str, Any]
    sentence: str


def outcome_of(scores: Path, *, arm: str, baseline: str) -> Outcome:
    """Read what ``evaluate`` wrote, and say what it means.

    Args:
        scores: scores.json of a run that was tested against another.
        arm: The run's name there.
        baseline: The other's.

    Raises:
        StopIteration: The file holds no comparison of these two.
    """
    content = json.loads(scores.read_text(encoding="utf-8"))
    dice = {name: _interval(content["runs"][name]["structures"][-1]["intervals"]["dice"]) for name in (arm, baseline)}
    row = next(c for c in content["comparisons"] if (c["arm"], c["baseline"], c["metric"]) == (arm, baseline, "dice"))
    difference = _interval(row["result"]["mean"])
    p = float(row["result"]["p"])
    patients = int(row["result"]["mean"]["cases"])
    verdict = _verdict(difference, p)
    facts = {"patients": patients, "dice": dice, "difference": difference, "p": p, "verdict": verdict}
    return Outcome(facts, _sentence(facts, arm, baseline))


def _interval(row: Mapping[str, Any]) -> tuple[float, float, float]:
    low, high = (float("nan") if row[key] is None else float(row[key]) for key in ("low", "high"))
    return float(row["estimate"]), low, high


def _verdict(difference: tuple[float, float, float], p: float) -> str:
    _, low, high = difference
    if math.isnan(low) or low <= 0 <= high or p >= 0.05:
        return "open"
    return "better" if low > 0 else "worse"


def _sentence(facts: Mapping[str, Any], arm: str, baseline: str) -> str:
    patients, (gap, low, high) = facts["patients"], facts["difference"]

    def shown(value: tuple[float, float, float]) -> str:
        return f"{value[0]:.3f}" if math.isnan(value[1]) else f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"

    said = (
        f"Dice on {patients} test patients: {arm} {shown(facts['dice'][arm])}, {baseline} "
        f"{shown(facts['dice'][baseline])}; difference {gap:+.3f}"
    )
    said += "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}], p = {facts['p']:.2g}"
    meaning = {
        "better": "On these patients and with these labels, pretraining helped. Other draws of labels differ.",
        "worse": "On these patients pretraining did harm. Train it longer, or take another method.",
        "open": "That is no difference that can be told from chance here: more test patients, longer pretraining or "
        "several draws of labels would say more.",
    }[facts["verdict"]]
    if facts["verdict"] == "open" and low * high > 0 and patients < _FEWEST:
        meaning = (
            f"The interval leaves 0 out, but {patients} patients cannot settle it: no paired test of fewer than "
            f"{_FEWEST} reaches p < 0.05. More test patients would."
        )
    return f"{said}.\n{meaning}"
