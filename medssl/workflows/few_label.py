"""The few-label protocol of ``medssl evaluate``: fine-tune every arm at n labels, draw by draw, and compare.

A cell is a run of ``medssl finetune`` that is scored as ``medssl evaluate`` scores it, whatever the task and the data.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from medssl.domains.domain import Domain, domain_of
from medssl.domains.labels import check_task, suited_task
from medssl.domains.task import Basis, Draws, Task
from medssl.engine.card import load_card
from medssl.errors import ConfigError, DataError
from medssl.evaluation.few_label import SCRATCH, Cell, FewLabelPlan, read_cells, run_cells
from medssl.evaluation.metrics import METRICS
from medssl.evaluation.score_table import ScoreTable
from medssl.nameless import Nameless
from medssl.settings import Resolved, flatten, resolve
from medssl.store.plan import shard_of
from medssl.workflows import events
from medssl.workflows.arm_tables import write_arms
from medssl.workflows.arms import arms_of, digest, report_command, same_command, shared_window
from medssl.workflows.evaluate_settings import EvaluateSettings, FewLabelSettings
from medssl.workflows.finetune_settings import FinetuneSettings
from medssl.workflows.labelled import label_sets_of, patient_of, train_and_test
from medssl.workflows.score_files import Scored
from medssl.workflows.verbs import function_of

__all__ = ["few_label", "overrides_of"]

Train = Callable[..., Any]  # takes what `finetune` takes, and leaves a run's folder with predictions

# Set by the protocol, so that every arm has them alike.
_RESERVED = ("transfer.run", "transfer.from_scratch", "train.seed", "data.")
# What the scores of a cell do not hang on, or what the protocol sets.
_NO_PART_OF_IT: Any = {"data": True, "transfer": {"run", "from_scratch"}, "task": True}
_MOST_DRAWS = 32  # of a comparison of an earlier release that is gone on with
_LEARNERS = {"patients": "segmenters", "classes": "classifiers", "parts": "segmenters of points"}


def few_label(
    runs: Sequence[Path],
    *,
    data: Path,
    out: Path,
    settings: EvaluateSettings,
    shard: str | None = None,
    dry_run: bool = False,
    train: Train | None = None,
) -> Scored:
    """Compare pretrained encoders with scratch at few labels; cells that are done already are kept.

    Every arm has the same patients, seeds and steps and is scored with its last weights: no validation items are
    spent, so probabilities of classes are not calibrated and the likeliest class is predicted.

    Args:
        runs: Pretraining runs, one an arm; METHOD-seed0, METHOD-seed1, ... are taken together in the table. Scratch
            is always an arm, with the same architecture.
        data: A store with labels and a split into train and test.
        out: Folder of the comparison: cells, few_label.json, few_label.csv, few_label.png.
        settings: Settings of the verb.
        shard: "i/k": run the i-th of k parts of the cells.
        dry_run: Only say what would be done.
        train: In place of ``medssl finetune``.

    Raises:
        ConfigError: A setting is wrong, or ``out`` holds cells of another recipe, other weights or other data.
        DataError: The store lacks labels, a test split or enough patients; or every cell failed.
    """
    few, split = settings.few_label, settings.split or "test"
    card = load_card(runs[0])
    domain = domain_of(data, card)
    for run in runs:
        domain.check_kind(load_card(run), data, run)
    store = domain.open(data)
    resolved, preset, recipe = _recipe(domain, store, few)
    task = domain.task(resolved.settings.task)
    metric = _metric(few, task)
    window = shared_window(runs, resolved, task.name)
    labels = task.labels(store, resolved.settings, group="few_label.finetune.")
    # a test set first: it says what is wrong with the truth before anything is drawn
    test = task.test_set(data, settings.model_copy(update={"split": split}))
    drawn, tested = train_and_test(store, labels.class_of, split=split, protocol="few-label", wanted=task.wanted)
    sets = label_sets_of(drawn.entries, labels.class_of, few)
    for line in [*task.doubts(test, drawn), *_start_doubts(domain, drawn, runs)]:
        events.warning(line)
    basis = Basis(
        recipe=_recipe_key(resolved),
        card=card,
        window=window,
        entries=[*drawn.entries, *tested.entries],
        labels=labels,
        test=test,
        draws=Draws(seed=few.draw_seed, sets=sets.sets, named=bool(few.subsets)),
    )
    plan = FewLabelPlan(
        arms=arms_of(runs, SCRATCH),
        sizes=sets.sizes,
        draws=sets.draws,
        seeds=few.seeds,
        key=digest(*task.key(basis)),
        keys={
            (n, draw): _key_of(task, basis, {n: (patients,)})
            for n, draws in sets.sets.items()
            for draw, patients in enumerate(draws)
        },
        earlier=cache(lambda: _earlier_keys(task, basis, out, few, drawn.entries)),
    )
    part = shard_of(shard) if shard else (0, 1)
    shown = "".join(f"{word}; " for word in (labels.asked, f"recipe {preset}" if preset else "") if word)
    counts = [len({patient_of(entry) for entry in items.entries}) for items in (drawn, tested)]
    todo = _say_cells(plan, out, part, shown=shown, counts=counts, owner=domain.owner)
    if dry_run:
        again = same_command(runs, data, out, settings, "few-label", shard)
        return events.written(Scored(missing=todo, next=again))

    starts: Mapping[str, Path | None] = dict(zip(plan.arms, [None, *runs], strict=True))
    overrides = [*recipe, "data.held_out_scans=0"]
    asked = [entry.id for entry in tested.entries]

    def run_cell(cell: Cell) -> ScoreTable:
        chosen = set(sets.patients(cell.n, cell.draw))
        work, start = out / "work" / cell.arm / cell.file.stem, starts[cell.arm]

        def tuned(*, resume: bool) -> None:
            (train or function_of("finetune"))(
                start or runs[0],
                data=data,
                out=work,
                preset=preset,
                overrides=[*overrides, f"train.seed={cell.training_seed}"],
                from_scratch=start is None,
                ids=[entry.id for entry in drawn.entries if patient_of(entry) in chosen],
                predict=asked,
                resume=resume,
            )

        # finetune speaks to its user at length; here hundreds of runs stand behind one progress bar
        with events.aside():
            try:
                tuned(resume=(work / "run.yaml").exists())
            except ConfigError:
                if not (work / "run.yaml").exists():
                    raise
                shutil.rmtree(work)  # begun by an earlier release, with other settings
                tuned(resume=False)
        with settings.limits():
            found = task.score(work, test)
        if found.failed:
            case, why = next(iter(found.failed.items()))
            raise DataError(f"{len(found.failed)} test cases have no score, such as {case}: {why}")
        shutil.rmtree(work, ignore_errors=True)
        return found.table

    failed = _run_told(plan, run_cell, out, shard=part)
    done, missing = read_cells(plan, out)
    if not done:
        raise DataError(f"{out}: every run failed. The first: {next(iter(failed.values()), 'none was run')}")
    everyone = {frozenset(result.table.frame["item"]) for result in done}
    if len(everyone) > 1:
        odd = frozenset.union(*everyone) - frozenset.intersection(*everyone)
        raise DataError(
            f"Cells were scored on different test cases ({len(odd)} are not in all of them). "
            "Use one fixed test split for the whole comparison."
        )
    if missing:
        events.warning(
            f"{len(missing)} runs are not done yet (failed, or left to other shards); run the command again."
        )
    return write_arms(
        ScoreTable.joined(result.table for result in done),
        out,
        name="few_label",
        kind=task.kind,
        baseline=SCRATCH,
        against=SCRATCH,
        metric=metric,
        metrics=task.metrics,
        level=settings.level,
        unit=domain.owner,
        overlap=sets.overlap(),
        missing=missing,
        failed={cell.file.as_posix(): {"": reason} for cell, reason in failed.items()},
        content={
            **labels.facts,
            "definitions": {k: v for k, v in task.definitions(domain.owner).items() if k not in ("unit", "threshold")},
            "split": split,
            "settings": settings.model_dump(mode="json", exclude={"probe"}),
            "missing": [cell.file.name for cell in missing],
            "failed": {cell.file.name: Nameless({}).text(reason) for cell, reason in failed.items()},
        },
        then=report_command(runs, out),
    )


def _key_of(task: Task, basis: Basis, sets: Mapping[int, tuple[tuple[str, ...], ...]]) -> str:
    """Return the fingerprint of cells of these draws: more draws, or other sizes, leave that of a cell as it is."""
    return digest(*task.key(replace(basis, draws=replace(basis.draws, sets=sets))))


def _earlier_keys(task: Task, basis: Basis, out: Path, few: FewLabelSettings, entries: Sequence[Any]) -> set[str]:
    """Return the fingerprints that a comparison of the same patients had while they held all of its draws.

    Up to 0.2 a class's fingerprint held every draw of every size, so that a comparison of five could not grow to eight.
    """
    there = {int(path.name[1:].split("-")[0]) for path in (out / "cells").glob("*/n*-draw*-seed*.json")}
    found = set()
    for sizes in {tuple(sorted(basis.draws.sets)), tuple(sorted(there))}:
        asked = few.model_copy(update={"sizes": sizes, "shares": (), "draws": max(few.draws, _MOST_DRAWS)})
        with suppress(DataError):  # more patients than there are now: then it is of other data anyway
            sets = label_sets_of(entries, basis.labels.class_of, asked).sets
            for count in range(1, max(map(len, sets.values())) + 1):
                found.add(_key_of(task, basis, {n: draws[:count] for n, draws in sets.items()}))
    return found


def _recipe_key(resolved: Resolved[FinetuneSettings]) -> dict[str, Any]:
    """Return what of the recipe decides a cell; the pooling is the card's where nobody said another."""
    found = resolved.settings.model_dump(mode="json", exclude=_NO_PART_OF_IT)
    if resolved.origins.get("encoder.pool") == "default":
        found["encoder"].pop("pool", None)
    return found


def _recipe(
    domain: Domain, store: Any, few: FewLabelSettings
) -> tuple[Resolved[FinetuneSettings], str | None, list[str]]:
    """Return the settings of ``finetune`` that every arm has, the preset that they are of, and what it is told."""
    overrides = overrides_of(few.finetune)
    resolved = resolve(FinetuneSettings, preset=few.recipe, overrides=overrides)
    by_hand = resolved.origins["task"] != "default"
    labels = domain.labels_of(store)
    suited = {} if by_hand else {key: auto.value for key, auto in suited_task(labels).items()}
    told = {"task": resolved.settings.task} | suited
    overrides += [f"{key}={_as_yaml(value)}" for key, value in told.items() if resolved.origins[key] == "default"]
    preset = few.recipe or domain.recipes.get(told["task"])
    resolved = resolve(FinetuneSettings, preset=preset, overrides=overrides)
    shows = resolved.settings.classification.shows is not None
    if said := check_task(told["task"], labels, shows=shows, group="few_label.finetune."):
        events.message(said)
    return resolved, preset, overrides


def _start_doubts(domain: Domain, drawn: Any, runs: Sequence[Path]) -> list[str]:
    """Return how the labelled items differ from what runs were pretrained on: each fine-tuning says it to nobody."""
    found: dict[str, None] = {}
    for card in map(load_card, runs):
        found |= dict.fromkeys(domain.doubts(card, domain.training.taken(drawn, card).entries))
    return list(found)


def _metric(few: FewLabelSettings, task: Task) -> str:
    """Return the metric that is compared."""
    metric = few.metric or task.metric
    if metric not in task.metrics:
        of, own = (_LEARNERS[METRICS[name].over] for name in (metric, task.metric))
        raise ConfigError(f"few_label.metric: {metric} is a metric of {of}. Of {own}: {', '.join(task.metrics)}.")
    return metric


def _say_cells(
    plan: FewLabelPlan, out: Path, shard: tuple[int, int], *, shown: str, counts: Sequence[int], owner: str
) -> list[Cell]:
    """Say which runs a shard takes, and return those that are not done yet."""
    cells = plan.cells()[shard[0] :: shard[1]]
    todo = [cell for cell in cells if not (out / cell.file).exists()]
    part = f" in shard {shard[0] + 1}/{shard[1]}" if shard[1] > 1 else ""
    events.message(
        f"{shown}arms {', '.join(plan.arms)}; n = {', '.join(map(str, plan.sizes))} of {counts[0]} labelled {owner}s; "
        f"{plan.draws} draws, {plan.seeds} seeds: {len(cells)} runs{part}, {len(cells) - len(todo)} done already; "
        f"{counts[1]} test {owner}s"
    )
    events.message(
        "every run has the same steps and is scored with its last weights; no labels are used for validation"
    )
    return todo


def _run_told(
    plan: FewLabelPlan, run_cell: Callable[[Cell], ScoreTable], out: Path, *, shard: tuple[int, int]
) -> dict[Cell, str]:
    """Run the cells of a shard and show how far they are; return those that failed, with the reason."""
    with events.progress(len(plan.cells()[shard[0] :: shard[1]]), "fine-tuning runs") as bar:

        def on_cell(cell: Cell, outcome: str) -> None:
            if outcome not in ("done", "ran"):
                events.warning(f"{cell.file} failed: {outcome}")
            bar.advance(note=f"{cell.arm} n={cell.n} draw {cell.draw}")

        try:
            return run_cells(plan, run_cell, out, shard=shard, on_cell=on_cell)
        except (KeyboardInterrupt, SystemExit):
            events.message("finished runs are kept; run the same command to continue from here")
            raise


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Return settings of finetune as ``key=value``.

    Raises:
        ConfigError: If one is set that the protocol sets.

    Example:
        >>> overrides_of({"train": {"steps": 600}})
        ['train.steps=600']
    """
    flat = flatten(settings)
    wrong = [key for key in flat if key.startswith(_RESERVED)]
    if wrong:
        raise ConfigError(
            f"few_label.finetune.{wrong[0]}: the protocol sets this itself, the same for every arm. "
            "Draws, seeds and scans are settings of few_label and of the store."
        )
    return [f"{key}={_as_yaml(value)}" for key, value in flat.items()]


def _as_yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(plain, default_flow_style=True, width=10**9)).removesuffix("...\n").strip()
