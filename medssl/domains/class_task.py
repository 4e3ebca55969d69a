"""The task of classifying, whatever is classified: a table of probabilities, scored by patient.

Where all cases of each patient have one class, a patient's probabilities are averaged first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medssl.domains.task import RunScores, Task, silent
from medssl.engine.card import load_card
from medssl.errors import DataError, MedSSLError
from medssl.evaluation.calibration import DECISION, Decision, decision_words
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.classes import confusion, reliability, roc_curve
from medssl.evaluation.metrics import AVERAGED, CLASS_METRICS, THRESHOLD, UNITS
from medssl.evaluation.score_table import ScoreTable
from medssl.spreadsheet import rows_of_csv

__all__ = ["PREDICTIONS", "ClassTask", "read_predictions"]

PREDICTIONS = "predictions.csv"
_SHOWN = 3  # examples right, and as many wrong


def read_predictions(run: Path, split: str) -> tuple[ClassPredictions, Decision]:
    """Read the predictions of one split whose class is known, and how they were decided.

    Raises:
        DataError: The table or the decision is missing or damaged, or has no known case in the split.
    """
    path = run / PREDICTIONS
    try:
        decision = Decision(**json.loads((run / DECISION).read_text(encoding="utf-8")))
        with path.open(newline="", encoding="utf-8") as file:
            listed = list(rows_of_csv(file))
        classes = tuple(head.removeprefix("p_") for head in (listed[0] if listed else ()) if head.startswith("p_"))
        rows = [row for row in listed if row["split"] == split and row["truth"]]
        numbers = {name: number for number, name in enumerate(classes)}
        truth = np.array([numbers[row["truth"]] for row in rows], dtype=np.int64)
        predicted = np.array([numbers[row["predicted"]] for row in rows], dtype=np.int64)
        probability = np.array([[float(row[f"p_{name}"]) for name in classes] for row in rows])
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a table of predicted classes ({error}). Make it with: medssl finetune") from error
    if not rows:
        raise DataError(f"{path}: no case of known class is in the split '{split}'. Choose another with split=NAME.")
    keys = tuple(f"{row['id']}:{row['slice']}" for row in rows)
    return ClassPredictions(keys, tuple(r["patient"] for r in rows), truth, probability, predicted, classes), decision


class ClassTask(Task):
    """Classification; what has a class, and by which settings, is left to the kinds of data."""

    name = "classification"
    kind = "classification"
    maker = "classifier"
    summary = "class_scores.json"
    metrics = CLASS_METRICS
    metric = "auroc"

    def claims(self, run: Path) -> bool:
        """Tell whether a folder holds a table of predicted classes."""
        return (run / PREDICTIONS).is_file() and (run / DECISION).is_file()

    def test_set(self, data: Path, settings: Any, runs: Sequence[Path] = ()) -> str:
        """Return the split: the truth stands beside the predictions."""
        return settings.split or "test"

    def described(self, test: str, run: Path) -> str:
        """Return how many cases of how many patients are scored."""
        cases, _ = read_predictions(run, test)
        patients = len(set(cases.patients))
        own = self.noun == "cloud" and patients == len(cases)
        return f"{len(cases)} {self.noun}s{'' if own else f' of {patients} patients'} of the split '{test}'"

    def score(self, run: Path, test: str, progress: Callable[[str], None] = silent) -> RunScores:
        """Score the cases of the split."""
        every, decision = read_predictions(run, test)
        cases = every.by_patient(decision)
        return RunScores(
            table=ScoreTable.of_classes(cases, run=""),
            items=len(every),
            facts={
                "classes": cases.classes,
                "decision": asdict(decision),
                "majority": _majority(cases),
                "confusion": confusion(cases.truth, cases.predicted, len(cases.classes)).tolist(),
                "reliability": _reliability(cases),
                "roc": _roc(cases),
                "examples": _examples(every),
            },
            kept=(cases, decision),
        )

    def compared(self, settings: Any) -> tuple[str, ...]:
        """Return a metric of ranks, one of decisions, one of probabilities."""
        return "auroc", "balanced_accuracy", "brier"

    def lines(self, test: str, scored: Mapping[str, RunScores]) -> list[tuple[str, bool]]:
        """Return what naming the most frequent class would score, and what one class alone cannot give."""
        cases: ClassPredictions = next(iter(scored.values())).kept[0]
        known = [cases.classes[number] for number in np.unique(cases.truth)]
        several = len(known) > 1
        told = [
            (
                f"always naming the most frequent class would be right in {_majority(cases):.3f} of cases"
                f"{', and has AUROC 0.5' if several else ''}",
                False,
            )
        ]
        if several and len(known) < len(cases.classes):
            told.append(
                (
                    f"scores are over {len(known)} of {len(cases.classes)} classes: the split '{test}' shows no "
                    f"other than {', '.join(known)}",
                    False,
                )
            )
        lacking = sorted({name for own in scored.values() for name, v in own.kept[0].scores().items() if np.isnan(v)})
        if lacking:
            told.append(
                (
                    f"{', '.join(lacking)}: not defined, for all cases of the split '{test}' are of one class "
                    f"({', '.join(known)}). Run index again with stratify=TARGET fresh=true, or with a larger share "
                    "for it.",
                    True,
                )
            )
        told += [(f"{name}: {decision_words(own.kept[1], cases.classes)}", False) for name, own in scored.items()]
        return told

    def target(self, run: Path) -> dict[str, Any]:
        """Return what a classifier distinguishes: its target, or what a scan shows."""
        try:
            card = load_card(run)
        except MedSSLError:
            return {}  # a folder of predictions of another tool
        settings = card.method.get("settings") or {}
        seen = "slice" if settings.get("level") == "slice" else "scan"
        if card.kind == "cloud":
            found = "the class of a cloud"
        elif settings.get("shows") is not None:
            found = f"whether a {seen} shows structure {settings['shows']}"
        else:
            found = str(settings.get("target") or "")
        return {"target": found}

    def content(self, test: str, scored: Mapping[str, RunScores]) -> dict[str, Any]:
        """Return the classes."""
        return {"classes": list(next(iter(scored.values())).kept[0].classes)}

    def definitions(self, unit: str) -> dict[str, str]:
        """Return what is averaged, and where the threshold comes from."""
        averaged = {"probabilities": AVERAGED} if unit == "patient" else {}
        return {"unit": UNITS[unit], **averaged, "threshold": THRESHOLD}


def _majority(cases: ClassPredictions) -> float:
    """Return the share of the most frequent class: the accuracy of always naming it."""
    return float(np.bincount(cases.truth).max() / len(cases))


def _reliability(cases: ClassPredictions) -> list[dict[str, float]]:
    counts, confidence, right = reliability(cases.probability, cases.truth)
    return [
        {"cases": int(n), "confidence": float(c), "accuracy": float(a)}
        for n, c, a in zip(counts, confidence, right, strict=True)
    ]


def _roc(cases: ClassPredictions) -> list[tuple[float, float]]:
    """Return the ROC curve of two classes; nothing of more."""
    if len(cases.classes) != 2 or len(np.unique(cases.truth)) < 2:
        return []
    false, true = roc_curve(cases.probability[:, 1], cases.truth == 1)
    return [(float(x), float(y)) for x, y in zip(false, true, strict=True)]


def _examples(cases: ClassPredictions) -> list[dict[str, object]]:
    """Return the surest cases that are right, and those that are wrong: at most one a patient of either."""
    sure = cases.probability[np.arange(len(cases)), cases.predicted]
    found: list[dict[str, object]] = []
    for right in (True, False):
        seen: set[str] = set()
        for row in np.argsort(-sure, kind="stable"):
            wrong_kind = (cases.truth[row] == cases.predicted[row]) != right
            if wrong_kind or cases.patients[row] in seen or len(seen) == _SHOWN:
                continue
            seen.add(cases.patients[row])
            scan, _, place = cases.keys[row].rpartition(":")
            found.append(
                {
                    "id": scan,
                    "slice": int(place) if place else None,
                    "truth": cases.classes[cases.truth[row]],
                    "predicted": cases.classes[cases.predicted[row]],
                    "probability": float(sure[row]),
                }
            )
    return found
