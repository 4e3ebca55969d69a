"""The few-label protocol for classifiers: every arm fine-tuned at nested shares of patients, scored by patient."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medssl.engine.card import load_card
from medssl.errors import ConfigError, DataError
from medssl.evaluation.calibration import Decision, probabilities
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.few_label import SCRATCH, Cell, FewLabelPlan, read_cells
from medssl.evaluation.label_sets import LabelSets
from medssl.evaluation.metrics import AVERAGED, CLASS_METRICS
from medssl.evaluation.score_table import ScoreTable
from medssl.nameless import Nameless
from medssl.quoting import quoted
from medssl.settings import resolve
from medssl.store.normalised import normalised_as
from medssl.store.plan import shard_of
from medssl.store.read import Store
from medssl.tasks.class_inference import predict_classes
from medssl.tasks.class_samples import Samples, class_names, class_of_scan, samples_of
from medssl.tasks.classification import ClassificationTask
from pipelines import console
from pipelines.arm_tables import write_arms
from pipelines.arms import arms_of, digest, shared_window
from pipelines.evaluate_settings import EvaluateSettings
from pipelines.few_label_cells import SEEDING, FewLabelOutcome, run_told, say_cells, training_seed
from pipelines.few_label_trainer import overrides_of
from pipelines.finetune import finetune
from pipelines.finetune_settings import FinetuneSettings
from pipelines.labelled import label_sets_of, patient_of, train_and_test

__all__ = ["checked_metric", "compare_cells", "few_label_classes"]

_FINE_TUNED = "fine-tuned"
# What the predictions of a cell do not hang on, or what the protocol sets.
_NO_PART_OF_IT: Any = {"data": True, "transfer": {"run", "from_scratch"}, "task": True, "segmentation": True,
                       "inference": True}  # fmt: skip


def few_label_classes(
    runs: Sequence[Path],
    *,
    store: Store,
    out: Path,
    settings: EvaluateSettings,
    shard: str | None = None,
    dry_run: bool = False,
) -> FewLabelOutcome:
    """Compare pretrained classifiers with scratch at few labelled patients; cells that are done already are kept.

    Every arm has the same steps and is scored with its last weights: no validation patients are spent, so
    probabilities are not calibrated and the likeliest class is predicted.

    Args:
        runs: Pretraining runs, one an arm; METHOD-seed0, METHOD-seed1, ... are taken together in the table.
        store: A store with targets, or with label maps, and a split into train and test.
        out: Folder of the comparison: cells, few_label.json, few_label.csv, few_label.png.
        settings: Settings of the verb.
        shard: "i/k": run the i-th of k parts of the cells.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError: A setting is wrong, or ``out`` holds cells of another recipe, other weights or other data.
        DataError: The store lacks classes, a test split or enough patients; or every cell failed.
    """
    few, split = settings.few_label, settings.split or "test"
    checked_metric(settings)
    overrides = overrides_of(few.finetune)
    chosen = resolve(FinetuneSettings, preset=few.recipe, overrides=overrides)
    recipe = chosen.settings
    window = shared_window(runs, chosen, "classification")
    looked = recipe.classification
    classes = class_names(store, looked, group="few_label.finetune.classification")
    train, test = train_and_test(store, lambda e: class_of_scan(e, looked), split=split, protocol="few-label")
    sets = label_sets_of(
        train.entries, lambda e: class_of_scan(e, looked), sizes=few.sizes, shares=few.shares, subsets=few.subsets,
        draws=few.draws, seed=few.draw_seed,
    )  # fmt: skip
    plan = FewLabelPlan(
        arms=arms_of(runs, SCRATCH),
        sizes=sets.sizes,
        draws=sets.draws,
        seeds=few.seeds,
        key=digest(
            recipe.model_dump(mode="json", exclude=_NO_PART_OF_IT),
            load_card(runs[0]).encoder,
            window,
            SEEDING,
            [(e.id, e.patient, *e.files, e.label_file, e.targets) for e in [*train.entries, *test.entries]],
            sorted(sets.sets.items()),
        ),
    )
    part = shard_of(shard) if shard else (0, 1)
    patients, tested = (len({patient_of(e) for e in scans.entries}) for scans in (train, test))
    shown = f"{looked.target or f'structure {looked.shows}'} ({', '.join(classes)}); "
    todo = say_cells(plan, out, shard=part, shown=shown, labelled=patients, tested=f"{tested} test patients")
    if dry_run:
        console.done(
            None,
            f"medssl evaluate {quoted(runs[0])} --data {quoted(store.folder)} --protocol few-label --out {quoted(out)}",
        )
        return FewLabelOutcome(failed={}, missing=todo, folder=out)

    samples = samples_of(test, looked, classes).known()
    starts: Mapping[str, Path | None] = {SCRATCH: None, **dict(zip(list(plan.arms)[1:], runs, strict=True))}

    def run_cell(cell: Cell) -> ClassPredictions:
        chosen = set(sets.patients(cell.n, cell.draw))
        work = out / "work" / cell.arm / cell.file.stem
        # finetune speaks to its user at length; here many runs stand behind one progress bar
        with console.speaking(console.Manner(quiet=True)), redirect_stdout(io.StringIO()):
            result = finetune(
                starts[cell.arm] or runs[0],
                data=store.folder,
                out=work,
                preset=few.recipe,
                overrides=[*overrides, f"train.seed={training_seed(cell)}", "data.held_out_scans=0"],
                from_scratch=starts[cell.arm] is None,
                ids=[e.id for e in train.entries if patient_of(e) in chosen],
                predict=[],
                resume=(work / "run.yaml").exists(),
            )
        seen = replace(samples, store=normalised_as(samples.store, load_card(work).inputs_known))
        found = _predicted(result.classifier(), seen, recipe)
        shutil.rmtree(work, ignore_errors=True)
        return found

    content = {"target": looked.target or f"whether structure {looked.shows} is shown", "classes": classes}
    return compare_cells(plan, run_cell, out, runs=runs, settings=settings, shard=part, content=content, sets=sets)


def checked_metric(settings: EvaluateSettings) -> str:
    """Return the metric that is compared.

    Raises:
        ConfigError: It is not one of classifiers.
    """
    metric = settings.few_label.metric or "auroc"
    if metric not in CLASS_METRICS:
        raise ConfigError(
            f"few_label.metric: {metric} is a metric of segmenters. Of classifiers: {', '.join(CLASS_METRICS)}."
        )
    return metric


def compare_cells(
    plan: FewLabelPlan,
    run_cell: Callable[[Cell], ClassPredictions],
    out: Path,
    *,
    runs: Sequence[Path],
    settings: EvaluateSettings,
    shard: tuple[int, int],
    content: Mapping[str, Any],
    sets: LabelSets,
    unit: str = "patient",
) -> FewLabelOutcome:
    """Run the cells of a shard, and compare those that are done.

    Args:
        plan: The comparison.
        run_cell: Fine-tunes and scores one cell.
        out: Its folder.
        runs: The arms' runs.
        settings: Settings of the verb.
        shard: Index from 0, and count.
        content: What few_label.json says beside table and settings.
        sets: The draws of labels.
        unit: Whose labels were drawn.

    Raises:
        DataError: Every cell failed.
    """
    failed = run_told(plan, run_cell, out, shard=shard)
    done, missing = read_cells(plan, out)
    if not done:
        raise DataError(f"{out}: every run failed. The first: {next(iter(failed.values()), 'none was run')}")
    if missing:
        console.warn(f"{len(missing)} runs are not done yet (failed, or left to other shards); run the command again.")
    table = ScoreTable.joined(
        ScoreTable.of_classes(
            r.predictions, run=r.cell.arm, how=_FINE_TUNED, seed=r.cell.seed, draw=r.cell.draw, labels=r.cell.n
        )
        for r in done
        if r.predictions is not None
    )
    found = write_arms(
        table, out, name="few_label", kind="classification", baseline=SCRATCH, against=SCRATCH,
        metric=checked_metric(settings), metrics=CLASS_METRICS, level=settings.level, unit=unit, overlap=sets.overlap(),
        content={
            **content,
            "definitions": {"probabilities": AVERAGED} if unit == "patient" else {},
            "split": settings.split or "test",
            "settings": settings.few_label.model_dump(mode="json"),
            "missing": [cell.file.name for cell in missing],
            "failed": {cell.file.name: Nameless({}).text(reason) for cell, reason in failed.items()},
        },
        then=f"medssl report {quoted(*runs, out)}",
    )  # fmt: skip
    return FewLabelOutcome(failed=failed, missing=missing, folder=out, found=found)


def _predicted(task: ClassificationTask, samples: Samples, recipe: FinetuneSettings) -> ClassPredictions:
    wanted = recipe.train.accelerator
    device = "cuda" if wanted in ("auto", "cuda") and torch.cuda.is_available() else "cpu"
    found = predict_classes(task, samples, batch_size=recipe.train.batch_size, device=device)
    probability = probabilities(found.logits)
    decision = Decision(threshold=0.5 if probability.shape[1] == 2 else None)
    keys = tuple(f"{name}:{place if place >= 0 else ''}" for name, place in zip(found.ids, found.slices, strict=True))
    return ClassPredictions(
        keys, found.patients, found.truth, probability, decision.predicted(probability), samples.classes
    ).by_patient(decision)
