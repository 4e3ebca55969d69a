"""``medssl evaluate --protocol probe``: what frozen embeddings know of classes, by rules that are fixed.

The encoder is the one at the end of its run; nothing is chosen on the split that is scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medssl.errors import DataError
from medssl.evaluation.intervals import Interval, bootstrap_mean
from medssl.evaluation.paired import PairedComparison, average_by_patient, holm, paired_comparison
from medssl.evaluation.protocols import PROBES, FewShot, ProbeResult, few_shot, probe
from medssl.evaluation.summary import as_json
from medssl.evaluation.wording import interval_text, p_text
from medssl.reporting.words import owner_of
from medssl.writing import written_aside
from pipelines import console
from pipelines.embedded import Embedded
from pipelines.evaluate_settings import EvaluateSettings
from pipelines.probe_clouds import CloudProbe

__all__ = ["ProbeComparison", "ProbeEvaluation", "ProbeRow", "evaluate_probe", "probe_runs"]


@dataclass(frozen=True, kw_only=True)
class ProbeRow:
    """One encoder under one protocol.

    Attributes:
        protocol: One of `medssl.evaluation.protocols.PROBES`.
        accuracy: Mean over patients, with a bootstrap interval over them.
        balanced_accuracy: Mean over classes of the share that was found.
        chance: Share of the most frequent class.
        chosen: What was chosen on the fitting part.
        by_patient: Accuracy of each patient.
    """

    protocol: str
    accuracy: Interval
    balanced_accuracy: float
    chance: float
    chosen: Mapping[str, float]
    by_patient: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ProbeComparison:
    """The first encoder against another, on the same patients."""

    arm: str
    baseline: str
    protocol: str
    result: PairedComparison
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class ProbeEvaluation:
    """What the protocol gave.

    Attributes:
        rows: Probes of each encoder, by its name.
        few_shots: Few-shot tasks of each.
        comparisons: The first encoder against each of the others.
        summary: probe.json; None for a dry run.
    """

    rows: Mapping[str, Sequence[ProbeRow]]
    few_shots: Mapping[str, Sequence[FewShot]]
    comparisons: Sequence[ProbeComparison]
    summary: Path | None = None


def evaluate_probe(
    runs: Mapping[str, Path], data: Path, out: Path, settings: EvaluateSettings, *, dry_run: bool = False
) -> ProbeEvaluation:
    """Embed a store's labelled items with each encoder and probe the embeddings.

    Args:
        runs: Pretraining runs by name; the first is compared with the others. A run called "random" (or "random-N",
            N a seed) that is no folder stands for the first one's architecture with fresh weights.
        data: The store.
        out: Where probe.json goes.
        settings: Split, level, and the group ``probe``.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError: The encoders are of another kind than the store.
        DataError: Too few labelled items to fit or to score.
    """
    source = CloudProbe(data, settings)
    console.say(f"{source.words}; encoders: {', '.join(runs)}")
    if dry_run:
        console.done(None, "")
        return ProbeEvaluation(rows={}, few_shots={}, comparisons=())
    embedded = {}
    first = next(iter(runs.values()))
    with console.progress(len(runs), "encoders") as bar:
        for name, folder in runs.items():
            embedded[name] = source.embedded(folder, like=first)
            bar.advance(note=name)
    return probe_runs(embedded, out, settings)


def probe_runs(embedded: Mapping[str, Embedded], out: Path, settings: EvaluateSettings) -> ProbeEvaluation:
    """Probe embeddings, compare the first encoder with the others, say and write what was found."""
    chosen, level = settings.probe, settings.level
    rows = {
        name: [_row(found, protocol, level=level, seed=chosen.seed) for protocol in chosen.protocols]
        for name, found in embedded.items()
    }
    few_shots = _few_shots(embedded, settings)
    comparisons = _compared(rows, level)
    owners = next(iter(embedded.values())).score_patients
    owner = owner_of(len(owners), "cloud", len(set(owners)))
    _show(rows, few_shots, comparisons, embedded, level, owner)
    path = out / "probe.json"
    content = {
        "kind": "probe",
        "unit": owner,
        "protocols": {name: PROBES[name] for name in chosen.protocols},
        "settings": settings.model_dump(mode="json", include={"split", "level", "probe"}),
        "encoders": {name: {"probes": rows[name], "few_shot": few_shots[name]} for name in rows},
        "comparisons": comparisons,
    }
    with written_aside(path) as aside:
        aside.write_text(json.dumps(as_json(content), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    console.done(path, "", encoders=as_json({name: _short(found) for name, found in rows.items()}))
    return ProbeEvaluation(rows=rows, few_shots=few_shots, comparisons=comparisons, summary=path)


def _row(found: Embedded, protocol: str, *, level: float, seed: int) -> ProbeRow:
    result: ProbeResult = probe(
        found.fit,
        found.fit_classes,
        found.score,
        found.score_classes,
        protocol=protocol,
        train_patients=found.fit_patients,
        seed=seed,
    )
    by_patient = average_by_patient(found.score_patients, result.right.astype(float))
    return ProbeRow(
        protocol=protocol,
        accuracy=bootstrap_mean(list(by_patient.values()), level=level),
        balanced_accuracy=result.balanced_accuracy,
        chance=result.chance,
        chosen=result.chosen,
        by_patient=by_patient,
    )


def _few_shots(embedded: Mapping[str, Embedded], settings: EvaluateSettings) -> dict[str, list[FewShot]]:
    """Return the tasks that the classes allow, the same of every encoder; what they do not allow is said once."""
    chosen, done = settings.probe, dict[str, list[FewShot]]()
    refused: dict[str, None] = {}
    for name, found in embedded.items():
        done[name] = []
        for ways, shots in chosen.few_shot:
            try:
                task = few_shot(
                    found.fit,
                    found.fit_classes,
                    found.score,
                    found.score_classes,
                    ways=ways,
                    shots=shots,
                    draws=chosen.draws,
                    seed=chosen.seed,
                )
            except DataError as error:
                refused[f"{ways}-way {shots}-shot is left out: {error}"] = None
            else:
                done[name].append(task)
    for reason in refused:
        console.warn(reason)
    return done


def _compared(rows: Mapping[str, Sequence[ProbeRow]], level: float) -> list[ProbeComparison]:
    first, *others = rows
    found = []
    for name in others:
        for own, other in zip(rows[first], rows[name], strict=True):
            differences = [own.by_patient[patient] - other.by_patient[patient] for patient in other.by_patient]
            found.append((name, own.protocol, paired_comparison(differences, level=level)))
    corrected = holm({str(i): result.p for i, (_, _, result) in enumerate(found)})
    return [
        ProbeComparison(arm=first, baseline=name, protocol=protocol, result=result, p_holm=corrected[str(i)])
        for i, (name, protocol, result) in enumerate(found)
    ]


def _show(
    rows: Mapping[str, Sequence[ProbeRow]],
    few_shots: Mapping[str, Sequence[FewShot]],
    comparisons: Sequence[ProbeComparison],
    embedded: Mapping[str, Embedded],
    level: float,
    owner: str,
) -> None:
    first = next(iter(embedded.values()))
    protocols = [row.protocol for row in next(iter(rows.values()))]
    console.table(
        f"Accuracy of probes, {len(first.fit)} to fit, {len(first.score)} scored "
        f"[{100 * level:g} % bootstrap interval over {owner}s]",
        ["encoder", *protocols, "chance"],
        [
            [name, *(interval_text(row.accuracy) for row in found), f"{found[0].chance:.3f}"]
            for name, found in rows.items()
        ],
        key="probes",
    )
    tasks = next(iter(few_shots.values()))
    if tasks:
        console.table(
            f"Few-shot accuracy, mean and SD over {tasks[0].draws} tasks",
            ["encoder", *(f"{t.ways}-way {t.shots}-shot" for t in tasks)],
            [[name, *(f"{t.mean:.3f} ({t.spread:.3f})" for t in found)] for name, found in few_shots.items()],
            key="few_shot",
        )
    if comparisons:
        console.table(
            f"Paired, per {owner} (Wilcoxon signed-rank, Holm over the table)",
            ["encoder", "against", "probe", "mean difference", "p", "p Holm"],
            [
                [
                    c.arm,
                    c.baseline,
                    c.protocol,
                    interval_text(c.result.mean, signed=True),
                    p_text(c.result.p),
                    p_text(c.p_holm),
                ]
                for c in comparisons
            ],
            key="comparison_table",
        )
    for name in protocols:
        console.say(f"{name}: {PROBES[name]}")


def _short(rows: Sequence[ProbeRow]) -> dict[str, Any]:
    return {row.protocol: row.accuracy for row in rows}
