"""The answer of one evaluation: the difference with its interval and p, which arm is which, or a score and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.evaluation.few_label import SCRATCH
from medssl.evaluation.metrics import METRICS
from medssl.evaluation.statistics.comparison import Comparison, first_metric
from medssl.evaluation.statistics.grid import method_of
from medssl.evaluation.statistics.naming import named_few, of_what
from medssl.evaluation.statistics.wording import header, interval_text, sentences, told_together
from medssl.reporting.chance import chance_of
from medssl.reporting.material import Material
from medssl.reporting.privacy import short_name
from medssl.reporting.prose import counted
from medssl.reporting.scored import Found, found_of

__all__ = ["Answer", "answers_of"]

_LEADS = {
    "segmentation": ("dice",), "classification": ("auroc", "balanced_accuracy"), "parts": ("instance_miou",),
    "probe": ("probe_accuracy",),
}  # fmt: skip
_ALONE = "Nothing was compared with it, so this says nothing of pretraining."


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        verdict: "better", "worse", "inconclusive", or "" where nothing was compared.
        text: The sentence.
        arms: What each arm is, what it scored, and what chance would; "" where the sentence says it.
    """

    verdict: str
    text: str
    arms: str = ""


def answers_of(folder: Path, content: Mapping[str, Any], material: Material) -> tuple[list[Answer], list[Comparison]]:
    """Return the answers of one evaluation, and one comparison of each pair of arms.

    Args:
        folder: Where its scores lie.
        content: Its summary.
        material: Says what the runs are.

    Raises:
        DataError: The summary is of an earlier release or damaged.
    """
    found = found_of(folder, content)
    of = of_what(content, found.table)
    answers = []
    told: set[str] = set()
    if found.comparisons:
        metric = first_metric(found.comparisons)
        for group in told_together([row for row in found.comparisons if row.metric == metric]):
            verdict, text = sentences(group, of=of)
            answers.append(Answer(verdict, text, _arms(group, found, content, material)))
            told |= {group[0].arm, group[0].baseline}
    answers += _alone(found, content, of, told, material)
    once = {(row.arm, row.baseline): row for row in found.comparisons}
    return answers, list(once.values())


def _arms(group: Sequence[Comparison], found: Found, content: Mapping[str, Any], material: Material) -> str:
    """Return what the two arms of a comparison are and what each scored."""
    first = group[0]
    parts = []
    for arm in (first.arm, first.baseline):
        own = [s for s in found.scores if (s.arm, s.how, s.metric, s.target) == (arm, first.how, first.metric, "")]
        own = [s for s in own if any(s.labels == row.labels for row in group)]
        if len(own) == 1:
            scored = interval_text(own[0].interval, digits=first.of.digits)
        else:
            scored = ", ".join(f"{s.interval.estimate:.{first.of.digits}f} with {s.labels}" for s in own)
        parts.append(f"{_described(arm, found, content, material)}: {scored}" if scored else "")
    chance = chance_of(first.metric, content, found.table)
    parts.append(f"{chance.words}: {chance.value:.3f}" if chance is not None else "")
    told = "; ".join(part for part in parts if part)
    return f"{told[:1].upper()}{told[1:]}." if told else ""


def _described(arm: str, found: Found, content: Mapping[str, Any], material: Material) -> str:
    """Return an arm's name and what it began with, as far as is known."""
    run = material.run_of(arm)
    if run is not None and run.verb == "finetune":
        return f"{arm}, from the encoder of {short_name(run.start)}" if run.start else f"{arm}, from fresh weights"
    if run is not None:
        return f"{arm}, pretrained by {run.settings.get('method.name', '')}"
    if arm == SCRATCH:
        return f"{arm}, from fresh weights"
    if arm.startswith("random"):
        return f"{arm}, an encoder of the same shape that was never trained"
    runs = [name for name in (found.table.runs if found.table is not None else ()) if method_of(name) == arm]
    return f"{arm}, pretrained ({named_few(runs, 'runs')})" if len(runs) > 1 else arm


def _alone(found: Found, content: Mapping[str, Any], of: str, told: set[str], material: Material) -> list[Answer]:
    """Return what each arm scored that was compared with none."""
    kind = str(content.get("kind", ""))
    wanted = _LEADS.get(kind, ())
    rows = [row for row in found.scores if not row.target and row.arm not in told]
    rows = [row for row in rows if row.metric in wanted] or [row for row in rows if row.metric == rows[0].metric]
    unit = str(content.get("unit", "patient"))
    answers = []
    for arm in dict.fromkeys(row.arm for row in rows):
        own = [row for row in rows if row.arm == arm]
        parts = []
        for row in own:
            metric = METRICS[row.metric]
            where = [row.how] if row.how else []
            where += [f"{counted(row.labels, f'labelled {unit}')}"] if row.labels is not None and len(own) > 1 else []
            named = f"{metric.words} ({', '.join(where)})" if where else metric.words
            chance = chance_of(row.metric, content, found.table)
            against = f", {chance.words} {chance.value:.3f}" if chance is not None else ""
            parts.append(f"{named} {interval_text(row.interval, digits=metric.digits)}{against}")
        over = header([row.interval for row in own], unit=unit)
        n = counted(max(row.interval.patients for row in own), f"test {unit}")
        scale = " 0 is no overlap with the truth, 1 all of it." if wanted == ("dice",) else ""
        text = f"{arm} reaches {'; '.join(parts)}{' ' if of else ''}{of} on {n} ({over}).{scale} {_ALONE}"
        described = _described(arm, found, content, material)
        answers.append(Answer("", text, f"{described}." if described != arm else ""))
    return answers
