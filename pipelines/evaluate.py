"""``medssl evaluate``: scores of predictions in the source geometry, with intervals and paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.errors import ConfigError, DataError, did_you_mean
from medssl.evaluation.scoring import DEFINITIONS, StructureScore
from medssl.evaluation.summary import Comparison, StructureSummary, as_json, compare_runs, summarise_structures
from medssl.evaluation.wording import comparison_rows, structure_rows
from medssl.locking import holds, part_of
from medssl.quoting import quoted
from medssl.settings import resolve
from medssl.store.index import INDEX
from medssl.writing import written_aside
from pipelines import console
from pipelines.evaluate_classes import ClassEvaluation, evaluate_classes, is_classification
from pipelines.evaluate_parts import PartEvaluation, evaluate_parts, is_part_segmentation
from pipelines.evaluate_settings import EvaluateSettings, FewLabelSettings, chosen_structures, tolerances_of
from pipelines.predict_command import predict_command
from pipelines.refusals import by_kind
from pipelines.run_classes import unseen_of
from pipelines.scored_cases import find_predictions, read_reference, score_predictions
from pipelines.truths import without_names
from pointcloud.store import CloudStore

if TYPE_CHECKING:
    from pipelines.evaluate_probe import ProbeEvaluation
    from pipelines.probe_scans import ProbeOutcome

__all__ = ["EvaluateSettings", "Evaluation", "FewLabelSettings", "evaluate"]

PROTOCOLS = ("few-label", "probe")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        scores: Rows of each run, by its name.
        summaries: Structures of each run, the mean over structures last.
        comparisons: The first run against each of the others.
        failed: Cases without a score and the reason, for each run.
        table: scores.parquet; None for a dry run.
        summary: scores.json; None for a dry run.
    """

    scores: Mapping[str, Sequence[StructureScore]]
    summaries: Mapping[str, Sequence[StructureSummary]]
    comparisons: Sequence[Comparison]
    failed: Mapping[str, Mapping[str, str]]
    table: Path | None = None
    summary: Path | None = None


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
) -> Any:
    """Score a run's predictions; with other runs, test it against them; or run a whole protocol.

    Args:
        run: A fine-tuning run, or a folder of predictions. For a protocol a pretraining run.
        data: The store that the run was fitted on, a manifest, or a folder of label maps.
        out: Where scores.parquet and scores.json go; the run's own folder when None.
        against: Runs to compare with, such as the one from scratch. For a protocol: further pretraining runs; for
            "probe" also "random", the first run's architecture with fresh weights.
        protocol: None; "few-label", which fine-tunes; or "probe", which leaves encoders as they are.
        preset: Settings by name or file.
        overrides: Settings as ``key=value``.
        shard: "i/k", few-label only: run the i-th of k parts of the cells, such as 2/4, so that k processes share them.
        dry_run: Say what would be done; write nothing.

    Returns:
        An `Evaluation`, of a classifier a `ClassEvaluation`, of parts a `PartEvaluation`; for the protocols a
        `FewLabelOutcome`, and a `ProbeOutcome` of scans or a `ProbeEvaluation` of clouds.

    Raises:
        ConfigError: If a setting is wrong.
        DataError: If there is nothing to score.
    """
    settings = resolve(EvaluateSettings, preset=preset, overrides=overrides).settings
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise ConfigError(f"Unknown protocol '{protocol}'. {did_you_mean(protocol, PROTOCOLS)}")
        if protocol == "probe":
            return _probe(Path(run), Path(data), out, [Path(a) for a in against], settings, shard, dry_run)
        from pipelines.few_label import few_label

        target = Path(out) if out is not None else Path("runs/few-label")
        return few_label([Path(run), *map(Path, against)], data=Path(data), out=target, settings=settings,
                         shard=shard, dry_run=dry_run)  # fmt: skip
    if shard is not None:
        raise ConfigError("--shard shares out the cells of --protocol few-label. Plain scoring needs none.")
    if is_part_segmentation(Path(run)):
        return _evaluate_parts(Path(run), Path(data), Path(out or run), [Path(a) for a in against], settings, dry_run)
    if is_classification(Path(run)):
        return _evaluate_classes(Path(run), Path(data), Path(out or run), [Path(a) for a in against], settings, dry_run)
    if CloudStore.is_one(data) and not (Path(data) / INDEX).is_file():
        raise DataError(
            f"{run}: no classes or parts of clouds were predicted here. Give a run of medssl finetune, or try a "
            "pretraining run with --protocol probe or few-label."
        )
    return _evaluate(Path(run), Path(data), Path(out or run), [Path(a) for a in against], settings, dry_run)


def _evaluate(
    run: Path, data: Path, out: Path, against: Sequence[Path], settings: EvaluateSettings, dry_run: bool
) -> Evaluation:
    reference = read_reference(data)
    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    if reference.of_split(settings.split).truths:
        predictions = {name: find_predictions(folder) for name, folder in runs.items()}
        reference = reference.named_as({case for found in predictions.values() for case in found})
    reference = reference.of_split(settings.split)
    if not reference.truths:
        raise DataError(f"{data}: no labelled case in split '{settings.split}'. Choose another with split=NAME.")
    structures = chosen_structures(reference, settings)
    tolerance = tolerances_of(structures, settings)
    console.say(
        f"{len(reference.truths)} cases, {len(structures)} structures, {len(runs)} "
        f"run{'s' if len(runs) > 1 else ''}: {', '.join(runs)}"
    )
    if dry_run:
        console.done(None, f"medssl evaluate {quoted(run)} --data {quoted(data)}")
        return Evaluation(scores={}, summaries={}, comparisons=(), failed={})
    for kind, scans in by_kind(reference.refused).items():
        console.warn(f"{len(scans)} labels are not scored, for the store refused them ({kind}), such as {scans[0]}")
    if not reference.by_patient:
        console.warn("Patients are not known, so every case counts as a patient of its own. A store or manifest knows.")

    scores: dict[str, list[StructureScore]] = {}
    failed: dict[str, dict[str, str]] = {}
    with settings.limits(), console.progress(len(reference.truths) * len(runs), "cases scored") as bar:
        for name in runs:
            scores[name], failed[name] = score_predictions(
                predictions[name],
                reference,
                structures=structures,
                tolerance_mm=tolerance,
                workers=settings.workers or None,
                on_case=lambda case: bar.advance(note=case),
            )
    for name, cases in failed.items():
        for case, reason in cases.items():
            console.warn(f"{name}: case {case} has no score: {reason}")
        if not scores[name]:
            raise DataError(f"{runs[name]}: no case could be scored ({len(cases)} failed; the first: "
                            f"{next(iter(cases.values()), 'none was there')}).")  # fmt: skip
    summaries = {name: summarise_structures(rows, level=settings.level) for name, rows in scores.items()}
    first = next(iter(runs))
    comparisons = compare_runs(
        scores, [(first, name) for name in runs if name != first], metrics=settings.metrics, level=settings.level
    )
    unseen = {name: found for name, folder in runs.items() if (found := unseen_of(folder))}
    for name, lacking in unseen.items():
        console.warn(
            f"{name}: no scan that it was trained on shows {', '.join(lacking)}; scores of it are of nothing that was "
            "learned, and the mean over structures holds them"
        )
    _show(summaries, comparisons, settings, unseen)
    kept = {
        name: {case: without_names(reference, case, why) for case, why in own.items()} for name, own in failed.items()
    }
    table, summary = _write(out, scores, summaries, comparisons, kept, settings, unseen)
    console.tell(summaries=as_json(summaries), comparisons=as_json(comparisons), failed=failed)
    console.done([table, summary], f"medssl report {quoted(*runs.values())}", on_new=predict_command(run))
    return Evaluation(
        scores=scores, summaries=summaries, comparisons=comparisons, failed=failed, table=table, summary=summary
    )


def _probe(
    run: Path,
    data: Path,
    out: str | Path | None,
    against: Sequence[Path],
    settings: EvaluateSettings,
    shard: str | None,
    dry_run: bool,
) -> ProbeEvaluation | ProbeOutcome:
    from pointcloud.store import CloudStore

    if shard is not None:
        raise ConfigError("--shard shares out the cells of --protocol few-label. A probe takes no such time.")
    if not CloudStore.is_one(data):
        from pipelines.probe_scans import probe_scans

        target = Path(out) if out is not None else Path("runs/probe")
        return probe_scans([run, *against], data=data, out=target, settings=settings, dry_run=dry_run)
    from pipelines.evaluate_probe import evaluate_probe

    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    return evaluate_probe(runs, data, Path(out) if out is not None else run, settings, dry_run=dry_run)


def _evaluate_classes(
    run: Path, data: Path, out: Path, against: Sequence[Path], settings: EvaluateSettings, dry_run: bool
) -> ClassEvaluation:
    for folder in against:
        if not is_classification(folder):
            raise ConfigError(f"{folder}: no classifier's run, and {run} is one. Compare runs of one task.")
    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    noun = "cloud" if CloudStore.is_one(data) else "scan"
    return evaluate_classes(runs, out, split=settings.split or "test", level=settings.level, noun=noun, dry_run=dry_run)


def _evaluate_parts(
    run: Path, data: Path, out: Path, against: Sequence[Path], settings: EvaluateSettings, dry_run: bool
) -> PartEvaluation:
    for folder in against:
        if not is_part_segmentation(folder):
            raise ConfigError(f"{folder}: no run of parts of clouds, and {run} is one. Compare runs of one task.")
    runs = dict(zip(_names([run, *against]), [run, *against], strict=True))
    split = settings.split or "test"
    return evaluate_parts(runs, data, out, split=split, level=settings.level, dry_run=dry_run)


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each run that tells them apart: the last parts of its path, as few as will do."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("A run cannot be compared with itself. Name each run once.")


def _show(
    summaries: Mapping[str, Sequence[StructureSummary]],
    comparisons: Sequence[Comparison],
    settings: EvaluateSettings,
    unseen: Mapping[str, Sequence[str]],
) -> None:
    percent = f"{100 * settings.level:g} %"
    for name, rows in summaries.items():
        lacking = unseen.get(name, ())
        marked = [replace(r, structure=f"{r.structure} (untrained)") if r.structure in lacking else r for r in rows]
        heads, cells = structure_rows(marked)
        console.table(f"{name}: mean over patients [{percent} bootstrap interval]", heads, cells, key=f"scores_{name}")
    if comparisons:
        heads, cells = comparison_rows(comparisons)
        console.table(
            "Paired, per patient (Wilcoxon signed-rank, Holm over the table)", heads, cells, key="comparison_table"
        )
    for name, text in DEFINITIONS.items():
        console.say(f"{name}: {text}")


def _write(
    out: Path,
    scores: Mapping[str, Sequence[StructureScore]],
    summaries: Mapping[str, Sequence[StructureSummary]],
    comparisons: Sequence[Comparison],
    failed: Mapping[str, Mapping[str, str]],
    settings: EvaluateSettings,
    unseen: Mapping[str, Sequence[str]],
) -> tuple[Path, Path]:
    import polars as pl

    table, summary = out / "scores.parquet", out / "scores.json"
    frame = pl.DataFrame([{"run": name, **row.row()} for name, rows in scores.items() for row in rows],
                         infer_schema_length=None)  # fmt: skip
    content = {
        "definitions": DEFINITIONS,
        "settings": settings.model_dump(mode="json", exclude={"few_label", "probe"}),
        "runs": {
            name: {
                "structures": rows,
                "failed": failed[name],
                **({"untrained": unseen[name]} if name in unseen else {}),
            }
            for name, rows in summaries.items()
        },
        "comparisons": list(comparisons),
    }
    with written_aside(table) as aside:
        frame.write_parquet(aside)
    with written_aside(summary) as aside:
        aside.write_text(json.dumps(as_json(content), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return table, summary
