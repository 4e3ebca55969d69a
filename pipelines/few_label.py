"""The few-label protocol of ``medssl evaluate``: fine-tune every arm at n labels, draw by draw, and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medssl.engine.card import load_card
from medssl.errors import ConfigError, DataError
from medssl.evaluation.few_label import SCRATCH, Cell, CellResult, FewLabelPlan, read_cells
from medssl.evaluation.label_sets import LabelSets
from medssl.evaluation.metrics import EMPTY_MASKS, SEGMENTATION_METRICS
from medssl.evaluation.score_table import ScoreTable
from medssl.evaluation.scoring import StructureScore
from medssl.nameless import Nameless
from medssl.quoting import quoted
from medssl.store.index import INDEX
from medssl.store.plan import shard_of
from medssl.store.read import Store
from pipelines import console
from pipelines.arm_tables import write_arms
from pipelines.arms import arms_of, digest
from pipelines.evaluate_settings import EvaluateSettings, chosen_structures, of_classes, tolerances_of
from pipelines.few_label_cells import SEEDING, FewLabelOutcome, run_told, say_cells, training_seed
from pipelines.finetune_unseen import unshown_lines
from pipelines.labelled import check_apart, label_sets_of, patient_of
from pipelines.scored_cases import Reference, Truth, read_reference, score_map
from pointcloud.store import CloudStore

if TYPE_CHECKING:
    from medssl.evaluation.overlap import LabelMap

__all__ = ["FewLabelOutcome", "Trainer", "few_label"]

_WORK = "work"


class Trainer(Protocol):
    """Fine-tunes one cell.

    Attributes:
        recipe: What scores depend on beside cell, weights and data; cells of another recipe are refused.
    """

    recipe: Mapping[str, Any]

    def __call__(
        self, *, train: Store, start: Path | None, seed: int, folder: Path
    ) -> tuple[Callable[[Store, int], LabelMap], Callable[[], None]]:
        """Return a function that predicts scan ``index`` of a store, and one to call when all is scored.

        Predictions are label values on the grid of the scan's source, (z, y, x).
        """
        ...


def few_label(
    runs: Sequence[Path],
    *,
    data: Path,
    out: Path,
    settings: EvaluateSettings,
    shard: str | None = None,
    dry_run: bool = False,
    trainer: Trainer | None = None,
) -> FewLabelOutcome:
    """Compare pretrained encoders with scratch at few labels; cells that are done already are kept.

    Args:
        runs: Pretraining runs, one an arm; scratch is always an arm, with the same architecture.
        data: A store with labels, or of clouds with classes, and a split into train and test.
        out: Folder of the comparison.
        settings: Settings of the verb.
        shard: "i/k": run the i-th of k parts of the cells.
        dry_run: Say what would be done; write nothing.
        trainer: Fine-tunes a cell; by default as ``medssl finetune`` does, with the settings in ``few_label``.

    Raises:
        ConfigError: If a setting is wrong, or ``out`` holds cells of another recipe, other weights or other data.
        DataError: If the store lacks labels, a test split or enough patients; or if every cell failed.
    """
    few = settings.few_label
    if CloudStore.is_cloud_store(data) and (not (data / INDEX).is_file() or load_card(runs[0]).kind == "cloud"):
        from pipelines.few_label_clouds import few_label_clouds

        clouds = CloudStore.open(data)
        return few_label_clouds(runs, store=clouds, out=out, settings=settings, shard=shard, dry_run=dry_run)
    store = Store.open(data)
    if of_classes(few):
        from pipelines.few_label_classes import few_label_classes

        return few_label_classes(runs, store=store, out=out, settings=settings, shard=shard, dry_run=dry_run)
    if few.metric is not None and few.metric not in SEGMENTATION_METRICS:
        raise ConfigError(
            f"few_label.metric: {few.metric} is a metric of classifiers. "
            f"Of segmenters: {', '.join(SEGMENTATION_METRICS)}."
        )
    reference = read_reference(data)
    train, test = _train_and_test(store, reference, settings)
    sets = label_sets_of(
        train.entries, lambda _: "", sizes=few.sizes, shares=few.shares, subsets=few.subsets, draws=few.draws,
        seed=few.draw_seed,
    )  # fmt: skip
    structures = chosen_structures(reference, settings)
    for line in unshown_lines(train, reference, structures):
        console.warn(line)
    tolerance = tolerances_of(structures, settings)
    fine_tune = trainer or _default_trainer(store, runs, settings)
    plan = FewLabelPlan(
        arms=arms_of(runs, SCRATCH),
        sizes=sets.sizes,
        draws=sets.draws,
        seeds=few.seeds,
        # the names of a store's files hold a hash of source and settings, and are the same on every machine
        key=digest(
            fine_tune.recipe,
            few.draw_seed,
            SEEDING,
            [(e.id, e.patient, *e.files, e.label_file) for e in [*train.entries, *store.subset(list(test)).entries]],
            sorted(structures.items()),
            tolerance,
            *([sorted(sets.sets.items())] if few.subsets else []),
        ),
    )
    part = shard_of(shard) if shard else (0, 1)
    labelled = len({patient_of(entry) for entry in train.entries})
    todo = say_cells(plan, out, shard=part, shown="", labelled=labelled, tested=f"{len(test)} test cases")
    console.say("every run has the same steps and is scored with its last weights; no validation scans are spent")
    if dry_run:
        console.done(
            None, f"medssl evaluate {quoted(runs[0])} --data {quoted(data)} --protocol few-label --out {quoted(out)}"
        )
        return FewLabelOutcome(failed={}, missing=todo, folder=out)

    starts = {SCRATCH: None, **dict(zip(list(plan.arms)[1:], runs, strict=True))}

    def run_cell(cell: Cell) -> list[StructureScore]:
        chosen = set(sets.patients(cell.n, cell.draw))
        labelled = train.subset([e.id for e in train.entries if patient_of(e) in chosen])
        work = out / _WORK / cell.arm / cell.file.stem
        predict, finish = fine_tune(train=labelled, start=starts[cell.arm], seed=training_seed(cell), folder=work)
        rows = _score(predict, store.subset(list(test)), test, structures, tolerance)
        finish()
        return rows

    failed = run_told(plan, run_cell, out, shard=part)
    done, missing = read_cells(plan, out)
    if not done:
        raise DataError(f"{out}: every run failed. The first: {next(iter(failed.values()), 'none was run')}")
    return _report(done, missing, failed, out, runs=runs, settings=settings, sets=sets)


def _default_trainer(store: Store, runs: Sequence[Path], settings: EvaluateSettings) -> Trainer:
    from pipelines.few_label_trainer import CellTrainer  # torch and the engine, which a dry test of the rest spares

    return CellTrainer(store, runs, preset=settings.few_label.recipe, settings=settings.few_label.finetune)


def _score(
    predict: Callable[[Store, int], LabelMap],
    scans: Store,
    truths: Mapping[str, Truth],
    structures: Mapping[int, str],
    tolerance_mm: Mapping[str, float],
) -> list[StructureScore]:
    import numpy as np

    rows = []
    for index, entry in enumerate(scans.entries):
        rows += score_map(
            truths[entry.id],
            predict(scans, index),
            np.array(entry.source_affine),
            structures=structures,
            tolerance_mm=tolerance_mm,
            name=f"the prediction of {entry.id}",
        )
    return rows


def _report(
    done: Sequence[CellResult],
    missing: Sequence[Cell],
    failed: Mapping[Cell, str],
    out: Path,
    *,
    runs: Sequence[Path],
    settings: EvaluateSettings,
    sets: LabelSets,
) -> FewLabelOutcome:
    everyone = {frozenset(score.case for score in result.scores) for result in done}
    if len(everyone) > 1:
        odd = frozenset.union(*everyone) - frozenset.intersection(*everyone)
        raise DataError(
            f"Cells were scored on different test cases ({len(odd)} are not in all of them). "
            "Use one fixed test split for the whole comparison."
        )
    if missing:
        console.warn(f"{len(missing)} runs are not done yet (failed, or left to other shards); run the command again.")
    table = ScoreTable.joined(
        ScoreTable.of_structures(r.scores, run=r.cell.arm, how="", seed=r.cell.seed, draw=r.cell.draw, labels=r.cell.n)
        for r in done
    )
    found = write_arms(
        table, out, name="few_label", kind="segmentation", baseline=SCRATCH, against=SCRATCH,
        metric=settings.few_label.metric or "dice", metrics=SEGMENTATION_METRICS, level=settings.level, unit="patient",
        overlap=sets.overlap(),
        content={
            "definitions": {"empty": EMPTY_MASKS},
            "settings": settings.model_dump(mode="json"),
            "missing": [cell.file.name for cell in missing],
            "failed": {cell.file.name: Nameless({}).text(reason) for cell, reason in failed.items()},
        },
        then=f"medssl report {quoted(*runs, out)}",
    )  # fmt: skip
    return FewLabelOutcome(failed=failed, missing=missing, folder=out, found=found)


def _train_and_test(store: Store, reference: Reference, settings: EvaluateSettings) -> tuple[Store, dict[str, Truth]]:
    """Return the labelled scans that may be drawn, and the label maps of the fixed test cases."""
    split = settings.split or "test"
    test = {truth.case: truth for truth in reference.truths if truth.split == split}
    train = [e for e in store.entries if e.label_file is not None and e.split in ("train", "")]
    tested = {truth.patient for truth in test.values()}
    if not test or not train:
        raise DataError(
            f"{store.folder}: the few-label protocol needs labelled scans in the splits 'train' and '{split}'. "
            f"Found {len(train)} and {len(test)}. Give the manifest a split: medssl index ... split by patient."
        )
    check_apart(store, train, tested, split)
    return store.subset([entry.id for entry in train]), test
