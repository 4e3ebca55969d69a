"""The few-label protocol on clouds: classifiers of every arm fine-tuned at nested draws of objects."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from medssl.engine.card import load_card
from medssl.errors import ConfigError
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.few_label import SCRATCH, Cell, FewLabelPlan
from medssl.quoting import quoted
from medssl.settings import resolve
from medssl.store.plan import shard_of
from pipelines import console
from pipelines.arms import arms_of, digest
from pipelines.evaluate_classes import read_predictions
from pipelines.evaluate_settings import EvaluateSettings, of_classes
from pipelines.few_label_cells import SEEDING, FewLabelOutcome, say_cells, training_seed
from pipelines.few_label_classes import checked_metric, compare_cells
from pipelines.few_label_trainer import overrides_of
from pipelines.finetune import finetune
from pipelines.finetune_settings import FinetuneSettings
from pipelines.labelled import label_sets_of, patient_of, train_and_test
from pointcloud.store import CloudEntry, CloudStore

__all__ = ["few_label_clouds"]

_RECIPE = "point_classification_small"
# What the predictions of a cell do not hang on, or what the protocol sets.
_NO_PART_OF_IT: Any = {"data": True, "transfer": {"run", "from_scratch"}, "task": True, "segmentation": True,
                       "inference": True, "encoder": True}  # fmt: skip


def few_label_clouds(
    runs: Sequence[Path],
    *,
    store: CloudStore,
    out: Path,
    settings: EvaluateSettings,
    shard: str | None = None,
    dry_run: bool = False,
) -> FewLabelOutcome:
    """Compare pretrained classifiers of clouds with scratch at few labelled objects; what is done already is kept.

    Every arm has the same steps and is scored with its last weights: no held-out objects are spent, so probabilities
    are not calibrated and the likeliest class is predicted.

    Args:
        runs: Pretraining runs, one an arm; METHOD-seed0, METHOD-seed1, ... are taken together in the table.
        store: A store with classes and a split into train and test.
        out: Folder of the comparison: cells, few_label.json, few_label.csv, few_label.png.
        settings: Settings of the verb; without a recipe clouds are fine-tuned as ``point_classification_small`` says.
        shard: "i/k": run the i-th of k parts of the cells.
        dry_run: Say what would be done; write nothing.

    Raises:
        ConfigError: A setting is wrong, the recipe is none of classifiers, runs are of different architectures, or
            ``out`` holds cells of another recipe, other weights or other data.
        DataError: The store lacks classes, a test split or enough objects; or every cell failed.
    """
    few, split, recipe = settings.few_label, settings.split or "test", settings.few_label.recipe or _RECIPE
    checked_metric(settings)
    if not of_classes(few.model_copy(update={"recipe": recipe})):
        raise ConfigError(
            f"{store.folder} holds clouds, and the few-label protocol compares their classes: few_label.recipe="
            f"{_RECIPE}. For parts of clouds, run medssl finetune with --labels and --draw, then medssl evaluate."
        )
    overrides = overrides_of(few.finetune)
    chosen = resolve(FinetuneSettings, preset=recipe, overrides=overrides).settings
    cards = [load_card(run) for run in runs]
    for run, card in zip(runs, cards, strict=True):
        if card.kind != "cloud":
            raise ConfigError(f"{run} was trained on {card.kind}s, and {store.folder} holds clouds.")
        if card.encoder != cards[0].encoder:
            raise ConfigError(f"{run} has another encoder than {runs[0]}: compare them in two comparisons.")

    def class_of(entry: CloudEntry) -> str | None:
        return None if entry.label is None else store.classes.get(entry.label, str(entry.label))

    train, test = train_and_test(store, class_of, split=split, protocol="few-label")
    sets = label_sets_of(
        train.entries, class_of, sizes=few.sizes, shares=few.shares, subsets=few.subsets, draws=few.draws,
        seed=few.draw_seed,
    )  # fmt: skip
    plan = FewLabelPlan(
        arms=arms_of(runs, SCRATCH),
        sizes=sets.sizes,
        draws=sets.draws,
        seeds=few.seeds,
        key=digest(
            chosen.model_dump(mode="json", exclude=_NO_PART_OF_IT),
            cards[0].encoder,
            SEEDING,
            [(e.id, e.patient, e.file, class_of(e)) for e in [*train.entries, *test.entries]],
            sorted(sets.sets.items()),
        ),
    )
    part = shard_of(shard) if shard else (0, 1)
    objects, tested = (len({patient_of(e) for e in clouds.entries}) for clouds in (train, test))
    names = sorted({str(class_of(e)) for e in train.entries})
    todo = say_cells(
        plan, out, shard=part, shown=f"{len(names)} classes, recipe {recipe}; ", labelled=objects,
        tested=f"{tested} test objects", owner="object",
    )  # fmt: skip
    if dry_run:
        console.done(
            None,
            f"medssl evaluate {quoted(runs[0])} --data {quoted(store.folder)} --protocol few-label --out {quoted(out)}",
        )
        return FewLabelOutcome(failed={}, missing=todo, folder=out)
    starts: Mapping[str, Path | None] = {SCRATCH: None, **dict(zip(list(plan.arms)[1:], runs, strict=True))}

    def run_cell(cell: Cell) -> ClassPredictions:
        drawn = set(sets.patients(cell.n, cell.draw))
        work = out / "work" / cell.arm / cell.file.stem
        # finetune speaks to its user at length; here many runs stand behind one progress bar
        with console.speaking(console.Manner(quiet=True)), redirect_stdout(io.StringIO()):
            finetune(
                starts[cell.arm] or runs[0],
                data=store.folder,
                out=work,
                preset=recipe,
                overrides=[*overrides, f"train.seed={training_seed(cell)}", "data.held_out_scans=0"],
                from_scratch=starts[cell.arm] is None,
                ids=[e.id for e in train.entries if patient_of(e) in drawn],
                predict=[split],
                resume=(work / "run.yaml").exists(),
            )
        found, decision = read_predictions(work, split)
        shutil.rmtree(work, ignore_errors=True)
        return found.by_patient(decision)

    content = {"target": "class", "classes": names}
    return compare_cells(
        plan, run_cell, out, runs=runs, settings=settings, shard=part, content=content, sets=sets, unit="object"
    )
