"""The answer of one evaluation: the difference with its interval and p, which arm is which, or a score and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.evaluation.few_label import MAJORITY, SCRATCH
from medssl.evaluation.metrics import METRICS
from medssl.evaluation.statistics.comparison import Comparison, first_metric
from medssl.evaluation.statistics.grid import method_of
from medssl.evaluation.statistics.naming import named_few, of_what
from medssl.evaluation.statistics.wording import across, header, interval_text, sentences, told_together
from medssl.reporting.chance import chance_of
from medssl.reporting.material import Material, of_encoders
from medssl.reporting.privacy import short_name
from medssl.reporting.prose import counted
from medssl.reporting.scored import Found, found_of

__all__ = ["Answer", "answers_of"]

_LEADS = {
    "segmentation": ("dice",),
    "classification": ("auroc", "balanced_accuracy"),
    "parts": ("instance_miou",),
}
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
    named = {str(arm): str(words) for arm, words in (content.get("arms") or {}).items()}
    where = _Runs(folder, found, material, encoders=of_encoders(content), said=named)
    answers: list[Answer] = []
    told: set[str] = set()
    if found.comparisons:
        metric = first_metric(found.comparisons)
        rows = [row for row in found.comparisons if row.metric == metric]
        for pair in dict.fromkeys((row.arm, row.baseline) for row in rows):
            own = told_together([row for row in rows if (row.arm, row.baseline) == pair])
            told |= set(pair)
            if len({row.labels for group in own for row in group}) == 1:
                groups = [[row for group in own for row in group]]  # distinguished by how they were fitted alone
                said = [across(groups[0], of=of)]
            else:
                groups, said = own, [sentences(group, of=of) for group in own]
            answers += [
                Answer(verdict, text, _arms(group, found, content, where))
                for group, (verdict, text) in zip(groups, said, strict=True)
            ]
    answers += _alone(found, content, of, told, where)
    once = {(row.arm, row.baseline): row for row in found.comparisons}
    return answers, list(once.values())


def _arms(group: Sequence[Comparison], found: Found, content: Mapping[str, Any], where: _Runs) -> str:
    """Return what the two arms of a comparison are and what each scored."""
    first = group[0]
    parts = []
    for arm in (first.arm, first.baseline):
        own = [
            score
            for row in group
            for score in found.scores
            if (score.arm, score.how, score.labels, score.metric, score.target)
            == (arm, row.how, row.labels, row.metric, "")
        ]
        if len(own) == 1:
            scored = interval_text(own[0].interval, digits=first.of.digits)
        else:
            by = [s.how if len({row.how for row in group}) > 1 else f"with {s.labels}" for s in own]
            scored = ", ".join(f"{s.interval.estimate:.{first.of.digits}f} {by}" for s, by in zip(own, by, strict=True))
        parts.append(f"{where.described(arm)}: {scored}")
    chance = chance_of(first.metric, content, found.table)
    against = f"; {chance.words}: {chance.value:.3f}" if chance is not None else ""
    return f"{'; '.join(parts)}{against}."


@dataclass(frozen=True)
class _Runs:
    """Says what the arms of one evaluation are."""

    folder: Path
    found: Found
    material: Material
    encoders: bool
    said: Mapping[str, str]

    def described(self, arm: str) -> str:
        """Return an arm's name and what it began with, as far as is known; what the summary says of it goes first."""
        if arm in self.said:
            return f"{arm}: {self.said[arm]}"
        run = self.material.run_of(arm, near=self.folder, verb="pretrain" if self.encoders else None)
        if run is not None and run.verb == "finetune":
            return (
                f"{arm}, from the encoder of {short_name(run.start)}"
                if run.start
                else f"{arm}, from random initialization"
            )
        if run is not None:
            return f"{arm}, pretrained by {run.settings.get('method.name', '')}"
        if arm == SCRATCH:
            return f"{arm}, from random initialization"
        if arm.startswith("random"):
            return f"{arm}, an encoder of the same shape that was never trained"
        table = self.found.table
        runs = [name for name in (table.runs if table is not None else ()) if method_of(name) == arm]
        if not self.encoders:
            return arm
        return f"{arm}, pretrained ({named_few(runs, 'runs')})" if runs not in ([], [arm]) else f"{arm}, pretrained"


def _alone(found: Found, content: Mapping[str, Any], of: str, told: set[str], where: _Runs) -> list[Answer]:
    """Return what each arm scored that was compared with none."""
    kind = str(content.get("kind", ""))
    wanted = _LEADS.get(kind, ())
    told = told | ({MAJORITY} if where.encoders else set())  # what it scores is chance, which the others stand beside
    rows = [row for row in found.scores if not row.target and row.arm not in told]
    rows = [row for row in rows if row.metric in wanted] or [row for row in rows if row.metric == rows[0].metric]
    unit = str(content.get("unit", "patient"))
    answers = []
    for arm in dict.fromkeys(row.arm for row in rows):
        own = [row for row in rows if row.arm == arm]
        sizes = {row.labels for row in own}
        (size,) = sizes if len(sizes) == 1 else (None,)
        parts: list[str] = []
        for row in own:
            metric = METRICS[row.metric]
            ways = [row.how] if row.how else []
            ways += [counted(row.labels, f"labelled {unit}")] if row.labels is not None and len(sizes) > 1 else []
            named = f"{metric.words} ({', '.join(ways)})" if ways else metric.words
            named += f" {of}" if of and not parts else ""
            chance = chance_of(row.metric, content, found.table)
            against = f" ({chance.words} {chance.value:.3f})" if chance is not None else ""
            parts.append(f"{named} {interval_text(row.interval, digits=metric.digits)}{against}")
        over = header([row.interval for row in own], unit=unit)
        n = counted(max(row.interval.patients for row in own), f"test {unit}")
        start = f"With {counted(size, f'labelled {unit}')}, " if size is not None else ""
        scale = " 0 is no overlap with the truth, 1 all of it." if wanted == ("dice",) else ""
        text = f"{start}{arm} reaches {', '.join(parts)} on {n} ({over}).{scale} {_ALONE}"
        described = where.described(arm)
        answers.append(Answer("", text, f"{described}." if described != arm else ""))
    return answers
