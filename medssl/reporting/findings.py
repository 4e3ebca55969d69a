"""The comparisons and scores behind a report, read back from JSON, and the headline that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.evaluation.metrics import METRICS
from medssl.evaluation.statistics.comparison import Comparison
from medssl.reporting.answers import Answer, answers_of
from medssl.reporting.embeddings import read_embeddings
from medssl.reporting.material import Material, RunRecord
from medssl.reporting.prose import counted, stopping_sentence
from medssl.reporting.scored import found_of

__all__ = ["Headline", "differing_settings", "headline"]

_PRETEXT = ("reconstruction", "position_accuracy", "position_error_mm")  # the signal that is told, in this order
# Settings that may differ between the arms of a fair comparison: what is compared, and what changes no result.
_MAY_DIFFER = (
    "transfer.",
    "data.predict",
    "data.held_out",
    "train.threads",
    "train.keep_last",
    "train.log_every",
    "train.probe_every",
    "train.checkpoint_every",
    "inference.",
    "data.store",
)


@dataclass(frozen=True)
class Headline:
    """The first words of a report.

    Attributes:
        sentences: (verdict, sentence) each; the verdict is "better", "worse", "inconclusive" or "" for none.
        beware: What a reader should know before believing them.
        arms: For each sentence which arm is which and what it scored, "" for none; none at all on pages without arms.
    """

    sentences: Sequence[tuple[str, str]]
    beware: Sequence[str] = ()
    arms: Sequence[str] = ()

    def told(self) -> list[tuple[str, str, str]]:
        """Return verdict, sentence and arms of each."""
        return [(v, t, a) for (v, t), a in zip(self.sentences, [*self.arms, *[""] * len(self.sentences)], strict=False)]


def headline(material: Material) -> Headline:
    """Return what the report says first, computed from the numbers alone: comparisons, else scores, else training."""
    found: list[Answer] = []
    beware: list[str] = []
    scored = material.evaluations()
    given = [one for one in scored if one[0] not in material.followed] or scored
    for folder, content in given:
        answers, rows = answers_of(folder, content, material)
        found += answers
        if note := found_of(folder, content).note:
            beware.append(f"{note}.")
        if content.get("missing"):
            beware.append(
                f"{counted(len(content['missing']), 'run')} of the few-label comparison "
                f"{folder.resolve().name} ({_words(content)}) are not done."
            )
        for row in rows if content.get("runs") else ():
            beware += _beware(row, folder, material)
        for name, run in content.get("runs", {}).items():
            if run.get("failed"):
                beware.append(f"{counted(len(run['failed']), 'case')} of {name} could not be scored.")
    compared = [answer for answer in found if answer.verdict]
    found = list(dict.fromkeys([*compared, *(answer for answer in found if not answer.verdict)]))
    if not found:
        found = [Answer("", text) for text in _without_scores(material)]
    return Headline([(a.verdict, a.text) for a in found], list(dict.fromkeys(beware)), [a.arms for a in found])


def _beware(row: Comparison, folder: Path, material: Material) -> list[str]:
    """Return what to know before believing a comparison of two fine-tuning runs."""
    runs = {name: material.run_of(name, near=folder) for name in (row.arm, row.baseline)}
    unknown = [name for name, run in runs.items() if run is None]
    told = []
    if unknown and not row.change:
        told.append(
            f"It is not known here what {' and '.join(unknown)} began with, so this says nothing of "
            "pretraining. Give the folder of that run too."
        )
    arm, baseline = runs.values()
    unlike = differing_settings(arm, baseline) if arm and baseline else []
    if unlike:
        told.append(
            f"{row.arm} and {row.baseline} differ in more than their start: "
            f"{'; '.join(unlike[:6])}. The difference may come from that."
        )
    return told


def _words(content: Mapping[str, Any]) -> str:
    metric = str(content.get("metric", ""))
    return METRICS[metric].words if metric in METRICS else metric


def differing_settings(one: RunRecord, other: RunRecord) -> list[str]:
    """Return the settings, beside the start, in which two runs differ: "train.steps: 60 and 40"."""
    keys = sorted(one.settings.keys() | other.settings.keys())
    return [
        f"{key}: {one.settings.get(key, 'absent')} and {other.settings.get(key, 'absent')}"
        for key in keys
        if not key.startswith(_MAY_DIFFER) and one.settings.get(key) != other.settings.get(key)
    ]


def _without_scores(material: Material) -> list[str]:
    told = []
    for run in material.finetuned:
        dice = [value for value in (run.validation.get("dice") or {}).values() if value is not None]
        known = f"mean Dice {sum(dice) / len(dice):.3f} on held-out scans; " if dice else ""
        told.append(f"{run.name} was fine-tuned: {known}it has not been scored on test scans yet.")
    for run in material.pretrained if not told else ():
        name = next((n for n in _PRETEXT if any(f"held_out/{n}" in row for row in run.rows)), "")
        key = f"held_out/{name}"
        points = [(float(row["step"]), float(row[key])) for row in run.rows if row.get(key) is not None]
        reading = stopping_sentence(name, points, steps=int(run.settings["train.steps"])) if name else ""
        state = "has been pretrained" if run.card else "is being pretrained"
        told.append(
            f"{run.name} {state}. {reading} Whether it helps a task is not known before it is fine-tuned and "
            "compared with scratch.".replace("  ", " ")
        )
    if not told:
        summaries = [manifest.summary() for manifest in material.manifests.values()]
        summaries = summaries or [check["summary"] for check in material.checks.values()]
        clouds = sum(int(summary.get("clouds", 0)) for summary in summaries)
        scans = sum(int(summary.get("scans", 0)) for summary in summaries) - clouds
        scans = scans or sum(len(store) for store in material.stores.values())
        clouds = clouds or sum(len(content["entries"]) for content in material.cloud_stores.values())
        parts = [counted(n, noun) for n, noun in ((scans, "scan"), (clouds, "cloud")) if n]
        if parts:
            told.append(f"{' and '.join(parts)}; nothing has been trained on them yet.")
    return told or [_of_vectors(name, path) for name, path in material.embeddings.items()]


def _of_vectors(name: str, path: Path) -> str:
    """Say whose vectors a file holds, where no run was given."""
    found = read_embeddings(path)
    noun = "scan" if any(found.modalities) else "cloud"  # clouds have no modality
    of = f" of the encoder of {found.run}" if found.run else ", of which run it does not say"
    return f"{name}: {counted(len(found.ids), 'vector')} of {noun}s{of}. Nothing was scored."
