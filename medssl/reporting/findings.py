"""The comparisons and scores behind a report, read back from JSON, and the headline that they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.evaluation.paired import PairedComparison
from medssl.evaluation.pooling import PooledComparison
from medssl.evaluation.summary import ALL_STRUCTURES, Comparison, SizeSummary, StructureSummary
from medssl.evaluation.wording import interval_text
from medssl.reporting.class_findings import class_sentences
from medssl.reporting.intervals import interval_of, number_of
from medssl.reporting.material import Material, RunRecord
from medssl.reporting.words import (
    comparison_sentence,
    comparison_sentences,
    counted,
    name_of,
    percent,
    pooled_sentence,
    stopping_sentence,
)

__all__ = [
    "Headline",
    "comparisons_of",
    "differing_settings",
    "headline",
    "pooled_of",
    "sizes_of",
    "structures_of",
]

_NAN = float("nan")
_PRETEXT = ("reconstruction", "position_accuracy", "position_error_mm")  # the signal that is told, in this order
# Settings that may differ between the arms of a fair comparison: what is compared, and what changes no result.
_MAY_DIFFER = ("transfer.", "data.predict", "data.held_out", "train.threads", "train.keep_last", "train.log_every",
               "train.probe_every", "train.checkpoint_every", "inference.", "data.store")  # fmt: skip


@dataclass(frozen=True)
class Headline:
    """The first words of a report.

    Attributes:
        sentences: (verdict, sentence) each; the verdict is "better", "worse", "inconclusive" or "" for none.
        beware: What a reader should know before believing them.
    """

    sentences: Sequence[tuple[str, str]]
    beware: Sequence[str] = ()


def headline(material: Material) -> Headline:
    """Return what the report says first, computed from the numbers alone: comparisons, else scores, else training."""
    found: list[tuple[str, str]] = []
    beware: list[str] = []
    for folder, content in material.few_label:
        metric = str(content.get("summary", {}).get("metric", "dice"))
        pooled = pooled_of(content.get("pooled") or ())
        methods = list(dict.fromkeys(row.method for row in pooled))
        found += [pooled_sentence([r for r in pooled if r.method == name], metric=metric) for name in methods]
        single = comparisons_of(content.get("summary", {}).get("comparisons", ()))
        found += _by_arm([one for one in single if one.arm.rpartition("-seed")[0] not in methods])
        if content.get("missing"):
            beware.append(f"{counted(len(content['missing']), 'run')} of the few-label comparison "
                          f"{folder.resolve().name} ({name_of(metric)}) are not done.")  # fmt: skip
    found += class_sentences(material)
    for _, content in material.scores:
        for comparison in comparisons_of(content.get("comparisons", ())):
            arm, baseline = material.run_of(comparison.arm), material.run_of(comparison.baseline)
            if comparison.metric == _first_metric(content):
                found.append(comparison_sentence(comparison, change=_change(arm, baseline),
                                                 labelled=_labelled(arm, baseline)))  # fmt: skip
            else:
                continue
            unknown = [name for name, run in ((comparison.arm, arm), (comparison.baseline, baseline)) if run is None]
            if unknown:
                beware.append(f"It is not known here what {' and '.join(unknown)} began with, so this says nothing of "
                              "pretraining. Give the folder of that run too.")  # fmt: skip
            unlike = differing_settings(arm, baseline) if arm and baseline else []
            if unlike:
                beware.append(f"{comparison.arm} and {comparison.baseline} differ in more than their start: "
                              f"{'; '.join(unlike[:6])}. The difference may come from that.")  # fmt: skip
        if not content.get("comparisons"):
            found += [("", text) for text in _scores_alone(content)]
        for name, run in content.get("runs", {}).items():
            if run.get("failed"):
                beware.append(f"{counted(len(run['failed']), 'case')} of {name} could not be scored.")
    found += _part_sentences(material)
    if not found:
        found = [("", text) for text in _without_scores(material)]
    return Headline(found, list(dict.fromkeys(beware)))


def _part_sentences(material: Material) -> list[tuple[str, str]]:
    told = []
    for _, content in material.part_scores:
        rows = comparisons_of([{**row, "metric": "part_iou"} for row in content["comparisons"]])
        for one in rows:
            arm, baseline = material.run_of(one.arm), material.run_of(one.baseline)
            owner = content.get("unit", "patient")
            told.append(comparison_sentence(one, change=_change(arm, baseline), owner=owner))
        if not rows:
            told += [("", f"{name}: {name_of('part_iou')} "
                          f"{interval_text(interval_of(run['scores']['instance_miou']))}.")
                     for name, run in content["runs"].items()]  # fmt: skip
    return told


def _by_arm(comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """Return one sentence for each pair of arms, over all numbers of labelled patients."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons:
        pairs.setdefault((one.arm, one.baseline), []).append(one)
    told = []
    for (arm, baseline), members in pairs.items():
        change = f"{arm}, not {baseline}," if baseline != "scratch" else "pretraining"
        if baseline == "scratch" and len(pairs) > 1:
            change += f" ({arm})"
        told.append(comparison_sentences(members, change=change))
    return told


def comparisons_of(rows: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Return comparisons as `evaluate` wrote them."""
    return [
        Comparison(
            arm=row["arm"],
            baseline=row["baseline"],
            n=row.get("n"),
            metric=row["metric"],
            result=PairedComparison(
                median=interval_of(row["result"]["median"]),
                mean=interval_of(row["result"]["mean"]),
                p=number_of(row["result"]["p"]),
                above=int(row["result"]["above"]),
                below=int(row["result"]["below"]),
                draw_means=tuple(number_of(d) for d in row["result"]["draw_means"]),
            ),
            p_holm=number_of(row["p_holm"]),
        )
        for row in rows
    ]


def pooled_of(rows: Sequence[Mapping[str, Any]]) -> list[PooledComparison]:
    """Return comparisons over several pretraining runs as `evaluate` wrote them."""
    return [
        PooledComparison(
            method=row["method"],
            n=int(row["n"]),
            mean=interval_of(row["mean"]),
            run_means=tuple(number_of(m) for m in row["run_means"]),
            better=int(row["better"]),
            pairs=int(row["pairs"]),
        )
        for row in rows
    ]


def structures_of(rows: Sequence[Mapping[str, Any]]) -> list[StructureSummary]:
    """Return the structures of one run as `evaluate` wrote them."""
    return [
        StructureSummary(
            structure=row["structure"],
            intervals={metric: interval_of(interval) for metric, interval in row["intervals"].items()},
            medians={metric: number_of(value) for metric, value in row["medians"].items()},
            **{key: int(row[key]) for key in ("cases", "patients", "absent", "missed", "invented")},
        )
        for row in rows
    ]


def sizes_of(rows: Sequence[Mapping[str, Any]]) -> list[SizeSummary]:
    """Return the arms and sizes of a few-label comparison as `evaluate` wrote them."""
    return [
        SizeSummary(
            arm=row["arm"],
            n=int(row["n"]),
            mean=interval_of(row["mean"]),
            sd_draws=number_of(row["sd_draws"]),
            sd_cases=number_of(row["sd_cases"]),
            draw_means=tuple(number_of(d) for d in row["draw_means"]),
            seeds=int(row["seeds"]),
            cells=int(row["cells"]),
        )
        for row in rows
    ]


def differing_settings(one: RunRecord, other: RunRecord) -> list[str]:
    """Return the settings, beside the start, in which two runs differ: "train.steps: 60 and 40"."""
    keys = sorted(one.settings.keys() | other.settings.keys())
    return [
        f"{key}: {one.settings.get(key, 'absent')} and {other.settings.get(key, 'absent')}"
        for key in keys
        if not key.startswith(_MAY_DIFFER) and one.settings.get(key) != other.settings.get(key)
    ]


def _first_metric(content: Mapping[str, Any]) -> str:
    """Return the metric that the headline speaks of: Dice where it was tested, else the first."""
    tested = list(dict.fromkeys(row["metric"] for row in content["comparisons"]))
    return "dice" if "dice" in tested else str(tested[0])


def _change(arm: RunRecord | None, baseline: RunRecord | None) -> str:
    if arm is not None and baseline is not None and arm.start and not baseline.start:
        return "pretraining"
    return ""


def _labelled(arm: RunRecord | None, baseline: RunRecord | None) -> int | None:
    """Return the labelled patients of both runs, None where it is not known or not the same."""
    numbers = {int(run.card["data"]["patients"]) for run in (arm, baseline)
               if run is not None and run.card.get("data", {}).get("patients")}  # fmt: skip
    return numbers.pop() if len(numbers) == 1 else None


def _scores_alone(content: Mapping[str, Any]) -> list[str]:
    told = []
    for name, run in content.get("runs", {}).items():
        rows = structures_of(run["structures"])
        whole = next((row for row in rows if row.structure == ALL_STRUCTURES), rows[-1] if rows else None)
        if whole is None or "dice" not in whole.intervals:
            continue
        dice = whole.intervals["dice"]
        over = "over its structures " if whole.structure == ALL_STRUCTURES else f"for {whole.structure} "
        told.append(
            f"{name} reaches a mean Dice {over}of {interval_text(dice)} ({percent(dice.level)} interval) on "
            f"{counted(whole.patients, 'test patient')}. Nothing was compared with it, so this says nothing of "
            "pretraining."
        )
    return told


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
        told.append(f"{run.name} {state}. {reading} Whether it helps a task is not known before it is fine-tuned and "
                    "compared with scratch.".replace("  ", " "))  # fmt: skip
    if not told:
        summaries = [manifest.summary() for manifest in material.manifests.values()]
        summaries = summaries or [check["summary"] for check in material.checks.values()]
        clouds = sum(int(summary.get("clouds", 0)) for summary in summaries)
        scans = sum(int(summary.get("scans", 0)) for summary in summaries) - clouds
        scans = scans or sum(len(store) for store in material.stores.values())
        clouds = clouds or sum(len(content["entries"]) for content in material.cloud_stores.values())
        parts = [counted(n, noun) for n, noun in ((scans, "scan"), (clouds, "cloud")) if n]
        told.append(f"{' and '.join(parts)}; nothing has been trained on them yet." if parts else
                    "Vectors of scans; no run was given.")  # fmt: skip
    return told
