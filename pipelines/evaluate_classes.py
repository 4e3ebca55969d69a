"""``medssl evaluate`` for classifiers: scores of their tables of predictions, with intervals and paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from medssl.errors import DataError
from medssl.evaluation.calibration import DECISION, Decision, decision_words
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.classes import confusion, reliability, roc_curve
from medssl.evaluation.metrics import AVERAGED, CLASS_METRICS, THRESHOLD, UNITS
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.naming import of_what
from medssl.evaluation.statistics.summary_file import as_json
from medssl.quoting import quoted
from medssl.reporting.prose import counted, owner_of
from medssl.spreadsheet import rows_of_csv
from pipelines import console
from pipelines.predict_command import predict_command
from pipelines.run_classes import change_between, labelled_patients_of, target_of
from pipelines.score_files import Scored, found_in, show_comparisons, show_notes, show_scores, write_scores

__all__ = ["evaluate_classes", "is_classification", "read_predictions"]

PREDICTIONS = "predictions.csv"
_COMPARED = ("auroc", "balanced_accuracy", "brier")
_SHOWN = 3  # examples right, and as many wrong


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
) -> Scored:
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
    decisions: dict[str, Decision] = {}
    for name, folder in runs.items():
        raw[name], decisions[name] = read_predictions(folder, split)
        cases[name] = raw[name].by_patient(decisions[name])
    first = next(iter(cases))
    patients = len(set(cases[first].patients))
    owner = owner_of(len(raw[first]), noun, patients)
    shown = f"{len(raw[first])} cases of {patients} patients" if owner == "patient" else counted(patients, owner)
    console.say(f"{shown} of the split '{split}'; runs: {', '.join(runs)}")
    if dry_run:
        console.done(None, "")
        return Scored()
    labels = labelled_patients_of(runs.values())
    found = found_in(
        ScoreTable.joined(ScoreTable.of_classes(own, run=name, labels=labels) for name, own in cases.items()),
        [(first, name) for name in cases if name != first], metrics=CLASS_METRICS, compared=_COMPARED, level=level,
        unit=owner, pooled=False, change=change_between(runs),
    )  # fmt: skip
    if owner == "patient":
        one = "one case a patient" if cases[first].one_a_patient else f"{len(cases[first])} cases"
        shown = f"{patients} patients, {one}"
    show_scores(found, title=shown, unit=owner)
    known = [cases[first].classes[number] for number in np.unique(cases[first].truth)]
    console.say(f"always naming the most frequent class would be right in {_majority(cases[first]):.3f} of cases"
                f"{', and has AUROC 0.5' if len(known) > 1 else ''}")  # fmt: skip
    if len(known) < len(cases[first].classes) and len(known) > 1:
        console.say(f"scores are over {len(known)} of {len(cases[first].classes)} classes: the split '{split}' shows "
                    f"no other than {', '.join(known)}")  # fmt: skip
    lacking = sorted({score.metric for score in found.scores if np.isnan(score.interval.estimate)})
    if lacking:
        console.warn(
            f"{', '.join(lacking)}: not defined, for all cases of the split '{split}' are of one class "
            f"({', '.join(known)}). Index anew with stratify=TARGET fresh=true, or with a larger share for it."
        )
    classes = list(cases[first].classes)
    what = {"kind": "classification", "target": target_of(runs[first]), "classes": classes}
    show_comparisons(found, unit=owner, of=of_what(what, found.table))
    for name, decision in decisions.items():
        console.say(f"{name}: {decision_words(decision, cases[name].classes)}")
    show_notes(found, CLASS_METRICS)
    averaged = {"probabilities": AVERAGED} if owner == "patient" else {}
    definitions = {"unit": UNITS[owner], **averaged, "threshold": THRESHOLD}
    for name, text in definitions.items():
        console.say(f"{name}: {text}")
    content = {
        "split": split,
        "target": what["target"],
        "classes": classes,
        "definitions": definitions,
        "runs": {
            name: {
                "classes": own.classes,
                "decision": decisions[name],
                "majority": _majority(own),
                "confusion": confusion(own.truth, own.predicted, len(own.classes)).tolist(),
                "reliability": _reliability(own),
                "roc": _roc(own),
                "examples": _examples(raw[name]),
            }
            for name, own in cases.items()
        },
    }
    files = write_scores(
        found, out, "class_scores.json", kind="classification", unit=owner, metrics=CLASS_METRICS, content=content
    )
    console.done(
        files,
        f"medssl report {quoted(*runs.values())}",
        on_new=predict_command(next(iter(runs.values()))),
        scores=as_json(found.scores),
        comparisons=as_json(found.comparisons),
    )
    return replace(found, files=files)


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
