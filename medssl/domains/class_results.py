"""What every classifier's run leaves: how its logits are decided, a table of predictions, scores of the held-out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from medssl.domains.class_task import PREDICTIONS
from medssl.domains.learning import Finished, Learning, Told
from medssl.engine.run import Run
from medssl.evaluation.calibration import DECISION, Decision, decide, probabilities
from medssl.evaluation.class_logits import ClassLogits
from medssl.evaluation.classes import class_scores
from medssl.evaluation.metrics import CLASS_METRICS
from medssl.spreadsheet import csv_text

__all__ = ["finish_classes", "prediction_table", "write_classes"]


def finish_classes(
    learning: Learning,
    run: Run,
    told: Told,
    logits: Callable[[Any, str], ClassLogits],
    *,
    calibrate: bool,
    classes: Sequence[str],
) -> Finished:
    """Predict the held-out items and those to predict, on the first rank, and write what is decided of them.

    Args:
        learning: The run.
        run: Its folder.
        told: Who hears of it.
        logits: Returns the logits of a store, which is called "held-out" or "test".
        calibrate: Whether temperature and threshold are chosen.
        classes: What the logits stand for.
    """
    if not run.writes:
        return Finished((), None, None)
    held_out, asked = (
        None if store is None else logits(store, what)
        for store, what in ((learning.items.held_out, "held-out"), (learning.items.predict, "test"))
    )
    return write_classes(
        run,
        classes,
        held_out,
        asked,
        calibrate=calibrate,
        split=learning.settings.data.held_out_split,
        noun=learning.domain.noun,
        told=told,
    )


def write_classes(
    run: Run,
    classes: Sequence[str],
    held_out: ClassLogits | None,
    asked: ClassLogits | None,
    *,
    calibrate: bool,
    split: str,
    noun: str,
    told: Told,
) -> Finished:
    """Choose temperature and threshold on the held-out cases, and write the predictions.

    Args:
        run: The run's folder.
        classes: What the logits stand for.
        held_out: Logits of the held-out cases; None where there are none.
        asked: Logits of the cases to predict.
        calibrate: Whether anything is chosen.
        split: The held-out split's name.
        noun: What an item is called: "scan".
        told: Who hears of it.
    """
    decision = Decision(threshold=0.5 if len(classes) == 2 else None)
    if calibrate and held_out is not None:
        decision = decide(held_out.logits, held_out.truth)
    if not decision.cases:
        why = decision.why or f"no held-out {noun}"
        run.say(f"{why}: probabilities are not calibrated, and the likeliest class is predicted")
    scores = None if held_out is None else _scored(run, held_out, decision, split=split, noun=noun, told=told)
    run.write_text(DECISION, json.dumps(asdict(decision), indent=1) + "\n")
    parts = [part for part in (held_out, asked) if part is not None]
    if not parts:
        return Finished((), None, scores)
    run.write_text(PREDICTIONS, prediction_table(parts, classes, decision))
    path = run.folder / PREDICTIONS
    return Finished((path,), path, scores)


def _scored(run: Run, found: ClassLogits, decision: Decision, *, split: str, noun: str, told: Told) -> dict[str, float]:
    """Say how well the held-out were distinguished, before and after calibration; keep it in validation.json."""
    known = found.truth >= 0
    logits, truth = found.logits[known], found.truth[known]
    if not len(truth):
        return {}
    probability = probabilities(logits, decision.temperature)
    scores = class_scores(probability, truth, decision.predicted(probability))
    before = class_scores(probabilities(logits), truth, probabilities(logits).argmax(axis=1))["ece"]
    content = {
        "split": split,
        f"{noun}s": len(set(found.ids)),
        "cases": len(truth),
        "scores": {name: None if value != value else value for name, value in scores.items()},
        "ece_before": before,
        "decision": asdict(decision),
        "note": "temperature and threshold were chosen on these very cases"
        if decision.cases
        else f"nothing was chosen on them: {decision.why or 'not asked for'}",
    }
    run.write_text("validation.json", json.dumps(content, indent=1) + "\n")
    rows = [[name, "-" if scores[name] != scores[name] else f"{scores[name]:.3f}"] for name in CLASS_METRICS]
    threshold = "" if decision.threshold is None else f", threshold {decision.threshold:.3f}"
    chosen = f"temperature {decision.temperature:.2f}{threshold} chosen on them (ECE before: {before:.3f})"
    told.table(
        f"{len(set(found.ids))} held-out {noun}s; {chosen if decision.cases else 'nothing was chosen on them'}",
        ["Metric", "Score"],
        rows,
        key="held_out",
    )
    return scores


def prediction_table(parts: Sequence[ClassLogits], classes: Sequence[str], decision: Decision) -> str:
    """Return predictions as CSV.

    Columns: id, patient, split, slice (empty for a scan), attended (of a set, the slice that weighed most), truth
    (empty where unknown), predicted, and ``p_CLASS`` for each class, calibrated.
    """
    heads = ["id", "patient", "split", "slice", "attended", "truth", "predicted", *(f"p_{name}" for name in classes)]
    rows = []
    for part in parts:
        probability = probabilities(part.logits, decision.temperature)
        predicted = decision.predicted(probability)
        for row in range(len(part)):
            place, attended = (v if v >= 0 else "" for v in (part.slices[row], part.attended[row]))
            truth = classes[part.truth[row]] if part.truth[row] >= 0 else ""
            rows.append(
                [part.ids[row], part.patients[row], part.splits[row], place, attended, truth, classes[predicted[row]]]
                + [f"{value:.6g}" for value in probability[row]]
            )
    return csv_text(heads, rows)
