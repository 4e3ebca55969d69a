"""``medssl evaluate`` for classifiers: scores of their tables of predictions, with intervals and paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.errors import DataError
from medssl.evaluation.calibration import Decision
from medssl.evaluation.class_summary import ClassComparison, ClassPredictions, compare_classifiers, summarise_classes
from medssl.evaluation.classes import CLASS_DEFINITIONS, CLASS_METRICS, confusion, reliability, roc_curve
from medssl.evaluation.intervals import Interval
from medssl.evaluation.summary import as_json
from medssl.evaluation.wording import interval_text, p_text
from medssl.quoting import quoted
from medssl.reporting.words import counted, owner_of
from medssl.spreadsheet import rows_of_csv
from pipelines import console
from pipelines.predict_command import predict_command

__all__ = ["ClassEvaluation", "evaluate_classes", "is_classification", "read_predictions"]

PREDICTIONS = "predictions.csv"
DECISION = "decision.json"
_SHOWN = 3  # examples right, and as many wrong

_OBJECTS = "the cloud, each an object of its own: intervals and tests resample clouds."


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """What was found.

    Attributes:
        summaries: Metric -> score with its interval, for each run.
        comparisons: The first run against each of the others.
        summary: class_scores.json; None for a dry run.
    """

    summaries: Mapping[str, Mapping[str, Interval]]
    comparisons: Sequence[ClassComparison]
    summary: Path | None = None


def is_classification(run: Path) -> bool:
    """Tell whether a folder holds a table of predicted classes."""
    return (run / PREDICTIONS).is_file() and (run / DECISION).is_file()


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


def evaluate_classes(
    runs: Mapping[str, Path], out: Path, *, split: str, level: float, noun: str = "scan", dry_run: bool = False
) -> ClassEvaluation:
    """Score the predictions of classifiers, and test the first against the others.

    Where all cases of each patient have one class, a patient's probabilities are averaged first.

    Args:
        runs: Folders of classification runs, by name; the first is compared with the others.
        out: Where class_scores.json goes.
        split: The split to score.
        level: Confidence level of the intervals.
        noun: What was classified, "scan" or "cloud".
        dry_run: Say what would be done; write nothing.

    Raises:
        DataError: A table cannot be read, or two runs cannot be compared.
    """
    cases: dict[str, ClassPredictions] = {}
    raw: dict[str, ClassPredictions] = {}
    for name, folder in runs.items():
        raw[name], decision = read_predictions(folder, split)
        cases[name] = raw[name].by_patient(decision)
    first = next(iter(cases))
    patients = len(set(cases[first].patients))
    owner = owner_of(len(raw[first]), noun, patients)
    shown = f"{len(raw[first])} cases of {patients} patients" if owner == "patient" else counted(patients, owner)
    console.say(f"{shown} of the split '{split}'; runs: {', '.join(runs)}")
    if dry_run:
        console.done(None, "")
        return ClassEvaluation(summaries={}, comparisons=())
    summaries = {name: summarise_classes(found, level=level) for name, found in cases.items()}
    comparisons = compare_classifiers(cases, [(first, name) for name in cases if name != first], level=level)
    if owner == "patient":
        one = "one case a patient" if cases[first].one_a_patient else f"{len(cases[first])} cases"
        shown = f"{patients} patients, {one}"
    console.table(
        f"{shown} [{100 * level:g} % bootstrap interval over {owner}s]",
        ["run", *CLASS_METRICS],
        [[name, *(interval_text(found[metric]) for metric in CLASS_METRICS)] for name, found in summaries.items()],
        key="scores",
    )
    lacking = sorted({metric for found in summaries.values() for metric in CLASS_METRICS
                      if np.isnan(found[metric].estimate)})  # fmt: skip
    if lacking:
        known = sorted({cases[first].classes[number] for number in cases[first].truth})
        console.warn(
            f"{', '.join(lacking)}: not defined, for all cases of the split '{split}' are of one class "
            f"({', '.join(known)}). Index anew with stratify=TARGET fresh=true, or with a larger share for it."
        )
    if comparisons:
        console.table(
            f"Paired, by {owner} (Holm over the table)",
            ["run", "against", "metric", "difference", "p", "p Holm", "test"],
            [
                [c.arm, c.baseline, c.metric, interval_text(c.difference, signed=True), p_text(c.p), p_text(c.p_holm),
                 c.test]
                for c in comparisons
            ],
            key="comparison_table",
        )  # fmt: skip
    definitions = CLASS_DEFINITIONS | ({"unit": _OBJECTS} if owner == "cloud" else {})
    for name, text in definitions.items():
        console.say(f"{name}: {text}")
    content = {
        "kind": "classification",
        "unit": owner,
        "split": split,
        "definitions": definitions,
        "runs": {
            name: {
                "classes": cases[name].classes,
                "scores": found,
                "confusion": confusion(cases[name].truth, cases[name].predicted, len(cases[name].classes)).tolist(),
                "reliability": _reliability(cases[name]),
                "roc": _roc(cases[name]),
                "examples": _examples(raw[name]),
            }
            for name, found in summaries.items()
        },
        "comparisons": comparisons,
    }
    path = out / "class_scores.json"
    _write(path, json.dumps(as_json(content), indent=1, ensure_ascii=False, allow_nan=False))
    console.done(
        path,
        f"medssl report {quoted(*runs.values())}",
        on_new=predict_command(next(iter(runs.values()))),
        scores=as_json(summaries),
        comparisons=as_json(comparisons),
    )
    return ClassEvaluation(summaries=summaries, comparisons=comparisons, summary=path)


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
            if (
                (cases.truth[row] == cases.predicted[row]) != right
                or cases.patients[row] in seen
                or len(seen) == _SHOWN
            ):
                continue
            seen.add(cases.patients[row])
            scan, _, place = cases.keys[row].rpartition(":")
            found.append(
                {"id": scan, "slice": int(place) if place else None, "truth": cases.classes[cases.truth[row]],
                 "predicted": cases.classes[cases.predicted[row]], "probability": float(sure[row])}
            )  # fmt: skip
    return found


def _write(path: Path, text: str) -> None:
    from medssl.writing import written_aside

    with written_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
