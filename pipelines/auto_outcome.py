"""What a comparison says, in one honest sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Outcome", "outcome_of"]

_METRICS = {  # kind of scores.json -> name and words of what is compared
    "": ("dice", "Dice"),
    "classification": ("auroc", "AUROC (of several classes the mean of one against the rest)"),
    "parts": ("instance_miou", "Mean IoU of parts"),
}
_FEWEST = 6  # patients of which a two-sided Wilcoxon test can reach p < 0.05: 2 / 2**6


@dataclass(frozen=True)
class Outcome:
    """Scores of two arms on the same patients.

    Attributes:
        facts: ``patients``; ``metric``, and under its name (``dice``, ``auroc``, ``instance_miou``) each arm's, and
            ``difference``, as [estimate, low, high]; ``p``; ``verdict`` ("better", "worse" or "open").
        sentence: The same in words.
    """

    facts: dict[str, Any]
    sentence: str


def outcome_of(scores: Path, *, arm: str, baseline: str, owners: str = "patients") -> Outcome:
    """Read what ``evaluate`` wrote, and say what it means.

    Args:
        scores: scores.json, class_scores.json or part_scores.json of a run that was tested against another.
        arm: The run's name there.
        baseline: The other's.
        owners: What those are called that the scores are of.

    Raises:
        StopIteration: The file holds no comparison of these two.
    """
    content = json.loads(scores.read_text(encoding="utf-8"))
    metric, words = _METRICS[content.get("kind", "")]
    own = {name: _interval(_score_of(content["runs"][name], metric)) for name in (arm, baseline)}
    row = next(
        c for c in content["comparisons"]
        if (c["arm"], c["baseline"]) == (arm, baseline) and c.get("metric", metric) == metric
    )  # fmt: skip
    told, p = (row["difference"], row["p"]) if "difference" in row else (row["result"]["mean"], row["result"]["p"])
    difference, p, patients = _interval(told), float("nan") if p is None else float(p), int(told["cases"])
    if math.isnan(difference[0]):
        sentence = f"{words} is not defined on the {patients} test {owners}: of a class there is none or no other."
        return Outcome({"patients": patients, "metric": metric, metric: own, "verdict": "open"}, sentence)
    facts = {"patients": patients, "metric": metric, metric: own, "difference": difference, "p": p,
             "verdict": _verdict(difference, p)}  # fmt: skip
    return Outcome(facts, _sentence(facts, arm, baseline, words, owners))


def _score_of(run: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (
        run["structures"][-1]["intervals"][metric] if "structures" in run else run["scores"][metric]
    )
    return found


def _interval(row: Mapping[str, Any]) -> tuple[float, float, float]:
    estimate, low, high = (float("nan") if row[key] is None else float(row[key]) for key in ("estimate", "low", "high"))
    return estimate, low, high


def _verdict(difference: tuple[float, float, float], p: float) -> str:
    _, low, high = difference
    if math.isnan(low) or low <= 0 <= high or p >= 0.05:
        return "open"
    return "better" if low > 0 else "worse"


def _sentence(facts: Mapping[str, Any], arm: str, baseline: str, words: str, owners: str) -> str:
    patients, (gap, low, high) = facts["patients"], facts["difference"]

    def shown(value: tuple[float, float, float]) -> str:
        return f"{value[0]:.3f}" if math.isnan(value[1]) else f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"

    own = facts[facts["metric"]]
    said = (
        f"{words} on {patients} test {owners}: {arm} {shown(own[arm])}, {baseline} {shown(own[baseline])}; "
        f"difference {gap:+.3f}"
    )
    said += "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    said += "" if math.isnan(facts["p"]) else f", p = {facts['p']:.2g}"
    meaning = {
        "better": f"On these {owners} and with these labels, pretraining helped. Other draws of labels differ.",
        "worse": f"On these {owners} pretraining did harm. Train it longer, or take another method.",
        "open": f"That is no difference that can be told from chance here: more test {owners}, longer pretraining or "
        "several draws of labels would say more.",
    }[facts["verdict"]]
    if facts["verdict"] == "open" and low * high > 0 and patients < _FEWEST:
        meaning = (
            f"The interval leaves 0 out, but {patients} {owners} cannot settle it: no paired test of fewer than "
            f"{_FEWEST} reaches p < 0.05. More test {owners} would."
        )
    return f"{said}.\n{meaning}"
