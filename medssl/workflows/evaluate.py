"""``medssl evaluate``: scores of predictions with intervals and paired tests; or a whole protocol.

Whatever was learned of whatever, the way is one: the task reads and scores predictions, the rows become one table, and
scores and comparisons are computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medssl.domains.domain import domain_named, domain_of, domains
from medssl.domains.task import RunScores, Task
from medssl.errors import ConfigError, DataError
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.statistics.naming import of_what
from medssl.locking import holds, part_of
from medssl.reporting.prose import counted_of, owner_of
from medssl.settings import resolve
from medssl.workflows import events
from medssl.workflows.arms import report_command, same_command
from medssl.workflows.evaluate_settings import EvaluateSettings, FewLabelSettings
from medssl.workflows.predict_command import predict_command
from medssl.workflows.protocols import PROTOCOLS, Protocol
from medssl.workflows.run_classes import change_between, labelled_patients_of, unseen_of
from medssl.workflows.score_files import Scored, found_in, show_comparisons, show_notes, show_scores, write_scores
from medssl.workflows.taking import takes_places
from medssl.writing import folder_for

__all__ = ["EvaluateSettings", "FewLabelSettings", "evaluate", "task_of"]


@takes_places
@holds("medssl evaluate", lambda given: part_of(given["out"] or given["run"], shard=given["shard"]))
def evaluate(
    run: str | Path,
    *,
    data: str | Path,
    out: str | Path | None = None,
    against: Sequence[str | Path] = (),
    protocol: str | None = None,
    preset: str | Path | None = None,
    overrides: Sequence[str] = (),
    shard: str | None = None,
    dry_run: bool = False,
) -> Scored:
    """Score a run's predictions, compare it with other runs, or run an evaluation protocol.

    Args:
        run: A fine-tuning run, or a folder of predictions. For a protocol a pretraining run.
        data: The store that the run was fitted on, a manifest, or a folder of label maps.
        out: The folder for scores.parquet and the summary. None is the run's folder; for a protocol runs/PROTOCOL.
        against: Runs to compare with, such as the one from scratch. For a protocol: further pretraining runs; random
            encoders, or scratch, are compared with them by themselves.
        protocol: None; or the name of a row of `PROTOCOLS`: "few-label", which fine-tunes; "probe", which leaves
            encoders as they are.
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        shard: "i/k", of protocols with cells: run the i-th of k parts of them, such as 2/4, so that k processes share
            them.
        dry_run: Only say what would be done.

    Returns:
        The scores, their comparisons and the table that they were computed from, whatever was scored.

    Raises:
        ConfigError: If a setting is wrong.
        DataError: If there is nothing to score.
    """
    settings = resolve(EvaluateSettings, preset=preset, overrides=overrides).settings
    folders, data = [Path(run), *map(Path, against)], Path(data)
    if protocol is not None:
        row = _protocol_for(protocol, data, shard)
        more = {"shard": shard} if row.shards else {}
        asked = {"data": data, "out": folder_for(out or f"runs/{protocol}"), "settings": settings, "dry_run": dry_run}
        found: Scored = PROTOCOLS.load(protocol)(folders, **asked, **more)
        return found
    if shard is not None:
        raise ConfigError("--shard shares out the cells of a protocol, such as few-label. Plain scoring needs none.")
    runs = dict(zip(_names(folders), folders, strict=True))
    place = folder_for(out or run) if out or Path(run).is_dir() else Path(run)
    return _evaluate(task_of(folders, data), runs, data, place, settings, dry_run=dry_run)


def task_of(runs: Sequence[Path], data: Path) -> Task:
    """Return the task whose predictions runs hold.

    Raises:
        ConfigError: They are of several tasks.
        DataError: The first holds none that could be scored on this data.
    """
    own = domain_of(data)
    every = [own, *(domain for domain in domains() if domain is not own)]
    tasks = [task for domain in every for task in map(domain.task, domain.tasks)]
    found = next((task for task in tasks if task.claims(runs[0])), own.fallback)
    if found is None:
        makers = " or ".join(task.maker for task in map(own.task, own.tasks))
        raise DataError(
            f"{runs[0]}: no {makers} predicted anything of {own.noun}s here. Give a run of medssl finetune, or try a "
            "pretraining run with --protocol probe or few-label."
        )
    for run in runs[1:]:
        if found is not own.fallback and not found.claims(run):
            raise ConfigError(f"{run}: no {found.maker} predicted here, and in {runs[0]} one did. Compare like runs.")
    return found


def _protocol_for(name: str, data: Path, shard: str | None) -> Protocol:
    """Return the row of a protocol.

    Raises:
        ConfigError: There is none of this name, or none for this kind of data; or its work cannot be shared out.
    """
    row = PROTOCOLS.row(name)
    if shard is not None and not row.shards:
        shared = " or ".join(other.name for other in PROTOCOLS.values() if other.shards)
        raise ConfigError(f"--shard shares out the cells of --protocol {shared}; '{name}' has none. Leave it out.")
    held = [domain for domain in domains() if domain.claims(data)]
    if held and not any(domain.name in row.domains for domain in held):
        served = " or ".join(f"{domain_named(own).noun}s" for own in row.domains)
        others = ", ".join(other.name for other in PROTOCOLS.values() if held[0].name in other.domains)
        raise ConfigError(f"{data} holds {held[0].noun}s, and --protocol {name} is for {served}. Allowed: {others}.")
    return row


def _evaluate(
    task: Task, runs: Mapping[str, Path], data: Path, out: Path, settings: EvaluateSettings, *, dry_run: bool
) -> Scored:
    test = task.test_set(data, settings, list(runs.values()))
    first = next(iter(runs.values()))
    said = task.described(test, first)
    events.message(f"{said}; {len(runs)} run{'s'[: len(runs) != 1]}: {', '.join(runs)}")
    if dry_run:
        return events.written(Scored(next=same_command(list(runs.values()), data, out, settings)))
    for line in task.doubts(test):
        events.warning(line)
    scored: dict[str, RunScores] = {}
    with settings.limits(), events.progress(task.items(test) * len(runs) or None, f"{task.noun}s scored") as bar:
        for name, folder in runs.items():
            scored[name] = task.score(folder, test, lambda case: bar.advance(note=case))
    for name, own in scored.items():
        for case, why in own.failed.items():
            events.warning(f"{name}: case {case} has no score: {why}")
    labels, names = labelled_patients_of(runs.values()), list(runs)
    mine = next(iter(scored.values()))
    items, patients = mine.items, mine.table.frame["patient"].n_unique()
    unit = owner_of(items, task.noun, patients)
    found = found_in(
        ScoreTable.joined(own.table.as_run(name, labels=labels) for name, own in scored.items()),
        [(names[0], name) for name in names[1:]],
        metrics=task.metrics,
        compared=task.compared(settings),
        level=settings.level,
        unit=unit,
        pooled=False,
        targets=task.by_target,
        change=change_between(runs),
    )
    unseen = {name: lacking for name, folder in runs.items() if (lacking := unseen_of(folder))}
    for name, lacking in unseen.items():
        events.warning(
            f"{name}: no scan that it was trained on shows {', '.join(lacking)}; scores of it are of nothing that was "
            "learned, and the mean over structures holds them"
        )
    if task.by_target:
        _show_by_target(found, scored, unseen, unit)
    else:
        show_scores(found, title=counted_of(items, task.noun, patients), unit=unit)
    for line, warned in task.lines(test, scored):
        (events.warning if warned else events.message)(line)
    what = {**task.content(test, scored), **task.target(first)}
    show_comparisons(found, unit=unit, of=of_what({"kind": task.kind, **what}, found.table))
    show_notes(found, task.metrics)
    definitions = task.definitions(unit)
    for name, text in definitions.items():
        events.message(f"{name}: {text}")
    content = {
        "split": settings.split,
        "settings": settings.model_dump(mode="json", include=set(task.reads)),
        "definitions": definitions,
        **what,
        "runs": {
            name: {**own.facts, **({"untrained": unseen[name]} if name in unseen else {})}
            for name, own in scored.items()
        },
    }
    files = write_scores(found, out, task.summary, kind=task.kind, unit=unit, metrics=task.metrics, content=content)
    files += task.pictures(test, scored, runs, out)
    failed = {name: own.failed for name, own in scored.items()}
    return events.written(
        replace(
            found,
            failed=failed,
            written=tuple(files),
            next=report_command(list(runs.values()), out),
            on_new=predict_command(first),
            figures={**found.as_figures(), "failed": failed},
        )
    )


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each run that tells them apart: the last parts of its path, as few as will do."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("A run cannot be compared with itself. Name each run once.")


def _show_by_target(
    found: Scored, scored: Mapping[str, RunScores], unseen: Mapping[str, Sequence[str]], unit: str
) -> None:
    """Show a table of scores a run, a row each structure, and in how many cases which was there."""
    for name, own in scored.items():
        lacking = unseen.get(name, ())
        rows = [
            replace(s, target=f"{s.target or 'mean'}{' (untrained)' if s.target in lacking else ''}")
            for s in found.scores
            if s.arm == name
        ]
        show_scores(replace(found, scores=rows), title=f"{name}: mean over {unit}s", unit=unit, key=name)
        if own.counts is not None:
            events.table(f"{name}: cases", *own.counts, key=f"cases_{name}")
