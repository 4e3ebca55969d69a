"""What a report says first of classifiers, computed from their tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medssl.evaluation.class_arms import ArmComparison, ArmScore, ArmTable
from medssl.evaluation.wording import interval_text
from medssl.reporting.intervals import interval_of, number_of
from medssl.reporting.material import Material
from medssl.reporting.words import name_of

__all__ = ["arm_table_of", "class_sentences"]

_LEVEL = 0.05


def class_sentences(material: Material) -> list[tuple[str, str]]:
    """Return sentences on comparisons over labelled patients, and on single classifiers; without a verdict."""
    told = [text for _, content in material.class_arms for text in _arm_sentences(content)]
    told += [text for _, content in material.class_scores for text in _score_sentences(content)]
    return [("", text) for text in told]


def _arm_sentences(content: Mapping[str, Any]) -> list[str]:
    """Return for each method of a comparison of classifiers at how many sizes it is ahead or behind."""
    table = content["table"]
    told = []
    for arm, how in dict.fromkeys((c["arm"], c["how"]) for c in table["comparisons"]):
        own = [c for c in table["comparisons"] if (c["arm"], c["how"]) == (arm, how)]
        sign = -1 if table["metric"] == "brier" else 1
        ahead, behind = (
            [
                c["n"]
                for c in own
                if number_of(c["p_holm"]) < _LEVEL and side * sign * interval_of(c["difference"]).estimate > 0
            ]
            for side in (1, -1)
        )
        parts = [f"{word} {own[0]['baseline']} at {', '.join(map(str, sizes))}"
                 for word, sizes in (("ahead of", ahead), ("behind", behind)) if sizes]  # fmt: skip
        said = " and ".join(parts) or f"not told apart from {own[0]['baseline']} at any number"
        owner = content.get("unit", "patient")
        told.append(f"{arm} ({how}, {name_of(table['metric'])}): {said} of labelled {owner}s.")
    return told


def _score_sentences(content: Mapping[str, Any]) -> list[str]:
    """Return AUROC and balanced accuracy of each classifier."""
    told = []
    for name, run in content.get("runs", {}).items():
        parts = [f"{name_of(m)} {interval_text(interval_of(run['scores'][m]))}" for m in ("auroc", "balanced_accuracy")
                 if m in run["scores"]]  # fmt: skip
        told.append(f"{name}: {', '.join(parts)}.")
    return told


def arm_table_of(content: Mapping[str, Any]) -> ArmTable:
    """Return a table of classifiers of what JSON holds of it."""
    scores = [
        ArmScore(**{**row, "mean": interval_of(row["mean"]), "run_means": tuple(row["run_means"]),
                    "draw_means": tuple(row["draw_means"])})
        for row in content["scores"]
    ]  # fmt: skip
    comparisons = [
        ArmComparison(**{**row, "difference": interval_of(row["difference"]), "run_means": tuple(row["run_means"])})
        for row in content["comparisons"]
    ]
    return ArmTable(
        metric=content["metric"],
        patients=content["patients"],
        scores=tuple(scores),
        comparisons=tuple(comparisons),
    )
