"""``medssl evaluate --protocol probe``: what frozen embeddings know of classes, by rules that are fixed.

The encoder is the one at the end of its run; nothing is chosen on the split that is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.errors import DataError
from medssl.evaluation.protocols import PROBES, FewShot, ProbeResult, few_shot, probe
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.grid import method_of
from medssl.evaluation.statistics.naming import of_what
from medssl.evaluation.statistics.summary_file import as_json
from medssl.quoting import quoted
from medssl.reporting.prose import owner_of
from pipelines import console
from pipelines.embedded import Embedded
from pipelines.evaluate_settings import EvaluateSettings
from pipelines.probe_clouds import CloudProbe, is_random
from pipelines.score_files import Scored, found_in, show_comparisons, show_notes, show_scores, write_scores

__all__ = ["evaluate_probe", "probe_runs"]

_METRIC = "probe_accuracy"


def evaluate_probe(
    runs: Mapping[str, Path], data: Path, out: Path, settings: EvaluateSettings, *, dry_run: bool = False
) -> Scored:
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
        return Scored()
    embedded = {}
    first = next(iter(runs.values()))
    with console.progress(len(runs), "encoders") as bar:
        for name, folder in runs.items():
            embedded[name] = source.embedded(folder, like=first)
            bar.advance(note=name)
    folders = dict.fromkeys([*(folder for folder in runs.values() if folder.is_dir()), out])
    return probe_runs(embedded, out, settings, then=f"medssl report {quoted(*folders)}")


def probe_runs(embedded: Mapping[str, Embedded], out: Path, settings: EvaluateSettings, *, then: str = "") -> Scored:
    """Probe embeddings, compare the first encoder with the others, say and write what was found.

    METHOD-seed0, METHOD-seed1, ... are runs of one method; ``then`` is the command to go on with.
    """
    chosen, level = settings.probe, settings.level
    rows: dict[str, dict[str, ProbeResult]] = {
        name: {str(how): _probed(found, how, seed=chosen.seed) for how in chosen.protocols}
        for name, found in embedded.items()
    }
    few_shots = _few_shots(embedded, settings)
    owners = next(iter(embedded.values())).score_patients
    owner = owner_of(len(owners), "cloud", len(set(owners)))
    arms = list(dict.fromkeys(method_of(name) for name in embedded))
    found = found_in(
        ScoreTable.joined(
            _table(name, how, embedded[name], result)
            for how in chosen.protocols
            for name in embedded
            for result in [rows[name][how]]
        ),
        [(arms[0], name) for name in arms[1:]], metrics=[_METRIC], compared=[_METRIC], level=level, unit=owner,
        change=lambda arm, baseline: "pretraining" if is_random(baseline) and not is_random(arm) else "",
    )  # fmt: skip
    _show(found, few_shots, embedded, rows, owner)
    content = {
        "protocols": {name: PROBES[name] for name in chosen.protocols},
        "settings": settings.model_dump(mode="json", include={"split", "level", "probe"}),
        "encoders": {
            name: {"probes": [_row(result) for result in rows[name].values()], "few_shot": few_shots[name]}
            for name in rows
        },
    }
    files = write_scores(found, out, "probe.json", kind="probe", unit=owner, metrics=[_METRIC], content=content)
    console.done(files, then, scores=as_json(found.scores), comparisons=as_json(found.comparisons))
    return replace(found, files=files)


def _probed(found: Embedded, protocol: str, *, seed: int) -> ProbeResult:
    return probe(
        found.fit,
        found.fit_classes,
        found.score,
        found.score_classes,
        protocol=protocol,
        train_patients=found.fit_patients,
        seed=seed,
    )


def _row(result: ProbeResult) -> dict[str, Any]:
    """Return what the summary says of a probe beside its accuracy."""
    return {
        "protocol": result.protocol,
        "balanced_accuracy": result.balanced_accuracy,
        "chance": result.chance,
        "chosen": result.chosen,
    }


def _table(name: str, how: str, found: Embedded, result: ProbeResult) -> ScoreTable:
    items = [str(place) for place in range(len(found.score_patients))]
    return ScoreTable.of_values(
        result.right.astype(float), items, found.score_patients, run=name, metric=_METRIC, how=how,
        targets=found.score_classes,
    )  # fmt: skip


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


def _show(
    found: Scored,
    few_shots: Mapping[str, Sequence[FewShot]],
    embedded: Mapping[str, Embedded],
    rows: Mapping[str, Mapping[str, ProbeResult]],
    owner: str,
) -> None:
    first = next(iter(embedded.values()))
    show_scores(found, title=f"Probes, {len(first.fit)} to fit, {len(first.score)} scored", unit=owner)
    chance = next(iter(next(iter(rows.values())).values())).chance
    console.say(f"always naming the most frequent class is right in {chance:.3f}")
    tasks = next(iter(few_shots.values()))
    if tasks:
        console.table(
            f"Few-shot accuracy, mean and SD over {tasks[0].draws} tasks",
            ["encoder", *(f"{t.ways}-way {t.shots}-shot" for t in tasks)],
            [[name, *(f"{t.mean:.3f} ({t.spread:.3f})" for t in own)] for name, own in few_shots.items()],
            key="few_shot",
        )
    show_comparisons(found, unit=owner, of=of_what({"kind": "probe"}, found.table))
    show_notes(found, [_METRIC])
    for name in next(iter(rows.values())):
        console.say(f"{name}: {PROBES[name]}")
