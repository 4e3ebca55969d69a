"""The few-label protocol of ``medssl evaluate``: fine-tune every arm at n labels, draw by draw, and compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medssl.errors import ConfigError, DataError
from medssl.evaluation.curve import draw_few_label
from medssl.evaluation.draws import labelled_patients
from medssl.evaluation.few_label import SCRATCH, Cell, CellResult, FewLabelPlan, read_cells, run_cells
from medssl.evaluation.pooling import pool_pretraining_runs, pooled_rows
from medssl.evaluation.scoring import DEFINITIONS, StructureScore
from medssl.evaluation.summary import METRICS, FewLabelSummary, as_json, patient_scores, summarise_few_label
from medssl.evaluation.wording import comparison_rows, size_rows
from medssl.store.plan import shard_of
from medssl.store.read import Store
from medssl.writing import written_aside
from pipelines import console
from pipelines.evaluate_settings import EvaluateSettings, chosen_structures, tolerances_of
from pipelines.scored_cases import Reference, Truth, read_reference, score_map

if TYPE_CHECKING:
    from medssl.evaluation.overlap import LabelMap

__all__ = ["FewLabelOutcome", "Trainer", "few_label", "training_seed"]

_WORK = "work"
_SEEDING = "a seed for each draw"  # in the key: scores of cells that were seeded otherwise do not mix with these
_SEEDS_A_DRAW = 1000


@dataclass(frozen=True, kw_only=True)
class FewLabelOutcome:
    """What the protocol gave.

    Attributes:
        summary: Tables of the cells that are done; None where none is, or for a dry run.
        failed: Cells that failed, with the reason.
        missing: Cells that are not done: failed, or left to other shards.
        folder: Folder of the comparison.
    """

    summary: FewLabelSummary | None
    failed: Mapping[Cell, str]
    missing: Sequence[Cell]
    folder: Path


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
        data: A store with labels and a split into train and test.
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
    store = Store.open(data)
    reference = read_reference(data)
    train, test = _train_and_test(store, reference, settings)
    patients = [entry.patient or entry.id for entry in train.entries]
    for n in few.sizes:
        labelled_patients(patients, n, draw=0)  # says at once when there are too few
    structures = chosen_structures(reference, settings)
    tolerance = tolerances_of(structures, settings)
    fine_tune = trainer or _default_trainer(store, runs, settings)
    plan = FewLabelPlan(
        arms=_arms(runs),
        sizes=few.sizes,
        draws=few.draws,
        seeds=few.seeds,
        # the names of a store's files hold a hash of source and settings, and are the same on every machine
        key=_digest(
            fine_tune.recipe,
            few.draw_seed,
            _SEEDING,
            [(e.id, e.patient, e.file, e.label_file) for e in [*train.entries, *store.subset(list(test)).entries]],
            sorted(structures.items()),
            tolerance,
        ),
    )
    part = shard_of(shard) if shard else (0, 1)
    cells = plan.cells()[part[0] :: part[1]]
    todo = [cell for cell in cells if not (out / cell.file).exists()]
    console.say(
        f"arms {', '.join(plan.arms)}; n = {', '.join(map(str, few.sizes))} of {len(set(patients))} labelled patients; "
        f"{few.draws} draws, {few.seeds} seeds: {len(cells)} runs{f' in shard {shard}' if shard else ''}, "
        f"{len(cells) - len(todo)} done already; {len(test)} test cases"
    )
    console.say("every run has the same steps and is scored with its last weights; no validation scans are spent")
    if dry_run:
        console.done(None, f"medssl evaluate {runs[0]} --data {data} --protocol few-label --out {out}")
        return FewLabelOutcome(summary=None, failed={}, missing=todo, folder=out)

    starts = {SCRATCH: None, **dict(zip(list(plan.arms)[1:], runs, strict=True))}

    def run_cell(cell: Cell) -> list[StructureScore]:
        chosen = set(labelled_patients(patients, cell.n, draw=cell.draw, seed=few.draw_seed))
        labelled = train.subset([e.id for e in train.entries if (e.patient or e.id) in chosen])
        work = out / _WORK / cell.arm / cell.file.stem
        predict, finish = fine_tune(train=labelled, start=starts[cell.arm], seed=training_seed(cell), folder=work)
        rows = _score(predict, store.subset(list(test)), test, structures, tolerance)
        finish()
        return rows

    with console.progress(len(cells), "fine-tuning runs") as bar:

        def on_cell(cell: Cell, outcome: str) -> None:
            if outcome not in ("done", "ran"):
                console.warn(f"{cell.file} failed: {outcome}")
            bar.advance(note=f"{cell.arm} n={cell.n} draw {cell.draw}")

        failed = run_cells(plan, run_cell, out, shard=part, on_cell=on_cell)
    done, missing = read_cells(plan, out)
    if not done:
        raise DataError(f"{out}: every run failed. The first: {next(iter(failed.values()), 'none was run')}")
    return _report(done, missing, failed, out, runs=runs, settings=settings)


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
) -> FewLabelOutcome:
    summary = summarise_few_label(done, baseline=SCRATCH, metric=settings.few_label.metric, level=settings.level)
    if missing:
        console.warn(f"{len(missing)} runs are not done yet (failed, or left to other shards); run the command again.")
    percent = f"{100 * settings.level:g} %"
    heads, rows = size_rows(summary.sizes)
    title = f"{summary.metric}, mean over test patients [{percent} interval over patients and draws]"
    console.table(title, heads, rows, key="sizes")
    if summary.comparisons:
        heads, rows = comparison_rows(summary.comparisons)
        console.table("Against scratch, paired by patient, draw and seed (Wilcoxon, Holm over the table)", heads, rows,
                      key="comparisons")  # fmt: skip
    pooled = pool_pretraining_runs(done, baseline=SCRATCH, metric=settings.few_label.metric, level=settings.level)
    if pooled:
        heads, rows = pooled_rows(pooled)
        title = f"Against scratch, pretraining runs pooled [{percent} interval over runs, draws and patients]"
        console.table(title, heads, rows, key="pooled")
    console.say(f"{summary.metric}: {DEFINITIONS[summary.metric]}")
    figure = draw_few_label(summary, out / "few_label.png")
    content = {
        "protocol": "few-label",
        "definitions": DEFINITIONS,
        "settings": settings.model_dump(mode="json"),
        "summary": summary,
        "pooled": pooled,
        "missing": [str(cell.file) for cell in missing],
        "failed": {str(cell.file): reason for cell, reason in failed.items()},
    }
    table, listing = out / "few_label.csv", out / "few_label.json"
    with written_aside(table) as aside:
        aside.write_text(_cell_table(done), encoding="utf-8")
    with written_aside(listing) as aside:
        aside.write_text(json.dumps(as_json(content), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    console.done([listing, table, figure], f"medssl report {' '.join(map(str, [*runs, out]))}")
    return FewLabelOutcome(summary=summary, failed=failed, missing=missing, folder=out)


def _cell_table(done: Sequence[CellResult]) -> str:
    """Return one line a run: the mean over patients of every metric."""
    import numpy as np

    lines = [",".join(["arm", "n", "draw", "seed", *METRICS, "seconds"])]
    for result in done:
        cell = result.cell
        means = []
        for metric in METRICS:
            values = np.array(list(patient_scores(result.scores, metric).values()))
            means.append("" if np.isnan(values).all() else f"{np.nanmean(values):.5f}")
        lines.append(",".join([cell.arm, *map(str, (cell.n, cell.draw, cell.seed)), *means, f"{result.seconds:.1f}"]))
    return "\n".join(lines) + "\n"


def _train_and_test(store: Store, reference: Reference, settings: EvaluateSettings) -> tuple[Store, dict[str, Truth]]:
    """Return the labelled scans that may be drawn, and the label maps of the fixed test cases."""
    split = settings.split or "test"
    test = {truth.case: truth for truth in reference.truths if truth.split == split}
    train = [e for e in store.entries if e.label_file is not None and e.split in ("train", "")]
    tested = {truth.patient for truth in test.values()}
    leaking = sorted({e.patient or e.id for e in train} & tested)
    if not test or not train:
        raise DataError(
            f"{store.folder}: the few-label protocol needs labelled scans in the splits 'train' and '{split}'. "
            f"Found {len(train)} and {len(test)}. Give the manifest a split: medssl index ... split by patient."
        )
    if leaking:
        raise DataError(
            f"{store.folder}: {len(leaking)} patients are both in 'train' and in '{split}'. "
            "Split by patient, then cache."
        )
    return store.subset([entry.id for entry in train]), test


def _arms(runs: Sequence[Path]) -> dict[str, str]:
    """Return each arm's fingerprint by name, scratch first; a run's name is its folder's."""
    arms = {SCRATCH: ""}
    for run in runs:
        name = run.resolve().name
        weights = run / "encoder.safetensors"
        if not weights.is_file():
            raise DataError(f"{run}: no pretrained encoder (encoder.safetensors). Name a finished pretraining run.")
        if name in arms:
            raise ConfigError(f"Two arms are called '{name}'. Rename a run's folder: arms are named after them.")
        arms[name] = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return arms


def training_seed(cell: Cell) -> int:
    """Return the seed of a cell's fine-tuning run: the same for every arm, another for every draw.

    Fresh weights shared by all draws would be lucky or unlucky as a whole, and no interval over draws would show it.
    """
    return cell.draw * _SEEDS_A_DRAW + cell.seed


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
